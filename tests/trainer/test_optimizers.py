"""Every optimiser of the registry: that its package is driven as it wants to be, and that nothing is lost between two processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed import HashStore, destroy_process_group, init_process_group

from curricula.types import CurriculaError
from tests.tiny import save_tiny_model
from tests.trainer.learning import differences, make_learner, ragged_sequences, weights_of
from tests.trainer.recipes import simulated
from trainer.assembly import check_installed
from trainer.learner_ranks import FsdpRanks
from trainer.optimizer import OPTIMIZERS, Optimizer, chosen, known_optimizers
from trainer.schedules import build_schedule
from trainer.settings import LearnerSettings, LoraSettings

NAMES = ("adamw", "dog", "ldog", "momo_adam", "muon", "prodigy", "schedule_free_adamw", "schedule_free_radam")
AVERAGING = ("dog", "ldog", "schedule_free_adamw", "schedule_free_radam")
FAST = {  # what makes them move within two updates
    "dog": {"reps_rel": 1e-3},
    "ldog": {"reps_rel": 1e-3},
    "prodigy": {"d0": 1e-3},
    "schedule_free_radam": {"silent_sgd_phase": False},
}
RATES = {"adamw": 1e-3, "muon": 1e-3, "momo_adam": 1e-3, "schedule_free_adamw": 1e-3, "schedule_free_radam": 1e-1}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("small") / "model", hidden=32, layers=1)


def learner_of(name, path, model=None, ranks=None, **settings):
    return make_learner(path, model, ranks, optimizer={"name": name, **FAST.get(name, {})}, **settings)


def learn(learner, name, *seeds):
    for seed in seeds:
        learner.step(ragged_sequences(seed, (2, 3), learner.version), RATES.get(name, 1.0))


def on_line(name, betas=(0.9, 0.99), **own) -> tuple[Tensor, Optimizer]:
    """The optimiser of one number."""
    start = torch.ones(1, dtype=torch.float64)
    return start, chosen({"name": name, **own}).build({"x": start}, LearnerSettings(betas=betas))


def descend(start: Tensor, optimizer: Optimizer, rates) -> list[float]:
    """Steps on x^2 / 2; where each of them begins."""
    places = []
    for lr in rates:
        places.append(float(start))
        optimizer.zero_grad()
        start.grad = start.clone()
        optimizer.step(lr, float(start**2 / 2))
    return places


def test_the_registry_is_known_and_says_where_its_rules_come_from():
    assert known_optimizers() == NAMES
    for choice in OPTIMIZERS.values():
        assert "arXiv" in choice.__doc__


@pytest.mark.parametrize("name", NAMES)
def test_two_updates_a_new_process_and_two_more_are_four(path, tmp_path, name):
    straight, first, second = (learner_of(name, path, weight_decay=0.01) for _ in range(3))
    learn(straight, name, 0, 1, 2, 3)
    learn(first, name, 0, 1)
    first.save(tmp_path / "two")
    second.load(tmp_path / "two")
    learn(second, name, 2, 3)
    straight.save(tmp_path / "straight")
    second.save(tmp_path / "four")
    assert differences(weights_of(second), weights_of(first)) > 1e-7, "it does not stand still"
    assert differences(weights_of(second), weights_of(straight)) == 0
    for file in ("optimizer.safetensors", "learner.json", "model/model.safetensors"):
        assert (tmp_path / "four" / file).read_bytes() == (tmp_path / "straight" / file).read_bytes()


@pytest.mark.parametrize("model", [{"dtype": "bfloat16"}, {"lora": LoraSettings(rank=4)}], ids=str)
@pytest.mark.parametrize("name", ["muon", "schedule_free_adamw", "dog"])
def test_masters_and_adapters_resume_too(path, tmp_path, name, model):
    straight, first, second = (learner_of(name, path, model) for _ in range(3))
    learn(straight, name, 0, 1, 2)
    learn(first, name, 0, 1)
    first.save(tmp_path)
    second.load(tmp_path)
    learn(second, name, 2)
    assert differences(weights_of(second), weights_of(straight)) == 0


def test_a_checkpoint_from_before_optimisers_had_names_resumes(path, tmp_path):
    """Written by hand, and by torch's own AdamW: master/NAME, exp_avg/NAME, exp_avg_sq/NAME; a format and a version."""
    learner, resumed = make_learner(path), make_learner(path, optimizer={"name": "adamw"})
    masters = learner._masters.tensors
    plain = torch.optim.AdamW(masters.values(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    for seed in range(4):
        for name, master in masters.items():
            torch.manual_seed(seed * 100 + len(name))
            master.grad = torch.randn(master.shape)
        plain.step()
        if seed == 1:
            kept = {f"{key}/{name}": plain.state[m][key] for name, m in masters.items() for key in ("exp_avg", "exp_avg_sq")}
            save_file(kept | {f"master/{name}": m.detach() for name, m in masters.items()}, tmp_path / "optimizer.safetensors")
            (tmp_path / "learner.json").write_text('{"format": 1, "version": 2}\n')
            resumed.load(tmp_path)
    for seed in (2, 3):
        for name, master in resumed._masters.tensors.items():
            torch.manual_seed(seed * 100 + len(name))
            master.grad = torch.randn(master.shape)
        resumed._optimizer.step(1e-3, 0.0)
    assert resumed.version == 2
    assert differences(weights_of(learner), weights_of(resumed)) == 0


def test_adamw_writes_what_it_wrote_before_and_others_say_who_they_are(path, tmp_path):
    learner, other = make_learner(path), learner_of("prodigy", path)
    learn(learner, "adamw", 0)
    learner.save(tmp_path / "adamw")
    assert json.loads((tmp_path / "adamw" / "learner.json").read_text()) == {"format": 1, "version": 1}
    with pytest.raises(CurriculaError, match=r"learner\.optimizer was 'adamw' there and is 'prodigy' in this run"):
        other.load(tmp_path / "adamw")
    learn(other, "prodigy", 0)
    other.save(tmp_path / "prodigy")
    facts = json.loads((tmp_path / "prodigy" / "learner.json").read_text())
    assert facts["optimizer"]["name"] == "prodigy"
    assert facts["optimizer"]["numbers"]["d"] >= 1e-3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", AVERAGING)
def test_what_is_released_is_the_average_and_leaves_no_trace(path, tmp_path, name, dtype):
    learner, untouched = (learner_of(name, path, {"dtype": dtype}) for _ in range(2))
    for one in (learner, untouched):
        learn(one, name, 0, 1)
    drawn_from = weights_of(learner)
    released = learner.release_weights()
    assert released is not None
    assert released.version == learner.version == 2
    shipped = {key: array for chunk in released.chunks for key, array in chunk.items()}
    assert any(not np.array_equal(shipped[key], drawn_from[key]) for key in shipped)
    learner.save(tmp_path)
    again = make_learner(tmp_path / "model", {"dtype": dtype})
    assert all(np.array_equal(array, shipped[key]) for key, array in weights_of(again).items())
    learn(learner, name, 2)
    learn(untouched, name, 2)
    assert all(np.array_equal(array, weights_of(untouched)[key]) for key, array in weights_of(learner).items())


@pytest.mark.parametrize("name", sorted({*NAMES} - {*AVERAGING}))
def test_others_release_what_they_draw_from(path, name):
    learner = learner_of(name, path)
    learn(learner, name, 0)
    assert learner.release_weights() is None


# -- the packages ---------------------------------------------------------------------------------------------------------------


def schedule_free_by_hand(lr: float, beta: float, n: int, direction) -> list[tuple[float, float, float]]:
    """(y, z, x) of each step on x^2 / 2: z after it, x the mean of all z."""
    z = x = 1.0
    rows = []
    for k in range(n):
        y = (1 - beta) * z + beta * x
        z -= lr * direction(k, y)
        x += (z - x) / (k + 1)
        rows.append((y, z, x))
    return rows


def adams(beta2: float):
    """The direction of an Adam without momentum."""
    square = 0.0

    def direction(k: int, gradient: float) -> float:
        nonlocal square
        square = beta2 * square + (1 - beta2) * gradient**2
        return gradient / ((square / (1 - beta2 ** (k + 1))) ** 0.5 + 1e-8)

    return direction


def test_schedule_free_draws_from_y_and_ships_x():
    plain = schedule_free_by_hand(0.5, 0.9, 5, lambda k, gradient: gradient)
    assert plain[1] == pytest.approx((0.5, 0.25, 0.375))
    assert plain[4] == pytest.approx((0.165531, -0.140266, 0.124197), abs=1e-6)
    rows = schedule_free_by_hand(0.5, 0.9, 5, adams(0.99))
    start, optimizer = on_line("schedule_free_adamw")
    for y, z, x in rows:
        assert descend(start, optimizer, [0.5]) == [pytest.approx(y, abs=1e-6)]
        assert float(optimizer.state().tensors["z/x"]) == pytest.approx(z, abs=1e-6)
        with optimizer.releasing():
            assert float(start) == pytest.approx(x, abs=1e-6)


def test_there_is_one_warm_up_and_it_is_the_schedules():
    from schedulefree import AdamWScheduleFree

    schedule = build_schedule({"name": "constant", "peak": 0.1, "warmup": 4}, 12)
    start, optimizer = on_line("schedule_free_adamw")
    places = descend(start, optimizer, [schedule.lr(t) for t in range(12)])
    alone = torch.ones(1, dtype=torch.float64)
    own = AdamWScheduleFree([alone], lr=0.1, betas=(0.9, 0.99), warmup_steps=4)
    own.train()
    for place in places:
        assert float(alone) == place
        alone.grad = alone.clone()
        own.step()


def test_radam_is_silent_until_it_can_rectify_unless_told_otherwise():
    assert len({*descend(*on_line("schedule_free_radam"), [0.1] * 6)}) == 2, "five steps begin where the run began"
    assert len({*descend(*on_line("schedule_free_radam", silent_sgd_phase=False), [0.1] * 6)}) == 6


def test_dog_finds_its_step_size_and_ships_a_polynomial_average():
    start, optimizer = on_line("dog")
    etas, average, places = [], 0.0, []
    for t in range(1, 6):
        descend(start, optimizer, [1.0])
        places.append(float(start))
        share = 9.0 / (t + 8.0)
        average = (1 - share) * average + share * places[-1]
        etas.append(optimizer.metrics()["step_size"])
        with optimizer.releasing():
            assert float(start) == pytest.approx(average, abs=1e-7)
    assert etas == pytest.approx([2.0e-6, 1.414215e-6, 1.9712e-6, 2.69271e-6, 3.61265e-6], rel=1e-4)
    assert float(start) == places[-1]


def test_layers_of_ldog_have_rates_of_their_own():
    tensors = {"near": torch.ones(1), "far": torch.ones(1)}
    optimizers = {name: chosen({"name": name}).build(tensors, LearnerSettings()) for name in ("dog", "ldog")}
    moved = {}
    for name, optimizer in optimizers.items():
        before = {key: tensor.clone() for key, tensor in tensors.items()}
        for key, scale in (("near", 1e-3), ("far", 1.0)):
            tensors[key].grad = torch.full((1,), scale)
        optimizer.step(1.0, 0.0)
        moved[name] = {key: float(before[key] - tensors[key]) for key in tensors}
    assert moved["dog"]["near"] == pytest.approx(1e-3 * moved["dog"]["far"], abs=1e-7)
    assert moved["ldog"]["near"] == pytest.approx(moved["ldog"]["far"], rel=0.1)


def test_momo_is_told_the_loss_and_its_bound():
    def by_hand(lr: float, bound: float, n: int) -> list[float]:
        x, mean, direction, gamma, square, places = 1.0, 0.0, 0.0, 0.0, 0.0, []
        for k in range(1, n + 1):
            places.append(x)
            mean, direction, gamma = (0.9 * a + 0.1 * b for a, b in ((mean, x * x / 2), (direction, x), (gamma, x * x)))
            square = 0.99 * square + 0.01 * x * x
            scale, first = (square / (1 - 0.99**k)) ** 0.5 + 1e-8, 1 - 0.9**k
            left = max(mean - first * bound + direction * x - gamma, 0.0)
            x -= min(lr / first, left / (direction**2 / scale)) * direction / scale
        return places

    for lr, bound in ((1.0, 0.0), (0.01, 0.0), (1.0, 0.2)):
        found = descend(*on_line("momo_adam", lb=bound), [lr] * 6)
        assert found == pytest.approx(by_hand(lr, bound, 6), abs=1e-5)
    assert by_hand(1.0, 0.0, 2)[1] == pytest.approx(0.5), "Polyak's step, not the cap"


def test_prodigy_takes_the_rate_as_a_factor_and_finds_the_rest():
    steps = [1.0 - descend(*on_line("prodigy", d0=1e-3), [lr, 0.0])[1] for lr in (1.0, 0.5)]
    assert steps[0] == pytest.approx(2 * steps[1], rel=1e-3)
    start, optimizer = on_line("prodigy")
    assert abs(descend(start, optimizer, [1.0] * 300)[-1]) < 0.1
    assert optimizer.metrics()["step_size"] > 1e-2, "from 1e-6"
    before = float(start)
    descend(start, optimizer, [0.0])
    assert float(start) == before


def test_muon_moves_hidden_matrices_and_adamw_the_rest(path):
    learner = learner_of("muon", path)
    learn(learner, "muon", 0)
    tensors = learner._optimizer.state().tensors
    by_muon = {name.removeprefix("momentum_buffer/") for name in tensors if name.startswith("momentum_buffer/")}
    by_adamw = {name.removeprefix("exp_avg/") for name in tensors if name.startswith("exp_avg/")}
    shapes = {name: master.shape for name, master in learner._masters.tensors.items()}
    assert by_muon == {name for name, shape in shapes.items() if len(shape) == 2} - {"model.embed_tokens.weight"}
    assert by_adamw == shapes.keys() - by_muon
    before = weights_of(learner)
    learn(learner, "muon", 1)
    moved = weights_of(learner)["model.layers.0.mlp.up_proj.weight"] - before["model.layers.0.mlp.up_proj.weight"]
    assert 0.05e-3 < np.sqrt((moved**2).mean()) < 0.4e-3, "the size of a step of AdamW's"


# -- shards, refusals -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def one_of_one():
    """A rank that shards like several, alone in its group."""
    init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield FsdpRanks(torch.device("cpu"))
    destroy_process_group()


@pytest.mark.parametrize("name", NAMES)
def test_a_rank_of_its_own_is_the_learner_in_the_driver(path, tmp_path, one_of_one, name):
    alone, placed, resumed = (learner_of(name, path, None, ranks) for ranks in (None, one_of_one, one_of_one))
    for one in (alone, placed):
        learn(one, name, 0, 1)
    assert differences(weights_of(alone), weights_of(placed)) < 1e-6
    placed.save(tmp_path)
    resumed.load(tmp_path)
    for one in (placed, resumed):
        learn(one, name, 2)
    assert differences(weights_of(placed), weights_of(resumed)) == 0
    if name in AVERAGING:
        learner = learner_of(name, path)
        learner.load(tmp_path)
        assert differences(weights_of(learner), weights_of(alone)) < 1e-6


@pytest.mark.parametrize(
    ("optimizer", "others", "message"),
    [
        ({"name": "adam"}, {}, "unknown learner.optimizer 'adam'; did you mean 'adamw'"),
        ({"nam": "adamw"}, {}, "learner.optimizer: expected a mapping with a name"),
        ({"name": "prodigy", "d_coeff": 1.0}, {}, "did you mean 'd_coef'"),
        ({"name": "prodigy", "d0": "1e-6"}, {}, r"learner\.optimizer\.d0: expected a number, got '1e-6'"),
        ({"name": "prodigy", "d0": 0}, {}, "expected d0 and d_coef > 0"),
        (
            {"name": "prodigy"},
            {"schedule": {"name": "cosine", "peak": 1e-6}},
            r"schedule\.peak: prodigy wants 0\.1 to 10, got 1e-06",
        ),
        ({"name": "prodigy"}, {"learner__n_ranks": 2}, r"learner\.n_ranks: prodigy works on one rank, got 2"),
        (
            {"name": "schedule_free_adamw"},
            {"schedule": {"name": "cosine", "peak": 1.0}},
            "wants constant, got 'cosine': it averages",
        ),
        ({"name": "schedule_free_radam"}, {"schedule": {"name": "constant", "peak": 1.0, "warmup": 2}}, "wants none, got 2"),
        ({"name": "dog"}, {"schedule": {"name": "constant", "peak": 0.5}}, r"schedule\.peak: dog wants 1, got 0\.5"),
        ({"name": "muon", "momentum": 1.0}, {}, "expected 0 <= momentum < 1"),
        ({"name": "momo_adam"}, {}, "'momo_adam' is not for GRPO: .* no bound that means anything"),
    ],
    ids=str,
)
def test_what_a_run_cannot_use_is_refused_before_anything_starts(tmp_path: Path, optimizer, others, message):
    changes = {"schedule": {"name": "constant", "peak": 1.0}, "learner__placement": "ray", **others}
    with pytest.raises(CurriculaError, match=message):
        simulated(tmp_path, learner__optimizer=optimizer, **changes)


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("schedule_free_adamw", {"name": "constant", "peak": 1e-6, "warmup": 0.1}),
        ("schedule_free_radam", {"name": "constant", "peak": 1e-6}),
        ("prodigy", {"name": "cosine", "peak": 1.0, "warmup": 0.1}),
        ("dog", {"name": "constant", "peak": 1.0}),
        ("ldog", {"name": "constant", "peak": 1}),
        ("muon", {"name": "wsd", "peak": 1e-6}),
    ],
)
def test_schedules_that_make_sense_are_taken(tmp_path: Path, name, schedule):
    assert simulated(tmp_path, learner__optimizer={"name": name}, schedule=schedule).learner.optimizer == {"name": name}


@pytest.mark.parametrize("name", sorted({*NAMES} - {"adamw", "muon"}))
def test_a_missing_package_is_said_with_what_to_install(monkeypatch, name):
    monkeypatch.setitem(sys.modules, chosen({"name": name}).package, None)
    with pytest.raises(CurriculaError, match=r"pip install 'rl-curricula\[optimizers\]'"):
        check_installed(LearnerSettings(optimizer={"name": name}))


def test_averages_need_a_momentum():
    with pytest.raises(CurriculaError, match=r"learner\.betas: .* first one above 0"):
        on_line("schedule_free_adamw", betas=(0.0, 0.99))
