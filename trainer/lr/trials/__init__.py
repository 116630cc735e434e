"""Rates tried on rollouts that are drawn once: which one, before a run or from a checkpoint of it. Nothing is written into a run.

``batches`` are drawn; ``effects`` says how far an update moves the policy on its own batch, ``range_test`` of each rate.
``held_out`` says what an update is worth on the other batches, ``forecast`` what more of them would be worth, and ``search`` looks
for the best rate with a ``gaussian_process``.
"""
