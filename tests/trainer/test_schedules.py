"""Published vectors, transformers as the oracle, and properties over random schedules."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import get_scheduler

from curricula.types import CurriculaError
from trainer.schedules import COOL_DOWNS, SHAPES, build_schedule


def built(name, n_steps=1000, warmup=100, warmup_from="zero", **more):
    return build_schedule({"name": name, "peak": 1.0, "warmup": warmup, "warmup_from": warmup_from, **more}, n_steps)


@pytest.mark.parametrize(
    ("name", "more", "expected"),
    [
        ("constant", {}, [0, 0.5, 1, 1, 1, 1, 1]),
        ("linear", {}, [0, 0.5, 1, 0.75, 0.5, 0.25, 0]),
        ("linear", {"floor": 0.1}, [0, 0.5, 1, 0.775, 0.55, 0.325, 0.1]),
        ("cosine", {"floor": 0.0}, [0, 0.5, 1, 0.853553, 0.5, 0.146447, 0]),
        ("cosine", {}, [0, 0.5, 1, 0.868198, 0.55, 0.231802, 0.1]),
    ],
)
def test_vectors(name, more, expected):
    schedule = built(name, **more)
    assert [schedule.lr(t) for t in (0, 50, 100, 325, 550, 775, 1000)] == pytest.approx(expected, abs=5e-7)


@pytest.mark.parametrize(
    ("shape", "floor", "expected"),
    [
        ("linear", 0.0, [0.5, 1, 1, 0.75, 0.5, 0.25, 0]),
        ("linear", 0.1, [0.5, 1, 1, 0.775, 0.55, 0.325, 0.1]),
        ("one_minus_sqrt", 0.0, [0.5, 1, 1, 0.5, 0.292893, 0.133975, 0]),
        ("one_minus_sqrt", 0.1, [0.5, 1, 1, 0.55, 0.363604, 0.220577, 0.1]),
        ("one_minus_sqrt", 1 / 3, [0.5, 1, 1, 0.666667, 0.528595, 0.422650, 0.333333]),
        ("cosine", 0.0, [0.5, 1, 1, 0.853553, 0.5, 0.146447, 0]),
    ],
)
@pytest.mark.parametrize("decay", [200, 0.2])
def test_vectors_of_warmup_stable_decay(shape, floor, decay, expected):
    schedule = built("wsd", shape=shape, floor=floor, decay=decay)
    assert [schedule.lr(t) for t in (50, 100, 800, 850, 900, 950, 1000)] == pytest.approx(expected, abs=5e-7)


@pytest.mark.parametrize(
    ("ours", "theirs", "kwargs"),
    [
        (("constant", {}), "constant_with_warmup", {}),
        (("linear", {}), "linear", {}),
        (("cosine", {"floor": 0.0}), "cosine", {}),
        (("cosine", {"floor": 0.1}), "cosine_with_min_lr", {"min_lr_rate": 0.1}),
        (("wsd", {"shape": "linear", "decay": 30}), "warmup_stable_decay", {"num_decay_steps": 30, "decay_type": "linear"}),
        (("wsd", {"shape": "one_minus_sqrt", "decay": 30}), "warmup_stable_decay", {"num_decay_steps": 30, "decay_type": "1-sqrt"}),
        (("wsd", {"shape": "cosine", "decay": 30}), "warmup_stable_decay", {"num_decay_steps": 30, "decay_type": "cosine"}),
    ],
)
def test_transformers_agrees_at_every_step(ours, theirs, kwargs):
    name, more = ours
    schedule = built(name, n_steps=120, warmup=13, **more)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    oracle = get_scheduler(theirs, optimizer, 13, 120, scheduler_specific_kwargs=kwargs)
    for t in range(121):
        assert schedule.lr(t) == pytest.approx(oracle.get_last_lr()[0], abs=1e-12), t
        optimizer.step()
        oracle.step()


def test_the_first_update_is_not_wasted():
    assert [built("constant", warmup=4, warmup_from="first").lr(t) for t in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert built("linear", warmup=0).lr(0) == 1.0
    assert build_schedule({"name": "linear", "peak": 2e-6, "warmup": 0.05}, 100).lr(4) == 2e-6


@st.composite
def schedules(draw):
    name = draw(st.sampled_from(sorted(SHAPES)))
    n_steps = draw(st.integers(1, 500))
    warmup = draw(st.integers(0, n_steps))
    more = {} if name == "constant" else {"floor": draw(st.floats(0, 1))}
    if name == "wsd":
        more |= {"shape": draw(st.sampled_from(sorted(COOL_DOWNS))), "decay": draw(st.integers(1, n_steps))}
    return built(name, n_steps, warmup, draw(st.sampled_from(["first", "zero"])), **more)


@settings(max_examples=200, deadline=None)
@given(schedules(), st.integers(0, 2**20))
def test_bounded_rising_then_falling_to_the_floor(schedule, late):
    rates = np.array([schedule.multiplier(t) for t in range(schedule.n_steps + 2)])
    assert ((rates >= 0) & (rates <= 1)).all()
    warmup = int(schedule.warmup)
    assert (np.diff(rates[: warmup + 1]) >= 0).all() or warmup == schedule.n_steps
    assert (np.diff(rates[warmup:]) <= 1e-12).all()
    end = getattr(schedule.shape, "floor", 1.0)
    assert schedule.multiplier(schedule.n_steps + late) == pytest.approx(end)


@settings(max_examples=100, deadline=None)
@given(schedules(), st.floats(0, 1))
def test_continuous_between_updates(schedule, where):
    """Steps of a thousandth of an update move the rate little; one_minus_sqrt is steep only where its cool-down begins."""
    if schedule.warmup_from == "first" or schedule.warmup >= schedule.n_steps - 1:
        return
    t = where * schedule.n_steps
    assert abs(schedule.multiplier(t + 1e-6) - schedule.multiplier(t)) < 2e-3


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"name": "cosin", "peak": 1}, "unknown schedule 'cosin'; did you mean 'cosine'"),
        ({"peak": 1}, "unknown schedule ''"),
        ({"name": "linear", "peak": 1, "flor": 0}, "unknown key of schedule 'linear' 'flor'; did you mean 'floor'"),
        ({"name": "constant", "peak": 1, "floor": 0.1}, "unknown key of schedule 'constant' 'floor'"),
        ({"name": "linear"}, "'peak' is missing"),
        ({"name": "linear", "peak": "1e-6"}, "expected a number, got '1e-6'"),
        ({"name": "linear", "peak": float("nan")}, "expected a finite learning rate"),
        ({"name": "linear", "peak": 1, "floor": 2}, r"expected a share of the peak in \[0, 1\], got 2"),
        ({"name": "linear", "peak": 1, "warmup": 101}, "expected 0 to 100 updates"),
        ({"name": "wsd", "peak": 1, "decay": 0}, "schedule.decay"),
        ({"name": "wsd", "peak": 1, "shape": "one_minus_sqr"}, "did you mean 'one_minus_sqrt'"),
        ({"name": "linear", "peak": 1, "warmup_from": "one"}, "unknown schedule.warmup_from 'one'"),
    ],
)
def test_bad_recipes_are_refused(mapping, message):
    with pytest.raises(CurriculaError, match=message):
        build_schedule(mapping, 100)
