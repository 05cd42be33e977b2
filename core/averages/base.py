"""The interface of averages of the weights."""

from abc import ABC, abstractmethod


class Average(ABC):
    """A running average of the weights over training: average <- decay average + (1 - decay) weights.

    It says how much of the old average stays; who holds the weights does the rest.
    """

    @property
    @abstractmethod
    def label(self) -> str:
        """What tells it from other averages of the same training: letters, digits, dots, hyphens."""

    @abstractmethod
    def decay(self, step: int, batch_size: int) -> float | None:
        """The share of the old average that stays in a step; None where this step leaves the average alone.

        Args:
            step: Steps taken before this one.
            batch_size: Images a step, of all ranks together.
        """
