"""What the logs of runs tell the next one.

``dose``: at which rates its rollouts were learned from. ``measurements`` of score by compute, the ``sigmoid`` through them, and the
command ``fit``. ``updates`` with their gradient norms, from which ``refine`` makes a schedule and ``score`` ranks some.
"""
