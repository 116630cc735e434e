"""The report: complete, self-contained, safe, and honest about what is missing."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from curricula.types import CurriculaError
from rollout.log import RolloutLog
from tests.trainer.made_run import EVIL, made_run
from trainer.observer import DistributionScore, EvaluationResult, StepRecord, read_evaluation, read_step, to_dict
from trainer.report import write_report
from trainer.report.data import read_run
from trainer.report.series import histograms, smoothed, thinned


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_run(tmp_path_factory.mktemp("report") / "run", n_steps=20)


@pytest.fixture(scope="module")
def page(run_folder: Path) -> str:
    return write_report(run_folder).read_text(encoding="utf-8")


class Links(HTMLParser):
    """Everything on a page that makes a browser fetch or run something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "iframe", "object", "embed"):
            self.found.append(tag)
        self.found += [f"{name}={value}" for name, value in attrs if name in ("src", "href", "xlink:href") and is_outside(value)]
        self.found += [name for name, _ in attrs if name.startswith("on")]


def is_outside(value: str | None) -> bool:
    return not (value or "").startswith(("#", "data:image/png;base64,"))


def test_the_page_fetches_and_runs_nothing(page: str) -> None:
    links = Links()
    links.feed(page)
    assert links.found == []
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_texts_of_the_model_are_shown_escaped(page: str) -> None:
    assert EVIL not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#x27;quotes&#x27;" in page


@pytest.mark.parametrize(
    "title",
    [
        "Held-out accuracy",
        "Training accuracy and reward",
        "What the curriculum decided",
        "Learner",
        "Time and tokens",
        "Statuses of rollouts",
        "Sample completions",
        "Recipe",
    ],
)
def test_every_section_is_there(page: str, title: str) -> None:
    assert f"<h2>{title}</h2>" in page


def test_every_picture_is_there_with_a_label(page: str) -> None:
    labels = re.findall(r'<svg role="img" aria-label="([^"]+)"', page)
    assert len(labels) == 11
    assert len(set(labels)) == 11


def test_headline_numbers_are_those_of_the_log(run_folder: Path, page: str) -> None:
    run = read_run(run_folder)
    before, after = run.evaluations[0], run.evaluations[-1]
    assert f"<b>{100 * before.sampled:.1f} → {100 * after.sampled:.1f}</b>" in page
    hardest = after.scores["ops-6"]
    assert f"{100 * hardest.sampled:.1f} ± {100 * hardest.standard_error:.1f} %" in page
    n_timeouts = sum(record.statuses.get("timeout", 0) for record in run.steps)
    assert f"<td>timeout</td><td>{n_timeouts:,}</td>" in page
    assert f"<b>{sum(record.n_rollouts for record in run.steps):,}</b>" in page


def test_samples_are_the_first_and_the_last_group_of_each_distribution(run_folder: Path) -> None:
    samples = [sample for sample in read_run(run_folder).samples if sample.distribution == "ops-3"]
    steps = sorted({sample.step for sample in samples})
    texts = [json.loads(line) for line in (run_folder / "log" / "texts.jsonl").read_text().splitlines()]
    logged = sorted({record["step"] for record in texts if record["distribution"] == "ops-3"})
    assert steps == [logged[0], logged[-1]]
    assert all(sample.prompt.startswith("12+3=") for sample in samples)


def test_a_run_that_is_still_going_has_a_page(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", n_steps=1, n_distributions=1, n_groups=2)
    log = RolloutLog(folder / "log")  # another process is writing
    text = write_report(folder).read_text(encoding="utf-8")
    log.close()
    assert "<h2>What the curriculum decided</h2>" in text


def test_many_distributions_and_steps_make_no_big_page(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", n_steps=260, n_distributions=20, n_groups=2, texts="")
    assert write_report(folder).stat().st_size < 4_000_000


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CurriculaError, match=r"no recipe.yaml in it; expected the folder of a run"):
        write_report(tmp_path)


def test_a_run_without_a_step_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: x\ntask: {name: t}\nmodel: {path: m}\n")
    with pytest.raises(CurriculaError, match="no step has been logged yet"):
        write_report(tmp_path)


def test_records_survive_the_log(tmp_path: Path) -> None:
    step = StepRecord(
        **dict.fromkeys(("step", "n_steps", "kept_groups", "generated_groups", "n_rollouts"), 1),
        **dict.fromkeys(("n_tokens_generated", "n_tokens_trained"), 2),
        reward_mean=math.nan,
        accuracy=0.5,
        live_group_share=0.0,
        lr=1e-6,
        probability={"a": 1.0},
        pass_rate={"a": math.nan},
        pass_rate_B=(math.nan, 1.0),
        n_rollouts_B=(2, 3),
        grad_norm=math.inf,
    )
    evaluation = EvaluationResult(3, {"a": DistributionScore(1.0, 0.5, math.nan, 1)})
    log = RolloutLog(tmp_path / "log")
    log.append_step(to_dict(step))
    log.append_evaluation(to_dict(evaluation))
    log.commit()
    log.close()
    from rollout.log import read_log

    first, second = read_log(tmp_path / "log")
    assert repr(read_step(first)) == repr(step)
    assert repr(read_evaluation(second)) == repr(evaluation)


def test_series_keep_gaps_and_means() -> None:
    values = np.array([1.0, np.nan, 3.0, np.nan])
    assert smoothed(values, 3).tolist() == [1.0, 2.0, 3.0, 3.0]
    np.testing.assert_array_equal(thinned(values, 2), [1.0, 3.0])
    assert np.isnan(smoothed(np.full(4, np.nan), 3)).all()
    shares = histograms([[0.0, 1.0], [1.0], [math.nan]], np.array([0.0, 0.5, 1.0]), 3)
    np.testing.assert_array_equal(shares, [[0.5, 0.0, np.nan], [0.5, 1.0, np.nan]])
