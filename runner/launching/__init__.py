"""Starting the ranks of a run, by torch's own launcher, and joining those that another launcher has started."""

from .flags import add_launch
from .launch import launch
from .orphans import stop_with_the_launcher
from .place import HOPELESS, LAUNCHER, Place, bound_gpus, find_place, launched_by_us
from .plan import Plan, plan_for

__all__ = [
    "HOPELESS",
    "LAUNCHER",
    "Place",
    "Plan",
    "add_launch",
    "bound_gpus",
    "find_place",
    "launch",
    "launched_by_us",
    "plan_for",
    "stop_with_the_launcher",
]
