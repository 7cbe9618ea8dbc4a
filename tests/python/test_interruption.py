"""The files on disk after a process was killed or the disk is full."""

from __future__ import annotations

import hashlib
import random
import subprocess
from pathlib import Path

import biorel
import pandas as pd
import pytest
from child_process import kill_after, start_python
from tiny_bert import write_encoder

SENTENCE = {
    "text": "Aspirin increases the effect of warfarin.",
    "entities": [{"start": 0, "end": 7, "type": "drug"}, {"start": 32, "end": 40, "type": "drug"}],
}

KILLS = 3

# Resumes from a checkpoint if it exists, and saves the model at the end.
TRAIN = """
import sys, biorel
encoder, checkpoint, model = sys.argv[1:]
run = biorel.finetune(
    biorel.load_sample("ddi"), encoder, head="lstm", max_length=96, max_steps=400, seed=3, progress=False,
    checkpoint=checkpoint, save_steps=2,
)
run.model.save(model)
"""


def train(encoder: Path, checkpoint: Path, model: Path) -> subprocess.Popen[bytes]:
    return start_python(TRAIN, encoder, checkpoint, model)


def time_written(checkpoint: Path) -> int:
    """When the checkpoint was last written; 0 if there is none."""
    return checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0


def digest(model: Path) -> str:
    return hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()


def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    uninterrupted = train(encoder, tmp_path / "uninterrupted.checkpoint", tmp_path / "uninterrupted")
    assert uninterrupted.wait() == 0
    checkpoint, model = tmp_path / "killed.checkpoint", tmp_path / "killed"
    delays = random.Random(5)
    for _ in range(KILLS):
        before = time_written(checkpoint)
        process = train(encoder, checkpoint, model)
        # After at least one more checkpoint, so that the run progresses.
        killed = kill_after(lambda: time_written(checkpoint) != before, process, delay=delays.uniform(0.0, 0.1))  # noqa: B023
        assert killed, "the run ended before it could be killed: give it more steps"
    assert not model.exists()
    assert train(encoder, checkpoint, model).wait() == 0
    assert digest(model) == digest(tmp_path / "uninterrupted")


def test_a_full_disk_keeps_the_earlier_model(run: biorel.Run, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="limits of file sizes need POSIX")
    saved = tmp_path / "model"
    run.model.save(saved)
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores SIGXFSZ: a write beyond the limit fails with an error, as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        for target in (saved, tmp_path / "other"):
            with pytest.raises(OSError, match="large"):
                run.model.save(target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    pd.testing.assert_frame_equal(biorel.load(saved).predict([SENTENCE]), run.model.predict([SENTENCE]))


def test_a_model_left_under_its_temporary_name_is_loaded(run: biorel.Run, tmp_path: Path) -> None:
    # As after a kill on a system that cannot swap two folders in one step. The name could also be one on the hub.
    saved = tmp_path / "models" / "ddi"
    run.model.save(saved)
    original = biorel.load(saved)
    saved.rename(saved.with_name(".ddi.old-4711"))
    found = biorel.load(saved)
    assert found.identity == original.identity
    assert found._readme == original._readme is not None
    pd.testing.assert_frame_equal(found.predict([SENTENCE]), run.model.predict([SENTENCE]))
    found.save(saved)
    assert biorel.load(saved).identity == original.identity
