"""What lies on disk and is no recipe: collections of pictures found, read and shown; files written whole; caches."""
