"""Sets of images to be scored that no run made.

`named` finds what a command line names: `folder` has picture files as they are, `arrays` the field's ``.npz`` files.
A folder that a command did not write to its end is known by `unfinished`.
"""
