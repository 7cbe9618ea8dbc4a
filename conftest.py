"""What the examples in the docstrings can use: `biorel`, a small `run`, its `model`, and a `folder` to write to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import biorel
import biorel.cli
import biorel.demo
import pytest


@pytest.fixture(scope="session")
def short_run() -> biorel.Run:
    """Two steps of MiniLM on the sample: untrained, but with everything that a run has."""
    return biorel.finetune(biorel.load_sample("ddi"), "minilm", max_steps=2, progress=False)


@pytest.fixture(autouse=True)
def _names_for_doctests(request: pytest.FixtureRequest, doctest_namespace: dict[str, Any]) -> None:
    if isinstance(request.node, pytest.DoctestItem):
        run = request.getfixturevalue("short_run")
        folder: Path = request.getfixturevalue("tmp_path")
        doctest_namespace.update(biorel=biorel, run=run, model=run.model, folder=folder)
