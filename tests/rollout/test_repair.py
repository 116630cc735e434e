"""What `curricula log repair` finds and saves: torn ends, flipped bits, lost beginnings. Nothing is ever deleted."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from curricula.types import CurriculaError
from rollout.journal import seal
from rollout.log import ROLLOUTS, TEXTS, RolloutLog, read_log, read_texts
from rollout.repair import examine, repair
from tests.rollout.test_log import POOL, attempt, steps_in, write_steps


def snapshot(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def starts_of_lines(data: bytes) -> list[int]:
    return [0, *(i + 1 for i, byte in enumerate(data[:-1]) if byte == 10)]


def test_a_sound_log_has_nothing_to_mend(tmp_path: Path) -> None:
    write_steps(tmp_path, range(2))
    before = snapshot(tmp_path)
    assert examine(tmp_path) == []
    mended = repair(tmp_path)
    assert (mended.findings, mended.aside, snapshot(tmp_path)) == ([], [], before)


def test_examining_changes_nothing(tmp_path: Path) -> None:
    write_steps(tmp_path, range(2))
    flip(tmp_path / ROLLOUTS, 40)
    with (tmp_path / TEXTS).open("ab") as file:
        file.write(b"torn")
    before = snapshot(tmp_path)
    kinds = {(finding.file.name, finding.kind) for finding in examine(tmp_path)}
    assert kinds == {(ROLLOUTS, "damaged"), (TEXTS, "torn end")}
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("seed", range(12))
def test_a_flipped_bit_costs_its_commit_and_no_other(tmp_path: Path, seed: int) -> None:
    write_steps(tmp_path, range(4))
    whole = (tmp_path / ROLLOUTS).read_bytes()
    rng = random.Random(seed)
    ends = [whole.index(b"\n", whole.index(b'"step":%d,"lr"' % step)) + 1 for step in range(4)]
    step = rng.randrange(3)
    place = rng.randrange(ends[step - 1] + 200 if step else 0, ends[step] - 1)
    flip(tmp_path / ROLLOUTS, place)
    with pytest.raises(CurriculaError, match="is damaged"):
        list(read_log(tmp_path))
    (finding,) = examine(tmp_path)
    assert finding.start <= place < finding.end
    assert finding.is_damage
    mended = repair(tmp_path)
    assert steps_in(tmp_path) == [s for s in range(4) if s != step]
    assert len((tmp_path / ROLLOUTS).read_bytes()) == len(whole), "every other line stays where it is"
    damaged = bytearray(whole)
    damaged[place] ^= 1
    assert mended.aside[0].read_bytes() == damaged[finding.start : finding.end]
    assert [found.kind for found in examine(tmp_path)] == ["lost before"]
    write_steps(tmp_path, range(4, 5))
    assert steps_in(tmp_path) == [s for s in range(5) if s != step]
    assert len(list(read_texts(tmp_path))) == 15


def test_checkpoints_of_a_mended_log_still_find_their_commit(tmp_path: Path) -> None:
    log = RolloutLog(tmp_path)
    positions = []
    for step in range(3):
        log.append_attempt(POOL, attempt(step))
        log.append_step({"step": step})
        positions.append(log.commit())
    log.close()
    flip(tmp_path / ROLLOUTS, 100)
    repair(tmp_path)
    log = RolloutLog(tmp_path)
    log.truncate_to(positions[1])
    log.close()
    assert steps_in(tmp_path) == [1]


def test_a_damaged_commit_line_costs_the_commit_behind_it_too(tmp_path: Path) -> None:
    """Without it nobody can tell where the one ended and the other began."""
    write_steps(tmp_path, range(4))
    flip(tmp_path / ROLLOUTS, (tmp_path / ROLLOUTS).read_bytes().index(b'"kind":"commit"') + 3)
    repair(tmp_path)
    assert steps_in(tmp_path) == [2, 3]


def test_damaged_texts_are_lost_one_by_one(tmp_path: Path) -> None:
    write_steps(tmp_path, range(3))
    data = (tmp_path / TEXTS).read_bytes()
    starts = starts_of_lines(data)
    flip(tmp_path / TEXTS, starts[2] + 50)
    flip(tmp_path / TEXTS, starts[3] + 50)
    flip(tmp_path / TEXTS, starts[6] + 50)
    assert [(f.start, f.end) for f in examine(tmp_path)] == [(starts[2], starts[4]), (starts[6], starts[7])]
    repair(tmp_path)
    assert len(list(read_texts(tmp_path))) == 6
    assert steps_in(tmp_path) == [0, 1, 2]
    RolloutLog(tmp_path).close()


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_texts_that_end_early(tmp_path: Path, keep: int) -> None:
    write_steps(tmp_path, range(2))
    data = (tmp_path / TEXTS).read_bytes()
    (tmp_path / TEXTS).write_bytes(data[:keep])
    (finding,) = examine(tmp_path)
    assert finding.kind == "missing end"
    repair(tmp_path)
    assert len(list(read_texts(tmp_path))) == (5 if keep == -1 else 0)
    write_steps(tmp_path, range(2, 3))
    assert steps_in(tmp_path) == [0, 1, 2]


@pytest.mark.parametrize("tail", [b"\n", b"\0" * 4096, b"{}\n", seal({"kind": "step", "step": 9})])
def test_ends_behind_the_last_commit_move_aside(tmp_path: Path, tail: bytes) -> None:
    write_steps(tmp_path, range(2))
    with (tmp_path / ROLLOUTS).open("ab") as file:
        file.write(tail)
    (finding,) = examine(tmp_path)
    assert not finding.is_damage
    assert finding.kind == ("uncommitted end" if b"step" in tail else "torn end")
    assert repair(tmp_path).aside[0].read_bytes() == tail
    assert examine(tmp_path) == []


def test_a_lost_beginning_is_made_again_from_the_parts(tmp_path: Path) -> None:
    write_steps(tmp_path, range(2))
    texts = list(read_texts(tmp_path))
    for steps in (range(2, 3), range(3, 4)):
        log = RolloutLog(tmp_path)
        log.compact()
        log.close()
        write_steps(tmp_path, steps)
    records = list(read_log(tmp_path))
    for name in (ROLLOUTS, TEXTS):
        flip(tmp_path / name, 20)
    with pytest.raises(CurriculaError, match="seems to have been compacted"):
        RolloutLog(tmp_path)
    assert [finding.kind for finding in examine(tmp_path)] == ["beginning", "beginning"]
    repair(tmp_path)
    assert list(read_log(tmp_path)) == records
    assert list(read_texts(tmp_path))[:6] == texts


def test_emptied_files_behind_parts(tmp_path: Path) -> None:
    write_steps(tmp_path, range(2))
    records = list(read_log(tmp_path))
    log = RolloutLog(tmp_path)
    log.compact()
    log.close()
    (tmp_path / ROLLOUTS).write_bytes(b"")
    (tmp_path / TEXTS).unlink()
    repair(tmp_path)
    assert list(read_log(tmp_path)) == records
    assert len(list(read_texts(tmp_path))) == 6


def test_a_damaged_part_is_named_and_left_alone(tmp_path: Path) -> None:
    write_steps(tmp_path, range(2))
    log = RolloutLog(tmp_path)
    (texts, rollouts) = log.compact()
    log.close()
    flip(rollouts, rollouts.stat().st_size // 2)
    before = snapshot(tmp_path)
    (finding,) = examine(tmp_path)
    assert (finding.kind, finding.mendable) == ("part", False)
    repair(tmp_path)
    assert snapshot(tmp_path) == before
    with pytest.raises(CurriculaError, match=rf"{rollouts.name}: damaged \(SHA-256"):
        list(read_log(tmp_path))
    assert texts.exists()


def test_a_writer_at_work_is_left_alone(tmp_path: Path) -> None:
    log = RolloutLog(tmp_path)
    with pytest.raises(CurriculaError, match="is writing this run"):
        repair(tmp_path)
    log.close()
