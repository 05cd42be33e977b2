"""The hooks: what a plugin may do around a run, and the caller that keeps a broken hook from stopping it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pluggy

from .errors import PartError
from .marks import hookspec
from .words import did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

    from .recipe_types import Recipe


Task = Literal["train", "evaluate"]


class RunInfo(Protocol):
    """What a hook sees of a run."""

    @property
    def name(self) -> str:
        """The run's name."""
        ...

    @property
    def folder(self) -> Path:
        """The run's folder."""
        ...

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe."""
        ...

    @property
    def facts(self) -> Mapping[str, str]:
        """Versions, commit, fingerprint of the data, number of parameters and the like, as texts."""
        ...

    @property
    def start_step(self) -> int:
        """The step that this process starts from; 0 for a fresh run."""
        ...

    @property
    def task(self) -> Task:
        """``train`` is the run itself, to its last phase; ``evaluate`` adds values to one that was trained."""
        ...

    @property
    def parent(self) -> Path | None:
        """Folder of the run that this one is a part of, as a point of a sweep is; None for a run of its own."""
        ...

    @property
    def better(self) -> Mapping[str, Literal["lower", "higher"]]:
        """Which way the newest values of evaluations while training are better, by their names as ``eval/<name>``."""
        ...


class Hooks:
    """The hook specifications. All run on rank 0 only; an implementation may leave out arguments it has no use for."""

    @hookspec
    def dmf_run_started(self, run: RunInfo) -> None:
        """A run begins, or goes on after a stop; or a trained one is evaluated (``run.task`` says which)."""

    @hookspec
    def dmf_logged(self, run: RunInfo, step: int, values: Mapping[str, float]) -> None:
        """Values at a logging interval: plain floats."""

    @hookspec
    def dmf_images(self, run: RunInfo, step: int, name: str, images: Tensor) -> None:
        """A finished sheet of images, uint8 (C, H, W)."""

    @hookspec
    def dmf_metrics(self, run: RunInfo, step: int, results: Mapping[str, Mapping[str, Any]]) -> None:
        """An evaluation: ``{name: {"value": ..., "protocol": ...}}``; equal names, values that may share a curve."""

    @hookspec
    def dmf_checkpoint_saved(self, run: RunInfo, step: int, path: Path) -> None:
        """A checkpoint is whole and in its place."""

    @hookspec
    def dmf_file_written(self, run: RunInfo, path: Path) -> None:
        """A file of the run is finished: the recipe, a sheet, the metrics."""

    @hookspec
    def dmf_should_stop(self, run: RunInfo, step: int, values: Mapping[str, float]) -> bool:  # type: ignore[empty-body]
        """True asks for an orderly end of training; asked after each `dmf_logged`.

        Args:
            run: The run.
            step: The training step.
            values: Those that were logged, and the newest evaluation's as ``eval/<name>``, its step as ``eval/step``.
        """

    @hookspec
    def dmf_run_ended(self, run: RunInfo, error: BaseException | None) -> None:
        """The run is over; ``error`` is what ended it, None when it is done."""


SPECS = tuple(name for name in vars(Hooks) if name.startswith("dmf_"))


class HookCaller:
    """Calls each hook's implementations one by one; one that raises is reported and left out from then on.

    Args:
        hooks: Hook objects, in the order of the recipe.
        report: Called with one line of text for each hook that fails.
        names: What the recipe calls them, and so do messages and checkpoints; left out, those of their classes.

    Raises:
        PartError: A hook that implements nothing, misspells a name, or asks for an unknown argument.
    """

    def __init__(self, hooks: Sequence[object], report: Callable[[str], None], names: Sequence[str] = ()) -> None:
        self._report = report
        self._hooks: dict[str, object] = {}
        self._manager = pluggy.PluginManager("dmf")
        self._manager.add_hookspecs(Hooks)
        for hook, name in zip(hooks, names or [type(hook).__name__ for hook in hooks], strict=True):
            self._register(hook, _free_name(name, self._hooks))

    def _register(self, hook: object, name: str) -> None:
        try:
            self._manager.register(hook, name)
        except pluggy.PluginValidationError as error:
            raise PartError(f"hook {name}: {' '.join(str(error).split())}") from error
        _check_names(name, hook, self._manager)
        self._hooks[name] = hook

    def call(self, name: str, /, **arguments: Any) -> list[Any]:
        """What each implementation of the hook ``name`` returned, without those that failed."""
        return [result for _, result in self._results(name, arguments)]

    def should_stop(self, run: RunInfo, step: int, values: Mapping[str, float]) -> str | None:
        """The name of a hook that asks to stop. All are asked: some count how often they were."""
        answers = self._results("dmf_should_stop", {"run": run, "step": step, "values": values})
        return next((hook for hook, answer in answers if answer), None)

    def state_dict(self) -> dict[str, Any]:
        """The states of the hooks that have one, by hook name."""
        found = {}
        for name, method in self._methods("state_dict").items():
            done, state = self._try(name, "state_dict", method)
            if done:
                found[name] = state
        return found

    def load_state_dict(self, states: Mapping[str, Any]) -> None:
        """Give each hook the state that was saved under its name; states of hooks no longer there are reported."""
        methods = self._methods("load_state_dict")
        for name, state in states.items():
            if name in methods:
                self._try(name, "load_state_dict", methods[name], state)
            else:
                self._report(f"the checkpoint holds the state of a hook {name}, which this run does not have")

    def _results(self, name: str, arguments: Mapping[str, Any]) -> list[tuple[str, Any]]:
        caller = getattr(self._manager.hook, name)
        assert set(arguments) == set(caller.spec.argnames) - {"self"}, f"{name} takes {caller.spec.argnames}"
        found = []
        for implementation in reversed(caller.get_hookimpls()):  # pluggy's own order of calls
            if implementation.plugin_name not in self._hooks:
                continue
            hook, wanted = implementation.plugin_name, [arguments[a] for a in implementation.argnames]
            done, result = self._try(hook, name, implementation.function, *wanted)
            if done:
                found.append((hook, result))
        return found

    def _methods(self, name: str) -> dict[str, Callable[..., Any]]:
        """Hook -> its method of that name, for the hooks that have it."""
        return {hook: getattr(o, name) for hook, o in self._hooks.items() if hasattr(o, name)}

    def _try(self, hook: str, what: str, call: Callable[..., Any], *arguments: Any) -> tuple[bool, Any]:
        """(True, the result), or (False, None) after reporting the hook and leaving it out."""
        try:
            return True, call(*arguments)
        except Exception as error:  # a hook's failure, of whatever kind, must not end a training
            del self._hooks[hook]
            self._report(f"hook {hook} failed in {what} and is left out from here on: {type(error).__name__}: {error}")
            return False, None


def _free_name(name: str, taken: Mapping[str, object]) -> str:
    """The name itself, or with ``-2``, ``-3`` when several hooks share it."""
    names = [name, *(f"{name}-{i}" for i in range(2, len(taken) + 2))]
    return next(n for n in names if n not in taken)


def _check_names(name: str, hook: object, manager: pluggy.PluginManager) -> None:
    """`PartError` unless the hook implements something, and only what there is."""
    callers = {c.name: c for c in manager.get_hookcallers(hook) or ()}
    for method in [m for m in dir(hook) if m.startswith("dmf_") or m in callers]:
        if method not in SPECS:
            raise PartError(
                f"hook {name}: there is no hook {method!r}{did_you_mean(method, SPECS)}; hooks are {', '.join(SPECS)}"
            )
        if method not in callers:
            raise PartError(f"hook {name}: its method {method} lacks the mark @hookimpl (from dmf.registry)")
    if not callers:
        raise PartError(f"hook {name} implements no hook; hooks are {', '.join(SPECS)}")
    mine = [i for caller in callers.values() for i in caller.get_hookimpls() if i.plugin is hook]
    if any(i.wrapper or i.hookwrapper for i in mine):
        raise PartError(f"hook {name} is a pluggy wrapper; each hook is called on its own, so write a plain function")
