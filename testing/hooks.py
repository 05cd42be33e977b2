"""What any hook must hold to."""

from __future__ import annotations

import json

from ..registry import HookCaller, PartError
from .claims import called, hold, require


def check_hook(hook: object) -> None:
    """Hold a hook to the interface: every check below.

    Raises:
        AssertionError: With a sentence, at the first that fails.
    """
    hold(HOOK_CHECKS, hook)


def check_names(hook: object) -> None:
    """It implements hooks that there are, with arguments that they have."""
    try:
        HookCaller([hook], lambda text: None)
    except PartError as error:
        require(False, str(error))


def check_state(hook: object) -> None:
    """A state goes into the checkpoint, as JSON, and comes back: both methods or neither."""
    save, restore = getattr(hook, "state_dict", None), getattr(hook, "load_state_dict", None)
    lone = "state_dict" if restore is None else "load_state_dict"
    require((save is None) == (restore is None), f"{called(hook)} has {lone} without its counterpart")
    if save is None or restore is None:
        return
    state = save()
    try:
        text = json.dumps(state, sort_keys=True)
    except (TypeError, ValueError) as error:
        require(False, f"{called(hook)}: its state cannot be written as JSON, as a checkpoint does: {error}")
    restore(json.loads(text))
    again = json.dumps(save(), sort_keys=True)
    require(again == text, f"{called(hook)}: its state is {text}, and {again} after it was loaded again")


HOOK_CHECKS = (check_names, check_state)
