"""The contract kit must say no: checks of hooks are shown hooks that they have to refuse."""

from collections.abc import Mapping
from typing import Any

import torch
from refusal_kit import Refused

from dmf.registry import hookimpl
from dmf.testing import hooks as on_hooks


class Misspelt:
    @hookimpl
    def dmf_loged(self, run: object) -> None:
        return None


class Counting:
    """Counts, and loses the count."""

    def __init__(self) -> None:
        self.count = 3

    @hookimpl
    def dmf_logged(self, run: object) -> None:
        self.count += 1

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.count = 0


class Remembering(Counting):
    """Correct."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.count = state["count"]


class Pickled(Counting):
    def state_dict(self) -> dict[str, Any]:
        return {"count": torch.ones(1)}


class Halfway:
    @hookimpl
    def dmf_logged(self, run: object) -> None:
        return None

    def state_dict(self) -> dict[str, Any]:
        return {}


HOOKS: Refused = [
    (Misspelt(), on_hooks.check_names, "did you mean 'dmf_logged'"),
    (Counting(), on_hooks.check_state, "after it was loaded again"),
    (Pickled(), on_hooks.check_state, "cannot be written as JSON"),
    (Halfway(), on_hooks.check_state, "has state_dict without its counterpart"),
]

REFUSED: dict[str, Refused] = {"hook": HOOKS}
RIGHT: list[tuple[str, Any]] = [("hook", Remembering())]
