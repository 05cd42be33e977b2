"""From a recipe to a run: train, sample, evaluate; checkpoints; distribution; the command line."""
