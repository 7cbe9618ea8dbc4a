"""Shared fixtures: a tiny encoder, the sample corpus, a short run, and the published corpora if available."""

from __future__ import annotations

import os
from pathlib import Path

import biorel
import pytest
from tiny_bert import write_encoder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run Ray's tests first, and skip the tests marked `gpu`, with the reason, if there is no GPU."""
    # The longest file: at the end, one process would run it while the others are done.
    items.sort(key=lambda item: item.path.name != "test_ray.py")
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    gpus = biorel.devices().query("device != 'cpu'")
    if not gpus["available"].any():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=f"no GPU: {gpus['reason'].iloc[0]}"))


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> biorel.Encoder:
    """The tiny encoder."""
    return biorel.load_encoder(write_encoder(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="session")
def ddi() -> biorel.Corpus:
    """The sample in the format of DDI."""
    return biorel.load_sample("ddi")


@pytest.fixture(scope="session")
def run(ddi: biorel.Corpus, encoder: biorel.Encoder) -> biorel.Run:
    """A short run of the tiny encoder."""
    return biorel.finetune(ddi, encoder, max_length=96, max_steps=4, learning_rate=1e-3, progress=False)


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of the published corpora, which cannot be distributed, from BIOREL_CORPORA."""
    if "BIOREL_CORPORA" not in os.environ:
        pytest.skip("BIOREL_CORPORA is not set")
    return Path(os.environ["BIOREL_CORPORA"])
