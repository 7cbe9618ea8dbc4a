"""Models that earlier versions saved (``tests/golden/make_saved_model.py``)."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import biorel
import pandas as pd
import pytest
from biorel.cli.main import main

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


def test_saving_again_loses_nothing_but_the_earlier_model(run: biorel.Run, tmp_path: Path) -> None:
    path = tmp_path / "model"
    ensemble = biorel.ensemble([run.model, run.model])
    encoder = biorel.load_encoder(SAVED[0] / "model")
    for save in (run.model.save, run.save, ensemble.save, encoder.save):
        shutil.rmtree(path, ignore_errors=True)
        save(path)
        (path / ".DS_Store").write_text("")
        save(path)
        for name in ("predictions.csv", ".git", "pytorch_model.bin"):
            (path / name).mkdir()
            with pytest.raises(biorel.ConfigError, match=f"model has `{name}`, which biorel did not write"):
                save(path)
            assert (path / name).is_dir()
            (path / name).rmdir()
    (tmp_path / "model" / "notes.txt").write_text("mine")
    options = ["adapt", str(SAVED[0] / "model"), str(path), "--output", str(path)]
    assert main(options) == 1
    assert (path / "notes.txt").read_text() == "mine"


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_to_a_model_is_followed(run: biorel.Run, tmp_path: Path) -> None:
    run.model.save(tmp_path / "model")
    before = (tmp_path / "model" / "biorel.json").stat().st_ino
    (tmp_path / "link").symlink_to(tmp_path / "model")
    run.model.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "model" / "biorel.json").stat().st_ino != before
    assert biorel.load(tmp_path / "model").hash == run.model.hash


def test_the_first_version_is_there() -> None:
    assert "0.1.0" in [folder.name for folder in SAVED]
