"""A simulated learner fitted to a rollout log: `curricula twin`.

``counts`` reads the log's groups, ``likelihood`` and ``fit`` find the learner and how sure it is, ``holdout`` asks whether it
foresees the second half of the log, ``learner`` answers and learns, ``forward`` spends the log's budget by other recipes,
``command`` does all of it; ``tables``, ``pictures`` and ``files`` show and keep the results. What leaves this package is labelled a
simulation.
"""

NOTE = (
    "A model of a learner was fitted to one log and run on. The ranges hold what its parameters leave open and the luck of the "
    "draws; they hold no doubt about the model. Nothing here is a measurement of a language model or a forecast of one. Use it to "
    "choose what to try; then run paired seeds on your model."
)


def label_of(source: str, failed: bool = False) -> str:
    """The words that every table, picture and file carries.

    >>> label_of("runs/demo/log")
    'SIMULATION, fitted to runs/demo/log'
    """
    return f"SIMULATION, fitted to {source}" + ("; FAILED its hold-out check" if failed else "")
