"""A schedule that ends in noise alone, and the predictions that can live there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dmf.core import Coefficients, Context, Denoiser, ImageStreams, Level, grids, levels_of, predictions, sample
from dmf.registry import build
from dmf.testing import Gaussian

Command = Callable[..., tuple[int, str, str]]
TABLES = ("linear", "scaled_linear", "cosine", "dns", "dnst")
GOOD = {name: getattr(predictions, name) for name in ("x0", "v", "flow", "edm")}


def network(x: torch.Tensor, noise: torch.Tensor, cond: Any) -> torch.Tensor:
    raise AssertionError("no network may run")


def score(level: Level, sigma_data: float) -> Coefficients:
    """Somebody's own: F = -eps / sigma, the score."""
    return Coefficients(torch.ones_like(level.alpha), 1 / level.alpha, level.sigma**2 / level.alpha)


def nothing(level: Level, sigma_data: float) -> Coefficients:
    """Broken where alpha is small."""
    return Coefficients(level.alpha, level.alpha, level.alpha / 0 * 0)


@pytest.mark.parametrize("name", TABLES)
def test_epsilon_is_refused_where_there_is_noise_alone(name: str) -> None:
    schedule = build("schedule", name, zero_terminal_snr=True)
    with pytest.raises(ValueError, match=r"counts 2202\d times in x0_hat\. Write prediction v, x0 or flow"):
        Denoiser(network, schedule, predictions.epsilon)
    for prediction in GOOD.values():
        Denoiser(network, schedule, prediction)
    for prediction in (score, nothing):
        with pytest.raises(ValueError, match="zero terminal SNR"):
            Denoiser(network, schedule, prediction)


@pytest.mark.parametrize("name", [*TABLES, "flow", "cosine_vp", "sigmoid", "vp", "edm"])
def test_epsilon_goes_with_every_other_schedule(name: str) -> None:
    """The cosine's table ends at -19.8, and a continuous schedule is cut off at -20: epsilon is trained on both."""
    Denoiser(network, build("schedule", name), predictions.epsilon)
    Denoiser(network, build("schedule", "ve", sigma_max=1e4), predictions.epsilon)


@pytest.mark.parametrize("command", ["validate", "train", "run"])
def test_the_command_line_refuses_it_before_anything_is_read(tiny: Path, dmf_command: Command, command: str) -> None:
    words = ["prediction=epsilon", "schedule={name: cosine, zero_terminal_snr: true}"]
    nowhere = "dataset={name: cifar10, root: no/such/folder}"  # would be downloaded, or fail
    code, out, err = dmf_command(command, tiny, nowhere, *words)
    assert (code, out) == (2, "") and len(err.strip().splitlines()) == 1
    assert err.startswith("error: prediction epsilon with schedule cosine: the schedule has zero terminal SNR")
    assert not (tiny.parent / "runs").exists()


def test_validate_builds_the_schedule(tiny: Path, dmf_command: Command) -> None:
    code, _, err = dmf_command("validate", tiny, "schedule={name: dns, steps: 10}")
    assert code == 2 and "take more steps" in err and len(err.strip().splitlines()) == 1
    assert dmf_command("validate", tiny, "schedule={name: dns, steps: 100}", "prediction=epsilon")[0] == 0


def test_training_and_sampling_there(tiny: Path, dmf_command: Command) -> None:
    words = ["prediction=v", "schedule={name: linear, zero_terminal_snr: true}", "train.density=discrete_uniform"]
    code, _, err = dmf_command("run", tiny, *words, "evaluate.images=0", "sampler.grid=uniform")
    assert code == 0, err
    assert (tiny.parent / "runs/tiny/samples/grid.png").exists()


def mean_of_samples(zero_terminal_snr: bool) -> float:
    """Of bright images, made from noise alone on Stable Diffusion's table; the noise itself has mean 0."""
    schedule = build("schedule", "scaled_linear", zero_terminal_snr=zero_terminal_snr)
    bright, streams = Gaussian([1.0], [0.5]), ImageStreams(0, range(8), (1,), dtype=torch.float64)
    levels = levels_of(schedule, grids.uniform(schedule, 200))
    noise = streams.randn()
    x = levels[0].sigma * torch.cat([noise, -noise])
    return float(sample(build("sampler", "heun"), bright.denoise, x, levels, Context(schedule, streams.randn)).mean())


def test_with_it_bright_images_are_as_bright_as_they_should_be() -> None:
    """The paper's point: a table that ends with some signal left, started from none, misses the mean.

    The ODE of N(mu, s^2) carries x - alpha mu on in proportion to the standard deviation, which goes from about 1 to
    s: what is missing at the start, alpha_T mu with alpha_T = 0.0683, is s alpha_T mu at the end.
    """
    assert mean_of_samples(True) == pytest.approx(1, abs=1e-3)
    assert mean_of_samples(False) == pytest.approx(1 - 0.5 * 0.0683, abs=1e-3)
