"""`compat="su2020"`: training as in the paper's published code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import biorel
import numpy as np
import pandas as pd
import pytest


def test_padding_as_in_the_published_code(ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"max_length": 96, "max_steps": 2, "learning_rate": 1e-3, "progress": False}
    padded = biorel.finetune(ddi, encoder, compat="su2020", **settings)
    plain = biorel.finetune(ddi, encoder, **settings)
    assert (padded.history["tokens"] == padded.history["instances"] * 96).all()
    assert (plain.history["tokens"] < padded.history["tokens"]).all()
    assert (padded.history["loss"] - plain.history["loss"]).abs().max() > 1e-6
    # Weights are normalised over the words.
    words = padded.attention()
    np.testing.assert_allclose(words.groupby("instance")["weight"].sum(), 1.0, atol=1e-6)
    assert len(words) == len(plain.attention())
    np.testing.assert_allclose(padded.attention(kind="encoder").groupby("instance")["weight"].sum(), 1.0, atol=1e-6)
    padded.model.save(tmp_path / "model")
    loaded = biorel.load(tmp_path / "model")
    assert loaded.card["training"]["compat"] == "su2020"
    pd.testing.assert_frame_equal(loaded.predictions(ddi), padded.predictions())
    # The head on [CLS] uses the pooler.
    pooled = biorel.finetune(ddi, encoder, head="cls", compat="su2020", **settings)
    assert "head.pooler.weight" in pooled.report["initialised"]
    wrong: Any = "su2021"
    with pytest.raises(biorel.ConfigError, match="compat: must be one of su2020"):
        biorel.finetune(ddi, encoder, compat=wrong, **settings)


@pytest.mark.parametrize("compat", [None, "su2020"])
def test_the_learning_rate_of_every_step(compat: Any, ddi: biorel.Corpus, encoder: biorel.Encoder) -> None:
    steps, warm, peak = 20, 2, 2e-5
    run = biorel.finetune(
        ddi, encoder, head="cls", compat=compat, max_steps=steps, batch_size=2, max_length=96, progress=False
    )
    end = 1 if compat else 1 / (1 - warm / steps)  # BERT's optimizer, and transformers' schedule
    expected = [peak * (t / warm if t < warm else end * (1 - t / steps)) for t in range(steps)]
    np.testing.assert_allclose(run.history["learning_rate"], expected, rtol=1e-12)
    assert run.settings["schedule"] == ("bert" if compat else "linear")
