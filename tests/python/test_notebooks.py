"""Every notebook runs from top to bottom, with two steps per training; committed outputs have no errors or paths."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import biorel
import pytest
from tiny_bert import write_encoder

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def shortened(function: Callable[..., Any], **changes: Any) -> Callable[..., Any]:
    changes = {"max_steps": 2, "progress": False, **changes}
    return lambda *arguments, **settings: function(*arguments, **{**settings, **changes})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("finetune", "cross_validate", "compare"):
        monkeypatch.setattr(biorel, name, shortened(getattr(biorel, name)))
    # All tables and analyses of the paper, with MiniLM, take minutes.
    tiny = {"encoders": {"tiny": write_encoder(tmp_path)}, "max_length": 96}
    monkeypatch.setattr(biorel, "reproduce", shortened(biorel.reproduce, **tiny))
    # Hundreds of predictions for each pair otherwise.
    mask_words = biorel.RelationModel.mask_words

    def mask_few_words(*arguments: Any, **settings: Any) -> Any:
        return mask_words(*arguments, **{**settings, "n_random": 2, "limit": 12})

    monkeypatch.setattr(biorel.RelationModel, "mask_words", mask_few_words)
    names: dict[str, object] = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), str(path), "exec"), names)
    assert "biorel" in names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_committed(path: Path) -> None:
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    text = json.dumps([output for output in outputs if "image/png" not in output.get("data", {})])
    assert not re.search(r"/(home|root|Users|work|tmp)/", text)


def test_there_are_notebooks() -> None:
    assert len(NOTEBOOKS) == 6
