"""Every registered policy passes the shipped suite; so does one from outside the package, and broken ones do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from curricula.registry import VERBS, names
from curricula.testing import checks

EVERY_CHECK = [
    pytest.param(check, id=f"{stage}-{name}-{title}")
    for stage in VERBS
    for name in names(stage)
    for title, check in checks(stage, name)
]


@pytest.mark.parametrize("check", EVERY_CHECK)
def test_policy(check: Callable[[], None]) -> None:
    check()
