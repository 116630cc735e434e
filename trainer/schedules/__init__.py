"""Learning-rate schedules: pure functions of progress, without state.

The clock u counts what the updates before this one consumed: updates, or rollouts, informative rollouts, tokens, seconds. With
W units of warm-up and horizon T, progress is z = (u - W) / (T - W), cut to [0, 1]. A shape (one file each in ``shapes``) maps
progress to a multiplier of the peak; its ``floor`` is a fraction of the peak and never touches the warm-up. Resuming needs only u.

Beside the shapes is what can be said of a whole schedule: its bound (``convex_bound``), the one that gradient norms ask for
(``refine``), what was learned at which rate (``dose``), and what it costs in loss (``laws``).
"""

from trainer.schedules.progress import Progress
from trainer.schedules.schedule import Schedule, build_schedule, known_shapes
from trainer.schedules.shape import SHAPES, Shape, register

__all__ = ["SHAPES", "Progress", "Schedule", "Shape", "build_schedule", "known_shapes", "register"]
