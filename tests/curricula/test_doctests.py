"""Every example in a docstring of the package runs and is right; the ten-line host loop among them."""

import doctest
import importlib
import pkgutil

import pytest

import curricula

MODULES = ["curricula", *(info.name for info in pkgutil.walk_packages(curricula.__path__, "curricula."))]


@pytest.mark.parametrize("module", MODULES)
def test_examples(module):
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def test_the_host_loop_is_among_them():
    loop = doctest.DocTestFinder(recurse=False).find(curricula.Curriculum)[0]
    assert any("curriculum.update(" in example.source for example in loop.examples)
