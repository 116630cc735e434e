"""Logs that are torn, flipped, foreign or made up: an error that names file and line, nothing executed, nothing lost."""

from __future__ import annotations

import json
import os
import pickle
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from curricula.types import CurriculaError
from replay.own_log import logged_steps
from replay.own_run import own_run
from rollout.compacted import begin_of, part_name
from rollout.journal import seal
from rollout.log import ROLLOUTS, TEXTS, RolloutLog, read_log, read_texts
from rollout.log_fields import ATTEMPT, GROUP, KINDS
from rollout.repair import examine, repair
from tests.rollout.test_log import POOL, steps_in, write_steps

DOCS = Path(__file__).parents[2] / "docs" / "log.md"


def lines_of(log: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in json.loads(line).items() if k != "crc32"} for line in (log / ROLLOUTS).read_bytes().splitlines()]


def rewritten(log: Path, records: list[dict[str, Any]]) -> None:
    (log / ROLLOUTS).write_bytes(b"".join(seal(record) for record in records))


def everything(log: Path) -> list[Any]:
    return [*read_log(log), *read_texts(log)]


def compacted(log: Path) -> None:
    writer = RolloutLog(log)
    writer.compact()
    writer.close()


def groups_of(log: Path) -> list[int]:
    return own_run(log).group_R.tolist()


def n_steps(log: Path) -> int:
    return len(list(logged_steps(log, POOL)))


def attempted(act: Callable[[], Any]) -> tuple[Any, str]:
    """What came of it, or None and the words of the refusal."""
    try:
        return act(), ""
    except CurriculaError as error:
        return None, str(error)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    write_steps(tmp_path / "log", range(3))
    return tmp_path / "log"


class TestAnyByte:
    def test_cut_anywhere_every_reader_gives_a_prefix_or_says_why(self, log: Path) -> None:
        whole, records = (log / ROLLOUTS).read_bytes(), list(read_log(log))
        for cut in range(0, len(whole), 7):
            (log / ROLLOUTS).write_bytes(whole[:cut])
            found = list(read_log(log))
            assert found == records[: len(found)]
            assert len(found) % 5 == 0, "a commit is there whole or not at all"
            assert not any(finding.is_damage for finding in examine(log))

    @pytest.mark.parametrize("form", ["lines", "compacted"])
    def test_a_flipped_bit_anywhere_is_found_or_costs_the_end_only(self, log: Path, form: str) -> None:
        if form == "compacted":
            compacted(log)
            write_steps(log, range(3, 5))
        records, texts = list(read_log(log)), list(read_texts(log))
        rng = random.Random(1)
        for path in sorted(file for file in log.iterdir() if file.name != "lock"):
            whole = path.read_bytes()
            for _ in range(40):
                data = bytearray(whole)
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
                path.write_bytes(data)
                found, refusal = attempted(lambda: (list(read_log(log)), list(read_texts(log))))
                if found is None:
                    assert path.name in refusal
                else:
                    assert found[0] == records[: len(found[0])]
                    assert found[1] == texts[: len(found[1])]
                    assert found != (records, texts)
            path.write_bytes(whole)
        assert everything(log) == [*records, *texts]

    def test_repair_of_many_flips_loses_whole_commits_and_no_byte(self, log: Path) -> None:
        write_steps(log, range(3, 12))
        before = {record["step"]: record for record in read_log(log) if record["kind"] == "step"}
        rng = random.Random(2)
        for name in (ROLLOUTS, TEXTS):
            data = bytearray((log / name).read_bytes())
            for _ in range(4):
                data[rng.randrange(len(data) - 200)] ^= 1 << rng.randrange(8)
            (log / name).write_bytes(data)
        damaged = {name: (log / name).read_bytes() for name in (ROLLOUTS, TEXTS)}
        found = [finding for finding in examine(log) if finding.is_damage]
        assert found
        mended = repair(log)
        aside = [file.read_bytes() for file in mended.aside]
        for finding in found:
            assert damaged[finding.file.name][finding.start : finding.end] in aside
        left = {record["step"]: record for record in read_log(log) if record["kind"] == "step"}
        assert left.items() <= before.items()
        assert 3 <= len(left) < 12
        write_steps(log, range(12, 13))
        assert steps_in(log)[-1] == 12


class TestForeign:
    @pytest.mark.parametrize(
        "data",
        [
            b"x" * 10_000_000 + b"\n",
            b"\xff\xfe" + '{"kind":"step"}\n'.encode("utf-16-le"),
            "\ufeff{}\n".encode(),
            b"\0" * 5000,
            b"{}\n" * 1000,
            b"PAR1" + bytes(range(256)),
        ],
        ids=["long line", "utf-16", "byte order mark", "zeros", "no checksums", "binary"],
    )
    def test_what_is_no_log_is_an_empty_one_and_moves_aside_whole(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / ROLLOUTS).write_bytes(data)
        assert list(read_log(tmp_path)) == []
        (finding,) = examine(tmp_path)
        assert (finding.start, finding.end) == (0, len(data))
        write_steps(tmp_path, range(1))
        assert steps_in(tmp_path) == [0]
        assert next(tmp_path.glob("discarded-*")).read_bytes() == data

    def test_long_lines_that_are_ours_are_read(self, tmp_path: Path) -> None:
        writer = RolloutLog(tmp_path)
        writer.append_step({"step": 0, "ballast": "x" * 10_000_000})
        writer.commit()
        writer.close()
        assert len(next(read_log(tmp_path))["ballast"]) == 10_000_000
        compacted(tmp_path)
        assert len(next(read_log(tmp_path))["ballast"]) == 10_000_000

    def test_a_pickle_is_not_opened(self, log: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
                return os.mkdir, (str(log / "sprung"),)

        trap = pickle.dumps(Trap())
        (log / "rollouts.pkl").write_bytes(trap)
        (log / part_name(log / ROLLOUTS, 0)).write_bytes(trap)
        before = everything(log)
        compacted(log)
        assert everything(log) == before
        (log / part_name(log / ROLLOUTS, 0)).write_bytes(trap)
        with pytest.raises(CurriculaError, match="damaged"):
            list(read_log(log))
        (log / ROLLOUTS).write_bytes(trap)
        with pytest.raises(CurriculaError, match="line 1 is damaged or missing"):
            list(read_log(log))
        with pytest.raises(CurriculaError, match="cannot be read as a compacted part"):
            examine(log)
        assert not (log / "sprung").exists()

    def test_foreign_files_in_the_folder_are_left_alone(self, log: Path) -> None:
        before = everything(log)
        for name in ("notes.txt", "rollouts.jsonl.bak", "compacted-rollouts-from-byte-9.parquet", "rollouts.jsonl.new"):
            (log / name).write_text("mine")
        (log / "folder").mkdir()
        assert everything(log) == before
        compacted(log)
        assert everything(log) == before
        assert (log / "notes.txt").read_text() == (log / "rollouts.jsonl.bak").read_text() == "mine"

    @pytest.mark.parametrize(
        "change",
        [
            {"name": "../outside.parquet"},
            {"name": "/etc/passwd"},
            {"name": "compacted-rollouts-from-byte-0.parquet/../../x"},
            {"name": 7},
            {"start": 5},
            {"end": -1},
            {"lines": "many"},
            {"more": 1},
        ],
    )
    def test_a_beginning_that_leads_elsewhere(self, log: Path, change: dict[str, Any]) -> None:
        compacted(log)
        first = json.loads((log / ROLLOUTS).read_bytes().splitlines()[0])
        del first["crc32"]
        first["parts"][0] |= change
        (log / ROLLOUTS).write_bytes(seal(first))
        with pytest.raises(CurriculaError, match=r"rollouts\.jsonl: line 1: expected the names and places of compacted parts"):
            list(read_log(log))

    @pytest.mark.parametrize("change", [{"parts": "x"}, {"schema": 2}, {"run": None}, {"texts_bytes": "0"}])
    def test_a_beginning_of_another_make(self, log: Path, change: dict[str, Any]) -> None:
        compacted(log)
        first = json.loads((log / ROLLOUTS).read_bytes().splitlines()[0])
        del first["crc32"]
        (log / ROLLOUTS).write_bytes(seal(first | change))
        with pytest.raises(CurriculaError, match=r"rollouts\.jsonl: line 1"):
            begin_of(log / ROLLOUTS)

    @pytest.mark.parametrize("name", [ROLLOUTS, TEXTS, "lock"])
    def test_links_are_refused_and_their_targets_stay(self, log: Path, tmp_path: Path, name: str) -> None:
        target = tmp_path / "precious"
        target.write_bytes((log / name).read_bytes() + b"precious")
        (log / name).unlink()
        (log / name).symlink_to(target)
        before = target.read_bytes()
        for act in (RolloutLog, repair):
            with pytest.raises(CurriculaError, match="expected an ordinary file"):
                act(log)
        assert target.read_bytes() == before

    def test_a_pipe_does_not_block(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / ROLLOUTS)
        with pytest.raises(CurriculaError, match="expected an ordinary file"):
            list(read_log(tmp_path))

    def test_ids_that_look_like_paths_are_only_ids(self, log: Path, tmp_path: Path) -> None:
        records = lines_of(log)
        for record in records:
            if record["kind"] == "group":
                record |= {"prompt": "../../" + record["prompt"], "distribution": "/etc", "run": "../x"}
        rewritten(log, records)
        before = sorted(tmp_path.rglob("*"))
        assert own_run(log).pool.distribution_names == ("/etc",)
        compacted(log)
        assert {file.parent for file in set(tmp_path.rglob("*")) - set(before)} == {log}


class TestFields:
    @pytest.mark.parametrize("kind", ["group", "attempt"])
    def test_every_wrong_type_is_named_with_its_line(self, log: Path, kind: str) -> None:
        records = lines_of(log)
        number, record = next((i, r) for i, r in enumerate(records, start=1) if r["kind"] == kind)
        for name in record.keys() - {"kind", "facts"}:
            for wrong in ({"a": [1]}, [["x"]], True if KINDS[kind][name].type != "flag" else 1):
                if name == "greedy" and isinstance(wrong, dict):
                    continue
                rewritten(log, [r | {name: wrong} if r is record else r for r in records])
                with pytest.raises(CurriculaError, match=rf"rollouts\.jsonl: line {number}: {kind}\.{name}: expected"):
                    list(read_log(log))

    @pytest.mark.parametrize("form", ["lines", "compacted"])
    def test_every_missing_field_is_named_or_has_its_default(self, log: Path, form: str) -> None:
        records = lines_of(log)
        whole = own_run(log)
        for kind, fields in (("group", GROUP), ("attempt", ATTEMPT)):
            for name in fields.keys() - {"kind"}:
                folder = log.parent / f"{kind}-{name}"
                folder.mkdir()
                rewritten(folder, [{k: v for k, v in r.items() if r["kind"] != kind or k != name} for r in records])
                (folder / TEXTS).write_bytes((log / TEXTS).read_bytes())
                if form == "compacted":
                    compacted(folder)
                for act in (groups_of, n_steps):
                    found, refusal = attempted(partial(act, folder))
                    if found is None:
                        assert f"the {kind} record has no field {name!r}" in refusal
                        assert (".parquet: record " if form == "compacted" else "rollouts.jsonl: line ") in refusal
                    else:
                        assert found in (whole.group_R.tolist(), 3)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"rewards": [1.0]}, "expected 1 entries, one per rollout as in rewards, got 2"),
            ({"statuses": ["ok", "splendid"]}, "unknown status 'splendid'"),
            ({"reason": "whim"}, "unknown reason 'whim'"),
            ({"versions": [0, 2**70]}, "group.versions: expected wholes of each"),
            ({"rewards": ["NaN", 1.0]}, "group.rewards: expected numbers of each"),
            ({"propensity": None}, "group.propensity: expected number"),
        ],
    )
    def test_values_that_no_writer_gives(self, log: Path, change: dict[str, Any], said: str) -> None:
        records = lines_of(log)
        rewritten(log, [records[0] | change, *records[1:]])
        for form in ("lines", "compacted"):
            if form == "compacted":
                compacted(log)
            with pytest.raises(CurriculaError) as refused:
                own_run(log)
            assert said in str(refused.value)
            assert ("record 1" if form == "compacted" else "line 1") in str(refused.value)

    @pytest.mark.parametrize("commit", [{}, {"texts_bytes": "0"}, {"texts_bytes": None}, {"schema": 2}, {"schema": "1"}])
    def test_commits_of_another_make(self, log: Path, commit: dict[str, Any]) -> None:
        records = lines_of(log)
        last = records[-1] | commit if commit else {"kind": "commit"}
        rewritten(log, [*records[:-1], last])
        before = (log / ROLLOUTS).read_bytes()
        with pytest.raises(CurriculaError, match=rf"rollouts\.jsonl: line {len(records)}"):
            RolloutLog(log)
        assert (log / ROLLOUTS).read_bytes() == before

    def test_kinds_and_fields_of_later_versions_are_kept(self, log: Path) -> None:
        records = lines_of(log)
        records[0] |= {"mood": {"good": [1.5, None]}, "a,b": 1}
        rewritten(log, [records[0] | {"kind": "grown"}, *records])
        before = list(read_log(log))
        assert (before[0]["kind"], before[1]["mood"]) == ("grown", {"good": [1.5, None]})
        whole = (log / ROLLOUTS).read_bytes()
        compacted(log)
        assert list(read_log(log)) == before
        writer = RolloutLog(log)
        writer.truncate_to(writer.beginning)
        writer.close()
        assert next(log.glob("discarded-rollouts-from-byte-0*.jsonl")).read_bytes() == whole


def test_the_documentation_names_every_field() -> None:
    text = DOCS.read_text()
    for fields in KINDS.values():
        for name, field in fields.items():
            assert f"| `{name}` | {field.type} | {field.meaning} |" in text


def test_the_writer_writes_no_field_that_is_not_described(log: Path) -> None:
    for record in [*lines_of(log), *read_texts(log)]:
        if record["kind"] in ("group", "attempt", "commit", "texts"):
            assert record.keys() - {"crc32"} <= KINDS[record["kind"]].keys()
            assert KINDS[record["kind"]].keys() <= record.keys()
