"""Starting the ranks of a run, by torch's own launcher."""

from .launch import launch, under_launcher

__all__ = ["launch", "under_launcher"]
