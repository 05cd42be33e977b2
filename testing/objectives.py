"""What any objective must hold to."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core import Coefficients, Cond, Denoiser, Level, Objective, Prediction, generator, training_loss
from ..core import predictions as named
from ..core.level import like
from .claims import called, cannot, hold, require
from .schedules import Arc

IMAGES = 6
SIGMA_DATA = 0.6
ERRORS = (0.25, 1.0, 4.0)  # added to what a perfect network says
PREDICTIONS: tuple[Prediction, ...] = (named.epsilon, named.x0, named.v)


def check_objective(objective: Objective) -> None:
    """Hold an objective to the interface: every check below.

    Raises:
        AssertionError: With a sentence, at the first that fails.
    """
    hold(OBJECTIVE_CHECKS, objective)


def check_losses(objective: Objective) -> None:
    """One finite loss an image, that is larger the worse the attempt; 0 for a perfect one, unless it has weights."""
    for prediction in PREDICTIONS:
        perfect, *wrong = (losses(objective, prediction, error) for error in (0.0, *ERRORS))
        said = f"{called(objective)} with prediction {called(prediction)}"
        for loss in (perfect, *wrong):
            require(loss.shape == (IMAGES,), f"{said} gives losses of shape {tuple(loss.shape)}, not ({IMAGES},)")
            require(loss.isfinite().all(), f"{said} gives a loss that is not finite: {loss.tolist()}")
        before = perfect
        for error, loss in zip(ERRORS, wrong, strict=True):
            require((loss > before).all(), f"{said}: an error of {error} costs no more than a smaller one")
            before = loss
        exact = isinstance(objective, nn.Module) or float(perfect.abs().max()) < 1e-9
        require(exact, f"{said} gives {float(perfect.abs().max())} for a perfect attempt, not 0")


def check_batches(objective: Objective) -> None:
    """The loss of an image does not depend on those beside it: ranks take shares of one batch."""
    whole = losses(objective, named.v, 1.0)
    parts = torch.cat([losses(objective, named.v, 1.0, slice(a, b)) for a, b in ((0, 1), (1, 3), (3, 6))])
    off = float((whole - parts).abs().max())
    require(off < 1e-9, f"{called(objective)}: the loss of an image changes by {off} with its batch")


def check_gradients(objective: Objective) -> None:
    """The gradient reaches what the network says, finite for a perfect attempt too, and the objective's own weights."""
    for error in (0.0, *ERRORS):
        said = torch.full((), error, dtype=torch.float64, requires_grad=True)
        losses(objective, named.v, said).sum().backward()  # type: ignore[no-untyped-call]
        grad = said.grad
        if grad is None:
            require(False, f"{called(objective)}: no gradient reaches the network")
            return
        require(grad.isfinite(), f"{called(objective)}: at an error of {error} the gradient is not finite")
        require(error == 0 or grad != 0, f"{called(objective)}: at an error of {error} the gradient is 0")
    if isinstance(objective, nn.Module):
        lost = [name for name, p in objective.named_parameters() if p.requires_grad and p.grad is None]
        objective.zero_grad()
        require(not lost, f"{called(objective)}: no gradient reaches its own {', '.join(lost[:5])}")


def check_dtype(objective: Objective) -> None:
    """Float32 images have float32 losses, near those in float64."""
    single = losses(objective, named.v, 1.0, dtype=torch.float32)
    require(single.dtype == torch.float32, f"{called(objective)} turns float32 into {single.dtype}")
    off = float((single.double() / losses(objective, named.v, 1.0) - 1).abs().max())
    require(off < 1e-4, f"{called(objective)}: in float32 a loss is {off:.1e} off")


OBJECTIVE_CHECKS = (check_losses, check_batches, check_gradients, check_dtype)


def losses(
    objective: Objective,
    prediction: Prediction,
    error: float | Tensor,
    rows: slice = slice(None),
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """The losses of a network that says what it should, and ``error`` more; every level counted alike."""
    schedule = Arc()
    random = generator(0, "objective", 0)
    x0 = SIGMA_DATA * torch.randn(IMAGES, 1, 2, 2, generator=random, dtype=torch.float64)
    eps = torch.randn(x0.shape, generator=random, dtype=torch.float64)
    level = schedule.at(torch.linspace(0.05, 0.95, IMAGES, dtype=torch.float64)[rows]).per_image(4)
    x0, eps = x0[rows].to(dtype), eps[rows].to(dtype)

    def network(x: Tensor, noise: Tensor, cond: Cond) -> Tensor:
        return target_of(prediction, level, x0, eps) + error

    denoiser = Denoiser(network, schedule, prediction, SIGMA_DATA)
    try:
        return training_loss(denoiser, objective, _alike, x0, eps, level, {})
    except (KeyError, IndexError) as error_of_part:  # it wants a condition or further channels
        cannot(f"{called(objective)} wants more than an image and its noise: {error_of_part!r}")


def target_of(prediction: Prediction, level: Level, x0: Tensor, eps: Tensor) -> Tensor:
    """F*: what the network would say for the true x0."""
    c = Coefficients(*prediction(level, SIGMA_DATA))
    return like((1 - c.c_skip * level.alpha) / c.c_out, x0) * x0 - like(c.c_skip * level.sigma / c.c_out, eps) * eps


def _alike(level: Level, space: object) -> Tensor:
    return torch.ones_like(level.alpha)
