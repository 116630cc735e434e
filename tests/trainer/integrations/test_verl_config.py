"""What the adapters read out of verl's configuration and rows; needs no verl."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from curricula import CurriculaError
from trainer.integrations.verl_config import Settings, check_version, ids_of, pool_of_dataset, settings_of


class Table(dict):  # type: ignore[type-arg]
    @property
    def column_names(self) -> list[str]:
        return list(self)


class Dataset:
    def __init__(self, **columns: list[object]) -> None:
        self.dataframe = Table(columns)


ROWS = {
    "data_source": ["gsm8k", "gsm8k", "math"],
    "extra_info": [{"index": 0, "level": 1}, {"index": 1, "level": 2}, {"index": 0, "level": 2}],
    "prompt": [[{"role": "user", "content": text}] for text in ("a", "b", "c")],
}


def test_ids_and_distributions_come_from_the_rows() -> None:
    pool = pool_of_dataset(Dataset(**ROWS), Settings("uniform"), "here")
    assert pool.ids.tolist() == ["gsm8k/0", "gsm8k/1", "math/0"]
    assert [pool.distribution_names[k] for k in pool.distribution_N] == ["gsm8k", "gsm8k", "math"]
    by_level = pool_of_dataset(Dataset(**ROWS), Settings("uniform", prompt_id="prompt", distribution="extra_info.level"), "here")
    assert [by_level.distribution_names[k] for k in by_level.distribution_N] == ["1", "2", "2"]
    assert {name.rpartition("/")[0] for name in by_level.ids} == {"all"}


def test_a_batch_gives_the_ids_of_its_rows() -> None:
    """verl keeps fields of a batch as arrays of objects."""
    fields = {name: np.array(column, dtype=object) for name, column in ROWS.items() if name != "prompt"}
    assert ids_of(fields.get, Settings("uniform"), "batch") == ["gsm8k/0", "gsm8k/1", "math/0"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"prompt_id": "extra_info.index"}, "here.prompt_id to a field that is one"),
        ({"prompt_id": "uid"}, "no field 'uid', of which the curriculum's prompt_id is made"),
        ({"distribution": "extra_info.topic"}, r"row 0 has no extra_info.topic \(3 of 3 rows\)"),
    ],
)
def test_fields_that_are_no_ids_are_told(given: dict[str, str], says: str) -> None:
    with pytest.raises(CurriculaError, match=says):
        pool_of_dataset(Dataset(**ROWS), Settings("uniform", **given), "here")  # type: ignore[arg-type]


def test_settings_are_checked() -> None:
    assert settings_of(Settings, {"recipe": "sec", "reward_range": [-1, 1]}, "here").reward_range == (-1.0, 1.0)
    with pytest.raises(CurriculaError, match="expected two numbers, lowest and highest reward"):
        settings_of(Settings, {"recipe": "sec", "reward_range": [1]}, "here")
    with pytest.raises(CurriculaError, match="no `dataframe`; expected verl's RLHFDataset"):
        pool_of_dataset([1, 2], Settings("uniform"), "here")


def test_versions() -> None:
    with pytest.raises(CurriculaError, match=r"verl 0.8.0: expected 0.9.0 to 0.9.1; use another"):
        check_version("0.8.0", "0.9.0", "0.9.1", "use another")
    with pytest.warns(UserWarning, match="verl 0.10.0rc1 is newer than 0.9.1"):
        check_version("0.10.0rc1", "0.9.0", "0.9.1", "use another")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_version("0.9.1", "0.9.0", "0.9.1", "use another")
        check_version("0.9.0", "0.9.0", "0.9.1", "use another")
