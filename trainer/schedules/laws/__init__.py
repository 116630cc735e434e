"""What a schedule costs in loss, by laws fitted to loss curves.

The laws are of stationary data (pre-training, fine-tuning) and of one peak. They are no laws of the reward of an RL run: take what
they say as a planner's prior. Their error on runs that they have not seen is larger than the gaps between shapes of decay, so every
fit carries it and nothing here names a winner within it.
"""
