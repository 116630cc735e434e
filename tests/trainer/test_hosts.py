"""The same recipe and the same rewards give the same plans in a plain loop and inside every host."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curricula import CurriculaError, Curriculum
from curricula.hosting import pool_of
from tests.trainer import host_drivers as drivers
from tests.trainer.host_code import CACHE
from tests.trainer.host_drivers import BATCH, GROUP_SIZE, STANDINS, Ran, Run, rewards_of, rows
from trainer.integrations.open_groups import OpenGroups

RECIPES = ("dump_ucb", "mopps", "plr", "cdas")


def source_tree(name: str, inside: str = "") -> Any:
    """A host that is not on PyPI, from a checkout that a developer has put there."""
    entry = CACHE / "hosts" / name
    reason = f"no source tree of {name} in .cache/hosts: docs/hosts.md says which commit; its stand-in is tested"
    return pytest.param(str(entry / inside), marks=pytest.mark.skipif(not entry.exists(), reason=reason), id=name)


SLIMES = [pytest.param(STANDINS, id="slime-standin"), source_tree("slime")]
PRIMES = [pytest.param(STANDINS, id="prime-rl-standin"), source_tree("prime-rl", "src")]
DRIVERS = [  # a host joins by one line: a function from a Run to a Ran
    pytest.param(drivers.skyrl, id="skyrl"),
    pytest.param(drivers.openrlhf, id="openrlhf"),
    *(pytest.param(functools.partial(drivers.slime, entry=e.values[0]), marks=e.marks, id=e.id) for e in SLIMES),
    *(pytest.param(functools.partial(drivers.prime_rl, entry=e.values[0]), marks=e.marks, id=e.id) for e in PRIMES),
]

WITH_TRL = [pytest.param(drivers.trl, id="trl"), *DRIVERS]  # which can do more than the others, see test_trl.py


def same_state(a: Ran, b: Ran) -> None:
    assert a.state.keys() == b.state.keys()
    for key, value in a.state.items():
        np.testing.assert_array_equal(value, b.state[key], key)


@pytest.mark.parametrize("driver", WITH_TRL)
def test_a_host_plans_and_learns_as_a_plain_loop_does(driver: Any, tmp_path: Path) -> None:
    for recipe in RECIPES:
        want = drivers.plain(Run(recipe, range(8), tmp_path / f"{recipe} plain"))
        got = driver(Run(recipe, range(8), tmp_path / recipe))
        assert got.prompts == want.prompts, recipe  # which, in which order, step by step; 8 x 4 is more than one epoch of 24
        same_state(got, want)


def test_the_runs_above_could_differ(tmp_path: Path) -> None:
    """Recipes choose differently, and what is learned moves them: equal plans are no accident."""
    runs = {recipe: drivers.plain(Run(recipe, range(8), tmp_path / recipe)).prompts for recipe in (*RECIPES, "uniform")}
    assert len({str(prompts) for prompts in runs.values()}) == len(runs)


@pytest.mark.parametrize("driver", WITH_TRL)
def test_a_resumed_run_is_the_run_that_never_stopped(driver: Any, tmp_path: Path) -> None:
    whole = driver(Run("mopps", range(6), tmp_path / "whole"))
    first = driver(Run("mopps", range(3), tmp_path / "parts"))
    rest = driver(Run("mopps", range(3, 6), tmp_path / "parts"))
    assert first.prompts + rest.prompts == whole.prompts
    same_state(rest, whole)


@pytest.mark.parametrize("driver", DRIVERS)
def test_another_data_set_or_recipe_is_refused_on_resume(driver: Any, tmp_path: Path) -> None:
    driver(Run("mopps", range(2), tmp_path))
    with pytest.raises(CurriculaError, match=r"the data set changed between save and resume: 2 prompt\(s\) were added"):
        driver(Run("mopps", range(2, 4), tmp_path, rows(26)))
    with pytest.raises(CurriculaError, match="resume with the recipe of the saved run"):
        driver(Run("plr", range(2, 4), tmp_path))


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("recipe", "what"), [("knapsack", "budget"), ("hapo", "shaping"), ("pods", "downsampling"), ("soft_weights", "filter")]
)
def test_what_a_host_cannot_do_is_refused_when_the_run_starts(driver: Any, recipe: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(CurriculaError, match=f"the recipe's {what} is"):
        driver(Run(recipe, range(1), tmp_path))


@pytest.mark.parametrize("driver", DRIVERS)
def test_another_release_of_the_host_is_refused(driver: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = drivers.importable
    monkeypatch.setattr(drivers, "importable", lambda entry, package, _, without: real(entry, package, "0.99.0", without))
    with pytest.raises(CurriculaError, match=r"0\.99\.0: this adapter is tested with"):
        driver(Run("mopps", range(1), tmp_path))


# --- groups that a host drops, brings late, twice or never -----------------------------------------------------------------------


def mixed(prompt: str, step: int) -> bool:
    return 0 < sum(rewards_of(prompt, step)) < GROUP_SIZE


FILTERED = [
    pytest.param(drivers.skyrl, {"dynamic_sampling": "filter"}, id="skyrl"),
    pytest.param(drivers.openrlhf, {"dynamic_filtering": True}, id="openrlhf"),
    *(
        pytest.param(functools.partial(drivers.slime, entry=e.values[0]), settings, marks=e.marks, id=f"{e.id}-{name}")
        for e in SLIMES
        for name, settings in (
            ("waves", {"filter": "trainer.integrations.slime.keep_group"}),
            ("oversampling", {"filter": "trainer.integrations.slime.keep_group", "over_sampling": 6}),
        )
    ),
]


@pytest.mark.parametrize(("driver", "settings"), FILTERED)
def test_dropped_groups_are_fed_back_and_no_prompt_is_drawn_twice_in_a_step(driver: Any, settings: Any, tmp_path: Path) -> None:
    ran = driver(Run("nonzero_variance", range(3), tmp_path, rows(48), settings))
    for step, (generated, trained) in enumerate(zip(ran.prompts, ran.trained, strict=True)):
        assert len(set(generated)) == len(generated) > BATCH  # some were dropped and replaced by others
        assert len(trained) == BATCH
        assert set(trained) <= set(generated)
        assert all(mixed(prompt, step) for prompt in trained)
    assert any(not mixed(prompt, step) for step, generated in enumerate(ran.prompts) for prompt in generated)
    finished = {prompt for generated in ran.prompts for prompt in generated}
    assert ran.metrics["n_seen_prompts"] == len(finished)  # the curriculum has learned from every one of them
    assert ran.metrics["n_stray_groups"] == 0
    if driver in (drivers.skyrl, drivers.openrlhf):
        assert ran.metrics["n_lost_groups"] == 0  # what was drawn was generated; slime throws oversampled groups away


@pytest.mark.parametrize("driver", [drivers.skyrl, drivers.openrlhf])
def test_a_resumed_epoch_has_no_more_prompts_than_were_left_of_it(driver: Any, tmp_path: Path) -> None:
    once = {"epochs": 1}
    first = driver(Run("mopps", range(4), tmp_path, settings=once))
    rest = driver(Run("mopps", range(4, 20), tmp_path, settings=once))
    assert len(first.prompts) == 4
    assert len(rest.prompts) == 2  # 24 prompts, 4 a batch


@pytest.mark.parametrize("entry", PRIMES)
def test_the_gate_admits_what_the_recipe_keeps(entry: str, tmp_path: Path) -> None:
    ran = drivers.prime_rl(Run("nonzero_variance", range(5), tmp_path), entry)
    for step, (generated, trained) in enumerate(zip(ran.prompts, ran.trained, strict=True)):
        assert trained == [prompt for prompt in generated if mixed(prompt, step)]
    assert sum(len(trained) for trained in ran.trained) < 5 * BATCH
    assert ran.metrics["n_seen_prompts"] == len({prompt for generated in ran.prompts for prompt in generated})


@pytest.mark.parametrize("entry", PRIMES)
def test_prime_rl_brings_groups_late_twice_with_errors_and_never(entry: str, tmp_path: Path) -> None:
    with drivers.prime_rl_adapter(entry) as adapter:
        source = drivers.prime_rl_source(adapter, Run("mopps", range(1), tmp_path, rows(8)))
        sampler = source.curricula["made"].sampler
        first = [source.next_task(step=0).task for _ in range(BATCH)]
        source.on_result(drivers.episodes_of(first[0], [1.0, np.nan, 0.0, 1.0]))  # one rollout failed
        second = [source.next_task(step=1).task for _ in range(BATCH)]
        assert not {task.key for task in second} & {task.key for task in first[1:]}  # three are in flight
        assert source.on_result(drivers.episodes_of(first[1], [1.0, 1.0, 0.0, 1.0]))  # late
        assert not source.on_result(drivers.episodes_of(first[1], [0.0, 0.0, 0.0, 0.0]))  # again
        source.state_dict()
        curriculum = sampler.groups.curriculum
        assert (
            curriculum.estimate(curriculum.pool.ids.tolist().index(first[1].key)).mean_B[0] > 0.5
        )  # the second time did not count
        assert sampler.metrics()["n_stray_groups"] == 1
        assert sampler.metrics()["n_seen_prompts"] == 2
        with pytest.raises(CurriculaError, match="none of the 8 of this environment"):
            sampler.observe(drivers.episodes_of(type("Task", (), {"key": "other"})(), [1.0]))
        with pytest.raises(CurriculaError, match="call plug_in once"):
            adapter.plug_in("mopps", n_groups=4)
        third = [source.next_task(step=2).task for _ in range(BATCH)]  # two of eight are free: the oldest groups are given up
        assert {task.key for task in third} >= {task.key for task in first[2:]}
        assert sampler.metrics()["n_lost_groups"] == 2


def test_groups_that_never_come_back_do_not_keep_their_prompts_for_ever(tmp_path: Path) -> None:
    with drivers.prime_rl_adapter(STANDINS) as adapter:
        source = drivers.prime_rl_source(adapter, Run("uniform", range(1), tmp_path, rows(16)))
        lost = {source.next_task(step=0).task.key for _ in range(BATCH)}  # cancelled as stale: nobody tells
        again = []
        for step in range(1, 80):
            tasks = [source.next_task(step=step).task for _ in range(BATCH)]
            again += [step] * any(task.key in lost for task in tasks)
            for task in tasks:
                source.on_result(drivers.episodes_of(task, [0.0, 1.0]))
        assert again[0] >= 64
        assert len(again) > 3


@pytest.mark.parametrize("entry", SLIMES)
def test_slime_goes_on_with_groups_that_were_cut_short(entry: str, tmp_path: Path) -> None:
    with drivers.slime_adapter(entry) as adapter:
        data = drivers.slime_data(adapter, Run("mopps", range(1), tmp_path, settings={"partial_rollout": True}))
        groups = data.get_samples(6)
        for group in groups[:4]:
            finish(group, [1.0, 0.0, 1.0, 0.0])
        adapter.take_back(data.args, groups[:4], data.get_samples)  # slime hands over the bound method
        data.add_samples(groups[4:])
        following = data.get_samples(5)
        assert following[:2] == groups[4:]  # first those that were begun
        drawn = {group[0].prompt for group in following}
        assert len(drawn) == 5
        for group in following:
            finish(group, [1.0] * 4)
        following[0][3].reward = None  # it was aborted in the end
        adapter.take_back(data.args, following, data.get_samples)
        adapter.take_back(data.args, following[:1], data.get_samples)  # twice: counted, not learned
        assert data.groups.metrics()["n_stray_groups"] == 1
        assert data.groups.metrics()["n_open_groups"] == 0
        assert data.groups.metrics()["n_seen_prompts"] == len(drawn | {group[0].prompt for group in groups})
        assert data.groups.metrics()["n_repeated_groups"] == 0


@pytest.mark.parametrize("entry", SLIMES)
def test_a_rollout_that_slime_splits_into_samples_counts_once(entry: str, tmp_path: Path) -> None:
    settings = {"filter": "trainer.integrations.slime.keep_group"}
    with drivers.slime_adapter(entry) as adapter:
        data = drivers.slime_data(adapter, Run("nonzero_variance", range(1), tmp_path, settings=settings))
        group = data.get_samples(1)[0]
        parts = [[copy.deepcopy(sample), sample] for sample in group]  # two turns each; the last one has the reward
        finish([part[0] for part in parts], [0.0] * GROUP_SIZE)
        finish(group, [0.0, 1.0, 1.0, 1.0])
        assert adapter.keep_group(data.args, parts).keep
        adapter.take_back(data.args, [parts], data.get_samples)
        belief = data.groups.curriculum.estimate(data.groups.curriculum.pool.ids.tolist().index(group[0].metadata["id"]))
        assert belief.alpha_B[0] - belief.beta_B[0] == pytest.approx(2.0)  # three right, one wrong


@pytest.mark.parametrize("entry", SLIMES)
def test_slime_says_what_a_user_did_wrong(entry: str, tmp_path: Path) -> None:
    with drivers.slime_adapter(entry) as adapter:

        def data(**settings: Any) -> Any:
            return drivers.slime_data(adapter, Run("nonzero_variance", range(1), tmp_path, settings=settings))

        with pytest.raises(
            CurriculaError, match=r"--rollout-all-samples-process-path trainer\.integrations\.slime\.take_back, got None"
        ):
            data(hook=None)
        with pytest.raises(CurriculaError, match="drops groups behind the curriculum's back"):
            data(filter="slime.rollout.filter_hub.dynamic_sampling_filters.check_reward_nonzero_std")
        with pytest.raises(CurriculaError, match="as the host is configured it carries out keep_all"):
            data()
        good = data(filter="trainer.integrations.slime.keep_group")
        with pytest.raises(CurriculaError, match="one data source per run"):
            type(good)(good.args)
        group = good.get_samples(1)[0]
        other = finish(group, [1.0] * 4)
        other[0].metadata = {}
        with pytest.raises(CurriculaError, match="its prompt is lost"):
            adapter.take_back(good.args, [other], good.get_samples)
        with pytest.raises(CurriculaError, match="this hook belongs to a curriculum's data source"):
            adapter.take_back(good.args, [group], lambda n: [])
        with pytest.raises(CurriculaError, match=r"step 0: rollout 0 of group .* has reward 7\.0"):
            adapter.keep_group(good.args, finish(good.get_samples(1)[0], [7.0] * 4))
        type(good).id_key = "number"
        with pytest.raises(
            CurriculaError, match=r"row 0 of the data set has no 'number' in its metadata .* it has id, level, prompt"
        ):
            good._column("number")


def finish(group: list[Any], rewards: list[float]) -> list[Any]:
    for sample, reward in zip(group, rewards, strict=True):
        sample.reward, sample.response_length, sample.weight_versions = reward, 5, ["3"]
    return group


def test_openrlhf_says_what_a_user_did_wrong(tmp_path: Path) -> None:
    twice = [*rows(8), {**rows(1)[0], "id": "another"}]
    with pytest.raises(CurriculaError, match="1 prompts are repeats, and it knows prompts by their texts alone"):
        drivers.openrlhf(Run("mopps", range(1), tmp_path, twice))
    with pytest.raises(CurriculaError, match="it carries out nonzero_variance"):
        drivers.openrlhf(Run("mopps", range(1), tmp_path, settings={"dynamic_filtering": True}))
    with drivers.openrlhf_adapter() as adapter:
        adapter.plug_in("mopps")
        with pytest.raises(CurriculaError, match="call plug_in once"):
            adapter.plug_in("mopps")
        with pytest.raises(CurriculaError, match="async_enable"):
            adapter.ppo_trainer_async.PPOTrainerAsync.remote("model")


def test_skyrl_says_what_a_user_did_wrong(tmp_path: Path) -> None:
    with pytest.raises(CurriculaError, match=r"3 prompts are fewer than trainer\.train_batch_size 4"):
        drivers.skyrl(Run("mopps", range(1), tmp_path, rows(3)))
    with pytest.raises(CurriculaError, match=r"dynamic_sampling\.type 'replace' trains on groups twice"):
        drivers.skyrl(Run("nonzero_variance", range(1), tmp_path, settings={"dynamic_sampling": "replace"}))
    with pytest.raises(CurriculaError, match="it carries out keep_all"):
        drivers.skyrl(Run("nonzero_variance", range(1), tmp_path))
    with pytest.raises(CurriculaError, match="no column 'id'; it has prompt, level"):
        drivers.skyrl(Run("mopps", range(1), tmp_path, [{"prompt": row["prompt"], "level": row["level"]} for row in rows()]))


def test_a_checkpoint_without_a_curriculum_is_no_silent_new_start(tmp_path: Path) -> None:
    """SkyRL turns whatever its loader raises into a warning and trains on from the first batch."""
    drivers.skyrl(Run("mopps", range(2), tmp_path))
    data = tmp_path / "global_step_2" / "data.pt"
    torch.save({"_snapshot": {}}, data)
    with pytest.raises(CurriculaError, match="that of a run without a curriculum"):
        drivers.skyrl(Run("mopps", range(2, 3), tmp_path))
    data.unlink()
    with pytest.raises(CurriculaError, match=r"no data\.pt"):
        drivers.skyrl(Run("mopps", range(2, 3), tmp_path))


def test_one_curriculum_steers_one_trainer() -> None:
    curriculum = Curriculum.from_recipe("mopps", pool_of(["2+2=", "3+4="]))
    groups = OpenGroups("host", curriculum, group_size=2)
    with pytest.raises(CurriculaError, match="steers another trainer already"):
        OpenGroups("host", curriculum, group_size=2)
    plan = groups.draw(1)
    with pytest.raises(CurriculaError, match="never drawn; is its id lost"):
        groups.bring(7 << 32, [1.0, 0.0], [5, 5])
    with pytest.raises(CurriculaError, match="was drawn for prompt"):
        groups.bring(int(plan.group_B[0]), [1.0, 0.0], [5, 5], row=1 - int(plan.selection.prompt_B[0]))
    with pytest.raises(CurriculaError, match="1 rollouts per prompt; a group needs two"):
        OpenGroups("host", Curriculum.from_recipe("mopps", curriculum.pool), group_size=1)


def test_a_host_that_never_calls_the_hook_is_told() -> None:
    groups = OpenGroups("host", Curriculum.from_recipe("uniform", pool_of([f"{i}+1=" for i in range(300)])), group_size=2)
    for _ in range(256):
        groups.draw(1)
    with pytest.raises(CurriculaError, match="256 draws in step 0, and the step never closed"):
        groups.draw(1)


def test_a_pool_that_is_too_small_for_one_step_is_an_error() -> None:
    groups = OpenGroups("host", Curriculum.from_recipe("uniform", pool_of(["2+2=", "3+4=", "9*9="])), group_size=2)
    groups.draw(2)
    with pytest.raises(CurriculaError, match="it asks for 2 prompts, and 1 of 3 are free"):
        groups.draw(2)
