"""Hooks are called one by one: what one of them does wrong is reported, and the others never notice."""

from typing import Any

import pytest

from dmf.registry import HookCaller, Hooks, PartError, hookimpl
from dmf.registry.hooks import SPECS

VALUES = {"loss": 1.0}


class Recorder:
    def __init__(self, stop: bool = False) -> None:
        self.calls: list[Any] = []
        self.stop = stop

    @hookimpl
    def dmf_logged(self, step: int, values: dict[str, float]) -> str:  # leaves out `run`
        self.calls.append((step, values))
        return type(self).__name__

    @hookimpl
    def dmf_should_stop(self, run: Any, step: int, values: dict[str, float]) -> bool:
        self.calls.append("asked")
        return self.stop


class Second(Recorder): ...


class Raising(Recorder):
    @hookimpl
    def dmf_logged(self, step: int) -> str:
        self.calls.append(step)
        raise RuntimeError("the server is down")


def made(*hooks: object) -> tuple[HookCaller, list[str]]:
    reports: list[str] = []
    return HookCaller(hooks, reports.append), reports


def test_each_implementation_is_called_with_what_it_asks_for() -> None:
    first, second = Recorder(), Second()
    caller, reports = made(first, second)
    assert sorted(caller.call("dmf_logged", run=None, step=3, values=VALUES)) == ["Recorder", "Second"]
    assert first.calls == second.calls == [(3, VALUES)]
    assert caller.call("dmf_run_ended", run=None, error=None) == [] and reports == []


def test_hooks_have_the_names_that_the_recipe_gives_them() -> None:
    reports: list[str] = []
    hooks = [Recorder(), Raising(), Recorder(stop=True)]
    caller = HookCaller(hooks, reports.append, ["writer", "sender", "writer"])
    caller.call("dmf_logged", run=None, step=1, values=VALUES)
    assert [report.split(" failed")[0] for report in reports] == ["hook sender"]
    assert caller.should_stop(None, 1, VALUES) == "writer-2"  # type: ignore[arg-type]


def test_one_that_raises_is_reported_once_and_left_out() -> None:
    good, bad, other = Recorder(), Raising(), Second()
    caller, reports = made(good, bad, other)
    for step in (1, 2):
        assert sorted(caller.call("dmf_logged", run=None, step=step, values=VALUES)) == ["Recorder", "Second"]
    assert reports == [
        "hook Raising failed in dmf_logged and is left out from here on: RuntimeError: the server is down"
    ]
    assert bad.calls == [1]
    assert caller.should_stop(None, 2, VALUES) is None and "asked" not in bad.calls  # type: ignore[arg-type]


def test_ctrl_c_in_a_hook_is_not_swallowed() -> None:
    class Interrupted:
        @hookimpl
        def dmf_logged(self) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(Interrupted())[0].call("dmf_logged", run=None, step=0, values={})


def test_should_stop_asks_all_and_names_one() -> None:
    first, second = Recorder(stop=True), Second()
    caller, _ = made(first, second)
    assert caller.should_stop(None, 1, VALUES) == "Recorder"  # type: ignore[arg-type]
    assert first.calls == second.calls == ["asked"]
    assert made(Second())[0].should_stop(None, 1, VALUES) is None  # type: ignore[arg-type]


class Unknown:
    @hookimpl
    def dmf_loged(self) -> None: ...


class Unmarked:
    @hookimpl
    def dmf_run_started(self) -> None: ...

    def dmf_logged(self) -> None: ...


class Greedy:
    @hookimpl
    def dmf_logged(self, colour: str) -> None: ...


class Empty: ...


class Wrapper:
    @hookimpl(wrapper=True)
    def dmf_logged(self) -> Any:
        return (yield)


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (Unknown(), "hook Unknown: there is no hook 'dmf_loged'; did you mean 'dmf_logged'?"),
        (Unmarked(), "hook Unmarked: its method dmf_logged lacks the mark @hookimpl"),
        (Greedy(), "hook Greedy: .*dmf_logged.*'colour'.* can not be found in the hookspec"),
        (Empty(), "hook Empty implements no hook; hooks are dmf_run_started, "),
        (Wrapper(), "hook Wrapper is a pluggy wrapper"),
    ],
)
def test_a_hook_that_could_never_be_called_is_refused_by_name(hook: object, message: str) -> None:
    with pytest.raises(PartError, match=message):
        made(Recorder(), hook)


class Stateful(Recorder):
    count = 0

    def state_dict(self) -> dict[str, int]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.count = state["count"]


def test_states_are_kept_by_name_also_of_twins() -> None:
    first, second = Stateful(), Stateful()
    first.count, second.count = 3, 4
    states = made(first, Recorder(), second)[0].state_dict()
    assert states == {"Stateful": {"count": 3}, "Stateful-2": {"count": 4}}
    again = Stateful(), Stateful()
    caller, reports = made(again[0], again[1])
    caller.load_state_dict({**states, "Gone": {}})
    assert [h.count for h in again] == [3, 4]
    assert reports == ["the checkpoint holds the state of a hook Gone, which this run does not have"]


def test_a_state_that_fails_is_reported_too() -> None:
    caller, reports = made(Stateful(), Recorder())
    caller.load_state_dict({"Stateful": {}})
    assert reports == ["hook Stateful failed in load_state_dict and is left out from here on: KeyError: 'count'"]
    assert caller.call("dmf_logged", run=None, step=1, values=VALUES) == ["Recorder"]
    assert caller.state_dict() == {}


def test_a_wrong_call_is_our_own_mistake() -> None:
    caller, _ = made(Recorder())
    with pytest.raises(AssertionError):
        caller.call("dmf_logged", run=None, step=1)


def test_the_specifications_are_all_there() -> None:
    assert SPECS == (
        "dmf_run_started",
        "dmf_logged",
        "dmf_images",
        "dmf_metrics",
        "dmf_checkpoint_saved",
        "dmf_file_written",
        "dmf_should_stop",
        "dmf_run_ended",
    )
    assert all(getattr(Hooks, name).__doc__ for name in SPECS)
