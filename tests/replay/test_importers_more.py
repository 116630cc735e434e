"""Logs of tinker-cookbook, Trinity, ROLL and SkyRL, and verl's corners: groups, rewards, and what is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curricula.types import CurriculaError, Status
from replay.importers import build, known_formats, read
from replay.types import LoggedRun
from rollout.rows import id_from_text

Rows = list[dict[str, Any]]
OK, CUT, INVALID = Status.OK, Status.TRUNCATED, Status.INVALID


def jsonl(path: Path, rows: Rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def tinker_row(iteration: int, group: int, member: int, reward: float | None, **more: Any) -> dict[str, Any]:
    walk = [{"step_idx": 0, "ob_len": 9, "ac_len": 4 + member, "reward": 0.0, "episode_done": True, "metrics": {}, "logs": {}}]
    ids = {"schema_version": 1, "split": "train", "iteration": iteration, "group_idx": group, "traj_idx": member, "tags": ["sums"]}
    rest = {"final_reward": 0.0, "trajectory_metrics": {}, "steps": walk, "final_ob_len": 20}
    return ids | {"sampling_client_step": iteration, "total_reward": reward} | rest | more


def trinity_row(batch: int, task: int | str, run: int, reward: float | None, step: int = 0, **more: Any) -> dict[str, Any]:
    id = {"batch": batch, "task": task, "run": run, "step": step, "suffix": "a1b2c3"}
    info = {"model_version": batch, "task_index": {"index": int(str(task)), "taskset_id": 0}}
    row = {"eid": id, "type": "single_turn", "prompt_length": 5, "response_length": 7, "info": info, "metrics": {}}
    return row | {"prompt_text": f"q{task}", "response_text": "a"} | ({} if reward is None else {"reward": reward}) | more


def roll_row(step: int, ids: list[Any], scores: list[Any], **more: Any) -> dict[str, Any]:
    n = len(ids)
    row = {"id": ids, "prompt": [f"q{i}" for i in ids], "domain": ["math"] * n, "responses": ["a"] * n, "scores": scores}
    return row | {"sampling_params": ["{}"] * n, "global_step": [step] * n} | more


def skyrl_row(prompt: str, score: Any, source: str | None = "gsm8k", index: int = 0) -> dict[str, Any]:
    extras = {"data_source": source, "extra_info": {"index": index}}
    row = {"input_prompt": prompt, "output_response": "a", "score": score, "stop_reason": "stop", "env_class": "gsm8k"}
    return row | {"env_extras": extras, "data_source": source}


def verl_row(text: str, score: Any, step: int, uid: str) -> dict[str, Any]:
    return {"input": text, "output": "a", "gts": None, "score": score, "step": step, "uid": uid}


NAN = float("nan")
LOGS: dict[str, Rows] = {
    "tinker": [
        tinker_row(2, 0, 0, 1.0),
        tinker_row(1, 0, 1, 0.5),
        tinker_row(1, 1, 0, None),
        tinker_row(1, 0, 0, 0.0),
        tinker_row(1, 1, 1, 0.25, sampling_client_step=0),
    ],
    "trinity": [
        trinity_row(1, 3, 1, 1.0),
        trinity_row(1, 4, 0, 0.5),
        trinity_row(1, 3, 0, 0.0, truncate_status="response_truncated"),
        trinity_row(2, 3, 0, None),
        trinity_row(2, 3, 1, 0.25, truncate_status="response_truncated"),
    ],
    "roll": [roll_row(4, [7, 8, 7], [1.0, 0.5, 0.0]), roll_row(5, [7, 9], [NAN, 0.25])],
    "skyrl": [skyrl_row("p", 1.0), skyrl_row("q", [0.25, 0, 0.5]), skyrl_row("p", None), skyrl_row("q", [0.5, NAN])],
    "verl": [verl_row("p", 1.0, 3, "u_0_0"), verl_row("p", 0, 3, "u_1_0"), verl_row("q", None, 3, "v_0_0")],
}
EXACT: dict[str, tuple[list[int], list[int], list[float], list[Status]]] = {  # step of groups, group, reward, status of rollouts
    "tinker": ([1, 1, 2], [2, 0, 1, 0, 1], [1.0, 0.5, NAN, 0.0, 0.25], [OK, OK, INVALID, OK, OK]),
    "trinity": ([1, 1, 2], [0, 1, 0, 2, 2], [1.0, 0.5, NAN, NAN, 0.25], [OK, OK, CUT, INVALID, OK]),
    "roll": ([4, 4, 5, 5], [0, 1, 0, 2, 3], [1.0, 0.5, 0.0, NAN, 0.25], [OK, OK, OK, INVALID, OK]),
    "skyrl": ([-1, -1], [0, 1, 0, 1], [1.0, 0.75, NAN, NAN], [OK, OK, INVALID, INVALID]),
    "verl": ([3, 3], [0, 0, 1], [1.0, 0.0, NAN], [OK, OK, INVALID]),
}
NEEDED = {  # fields without which a row cannot be read
    "tinker": ("schema_version", "iteration", "group_idx", "traj_idx", "total_reward"),
    "trinity": ("eid", "response_length"),
    "roll": ("scores", "global_step"),
    "skyrl": ("input_prompt", "score"),
    "verl": ("input", "score", "step"),
}


def rewards(run: LoggedRun) -> list[list[float]]:
    return [run.reward_R[run.group_R == g].tolist() for g in range(len(run))]


# --- every format


@pytest.mark.parametrize("name", LOGS)
def test_groups_and_rewards(tmp_path: Path, name: str) -> None:
    path = jsonl(tmp_path / "a.jsonl", LOGS[name])
    assert [known for known in known_formats() if build(known).detect(path)] == [name]
    run = read(path)
    assert run.source == f"{name} {path}"
    steps, groups, values, statuses = EXACT[name]
    assert run.step_G.tolist() == steps
    assert run.group_R.tolist() == groups
    np.testing.assert_equal(run.reward_R, values)
    assert run.status_R.tolist() == statuses
    assert {"propensity", "arm probability", "status"} <= run.lacks


@pytest.mark.parametrize(("name", "field"), [(name, field) for name, fields in NEEDED.items() for field in fields])
def test_a_missing_field_is_named_with_its_line(tmp_path: Path, name: str, field: str) -> None:
    last = {key: value for key, value in LOGS[name][-1].items() if key != field}
    with pytest.raises(CurriculaError, match=rf"a\.jsonl: line {len(LOGS[name])}.*'{field}(\.\w+)?'"):
        read(jsonl(tmp_path / "a.jsonl", [*LOGS[name][:-1], last]), name)


@pytest.mark.parametrize("name", LOGS)
def test_rewards_outside_the_range_are_refused(tmp_path: Path, name: str) -> None:
    path = jsonl(tmp_path / "a.jsonl", LOGS[name])
    with pytest.raises(CurriculaError, match=r"line \d+.*: reward 0\.5 lies outside 0\.9\.\.1|reward \S+ lies outside 0\.9\.\.1"):
        read(path, {"name": name, "reward_range": [0.9, 1]})
    assert np.nanmax(read(path, {"name": name, "reward_range": [-1, 2]}).score_R) == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", LOGS)
def test_damage_is_refused_by_line(tmp_path: Path, name: str) -> None:
    path = jsonl(tmp_path / "a.jsonl", LOGS[name])
    content, text = path.read_bytes(), path.read_text()
    n = len(LOGS[name])
    for damaged, message in (
        (content[:-2], rf"line {n}: not JSON .*torn"),
        (text.encode("utf-16"), r"line 1: not JSON"),
        (content.replace(b'"', '"é'.encode("latin-1"), 1), r"line 1: not JSON .*utf-8"),
        (content + b"[]\n", rf"line {n + 1}: expected a JSON object"),
        (content + b"\x00" * 20, rf"line {n + 1}: not JSON"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(CurriculaError, match=message):
            read(path, name)
    path.write_bytes(content.replace(b"\n", b"\r\n"))  # line ends of another system are not damage
    np.testing.assert_equal(read(path).reward_R, EXACT[name][2])


@pytest.mark.parametrize("name", LOGS)
def test_every_truncation_is_refused_or_ends_between_rows(tmp_path: Path, name: str) -> None:
    rows = LOGS[name][:2]
    path = jsonl(tmp_path / "a.jsonl", rows)
    whole, content = read(path), path.read_bytes()
    ends = {end for i, byte in enumerate(content) if byte == ord("\n") for end in (i, i + 1)}
    for length in range(len(content)):
        path.write_bytes(content[:length])
        run = outcome(path, name)
        assert (run is not None) == (length in ends), f"{length} bytes"
        if run is not None:
            np.testing.assert_equal(run.reward_R, whole.reward_R[: len(run.reward_R)])


def outcome(path: Path, format: str | None) -> LoggedRun | None:
    """What came of it, or None for a refusal; anything else than a CurriculaError fails the test."""
    try:
        return read(path, format)
    except CurriculaError:
        return None


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(LOGS)), st.data())
def test_flipped_bits_never_raise_anything_else(tmp_path: Path, name: str, data: st.DataObject) -> None:
    content = bytearray(jsonl(tmp_path / "a.jsonl", LOGS[name]).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (tmp_path / "a.jsonl").write_bytes(bytes(content))
    for format in (None, name):
        run = outcome(tmp_path / "a.jsonl", format)
        if run is not None:
            ok = run.status_R == OK
            assert ((run.reward_R[ok] >= 0) & (run.reward_R[ok] <= 1)).all()
            assert np.isnan(run.reward_R[~ok]).all()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from([0, 1, 10**400, 2**63, "u_0_0"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["batch", "task", "run", "step", "index", "task_index", "ac_len"]), inner, max_size=4)
    ),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(LOGS)), st.data())
def test_any_value_in_any_field_is_read_or_refused_by_line(tmp_path: Path, name: str, data: st.DataObject) -> None:
    last = dict(LOGS[name][-1])
    fields = data.draw(st.lists(st.sampled_from(sorted(last)), min_size=1, max_size=3))
    rows = [*LOGS[name][:-1], last | {field: data.draw(JSON) for field in fields}]
    try:
        read(jsonl(tmp_path / "a.jsonl", rows), name)
    except CurriculaError as error:
        assert "a.jsonl: line " in str(error), error  # noqa: PT017 - either is right, silence about the line is not


@pytest.mark.parametrize("name", LOGS)
def test_a_ten_megabyte_line_is_read(tmp_path: Path, name: str) -> None:
    field = {"tinker": "note", "trinity": "response_text", "roll": "responses", "skyrl": "output_response", "verl": "output"}[name]
    long: Any = "é" * 1_700_000
    row = LOGS[name][0]
    if name == "roll":
        long = [long, *row["responses"][1:]]
    path = jsonl(tmp_path / "a.jsonl", [row | {field: long}, *LOGS[name][1:]])
    assert path.stat().st_size > 10_000_000
    assert read(path).group_R.tolist() == EXACT[name][1]


# --- tinker-cookbook


def test_tinker_reads_a_run_folder_and_keeps_evaluations_apart(tmp_path: Path) -> None:
    for iteration in (10, 9):
        folder = tmp_path / f"iteration_{iteration:06d}"
        jsonl(folder / "train_rollout_summaries.jsonl", [tinker_row(iteration, 0, m, m / 2) for m in range(3)])
        evaluated = [tinker_row(iteration, 0, 0, 1.0, split="eval/sums")]
        jsonl(folder / "eval_sums_rollout_summaries.jsonl", evaluated)
    run = read(tmp_path)
    assert (run.step_G.tolist(), rewards(run)) == ([9, 10], [[0.0, 0.5, 1.0]] * 2)
    assert run.n_tokens_R.tolist() == [4, 5, 6] * 2
    assert run.policy_version_R.tolist() == [9] * 3 + [10] * 3
    assert read(tmp_path / "iteration_000010").step_G.tolist() == [10]
    assert rewards(read(tmp_path, {"name": "tinker", "base": "eval_sums"})) == [[1.0], [1.0]]
    mixed = [tinker_row(1, 0, 0, 1.0), tinker_row(1, 1, 0, 1.0, split="eval/sums")]
    with pytest.raises(CurriculaError, match=r"line 2: split: expected train as in .*line 1, got eval/sums"):
        read(jsonl(tmp_path / "a.jsonl", mixed))
    with pytest.raises(CurriculaError, match=r"expected other_rollout_summaries\.jsonl in it"):
        read(tmp_path, {"name": "tinker", "base": "other"})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (tinker_row(1, 0, 0, 1.0), r"line 2: traj_idx: iteration 1, group_idx 0, traj_idx 0 came before"),
        (tinker_row(1, 0, 1, 1.0, schema_version=2), r"line 2: schema_version: expected 1, got 2 .*a newer file"),
        (tinker_row(1, 0, 1, 1.0, tags="sums"), r"line 2: tags: expected a list of names, got 'sums'"),
        (tinker_row(1, 0, 1, 1.0, tags=["words"]), r"line 2: prompt '1/0': expected distribution 'sums' as before, got 'words'"),
        (tinker_row(1, 0, 1, 1.0, steps=[{"ac_len": -1}]), r"line 2: ac_len: expected a whole number from 0 on, got -1"),
        (tinker_row(1, 0, 1, 1.0, steps=[3]), r"line 2: steps: expected a list of objects"),
        (tinker_row(1, 0, 1, 1.0, total_reward="1"), r"line 2: total_reward: expected a number, got '1'"),
    ],
)
def test_tinker_refuses(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(CurriculaError, match=message):
        read(jsonl(tmp_path / "a.jsonl", [tinker_row(1, 0, 0, 1.0), row]))


def test_tinker_says_what_it_lacks(tmp_path: Path) -> None:
    run = read(jsonl(tmp_path / "a.jsonl", [tinker_row(1, 0, 0, 1.0, sampling_client_step=None, steps=[], tags=[])]))
    assert {"prompt id", "rejected groups", "policy version", "tokens"} <= run.lacks
    assert not {"group id", "step"} & run.lacks
    assert run.pool.distribution_names == ("all",)


# --- Trinity


def test_trinity_takes_the_last_step_of_a_run_and_adds_up_tokens(tmp_path: Path) -> None:
    rows = [
        trinity_row(1, 3, 0, 0.25, step=0),
        trinity_row(1, 3, 1, 0.5, step=1, prompt_text="q3, then"),  # written before its first step
        trinity_row(1, 3, 0, 1.0, step=1, prompt_text="q3, and"),
        trinity_row(1, 3, 1, 0.0, step=0),
    ]
    run = read(jsonl(tmp_path / "a.jsonl", rows))
    assert rewards(run) == [[1.0, 0.5]]
    assert run.n_tokens_R.tolist() == [14, 14]
    assert run.pool.ids.tolist() == ["taskset 0/3"]
    assert not {"group id", "prompt id", "tokens", "policy version", "step", "rejected groups"} & run.lacks


def test_trinity_without_places_in_a_task_set_goes_by_text(tmp_path: Path) -> None:
    rows = [trinity_row(b, t, 0, 1.0, info={}) for b, t in ((1, 3), (1, 4), (2, 3))]
    run = read(jsonl(tmp_path / "a.jsonl", rows))
    assert run.pool.ids.tolist() == [id_from_text("all", "q3"), id_from_text("all", "q4")]
    assert run.prompt_G.tolist() == [0, 1, 0]
    assert {"prompt id", "policy version"} <= run.lacks
    with pytest.raises(CurriculaError, match=r"line 2: the prompt: expected info\.task_index as in .*, got no info\.task_index"):
        read(jsonl(tmp_path / "b.jsonl", [trinity_row(1, 3, 0, 1.0), trinity_row(1, 4, 0, 1.0, info={})]))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (trinity_row(1, 3, 0, 1.0), r"line 2: eid: batch 1, task 3 \(int\), run 0, step 0 came before; .*did the run resume"),
        (
            trinity_row(1, 3, 1, 1.0) | {"eid": {"batch": "1/eval", "task": 3, "run": 1, "step": 0}},
            r"line 2: eid\.batch: expected a",
        ),
        (
            trinity_row(1, 3, 1, 1.0) | {"eid": {"batch": 1, "task": "", "run": 1, "step": 0}},
            r"line 2: eid\.task: expected a number",
        ),
        (trinity_row(1, 3, 1, 1.0) | {"eid": {"batch": 1, "task": 3, "step": 0}}, r"line 2: no field 'eid\.run'"),
        (trinity_row(1, 3, 1, None) | {"reward": "1"}, r"line 2: reward: expected a number, got '1'"),
        (
            trinity_row(1, 3, 1, 1.0, info={"task_index": {"index": 4, "taskset_id": 0}}),
            r"line 2: another prompt than in the earlier",
        ),
    ],
)
def test_trinity_refuses(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(CurriculaError, match=message):
        read(jsonl(tmp_path / "a.jsonl", [trinity_row(1, 3, 0, 1.0), row]))


def test_a_prompt_that_trinity_cut_has_no_reward(tmp_path: Path) -> None:
    run = read(jsonl(tmp_path / "a.jsonl", [trinity_row(1, 3, 0, 0.5, truncate_status="prompt_truncated")]))
    assert run.status_R.tolist() == [CUT]
    assert np.isnan(run.reward_R).all()


# --- ROLL


def test_roll_reads_a_folder_in_the_order_of_its_steps(tmp_path: Path) -> None:
    for step in (10, 9):
        jsonl(tmp_path / f"rollout_dump_data.step_{step}.jsonl", [roll_row(step, [1, 2], [0.0, step / 10])])
    run = read(tmp_path)
    assert run.step_G.tolist() == [9, 9, 10, 10]
    assert run.reward_R.tolist() == [0.0, 0.9, 0.0, 1.0]
    assert run.pool.ids.tolist() == ["math/1", "math/2"]
    assert {"group id", "rejected groups", "tokens", "policy version"} <= run.lacks
    assert not {"prompt id", "step"} & run.lacks


def test_roll_without_ids_goes_by_text_and_says_so(tmp_path: Path) -> None:
    row = roll_row(1, [1, 2, 1], [0.0, 1.0, 1.0])
    texts = {key: value for key, value in row.items() if key not in ("id", "prompt")} | {"messages": ["m1", "m2", "m1"]}
    for settings_, given_ in ((None, texts), ({"name": "roll", "id": ""}, row)):
        run = read(jsonl(tmp_path / "a.jsonl", [given_]), settings_)
        assert rewards(run) == [[0.0, 1.0], [1.0]]
        assert "prompt id" in run.lacks


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (roll_row(1, [1, 2], [0.0]), r"line 1: id: expected as many entries as in scores \(1\), got 2; was the line cut"),
        (roll_row(1, [1, 2], [0.0, 1.0], domain=["math"]), r"line 1: domain: expected as many entries as in scores \(2\), got 1"),
        (roll_row(1, [1], [0.0], global_step=1), r"line 1: global_step: expected a column .*got 1 \(int\)"),
        (roll_row(1, [1, 2], [0.0, "1"]), r"line 1, entry 1: scores: expected a number, got '1'"),
        (roll_row(1, [1, None], [0.0, 1.0]), r"line 1, entry 1: id: expected an id .*got None"),
        (roll_row(1, [1, "2"], [0.0, 1.0]), r"line 1, entry 1: id: expected a whole number as in .*entry 0, got text"),
        (roll_row(1, [1, 1], [0.0, 1.0], prompt=["a", "b"]), r"line 1, entry 1: prompt 'math/1' came with another text before"),
        (roll_row(1, [1, 2], [0.0, 3.0]), r"line 1, entry 1: reward 3 lies outside 0\.\.1"),
        (roll_row(1, [], []), r"it has no rows"),
    ],
)
def test_roll_refuses(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(CurriculaError, match=message):
        read(jsonl(tmp_path / "a.jsonl", [row]), "roll")


# --- SkyRL


def test_skyrl_reads_evaluations_of_several_steps(tmp_path: Path) -> None:
    for step in (20, 5):
        folder = tmp_path / f"global_step_{step}_evals"
        jsonl(folder / "gsm8k.jsonl", [skyrl_row("p", 1.0, index=3), skyrl_row("p", 0.0, index=3)])
        jsonl(folder / "aime.jsonl", [skyrl_row("p", step / 20, "aime", 3)])
        jsonl(folder / "aggregated_results.jsonl", [{"eval/all/avg_score": 0.5}])
    run = read(tmp_path)
    assert run.source.startswith("skyrl ")
    assert run.step_G.tolist() == [5, 5, 20, 20]
    assert rewards(run) == [[0.25], [1.0, 0.0], [1.0], [1.0, 0.0]]
    assert run.pool.distribution_names == ("aime", "gsm8k")
    assert {"group id", "prompt id", "tokens"} <= run.lacks
    assert "step" not in run.lacks
    assert read(tmp_path / "global_step_5_evals").step_G.tolist() == [5, 5]
    told = read(tmp_path, {"name": "skyrl", "id": "env_extras.extra_info.index"})
    assert told.pool.ids.tolist() == ["aime/3", "gsm8k/3"]
    assert "prompt id" not in told.lacks


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([skyrl_row("p", [])], r"line 1: score: expected a number or the tokens' rewards, got \[\]"),
        ([skyrl_row("p", [0.5, "1"])], r"line 1: score: expected a number, got '1'"),
        ([skyrl_row("p", {})], r"line 1: score: expected a number, got \{\}"),
        ([skyrl_row("p", 1), skyrl_row("q", 1)], r"line 2: prompt 'gsm8k/0' came with another text before"),
    ],
)
def test_skyrl_refuses(tmp_path: Path, rows: Rows, message: str) -> None:
    with pytest.raises(CurriculaError, match=message):
        read(jsonl(tmp_path / "a.jsonl", rows), {"name": "skyrl", "id": "env_extras.extra_info.index"})


def test_pickles_of_skyrl_are_refused_unopened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "opened",)

    path = tmp_path / "dumped_data" / "global_step_3_training_input.pkl"
    path.parent.mkdir()
    path.write_bytes(pickle.dumps(Trap()))
    for given_ in (path, path.parent):
        with pytest.raises(
            CurriculaError, match=r"a pickle of a training batch: loading one runs whatever code .*dump_eval_results"
        ):
            read(given_, "skyrl")
        with pytest.raises(CurriculaError):
            read(given_)
    assert not (tmp_path / "opened").exists()


# --- verl, as its own writers showed it (see test_log_writers.py)


def test_verl_rows_that_fill_a_batch_up_are_no_rollouts(tmp_path: Path) -> None:
    filler = [verl_row("", 0.0, 3, f"pad{'0f' * 16}_{i}_0") for i in range(5)]
    rows = [verl_row("p", 1.0, 3, "u_0_0"), *filler, verl_row("p", 0.5, 3, "u_1_0"), verl_row("p", 0.0, 3, "padding_0_0")]
    assert rewards(read(jsonl(tmp_path / "a.jsonl", rows))) == [[1.0, 0.5], [0.0]]
    with pytest.raises(CurriculaError, match="it has no rows"):
        read(jsonl(tmp_path / "a.jsonl", filler))


def test_verl_sessions_of_several_outputs_have_the_prompt_of_the_first(tmp_path: Path) -> None:
    rows = [verl_row("p", 0.5, 3, "u_0_0"), verl_row("p, and so on", 1.0, 3, "u_0_1"), verl_row("p", 0.25, 3, "u_1_0")]
    run = read(jsonl(tmp_path / "a.jsonl", rows))
    assert (run.pool.ids.tolist(), rewards(run)) == ([id_from_text("all", "p")], [[1.0, 0.25]])
    with pytest.raises(CurriculaError, match=r"line 2: another prompt than in the earlier rows of its group"):
        read(jsonl(tmp_path / "b.jsonl", [rows[1], rows[0]]))
