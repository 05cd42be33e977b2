"""Collections of pictures as a whole: made into one clean set, and looked through."""
