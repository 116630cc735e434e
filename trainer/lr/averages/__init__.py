"""An average of checkpoints instead of a decay: their weights, the model that is written, and the command."""
