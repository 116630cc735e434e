"""Published vectors, transformers as the oracle, and properties over random schedules."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import get_scheduler

from curricula.types import CurriculaError
from trainer.schedules import build_schedule, known_shapes
from trainer.schedules.cool_downs import COOL_DOWNS


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
        ("polynomial", {"power": 1.0}, [0, 0.5, 1, 0.75, 0.5, 0.25, 0]),
        ("inverse_sqrt", {}, [0, 0.5, 1, 0.554700, 0.426401, 0.359211, 0.316228]),
        ("step", {"every": 300}, [0, 0.5, 1, 1, 0.5, 0.25, 0.125]),
        ("rex", {}, [0, 0.5, 1, 0.857143, 0.666667, 0.4, 0]),
        ("uba", {"phi": 0.25}, [0, 0.5, 1, 0.979004, 0.888889, 0.578518, 0]),
        ("uba", {"phi": 0.5}, [0, 0.5, 1, 0.958871, 0.8, 0.406983, 0]),
        ("uba", {"phi": 1.0}, [0, 0.5, 1, 0.920991, 0.666667, 0.255479, 0]),
        ("uba", {"phi": 2.0}, [0, 0.5, 1, 0.853553, 0.5, 0.146447, 0]),
        ("uba", {"phi": 5.0}, [0, 0.5, 1, 0.699823, 0.285714, 0.064222, 0]),
        ("table", {"multipliers": [1.0, 0.5, 0.0]}, [0, 0.5, 1, 0.75, 0.5, 0.25, 0]),
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
        ("geometric", 0.1, [0.5, 1, 1, 0.562341, 0.316228, 0.177828, 0.1]),
        ("inverse", 0.1, [0.5, 1, 1, 0.307692, 0.181818, 0.129032, 0.1]),
        ("one_minus_square", 0.0, [0.5, 1, 1, 0.9375, 0.75, 0.4375, 0]),
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
        (("inverse_sqrt", {}), "inverse_sqrt", {}),
        (("polynomial", {"power": 2.0, "floor": 0.0}), "polynomial", {"power": 2.0, "lr_end": 0.0}),
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


def test_vectors_of_the_others():
    half_life = built("wsd", shape="half_life", half_life=50, decay=200)
    assert [half_life.lr(t) for t in (50, 100, 800, 850, 900, 950, 1000)] == [0.5, 1, 1, 0.5, 0.25, 0.125, 0.0625]
    milestones = built("multistep", warmup=0, milestones=[300, 600, 0.9])
    assert [milestones.lr(t) for t in (0, 325, 550, 775, 1000)] == pytest.approx([1, 0.1, 0.1, 0.01, 0.001])
    cycles = built("wsd_s", n_steps=2000, ends=[1000], decay=100)
    at = (50, 900, 950, 1000, 1001, 1950, 2000)
    assert [cycles.lr(t) for t in at] == pytest.approx([0.5, 1, 0.181818, 0.1, 1, 0.181818, 0.1], abs=5e-7)
    endless = built("infinite", n_steps=9000, cool_down=400, constant=0.125, anneal_from=2000, anneal=200, floor=0.01)
    at = (50, 100, 300, 500, 1500, 2000, 2100, 2200)
    assert [endless.lr(t) for t in at] == pytest.approx([0.5, 1, 0.5625, 0.125, 0.125, 0.125, 0.035355, 0.01], abs=5e-7)
    power = built("power", n_steps=10**13, warmup=0, reference=5.789e8)
    at = (1e8, 1e9, 1e10, 1e11, 1e12)
    paper = [0.02, 1.513449e-2, 4.677005e-3, 1.445333e-3, 4.466505e-4]
    assert [0.02 * power.multiplier(n) for n in at] == pytest.approx(paper, rel=1e-4)


@pytest.mark.parametrize(("form", "gamma"), [("triangular", 1.0), ("triangular2", 1.0), ("exp_range", 0.999)])
def test_torch_cycles_alike(form, gamma):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    oracle = torch.optim.lr_scheduler.CyclicLR(optimizer, 0.1, 1.0, step_size_up=100, mode=form, gamma=gamma, cycle_momentum=False)
    schedule = built("cyclical", warmup=0, half=100, form=form, gamma=gamma, floor=0.1)
    for t in range(600):
        assert schedule.lr(t) == pytest.approx(oracle.get_last_lr()[0], abs=1e-12), t
        optimizer.step()
        oracle.step()


def test_torch_has_the_same_one_cycle():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    oracle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=201, cycle_momentum=False)
    schedule = built("one_cycle", n_steps=200, warmup=0, rise=59.3 / 200, floor=4e-6)  # torch's peak is at 0.3 x 201 - 1
    for t in range(201):
        assert schedule.lr(t) == pytest.approx(oracle.get_last_lr()[0], abs=1e-9), t
        optimizer.step()
        oracle.step()


def test_the_first_update_is_not_wasted():
    assert [built("constant", warmup=4, warmup_from="first").lr(t) for t in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert built("linear", warmup=0).lr(0) == 1.0
    assert build_schedule({"name": "linear", "peak": 2e-6, "warmup": 0.05}, 100).lr(4) == 2e-6


FALLING = ("constant", "linear", "cosine", "polynomial", "rex", "uba", "wsd")


@st.composite
def falling(draw):
    name = draw(st.sampled_from(FALLING))
    n_steps = draw(st.integers(1, 500))
    warmup = draw(st.integers(0, n_steps))
    more = {} if name == "constant" else {"floor": draw(st.floats(1e-3, 1))}
    if name == "wsd":
        more |= {"shape": draw(st.sampled_from(sorted(COOL_DOWNS))), "decay": draw(st.integers(1, n_steps))}
    return built(name, n_steps, warmup, draw(st.sampled_from(["first", "zero"])), **more)


@settings(max_examples=200, deadline=None)
@given(falling(), st.integers(0, 2**20))
def test_bounded_rising_then_falling_to_the_floor(schedule, late):
    rates = np.array([schedule.multiplier(t) for t in range(schedule.horizon + 2)])
    assert ((rates >= 0) & (rates <= 1)).all()
    warmup = int(schedule.warmup)
    assert (np.diff(rates[: warmup + 1]) >= 0).all() or warmup == schedule.horizon
    assert (np.diff(rates[warmup:]) <= 1e-12).all()
    end = getattr(schedule.shape, "floor", 1.0)
    assert schedule.multiplier(schedule.horizon + late) == pytest.approx(end)


@settings(max_examples=100, deadline=None)
@given(falling(), st.floats(0, 1))
def test_continuous_between_updates(schedule, where):
    """Steps of a millionth of an update move the rate little; one_minus_sqrt is steep only where its cool-down begins."""
    if schedule.warmup_from == "first" or schedule.warmup >= schedule.horizon - 1:
        return
    t = where * schedule.horizon
    assert abs(schedule.multiplier(t + 1e-6) - schedule.multiplier(t)) < 2e-3


NEEDED = {
    "step": {"every": 30},
    "wsd_s": {"ends": [0.5]},
    "table": {"multipliers": [1, 0.2, 0.1]},
    "inverse_sqrt": {"timescale": 20},
}


@settings(max_examples=20, deadline=None)
@pytest.mark.parametrize("name", known_shapes())
@given(n_steps=st.integers(1, 300), u=st.floats(0, 1e9), warmup=st.integers(0, 5))
def test_every_shape_is_total_and_bounded(name, n_steps, u, warmup):
    schedule = built(name, n_steps, min(warmup, n_steps), **NEEDED.get(name, {}))
    assert 0 <= schedule.multiplier(u) <= 1


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
