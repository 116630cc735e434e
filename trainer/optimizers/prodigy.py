"""Adam that looks for its own step size."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, ClassVar

from curricula.types import CurriculaError
from trainer.optimizer import Choice, Driven, Fit, Optimizer, Tensors, needed, register, whole_parts

if TYPE_CHECKING:
    from trainer.settings import LearnerSettings


class Seeking(Driven):
    """Prodigy as the learner drives it; the log says what the rate is, in AdamW's terms."""

    def metrics(self) -> dict[str, float]:
        group = self._groups()[0]
        return {"step_size": float(group["d"] * group["lr"])}


@register("prodigy")
@dataclass(frozen=True)
class Prodigy(Choice):
    """Adam with a rate of d times the schedule's, d an estimate of the distance to the solution (arXiv 2306.06101).

    Experimental: d only grows, and is meant for one fixed objective, which a moving curriculum is not. ``d0`` is d at first;
    ``growth_rate`` bounds its growth per update, ``d_coef`` scales the estimate. ``safeguard_warmup`` (off in the package) keeps
    the schedule's factor out of the estimate's denominator, so that a warm-up does not inflate d.
    """

    d0: float = 1e-6
    d_coef: float = 1.0
    growth_rate: float = inf
    slice_p: int = 1
    use_bias_correction: bool = False
    safeguard_warmup: bool = True

    package: ClassVar[str] = "prodigyopt"
    fit: ClassVar[Fit] = Fit(peak=(0.1, 10.0), ranks=False, why="the peak is a factor on the step size that it finds; use 1.0")

    def __post_init__(self) -> None:
        if not (self.d0 > 0 and self.d_coef > 0 and self.growth_rate > 1 and self.slice_p >= 1):
            raise CurriculaError(f"learner.optimizer: expected d0 and d_coef > 0, growth_rate > 1, slice_p >= 1; got {self}")

    def build(self, masters: Tensors, settings: LearnerSettings) -> Optimizer:
        parts = whole_parts(masters)
        optimizer = needed(self.package).Prodigy(
            parts.values(),
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            d0=self.d0,
            d_coef=self.d_coef,
            growth_rate=self.growth_rate,
            slice_p=self.slice_p,
            use_bias_correction=self.use_bias_correction,
            safeguard_warmup=self.safeguard_warmup,
        )
        keys, numbers = ("s", "p0", "exp_avg", "exp_avg_sq"), ("d", "d_max", "d_numerator", "k")
        return Seeking(masters, [optimizer], keys, numbers, lambda version, part: {"step": version}, parts)
