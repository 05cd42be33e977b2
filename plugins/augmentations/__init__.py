"""Built-in augmentations: one method, one file; listed in setup.cfg like anybody's."""
