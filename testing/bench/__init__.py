"""Samplers against each other and against those of others, on data whose answer is known."""
