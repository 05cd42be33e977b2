"""The cache of latents: what a codec makes of the training images, encoded once, kept on disk, fed in their place.

`possible` says whether a recipe allows it, `plan` decides whether and where, `store` holds the moments of one set of
images on disk in `shards`, `fill` encodes what is missing, on all ranks together, `feed` gives batches of them.
"""
