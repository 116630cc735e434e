"""`curricula lr`: the learning rate of runs, from before the first step to after the last.

In the order in which a user meets them: ``curves`` and what ``compare`` and ``show`` make of them; ``trials`` of rates on rollouts
that are drawn once (``range``, ``search``); ``operations`` on a run that is under way (``extend``, ``decay``, ``branch``);
``averages`` of its checkpoints; and what is read ``from_logs`` for the next run (``dose``, ``fit``, ``refine``, ``score``). A file
with the name of a command is what that command does and prints; what it stands on is beside it. The schedules themselves, and the
theory of them, are in `trainer.schedules`.
"""
