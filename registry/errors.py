"""The errors that are a user's to mend: the command line prints their text and exits with 2, without a traceback."""

from collections.abc import Iterable


class UserError(ValueError):
    """A user's mistake; the text says what was got, what was expected and what to do.

    Attributes:
        exit_code: Of a process that ends by it.
    """

    exit_code = 2


class PartError(UserError):
    """A part that is unknown, broken, in conflict with another, or given wrong options."""


class RecipeError(UserError):
    """A recipe that cannot be used.

    Args:
        problems: One complaint a line, each complete in itself; a single text is one problem.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__(self.problems)  # the same argument again, so that pickle can rebuild it

    def __str__(self) -> str:
        return "\n".join(self.problems)
