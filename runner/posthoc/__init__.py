"""Averages of any length after the training, from those that were kept during it."""
