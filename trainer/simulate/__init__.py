"""Recipes compared on a simulated learner: `curricula simulate`.

``setting`` says what world it is, ``student`` answers and learns, ``oracle`` is the upper mark, ``run`` spends one budget with a
real `Curriculum` in the loop, ``compare`` runs recipes on paired seeds, ``statistics`` reads the differences, ``sweep`` names the
worlds of a regime map; ``tables``, ``pictures`` and ``files`` show and keep the results. Nothing here loads a model.
"""

NOTE = (
    "This is a simulation and no evidence about language models. Its skills grow by the policy gradient of an item-response "
    "model, so groups of middling pass rate teach most by construction, and a rule that looks for them is rewarded. It has no "
    "gradient noise and no optimiser, so filters that trade updates for fuller batches have little to win here. Use it to see on "
    "what a recipe depends; then run paired seeds on your model."
)
