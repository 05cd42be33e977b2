"""What `dmf bench data` and `dmf bench metrics` hold side by side.

`contests` has those of data in this process, `fresh` those that start others, `steps` trains a recipe for some steps
under a clock: the way from the data to the training step, ours beside torchvision's. `workshop` is what all of them
share. `metrics` has features, statistics and memory of scores. The commands' flags and their output stay with the
commands.
"""
