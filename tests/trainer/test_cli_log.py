"""`curricula log info|repair|compact|export` on real logs: plain, compacted, compacted with a tail, damaged."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas
import pyarrow.csv
import pyarrow.parquet
import pytest

from curricula.types import CurriculaError
from replay.export import TABLES, export
from replay.log_info import log_info
from rollout.log import ROLLOUTS, TEXTS, RolloutLog, read_log, read_texts
from tests.rollout.test_log import POOL, attempt, write_steps
from tests.trainer.made_run import made_run
from tests.trainer.recipes import simulated
from trainer.cli import main
from trainer.loop import run as train


def said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(["log", *arguments])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out + captured.err


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_run(tmp_path_factory.mktemp("made") / "run", n_steps=6, n_groups=8)


def counted(log: Path) -> dict[str, object]:
    where = ("folder", "bytes_on_disk", "compacted_bytes")
    return {name: value for name, value in log_info(log).as_dict().items() if name not in where}


def decided(folder: Path) -> list[tuple[int, str, list[float]]]:
    return [(r["group"], r["prompt"], r["rewards"]) for r in read_log(folder / "log") if r["kind"] == "group"]


class TestInfo:
    def test_counts_are_those_of_the_records(self, run: Path) -> None:
        info, groups = log_info(run / "log"), [record for record in read_log(run / "log") if record["kind"] == "group"]
        assert (info.steps, info.first_step, info.last_step, info.attempts) == (6, 0, 5, 6)
        assert info.groups == len(groups) == 48
        assert info.rollouts == sum(len(group["rewards"]) for group in groups)
        assert info.tokens == sum(sum(group["n_tokens"]) for group in groups)
        assert info.groups_kept == info.reasons["kept"] == sum(group["kept"] for group in groups)
        assert sum(info.statuses.values()) == sum(info.finishes.values()) == info.rollouts
        assert sum(info.groups_by_distribution.values()) == info.groups
        assert (info.texts, info.policy_versions, info.findings, info.damaged) == (48, (0, 5), [], False)
        assert info.last_commit == ((run / "log" / ROLLOUTS).stat().st_size, (run / "log" / TEXTS).stat().st_size)

    def test_run_folder_and_log_folder_say_the_same(self, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
        one, other = (said(["info", "--json", str(path)], capsys) for path in (run, run / "log"))
        assert json.loads(one[1])["groups"] == json.loads(other[1])["groups"] == 48
        assert "groups                   48" in said(["info", str(run)], capsys)[1]

    def test_lag_is_counted_from_the_version_that_the_update_began_with(self, tmp_path: Path) -> None:
        log = RolloutLog(tmp_path)
        log.append_attempt(POOL, attempt(0), {"policy_version": 9})
        log.commit()
        log.close()
        assert log_info(tmp_path).lag == {2: 5}

    def test_a_damaged_log_is_counted_as_far_as_it_goes(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        write_steps(tmp_path, range(3))
        path = tmp_path / ROLLOUTS
        data = bytearray(path.read_bytes())
        data[data.index(b'"step":1,"lr"') + 3] ^= 1
        path.write_bytes(data)
        code, text = said(["info", "--json", str(tmp_path)], capsys)
        found = json.loads(text)
        assert (code, found["damaged"], found["steps"], found["groups"]) == (1, True, 1, 3)
        assert "is damaged" in found["counted_until"]
        assert path.read_bytes() == data

    def test_a_log_being_written_is_said_to_be(self, tmp_path: Path) -> None:
        log = RolloutLog(tmp_path)
        log.append_attempt(POOL, attempt(0))
        log.commit()
        assert log_info(tmp_path).being_written
        log.close()
        assert not log_info(tmp_path).being_written

    def test_no_log(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        code, text = said(["info", str(tmp_path)], capsys)
        assert code == 2
        assert "expected the folder of a run or of its log" in text


class TestRepair:
    def test_only_yes_writes(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        write_steps(tmp_path, range(2))
        with (tmp_path / ROLLOUTS).open("ab") as file:
            file.write(b"torn")
        before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
        code, text = said(["repair", str(tmp_path)], capsys)
        assert code == 1
        assert "torn end" in text
        assert "nothing was changed" in text
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
        code, text = said(["repair", "--yes", str(tmp_path)], capsys)
        assert code == 0
        assert "written: discarded-rollouts-from-byte-" in text
        assert said(["repair", str(tmp_path)], capsys) == (0, "nothing to mend\n")

    @pytest.mark.parametrize("arguments", [["repair"], ["repair", "--yes"], ["compact"]])
    def test_not_beside_a_writer(self, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
        write_steps(tmp_path, range(1))
        log = RolloutLog(tmp_path)
        code, text = said([*arguments, str(tmp_path)], capsys)
        log.close()
        assert code == 2
        assert "is writing this" in text


class TestCompact:
    def test_nothing_changes_for_readers_and_the_run_goes_on(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        write_steps(tmp_path, range(3))
        records, texts, counts = list(read_log(tmp_path)), list(read_texts(tmp_path)), counted(tmp_path)
        code, text = said(["compact", str(tmp_path)], capsys)
        assert code == 0
        assert "every line compared" in text
        assert (list(read_log(tmp_path)), list(read_texts(tmp_path)), counted(tmp_path)) == (records, texts, counts)
        assert "nothing to compact" in said(["compact", str(tmp_path)], capsys)[1]
        write_steps(tmp_path, range(3, 5))
        assert [record["step"] for record in read_log(tmp_path) if record["kind"] == "step"] == [0, 1, 2, 3, 4]

    def test_a_run_resumed_from_the_middle_of_a_compacted_log_is_the_run_that_never_stopped(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The newest checkpoint lies among the compacted lines: they come back, and what is behind moves aside."""
        straight, resumed = (simulated(tmp_path / name, run__n_steps=6, run__checkpoint_every=2) for name in ("a", "b"))
        train(straight)
        train(resumed)
        shutil.rmtree(resumed.folder / "checkpoints" / "step-00000006")
        assert said(["compact", str(resumed.folder)], capsys)[0] == 0
        train(resumed, resume=True)
        assert decided(resumed.folder) == decided(straight.folder)
        assert said(["compact", str(resumed.folder)], capsys)[0] == 0
        code, text = said(["verify", str(resumed.folder / "log")], capsys)
        assert code == 0
        assert "6 steps" in text
        assert (resumed.folder / "log" / "discarded-compacted-rollouts-from-byte-0.parquet").exists()


@pytest.fixture(scope="module")
def tables(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, pandas.DataFrame]]:
    folder = tmp_path_factory.mktemp("tables")
    for format in ("parquet", "jsonl", "arrow", "csv"):
        export(run / "log", folder / format, format)  # type: ignore[arg-type]
    readers = {
        "parquet": pandas.read_parquet,
        "jsonl": lambda path: pandas.read_json(path, lines=True),
        "arrow": pandas.read_feather,
        "csv": pandas.read_csv,
    }
    return {f: {name: read(folder / f / f"{name}.{f}") for name in TABLES} for f, read in readers.items()}


class TestExport:
    def test_every_format_holds_the_same(self, tables: dict[str, dict[str, pandas.DataFrame]]) -> None:
        for name in TABLES:
            first = tables["parquet"][name]
            for other in ("jsonl", "arrow", "csv"):
                for column in first.columns:
                    ours, theirs = first[column], tables[other][name][column]
                    if first[column].dtype.kind == "f":
                        np.testing.assert_allclose(ours.astype(float), theirs.astype(float), rtol=1e-12)
                    elif not ours.isna().all() and not (ours == "").all():
                        assert ours.tolist() == theirs.tolist(), (name, other, column)

    def test_one_row_per_group_and_rollout(self, run: Path, tables: dict[str, dict[str, pandas.DataFrame]]) -> None:
        groups = [record for record in read_log(run / "log") if record["kind"] == "group"]
        frame, rollouts = tables["parquet"]["groups"], tables["parquet"]["rollouts"]
        assert frame["group"].tolist() == [group["group"] for group in groups]
        assert rollouts["status"].tolist() == [status for group in groups for status in group["statuses"]]
        rewards = [math.nan if reward is None else reward for group in groups for reward in group["rewards"]]
        np.testing.assert_array_equal(rollouts["reward"], rewards)
        means = rollouts[rollouts.status == "ok"].groupby("group").reward.mean()
        np.testing.assert_allclose(frame.set_index("group").reward_mean.loc[means.index], means)
        assert tables["parquet"]["steps"]["n_rollouts"].sum() == len(rollouts)
        assert tables["parquet"]["steps"]["n_attempts"].tolist() == [1] * 6

    def test_infinities_stay_numbers(self, tmp_path: Path) -> None:
        log = RolloutLog(tmp_path / "log")
        log.append_step({"step": 0, "loss": float("inf"), "grad_norm": float("nan"), "lr": 1})
        log.commit()
        log.close()
        export(tmp_path / "log", tmp_path / "t", "parquet")
        (row,) = pyarrow.parquet.read_table(tmp_path / "t" / "steps.parquet").to_pylist()
        assert (row["loss"], row["grad_norm"], row["lr"]) == (math.inf, None, 1.0)

    def test_tables_that_are_there_stay(self, run: Path, tmp_path: Path) -> None:
        (tmp_path / "steps.csv").write_text("mine")
        with pytest.raises(CurriculaError, match=r"steps\.csv: it is there already"):
            export(run / "log", tmp_path, "csv")
        assert [file.name for file in tmp_path.iterdir()] == ["steps.csv"]

    def test_a_damaged_log_leaves_no_tables(self, tmp_path: Path) -> None:
        write_steps(tmp_path / "log", range(2))
        path = tmp_path / "log" / ROLLOUTS
        path.write_bytes(path.read_bytes()[:100] + b"!" + path.read_bytes()[101:])
        with pytest.raises(CurriculaError, match="is damaged"):
            export(tmp_path / "log", tmp_path / "t", "parquet")
        assert list((tmp_path / "t").iterdir()) == []

    def test_command(self, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        code, text = said(["export", str(run), str(tmp_path / "t"), "--to", "csv"], capsys)
        assert code == 0
        assert "groups.csv: 48 rows" in text
        assert pyarrow.csv.read_csv(tmp_path / "t" / "groups.csv").num_rows == 48
