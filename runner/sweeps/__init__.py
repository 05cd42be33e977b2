"""Sweeps of settings: one trained network, scored with every combination of them.

`points` reads what is to be swept, `networks` loads what they need, `cost` says how long it will take, `sweep` does it,
`kept` keeps each point for the next time; `report` is the table, `plot` the picture, `best` writes the best setting
into the run.
"""
