"""Models that earlier versions saved (``tests/golden/make_saved_model.py``)."""

from __future__ import annotations

import json
from pathlib import Path

import biorel
import pandas as pd
import pytest

SAVED = sorted((Path(__file__).parents[1] / "golden" / "saved_models").iterdir())


@pytest.mark.parametrize("folder", SAVED, ids=lambda folder: folder.name)
def test_a_model_of_an_earlier_version_predicts_the_same(folder: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    model = biorel.load(folder / "model", precision="f32", device="cpu")
    assert model.card["version"] == folder.name
    assert model.hash == expected["hash"], "the same weights, settings and vocabulary"
    found = model.predict(expected["sentences"])
    wanted = pd.DataFrame(expected["predictions"])
    assert wanted["relation"].nunique() > 1
    pd.testing.assert_frame_equal(found, wanted, check_dtype=False, rtol=0, atol=2e-5)


def test_the_first_version_is_there() -> None:
    assert "0.1.0" in [folder.name for folder in SAVED]
