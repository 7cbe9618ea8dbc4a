"""Names for the examples in docstrings: `biorel`, a small `run`, its `model`, and a `folder` to write to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import biorel
import pandas as pd
import pytest

os.environ["MPLBACKEND"] = "agg"  # draw without opening a window


@pytest.fixture(scope="session")
def short_run() -> biorel.Run:
    """Two steps of MiniLM on the sample."""
    return biorel.finetune(biorel.load_sample("ddi"), "minilm", max_steps=2, progress=False)


@pytest.fixture(scope="session")
def short_validation() -> biorel.CrossValidation:
    """Two folds of one step each."""
    return biorel.cross_validate(biorel.load_sample("aimed"), "minilm", folds=2, max_steps=1, progress=False)


@pytest.fixture(scope="session")
def short_comparison(tmp_path_factory: pytest.TempPathFactory) -> biorel.Comparison:
    """Two heads, one step each."""
    directory = tmp_path_factory.mktemp("comparison")
    return biorel.compare(biorel.load_sample("ddi"), directory=directory, max_steps=1, progress=False)


@pytest.fixture(autouse=True)
def _names_for_doctests(request: pytest.FixtureRequest, doctest_namespace: dict[str, Any]) -> None:
    if isinstance(request.node, pytest.DoctestItem):
        run = request.getfixturevalue("short_run")
        folder: Path = request.getfixturevalue("tmp_path")
        doctest_namespace.update(biorel=biorel, pd=pd, run=run, model=run.model, folder=folder)
        for name in ("validation", "comparison"):
            if any(name in example.source for example in request.node.dtest.examples):
                doctest_namespace[name] = request.getfixturevalue(f"short_{name}")
