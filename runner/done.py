"""What is said of a run that is done, and is run again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from .session import Session


def done_message(session: Session, recipe: str, overrides: Sequence[str]) -> str:
    """What a person reads who runs a finished run again: what it has, and the commands that go on.

    Args:
        session: Of the run.
        recipe: What the command gave as such.
        overrides: Its recipe values, which the commands repeat.
    """
    folder = session.files
    steps = max(session.start_step, session.recipe.train.steps)

    def command(*more: str) -> str:
        keys = {word.split("=")[0] for word in more}
        kept = [word for word in overrides if word.split("=")[0] not in keys]
        return f"dmf run {shlex.join([recipe, *kept, *more])}"

    lines = [f"{session.name} is done: {session.start_step} steps, {_relative(folder.path)}", *_in_vain(session)]
    lines += [f"  samples   {_relative(folder.samples / 'grid.png')}"] if (folder.samples / "grid.png").exists() else []
    lines += [f"  metrics   {_relative(folder.metrics)}"] if folder.metrics.exists() else []
    return "\n".join(
        [
            *lines,
            f"  to train on:      {command(f'train.steps={2 * steps}')}",
            f"  so many more:     dmf resume {shlex.quote(str(_relative(folder.path)))} --extend {steps}",
            f"  to start afresh:  {command('--fresh')}   (this folder is kept, renamed to {session.name}.1 or so)",
            f"  to run another:   {command('name=another', 'seed=1')}",
        ]
    )


def _in_vain(session: Session) -> list[str]:
    """What was asked for, and changed nothing."""
    steps, has = session.recipe.train.steps, session.start_step
    lines = [f"  train.steps is {steps}, and it has {has}: none is taken back"] if steps < has else []
    if steps > has:
        lines.append(
            f"  a hook, such as early_stopping, ended it at step {has} of {steps}; with {steps} steps it stays so, "
            "under other hooks too: to go on, give it another number of them"
        )
    if session.stretch:
        lines.append("  --stretch changed nothing: it lays out the rates of steps to come; give more of them, too")
    return lines


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
