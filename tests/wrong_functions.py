"""The contract kit must say no: checks of functions and of guidance are shown parts that they have to refuse."""

from typing import Any

import torch
from refusal_kit import Refused
from torch import Tensor, nn

from dmf.core import Attempt, Coefficients, Guidance, Level, NoiseSchedule
from dmf.core import predictions as named
from dmf.testing import densities as on_densities
from dmf.testing import grids as on_grids
from dmf.testing import guidance as on_guidance
from dmf.testing import objectives as on_objectives
from dmf.testing import predictions as on_predictions
from dmf.testing import weightings as on_weightings

# -- predictions -------------------------------------------------------------------------------------------------------


def single(level: Level, sigma_data: float) -> Coefficients:
    return Coefficients(*(c.float() for c in named.v(level, sigma_data)))


def silent(level: Level, sigma_data: float) -> Coefficients:
    return named.v(level, sigma_data)._replace(c_out=torch.zeros_like(level.alpha))


def endless(level: Level, sigma_data: float) -> Coefficients:
    return Coefficients(torch.ones_like(level.alpha), 1 / (level.alpha - level.alpha), level.sigma)


def timed(level: Level, sigma_data: float) -> Coefficients:
    return Coefficients(torch.ones_like(level.t), 1 - level.t, level.t + 1e-9)


def cancelling(level: Level, sigma_data: float) -> Coefficients:
    """c_out so small at the noisy end that the target overflows float32."""
    return Coefficients(torch.ones_like(level.alpha), torch.zeros_like(level.alpha), (1e-30 * level.alpha**10))


PREDICTIONS: Refused = [
    (single, on_predictions.check_coefficients, "is to be float64"),
    (silent, on_predictions.check_coefficients, "is 0: nothing goes through"),
    (endless, on_predictions.check_coefficients, "is not finite"),
    (timed, on_predictions.check_level, "depends on the time of a level"),
    (cancelling, on_predictions.check_inverse, "F\\* is not finite"),
]

# -- grids -------------------------------------------------------------------------------------------------------------


def even(schedule: NoiseSchedule, steps: int) -> Tensor:
    noisiest, cleanest = schedule.ends()
    return torch.linspace(noisiest, cleanest, steps + 1, dtype=torch.float64)[:-1]


def one_too_many(schedule: NoiseSchedule, steps: int) -> Tensor:
    return even(schedule, steps + 1)


def not_one(schedule: NoiseSchedule, steps: int) -> Tensor:
    if steps == 1:
        raise ValueError("one step is beneath this grid")
    return even(schedule, steps)


def rising(schedule: NoiseSchedule, steps: int) -> Tensor:
    return even(schedule, steps).flip(0)


def beyond(schedule: NoiseSchedule, steps: int) -> Tensor:
    return even(schedule, steps) + 0.5


def coarse(schedule: NoiseSchedule, steps: int) -> Tensor:
    return even(schedule, steps).float()


def moody(schedule: NoiseSchedule, steps: int) -> Tensor:
    return even(schedule, steps) * (1 - 1e-3 * torch.rand(1, dtype=torch.float64))


GRIDS: Refused = [
    (one_too_many, on_grids.check_steps, "was asked for 1 times and gave"),
    (not_one, on_grids.check_steps, "refuses 1 of 1 to 50 steps: one step is beneath"),
    (rising, on_grids.check_levels, "a grid falls from noise to image"),
    (beyond, on_grids.check_levels, "leaves the schedule's 0.0 ... 1.0"),
    (coarse, on_grids.check_levels, "float32, not float64"),
    (moody, on_grids.check_repeats, "another one when asked again"),
]

# -- densities ---------------------------------------------------------------------------------------------------------


def flat(u: Tensor, schedule: NoiseSchedule) -> Tensor:
    noisiest, cleanest = schedule.ends()
    return cleanest + (noisiest - cleanest) * u.double()


DENSITIES: Refused = [
    (lambda u, schedule: flat(u, schedule).float(), on_densities.check_form, "is to be float64|are to be float64"),
    (lambda u, schedule: flat(u.mul_(0.5), schedule), on_densities.check_form, "writes into the u"),
    (lambda u, schedule: flat(u, schedule)[:-1], on_densities.check_form, "gave times of shape"),
    (lambda u, schedule: torch.logit(u.double()), on_densities.check_form, "a time is not finite"),
    (lambda u, schedule: 1.1 * flat(u, schedule), on_densities.check_ends, "clip them"),
    (lambda u, schedule: flat(1 - u, schedule), on_densities.check_order, "falls somewhere as u grows"),
    (lambda u, schedule: flat(0 * u, schedule), on_densities.check_order, "every u gives the same"),
    (lambda u, schedule: flat(u / u.max(), schedule), on_densities.check_each, "depends on the batch"),
]

# -- weightings --------------------------------------------------------------------------------------------------------


def even_weight(level: Level, space: Any) -> Tensor:
    return torch.ones_like(level.alpha)


WEIGHTINGS: Refused = [
    (lambda level, space: -even_weight(level, space), on_weightings.check_positive, "positive and finite"),
    (lambda level, space: (level.ratio**-30).float().double(), on_weightings.check_positive, "positive and finite"),
    (lambda level, space: level.ratio / level.ratio.max(), on_weightings.check_each, "changes by .* with its batch"),
    (lambda level, space: level.alpha**2, on_weightings.check_log_snr, "away from the weight of the same log SNR"),
]

# -- objectives --------------------------------------------------------------------------------------------------------


def square(attempt: Attempt) -> Tensor:
    return (attempt.weight * (attempt.output - attempt.target) ** 2).flatten(1).mean(1)


class Unreached(nn.Module):
    """Has weights of its own, and no use for them."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, attempt: Attempt) -> Tensor:
        return square(attempt)


OBJECTIVES: Refused = [
    (lambda attempt: square(attempt).mean(), on_objectives.check_losses, "losses of shape"),
    (lambda attempt: square(attempt) + 1, on_objectives.check_losses, "for a perfect attempt, not 0"),
    (lambda attempt: -square(attempt), on_objectives.check_losses, "costs no more than a smaller one"),
    (lambda attempt: square(attempt).log(), on_objectives.check_losses, "not finite"),
    (lambda attempt: square(attempt) / square(attempt).sum(), on_objectives.check_batches, "changes by"),
    (lambda attempt: square(attempt).sqrt(), on_objectives.check_gradients, "at an error of 0.0 the gradient is not"),
    (lambda attempt: square(attempt).detach().requires_grad_(), on_objectives.check_gradients, "no gradient reaches"),
    (Unreached(), on_objectives.check_gradients, "no gradient reaches its own scale"),
    (lambda attempt: square(attempt).double(), on_objectives.check_dtype, "turns float32 into"),
]

# -- guidance ----------------------------------------------------------------------------------------------------------


class Plain(Guidance):
    def combine(self, conditional: Tensor, reference: Tensor, level: Level) -> Tensor:
        return reference + 1.5 * (conditional - reference)


class Louder(Plain):
    def combine(self, conditional: Tensor, reference: Tensor, level: Level) -> Tensor:
        return 1.5 * conditional - 0.4 * reference


class Boastful(Plain):
    def combine(self, conditional: Tensor, reference: Tensor, level: Level) -> Tensor:
        return conditional


class Lazy(Plain):
    def acts(self, level: Level) -> bool:
        return False


class Averaging(Plain):
    def combine(self, conditional: Tensor, reference: Tensor, level: Level) -> Tensor:
        return conditional + (conditional - reference).mean(0)


class Doubling(Plain):
    def combine(self, conditional: Tensor, reference: Tensor, level: Level) -> Tensor:
        return super().combine(conditional, reference, level).double()


class InPlace(Plain):
    def combine(self, conditional: Tensor, reference: Tensor, level: Level) -> Tensor:
        return conditional.add_(conditional - reference)


GUIDANCE: Refused = [
    (Louder(), on_guidance.check_agreeing, "reference and conditional agree, the result is"),
    (Boastful(), on_guidance.check_acts, "where the reference changes nothing"),
    (Lazy(), on_guidance.check_acts, "guides is True, and it acts at 0"),
    (Averaging(), on_guidance.check_images, "alone is .* away from itself in its batch"),
    (Doubling(), on_guidance.check_dtypes, "into torch.float64"),
    (InPlace(), on_guidance.check_dtypes, "writes into the images"),
]

# ----------------------------------------------------------------------------------------------------------------------

REFUSED: dict[str, Refused] = {
    "prediction": PREDICTIONS,
    "grid": GRIDS,
    "density": DENSITIES,
    "weighting": WEIGHTINGS,
    "objective": OBJECTIVES,
    "guidance": GUIDANCE,
}
RIGHT: list[tuple[str, Any]] = [
    ("prediction", named.v),
    ("grid", even),
    ("density", flat),
    ("weighting", even_weight),
    ("objective", square),
    ("guidance", Plain()),
]
