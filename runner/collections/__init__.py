"""Collections of pictures as a whole: made into one clean set, and looked through.

`sources` puts several together, with one list of classes. `prepare` makes the set: `one_picture` does what is to be
done with each, `output` is the folder that it grows in, `manifest` the lines about each picture, `report` what is
said at the end. `inspect` looks through a collection or a data set, with `look` at each picture; `inspect_report`
tells what was found. `samples` has the sheets of both, `bars` their bars.
"""
