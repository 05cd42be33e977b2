"""A dozen schedulers of diffusers (von Platen et al. 2022), made to walk with our denoisers: for comparison.

Each is driven as diffusers' pipelines drive it, told eps, in float64, on its own grid or on one of ours. diffusers is
imported when a walk begins, not before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...core import Denoise, Level, NoiseSchedule, TableSchedule
from ...registry import UserError

Scheduler = Any  # diffusers need not be there


class Other:
    """A scheduler of diffusers that walks over sigmas in the variance-preserving frame.

    Args:
        scheduler: Name of its class.
        options: Of its constructor.
        per_step: Network evaluations a step.
        besides: Further ones, the last step's missing one being -1.
    """

    def __init__(self, scheduler: str, options: dict[str, Any] | None = None, per_step: int = 1, besides: int = 0):
        self.scheduler, self.options, self.per_step, self.besides = scheduler, options or {}, per_step, besides

    def steps_for(self, evaluations: int) -> int:
        """The most steps that cost no more than so many network evaluations; 0 where not even one does."""
        return max((evaluations - self.besides) // self.per_step, 0)

    def __call__(
        self,
        denoise: Denoise,
        schedule: NoiseSchedule,
        x: Tensor,
        *,
        steps: int | None = None,
        levels: Sequence[Level] | None = None,
    ) -> Tensor:
        """The sample from ``x``.

        Args:
            denoise: (x, level) -> x0_hat.
            schedule: Gives the levels; for the scheduler's own grid a table of betas.
            x: (B, C, *size) float64 at ``levels[0]``; for its own grid, at the schedule's noisiest level.
            steps: Of its own grid; or else
            levels: The grid, ending at sigma = 0.

        Returns:
            What diffusers takes for the image, (B, C, *size).

        Raises:
            UserError: diffusers is not installed.
        """
        if levels is not None:
            scheduler = self.on_grid(torch.stack([level.ratio for level in levels]))
        elif steps is not None:
            scheduler = self.on_own_grid(schedule, steps)
        else:
            raise ValueError("a walk needs a number of steps, or levels; got neither")
        scheduler.is_scale_input_called = True  # we scale it ourselves
        asked = self.evaluated(scheduler, schedule)
        sample = x / self.scale(asked[0])
        for t, level in zip(scheduler.timesteps, asked, strict=True):
            x = sample * self.scale(level)
            sample = scheduler.step(self.answer(x, denoise(x, level), level), t, sample).prev_sample
        return sample

    def scale(self, level: Level) -> Tensor:
        """Our x over the scheduler's sample."""
        return torch.hypot(level.alpha, level.sigma)

    def answer(self, x: Tensor, x0: Tensor, level: Level) -> Tensor:
        """What the network is to say."""
        return level.noise_in(x, x0)

    def on_own_grid(self, schedule: NoiseSchedule, steps: int) -> Scheduler:
        """The scheduler, ready to walk the grid that it makes for so many steps of the table."""
        bars = alpha_bars(schedule)
        scheduler = getattr(diffusers(), self.scheduler)(num_train_timesteps=len(bars), **self.options)
        scheduler.alphas_cumprod = bars
        scheduler.set_timesteps(steps)
        return within(bars, doubled(scheduler))

    def on_grid(self, r: Tensor) -> Scheduler:
        """The scheduler, ready to walk the sigma / alpha given, (steps + 1,), the last 0."""
        scheduler = getattr(diffusers(), self.scheduler)(**{**self.options, "use_karras_sigmas": False})
        scheduler.set_timesteps(len(r) - 1)
        scheduler.sigmas = r
        return doubled(scheduler)

    def evaluated(self, scheduler: Scheduler, schedule: NoiseSchedule) -> list[Level]:
        """The level of each evaluation."""
        return levels_at(schedule, scheduler.sigmas[: len(scheduler.timesteps)])


class Exploding(Other):
    """One that walks x / alpha."""

    def scale(self, level: Level) -> Tensor:
        """Alpha."""
        return level.alpha


class Heun(Exploding):
    """Each level but the first and the last is met twice."""

    def on_grid(self, r: Tensor) -> Scheduler:
        """As the scheduler doubles its own."""
        scheduler = super().on_grid(r)
        scheduler.sigmas = torch.cat([r[:1], r[1:-1].repeat_interleave(2), r[-1:]])
        return scheduler


class KDPM2(Exploding):
    """Between two levels there is one more."""

    def on_grid(self, r: Tensor) -> Scheduler:
        """As the scheduler makes its own."""
        scheduler = super().on_grid(r)
        middle = r.log().lerp(r.roll(1).log(), 0.5).exp()
        for name, values in (("sigmas", r), ("sigmas_interpol", middle)):
            setattr(scheduler, name, torch.cat([values[:1], values[1:].repeat_interleave(2), values[-1:]]))
        return scheduler

    def evaluated(self, scheduler: Scheduler, schedule: NoiseSchedule) -> list[Level]:
        """Of the grid and in between, by turns."""
        r = scheduler.sigmas[: len(scheduler.timesteps)].clone()
        r[1::2] = scheduler.sigmas_interpol[: len(r)][1::2]
        return levels_at(schedule, r)


class DEIS(Other):
    """It does not go to sigma = 0: its own grid repeats the cleanest level of the table, and so does ours for it."""

    def on_grid(self, r: Tensor) -> Scheduler:
        """With the last level in the place of 0."""
        return super().on_grid(torch.cat([r[:-1], r[-2:-1]]))


class Table(Other):
    """One that knows levels only as entries of its table."""

    def on_grid(self, r: Tensor) -> Scheduler:
        """A table of just these levels, walked one by one."""
        bars = (1 / (1 + r[:-1] ** 2)).flip(0)
        options = {**self.options, "timestep_spacing": "leading", "num_train_timesteps": len(bars)}
        scheduler = getattr(diffusers(), self.scheduler)(**options)
        scheduler.alphas_cumprod = bars
        scheduler.set_timesteps(len(bars))
        return doubled(scheduler)

    def evaluated(self, scheduler: Scheduler, schedule: NoiseSchedule) -> list[Level]:
        """By the entries' numbers."""
        bars = scheduler.alphas_cumprod[scheduler.timesteps]
        return levels_at(schedule, ((1 - bars) / bars).sqrt())


class IPNDM(Other):
    """It has one schedule, that of v-diffusion, and takes any other in its place; it is told v."""

    def on_own_grid(self, schedule: NoiseSchedule, steps: int) -> Scheduler:
        """Evenly over the table, as the others' own: it has none for a table."""
        bars = alpha_bars(schedule).flip(0)
        r = ((1 - bars) / bars).sqrt()
        places = torch.linspace(0, len(r) - 1, steps + 1)[:-1].round().long()
        return self.on_grid(torch.cat([r[places], torch.zeros(1, dtype=r.dtype)]))

    def on_grid(self, r: Tensor) -> Scheduler:
        """Its betas are sigma, its alphas alpha."""
        scheduler = getattr(diffusers(), self.scheduler)()
        scheduler.set_timesteps(len(r) - 1)
        scheduler.alphas = 1 / (1 + r**2).sqrt()
        scheduler.betas = r * scheduler.alphas
        return doubled(scheduler)

    def evaluated(self, scheduler: Scheduler, schedule: NoiseSchedule) -> list[Level]:
        """All but the last."""
        return levels_at(schedule, (scheduler.betas / scheduler.alphas)[:-1])

    def answer(self, x: Tensor, x0: Tensor, level: Level) -> Tensor:
        """V = alpha eps - sigma x0, in the variance-preserving frame."""
        n = self.scale(level)
        return level.alpha / n * level.noise_in(x, x0) - level.sigma / n * x0


class EDM(Exploding):
    """Told the raw network of Karras et al., on their grid over the range of the table."""

    sigma_data = 0.5

    def on_own_grid(self, schedule: NoiseSchedule, steps: int) -> Scheduler:
        """Karras' grid."""
        bars = alpha_bars(schedule)
        r = ((1 - bars) / bars).sqrt()
        options = {**self.options, "sigma_min": float(r[0]), "sigma_max": float(r[-1]), "sigma_data": self.sigma_data}
        scheduler = getattr(diffusers(), self.scheduler)(**options)
        scheduler.set_timesteps(steps)
        return within(bars, doubled(scheduler))

    def on_grid(self, r: Tensor) -> Scheduler:
        """The sigmas given."""
        scheduler = getattr(diffusers(), self.scheduler)(**self.options, sigma_data=self.sigma_data)
        scheduler.set_timesteps(len(r) - 1)
        scheduler.sigmas = r
        return doubled(scheduler)

    def answer(self, x: Tensor, x0: Tensor, level: Level) -> Tensor:
        """F, with x0_hat = c_skip x + c_out F."""
        r, s = level.ratio, self.sigma_data
        return (x0 - s**2 / (r**2 + s**2) * x / level.alpha) * (r**2 + s**2).sqrt() / (r * s)


def other_samplers() -> dict[str, Other]:
    """The schedulers, by the names that people know."""
    multistep = "DPMSolverMultistepScheduler"
    whole = {"timestep_spacing": "trailing"}  # from the noisiest level on, where the default begins below it
    return {
        "DDIM": Table("DDIMScheduler", {**whole, "clip_sample": False}),
        "PNDM": Table("PNDMScheduler", {**whole, "skip_prk_steps": True, "set_alpha_to_one": True}, besides=1),
        "Euler": Exploding("EulerDiscreteScheduler"),
        "Heun": Heun("HeunDiscreteScheduler", per_step=2, besides=-1),
        "LMS": Exploding("LMSDiscreteScheduler"),
        "KDPM2": KDPM2("KDPM2DiscreteScheduler", per_step=2, besides=-1),
        "DPM++ 2M": Other(multistep),
        "DPM++ 2M Karras": Other(multistep, {"use_karras_sigmas": True}),
        "DPM++ 3M": Other(multistep, {"solver_order": 3}),
        "DPM++ 2S": Other("DPMSolverSinglestepScheduler", {"lower_order_final": True}),
        "UniPC 2": Other("UniPCMultistepScheduler"),
        "UniPC 3": Other("UniPCMultistepScheduler", {"solver_order": 3}),
        "DEIS 3": DEIS("DEISMultistepScheduler", {"solver_order": 3}),
        "iPNDM 4": IPNDM("IPNDMScheduler"),
        "EDM DPM++ 2M": EDM("EDMDPMSolverMultistepScheduler"),
    }


def diffusers() -> Any:
    """The package.

    Raises:
        UserError: It is not installed.
    """
    try:
        import diffusers as package
    except ImportError as error:
        raise UserError(
            f"the comparison needs diffusers, which cannot be imported ({error}); run pip install 'dmf[test]'"
        ) from error
    return package


def alpha_bars(schedule: NoiseSchedule) -> Tensor:
    """alpha_bar of the entries of the table, cleanest first, (T,) float64."""
    if not isinstance(schedule, TableSchedule):
        raise UserError(
            f"diffusers makes its grids for tables of betas, which {type(schedule).__name__} is not; take a table,"
            " linear for one"
        )
    i = torch.arange(1, schedule.steps + 1, dtype=torch.float64)
    return torch.sigmoid(schedule.log_snr(i / schedule.steps))


def levels_at(schedule: NoiseSchedule, r: Tensor) -> list[Level]:
    """The schedule's levels with these sigma / alpha."""
    return [schedule.at(t) for t in schedule.t_at(-2 * r.to(torch.float64).log())]


def doubled(scheduler: Scheduler) -> Scheduler:
    """The scheduler with its tables in float64, at the beginning of its walk."""
    for name, value in vars(scheduler).items():
        if isinstance(value, Tensor) and value.is_floating_point():
            setattr(scheduler, name, value.to(torch.float64))
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    return scheduler


def within(bars: Tensor, scheduler: Scheduler) -> Scheduler:
    """The scheduler with its sigmas inside the table, of which rounding to float32 may have moved them out."""
    if hasattr(scheduler, "sigmas"):
        r = ((1 - bars) / bars).sqrt()
        inside = scheduler.sigmas.clamp(r[0], r[-1])
        scheduler.sigmas = torch.where(scheduler.sigmas > 0, inside, scheduler.sigmas)
    return scheduler
