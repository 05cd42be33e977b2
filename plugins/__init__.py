"""The built-in parts. They come in by entry points, as everybody's do."""
