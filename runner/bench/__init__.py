"""What `dmf bench data` holds: the way from the data to the training step, ours beside torchvision's.

`contests` has those in this process, `fresh` those that start others, `steps` trains a recipe for some steps under a
clock, `workshop` is what all of them share. The command's flags and its output stay with the commands.
"""
