"""What the commands under `dmf bench` hold side by side.

`contests` has those of data in this process, `fresh` those that start others, `steps` trains a recipe for some steps
under a clock: the way from the data to the training step, ours beside torchvision's. `workshop` is what all of them
share. `metrics` has features, statistics and memory of scores, `training` a training step beside one written by hand,
`checkpoints` how long each way of saving holds the training up. The commands' flags and their output stay with the
commands.
"""
