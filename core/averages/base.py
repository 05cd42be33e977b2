"""The interface of averages of the weights."""

from abc import ABC, abstractmethod


class Average(ABC):
    """A running average of the weights over training: average <- decay average + (1 - decay) weights.

    It says how much of the old average stays; who holds the weights does the rest. It knows nothing of ranks: steps are
    those of the global batch.
    """

    @property
    @abstractmethod
    def label(self) -> str:
        """What tells it from other averages of the same training: letters, digits, dots, hyphens.

        Checkpoints and ``--weights`` call it so.
        """

    @abstractmethod
    def decay(self, step: int, batch_size: int) -> float | None:
        """The share of the old average that stays in a step, 0 to 1; None where this step leaves the average alone.

        0 takes the weights over as they are.

        Args:
            step: Steps taken before this one.
            batch_size: Images a step, of all ranks together.
        """
