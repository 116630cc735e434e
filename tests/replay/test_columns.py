"""A log read by columns says what it says record by record: plain, compacted, in several parts, with a tail, with odd lines."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from curricula.types import CurriculaError, PromptPool
from replay.columns import GroupColumns, logged
from replay.own_run import own_run
from replay.types import LoggedRun
from rollout.journal import seal
from rollout.log import ROLLOUTS, RolloutLog
from rollout.repair import repair
from tests.rollout.test_log import write_steps
from tests.trainer.made_run import made_run


def compact(log: Path) -> None:
    writer = RolloutLog(log)
    writer.compact()
    writer.close()


def assert_same(one: LoggedRun, other: LoggedRun) -> None:
    for field in fields(LoggedRun):
        if field.name == "pool":
            assert one.pool.ids.tolist() == other.pool.ids.tolist()
            assert one.pool.fingerprint == other.pool.fingerprint
        elif field.name.endswith(("_G", "_R")):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), err_msg=field.name)
        else:
            assert getattr(one, field.name) == getattr(other, field.name)


def pieces(log: Path) -> tuple[int, int]:
    """How many pieces came as columns, how many groups as records."""
    found = list(logged(log))
    whole = sum(isinstance(piece, GroupColumns) for piece in found)
    return whole, sum(not isinstance(piece, GroupColumns) and piece["kind"] == "group" for piece in found)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return made_run(tmp_path / "run", n_steps=30, n_groups=12) / "log"


def test_compacted_and_plain_give_the_same_arrays(log: Path) -> None:
    plain = own_run(log)
    assert pieces(log) == (0, 360)
    compact(log)
    assert pieces(log) == (1, 0)
    assert_same(own_run(log), plain)
    names = [f"ops-{k}" for k in range(1, 7)]
    pool = PromptPool.from_columns([f"{name}/{i}" for name in names for i in range(50)], np.repeat(names, 50))
    given = own_run(log.parent, pool)
    assert given.pool is pool
    assert pool.ids[given.prompt_G].tolist() == plain.pool.ids[plain.prompt_G].tolist()


def test_several_row_groups(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = own_run(log)
    monkeypatch.setattr("rollout.compacted.ROW_GROUP", 37)
    compact(log)
    assert pieces(log)[0] > 5
    assert_same(own_run(log), plain)


def test_parts_and_a_tail(tmp_path: Path) -> None:
    whole, mixed = tmp_path / "whole", tmp_path / "mixed"
    write_steps(whole, range(7))
    for steps in (range(3), range(3, 5)):
        write_steps(mixed, steps)
        compact(mixed)
    write_steps(mixed, range(5, 7))
    assert pieces(mixed) == (2, 6)
    one, other = own_run(whole), own_run(mixed)
    assert one.source != other.source
    for name in ("prompt_G", "step_G", "group_R", "reward_R", "status_R", "n_tokens_R", "kept_G", "propensity_G"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_infinite_rewards(tmp_path: Path) -> None:
    """They cannot come from our verifiers, but a log may hold them."""
    write_steps(tmp_path, range(1))
    data = (tmp_path / ROLLOUTS).read_bytes().splitlines(keepends=True)
    records = [{k: v for k, v in json.loads(line).items() if k != "crc32"} for line in data]
    records[0]["rewards"] = ["inf", "-inf"]
    (tmp_path / ROLLOUTS).write_bytes(b"".join(seal(record) for record in records))
    plain = own_run(tmp_path)
    assert np.isinf(plain.reward_R[:2]).all()
    compact(tmp_path)
    assert pieces(tmp_path) == (1, 0)
    assert_same(own_run(tmp_path), plain)


def test_a_part_with_groups_that_fit_no_columns_is_read_record_by_record(tmp_path: Path) -> None:
    write_steps(tmp_path, range(2))
    path = tmp_path / ROLLOUTS
    path.write_bytes(path.read_bytes() + _odd_commit(path))
    plain = own_run(tmp_path)
    compact(tmp_path)
    assert pieces(tmp_path) == (0, 7)
    assert_same(own_run(tmp_path), plain)


def _odd_commit(path: Path) -> bytes:
    """A further commit whose group has a whole number for a reward, which the columns would give back as 1.0."""
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    group, attempt, commit = lines[0], lines[3], lines[-1]
    group |= {"step": 2, "group": 2 << 32, "rewards": [1, 0]}
    return b"".join(seal({k: v for k, v in record.items() if k != "crc32"}) for record in (group, attempt | {"step": 2}, commit))


def test_commits_that_lost_a_line_are_left_out_of_parts_too(tmp_path: Path) -> None:
    write_steps(tmp_path, range(3))
    path = tmp_path / ROLLOUTS
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)
    repair(tmp_path)
    plain = own_run(tmp_path)
    assert sorted(set(plain.step_G.tolist())) == [1, 2]
    compact(tmp_path)
    assert_same(own_run(tmp_path), plain)


def test_another_pool_is_refused(log: Path) -> None:
    other = own_run(made_run(log.parent.parent / "other", n_steps=2, n_distributions=3)).pool
    compact(log)
    with pytest.raises(CurriculaError, match="replay with the data of the run"):
        own_run(log, other)
