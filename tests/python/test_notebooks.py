"""Every notebook runs from top to bottom, with trainings of two steps."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import biorel
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = functools.partial(biorel.finetune, max_steps=2, progress=False)
    monkeypatch.setattr(biorel, "finetune", short)
    names: dict[str, object] = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), str(path), "exec"), names)
    assert "biorel" in names


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS
