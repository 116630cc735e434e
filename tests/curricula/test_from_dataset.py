"""Pools from other people's data sets: what fits, which ids come out, and what is refused with which words."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curricula import CurriculaError, PromptPool
from replay.sources import load
from rollout.pool_file import pool_from_file
from rollout.tasks import build_task

ROWS = [
    {"prompt": "2+2=", "source": "sums", "level": 1, "rate": 0.9, "size": 4, "embedding": [0.5, 1.0], "uid": "a"},
    {"prompt": "17*23=", "source": "products", "level": 2, "rate": None, "size": 6, "embedding": [0.0, 2.0], "uid": "b"},
    {"prompt": "9-3=", "source": "sums", "level": 1, "rate": 0.25, "size": 4, "embedding": [1.5, 3.0], "uid": "c"},
]
OPTIONS: dict[str, Any] = {
    "distribution": ("source", "level"),
    "prior_pass_rate": "rate",
    "features": ("size", "embedding"),
}


def same(a: PromptPool, b: PromptPool) -> bool:
    numbers = np.array_equal(a.prior_pass_rate_N, b.prior_pass_rate_N, equal_nan=True) and np.array_equal(
        a.features_NF, b.features_NF
    )
    return a.fingerprint == b.fingerprint and numbers


def test_every_column_lands_where_it_belongs() -> None:
    pool = PromptPool.from_dataset(ROWS, **OPTIONS, id="uid")
    assert pool.ids.tolist() == ["a", "b", "c"]
    assert [pool.distribution_names[k] for k in pool.distribution_N] == ["sums/1", "products/2", "sums/1"]
    np.testing.assert_array_equal(pool.prior_pass_rate_N, [0.9, np.nan, 0.25])
    np.testing.assert_array_equal(pool.features_NF, [[4, 0.5, 1], [6, 0, 2], [4, 1.5, 3]])


def test_rows_columns_tables_and_hugging_face_data_sets_give_one_pool() -> None:
    datasets = pytest.importorskip("datasets")
    pandas = pytest.importorskip("pandas")
    expected = PromptPool.from_dataset(ROWS, **OPTIONS)
    dataset = datasets.Dataset.from_list(ROWS)
    columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    for data in (iter(ROWS), columns, pandas.DataFrame(ROWS), dataset, dataset.to_iterable_dataset(), dataset.select(range(3))):
        assert same(PromptPool.from_dataset(data, **OPTIONS), expected)
    unnamed = datasets.IterableDataset.from_generator(lambda: iter(ROWS))
    assert unnamed.column_names is None
    assert same(PromptPool.from_dataset(unnamed, **OPTIONS), expected)
    by_function = PromptPool.from_dataset(dataset, distribution=lambda row: f"{row['source']}/{row['level']}")
    assert by_function.fingerprint == expected.fingerprint


def test_files_give_the_same_pool(tmp_path: Path) -> None:
    expected = PromptPool.from_dataset(ROWS, **OPTIONS)
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    pq.write_table(pa.Table.from_pylist(ROWS[:2]), tmp_path / "0.parquet")
    pq.write_table(pa.Table.from_pylist(ROWS[2:]), tmp_path / "1.parquet")
    assert same(pool_from_file(tmp_path / "a.jsonl", **OPTIONS), expected)
    assert same(pool_from_file([tmp_path / "0.parquet", tmp_path / "1.parquet"], **OPTIONS), expected)


CHAT = [[{"role": "user", "content": "1+1?"}], [{"role": "system", "content": "Short."}, {"role": "user", "content": "2+2?"}]]


@pytest.mark.parametrize(
    "prompts", [["1+1?", "2+2? é\n", "7"], CHAT, [[{"role": "user", "content": "<|im_start|>user\n1+1?"}], "x"]]
)
def test_ids_are_those_of_prompt_files(tmp_path: Path, prompts: list[Any]) -> None:
    rows = [{"prompt": prompt, "answer": "2", "data_source": "sums"} for prompt in prompts]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    held_out = tmp_path / "other.jsonl"
    held_out.write_text(json.dumps({"prompt": "?", "answer": "3", "data_source": "sums"}) + "\n")
    train, _ = build_task({"name": "prompt_file", "train": str(path), "held_out": str(held_out), "reward": "exact"}).build(0)
    assert PromptPool.from_dataset(rows).fingerprint == train.pool.fingerprint == pool_from_file(path).fingerprint


@pytest.mark.parametrize("prompts", [["1+1?", "2+2?"], CHAT])
def test_ids_are_those_of_imported_logs(tmp_path: Path, prompts: list[Any]) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps({"text": prompt, "arm": "sums", "reward": 1.0}) + "\n" for prompt in prompts))
    run = load(log, {"name": "mapping", "prompt": "text", "distribution": "arm"})
    pool = PromptPool.from_dataset([{"text": prompt, "arm": "sums"} for prompt in prompts], prompt="text", distribution="arm")
    assert pool.fingerprint == run.pool.fingerprint


def test_ids_never_change() -> None:
    """Written down once: a pool of today must be known in a log of last year."""
    rows = [{"prompt": "2+2="}, {"prompt": CHAT[1], "data_source": "sums"}]
    assert PromptPool.from_dataset(rows).ids.tolist() == ["all/427c0a95a6854883", "sums/93cd3d7c014d1650"]


def test_repeated_prompts_are_refused_with_both_rows_or_numbered() -> None:
    rows = [{"prompt": "a"}, {"prompt": "b"}, {"prompt": "a"}, {"prompt": "a"}]
    with pytest.raises(CurriculaError, match=r"^row 2: prompt id 'all/\w+' .* was there before, in row 0 of the data"):
        PromptPool.from_dataset(rows)
    ids = PromptPool.from_dataset(rows, repeated="number").ids.tolist()
    assert ids == [ids[0], ids[1], f"{ids[0]}#2", f"{ids[0]}#3"]
    named = [{"id": "x"}, {"id": "x#2"}, {"id": "x"}, {"id": "x"}]
    assert PromptPool.from_dataset(named, id="id", repeated="number").ids.tolist() == ["x", "x#2", "x#3", "x#4"]


def test_the_same_text_in_two_distributions_is_two_prompts() -> None:
    rows = [{"prompt": "a", "level": 1}, {"prompt": "a", "level": 2}]
    assert len(PromptPool.from_dataset(rows, distribution="level")) == 2


GOOD = {"prompt": "a", "source": "sums", "level": 1, "rate": 0.5, "size": 3.0, "uid": 7}
NESTED = {"prompt": "a", "extra_info": {"level": 3}}


def test_dotted_columns_reach_into_nested_ones() -> None:
    datasets = pytest.importorskip("datasets")
    for data in ([NESTED], datasets.Dataset.from_list([NESTED])):
        assert PromptPool.from_dataset(data, distribution="extra_info.level").distribution_names == ("3",)


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        ({"source": "sums"}, {}, r"^row 1: no column 'prompt'; it has source$"),
        (GOOD, {"distribution": "sorce"}, r"^row 0: no column 'sorce'; did you mean 'source'\?; it has"),
        ({"prompt": ""}, {}, r"^row 1: column 'prompt': expected text or chat messages with role and content, got '' \(str\)"),
        ({"prompt": [{"role": "user"}]}, {}, r"^row 1: column 'prompt': expected text or chat messages"),
        ({"prompt": 3}, {}, r"^row 1: column 'prompt': .* got 3 \(int\)"),
        (GOOD | {"uid": None}, {"id": "uid"}, r"^row 1: column 'uid': expected an id .* got None"),
        (GOOD | {"uid": 1.5}, {"id": "uid"}, r"^row 1: column 'uid': expected an id .* got 1.5 \(float\)"),
        (GOOD | {"level": None}, {"distribution": "level"}, r"^row 1: column 'level': expected the name of a distribution"),
        (GOOD | {"level": float("nan")}, {"distribution": "level"}, r"^row 1: column 'level': expected the name of a distribution"),
        (GOOD, {"distribution": lambda row: None}, r"^row 0: the function that names distributions: expected the name"),
        (
            GOOD | {"rate": 50},
            {"prior_pass_rate": "rate"},
            r"^row 1: column 'rate': expected a pass rate in \[0, 1\] or null, got 50",
        ),
        (GOOD | {"rate": "0.5"}, {"prior_pass_rate": "rate"}, r"^row 1: column 'rate': expected a pass rate"),
        (GOOD | {"size": "x"}, {"features": "size"}, r"^row 1: column 'size': expected a finite number"),
        (GOOD | {"size": [float("inf")]}, {"features": ("size",)}, r"^row 1: column 'size': expected a finite number"),
        (GOOD | {"size": [1, 2]}, {"features": ("size",)}, r"^row 1: 2 features, before it were 1"),
        ("a", {}, r"^row 1: expected a row with columns \(a mapping\), got 'a' \(str\)"),
    ],
)
def test_bad_rows_are_refused_with_their_numbers(row: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CurriculaError, match=message):
        PromptPool.from_dataset([GOOD | {"prompt": "first", "uid": 6}, row], **options)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("train.jsonl", r"got the path 'train.jsonl'; read files with rollout.pool_file"),
        (3, r"expected rows or columns, got 3 \(int\)"),
        ([], r"it has no rows"),
        ({"prompts": ["a"]}, r"^data set: no column 'prompt'; did you mean 'prompts'\?; it has prompts$"),
        (
            {"train": {"prompt": ["a"]}, "test": {"prompt": ["b"]}},
            r"it has the splits train, test; give one of them, dataset\['train'\]",
        ),
        ({"prompt": ["a", "b"], "data_source": ["c"]}, r"columns of different lengths: prompt 2, data_source 1"),
    ],
)
def test_what_is_no_data_set_is_refused(data: Any, message: str) -> None:
    with pytest.raises(CurriculaError, match=message):
        PromptPool.from_dataset(data)


def test_a_missing_column_of_a_hugging_face_data_set_is_named_before_a_row_is_read() -> None:
    datasets = pytest.importorskip("datasets")
    dataset = datasets.Dataset.from_list(ROWS)
    with pytest.raises(CurriculaError, match=r"^data set: no column 'promt'; did you mean 'prompt'\?; it has prompt, source"):
        PromptPool.from_dataset(dataset, prompt="promt")
    with pytest.raises(CurriculaError, match=r"it has the splits train; give one of them"):
        PromptPool.from_dataset(datasets.DatasetDict(train=dataset))
    with pytest.raises(CurriculaError, match=r"repeated: expected 'refuse' or 'number', got 'drop'"):
        PromptPool.from_dataset(dataset, repeated="drop")  # type: ignore[arg-type]


def test_file_and_line_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "a"}\n\n{"prompt": null}\n')
    with pytest.raises(CurriculaError, match=r"a\.jsonl: line 3: column 'prompt': expected text"):
        pool_from_file(tmp_path / "a.jsonl")


def test_texts_are_not_kept() -> None:
    n, length = 3000, 20_000

    def rows() -> Iterator[dict[str, str]]:
        return ({"prompt": f"{i:05d}" * (length // 5)} for i in range(n))

    tracemalloc.start()
    try:
        pool = PromptPool.from_dataset(rows())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(pool) == n
    assert peak < n * length / 10  # the texts alone would be 60 MB
