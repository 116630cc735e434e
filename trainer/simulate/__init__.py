"""Recipes compared on a simulated learner: `curricula simulate`.

``setting`` says what world it is, ``student`` answers and learns, ``oracle`` is the upper mark, ``run`` spends one budget with a real
`Curriculum` in the loop, ``compare`` runs recipes on paired seeds, ``statistics`` reads the differences, ``sweep`` makes the regime
map of them; ``tables``, ``pictures`` and ``files`` show and keep the results. NumPy alone decides; nothing here loads a model.
"""

NOTE = (
    "A simulation says nothing about language models. Its skills grow by the policy gradient of an item-response model, so groups of "
    "middling pass rate teach most by construction, and a rule that looks for them is rewarded. Use it to find where a recipe cannot "
    "work, and to compare the cost of finding those groups; then run paired seeds on your model."
)
