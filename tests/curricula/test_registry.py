import dataclasses

import pytest

from curricula import CurriculaError, build, describe, names, register
from curricula.recipes import RECIPES, read
from curricula.registry import parameters


@pytest.mark.parametrize(
    ("stage", "spec", "message"),
    [
        (
            "distribution",
            "dump_ubc",
            "unknown distribution policy 'dump_ubc'; did you mean 'dump_ucb'.*known: .*dump_ucb, .*fixed, .*sec, .*uniform",
        ),
        (
            "distribution",
            {"name": "dump_ucb", "taau": 1},
            "distribution policy 'dump_ucb'.*'taau'; did you mean 'tau'.*known: bonus",
        ),
        ("distribution", {"name": "dump_ucb", "tau": "0.1"}, r"'dump_ucb', tau: expected float, got '0\.1' \(str\)"),
        ("distribution", {"name": "dump_ucb", "window": 2.5}, "window: expected int, got 2.5"),
        ("distribution", {"name": "dump_ucb", "window": True}, "window: expected int, got True"),
        ("distribution", {"name": "dump_ucb", "count_unit": "token"}, "expected one of 'prompt', 'rollout', got 'token'"),
        ("budget", {"name": "even", "min_n": 2}, "'even' has no parameters, got 'min_n'"),
        ("budget", {"min_n": 2}, "budget: expected a key 'name'"),
        ("budgets", "even", "unknown stage 'budgets'; did you mean 'budget'"),
        ("filter", "no.such.module:Filter", "cannot be imported"),
        ("filter", "curricula.filter.keep_all:Missing", "cannot be imported"),
        ("filter", "curricula.budget.even:Even", "expected a dataclass with a method 'judge'"),
    ],
)
def test_what_a_user_reads_when_a_recipe_is_wrong(stage, spec, message):
    with pytest.raises(CurriculaError, match=message):
        build(stage, spec)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("dump", "unknown recipe 'dump'; did you mean 'dump_ucb'"),
        ({"distributions": "sec"}, "key of a curriculum recipe: 'distributions'; did you mean 'distribution'"),
        ({"exploration": 2}, r"exploration: expected a number in 0\.\.1, got 2"),
        ({"exploration": "much"}, "exploration: expected a number"),
    ],
)
def test_what_a_user_reads_when_a_whole_recipe_is_wrong(recipe, message):
    with pytest.raises(CurriculaError, match=message):
        read(recipe)


@pytest.mark.parametrize("name", RECIPES)
def test_every_named_recipe_is_built(name):
    read(name)


def test_the_named_policies_are_there():
    for stage, expected in {
        "belief": {"beta"},
        "distribution": {"uniform", "fixed", "dump_ucb", "sec"},
        "selector": {"sequential", "uniform"},
        "budget": {"even", "knapsack"},
        "filter": {"keep_all", "nonzero_variance", "difficulty_band"},
    }.items():
        assert expected <= set(names(stage))


def test_describe_tells_defaults_and_state_sizes():
    rows = {(row.stage, row.name): row for row in describe()}
    dump = rows["distribution", "dump_ucb"]
    assert dump.summary.startswith("Softmax over upper confidence bounds")
    assert dump.defaults["tau"] == 0.1
    assert (dump.state_bytes_per_prompt, dump.state_bytes_per_distribution) == (0, 300 * 8 + 24)
    assert rows["belief", "beta"].state_bytes_per_prompt == 12
    assert rows["selector", "uniform"].state_bytes_per_prompt == 4


def test_sources_without_an_arxiv_number_are_named():
    source = {(row.stage, row.name): row.source for row in describe()}
    assert source["distribution", "exp3"] == "EXP3.S (Auer, Cesa-Bianchi, Freund and Schapire 2002)"
    assert source["distribution", "pac"] == "PAC (Progress-Augmented Advantage Curriculum)"
    assert source["selector", "space"] == "SPaCE, ICML 2021; ours for LLMs"
    assert source["filter", "advantage_gate"] == "prime-rl's advantage-range gate; on the scale of scores, ours"
    assert source["distribution", "dump_ucb"] == "2504.09710"
    assert source["belief", "gaussian_process"] == "2602.01601", "the number stands on the next line"
    assert {source["distribution", name] for name in ("fixed", "uniform", "thompson")} == {"ours"}
    assert source["selector", "sequential"] == source["belief", "pooled"] == "ours"
    assert all(named and not named.endswith(".") for named in source.values())


def test_a_name_is_taken_once():
    @dataclasses.dataclass(frozen=True)
    class Other:
        pass

    with pytest.raises(CurriculaError, match="'even' exists already"):
        register("budget", "even")(Other)


def test_whole_numbers_are_accepted_where_a_float_is_declared():
    tau = parameters(build("distribution", {"name": "sec", "tau": 1}))["tau"]
    assert isinstance(tau, float)
