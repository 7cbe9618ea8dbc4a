"""On an NVIDIA GPU: results as on the CPU, reproducible bits, models that move between devices.

Skipped without a GPU or without biorel's CUDA part; the summary has the number. `tests/gpu/` tests single operations,
`tests/cuda/` the kernels on the CPU. `make gpu-kit` carries only this file, conftest.py and tiny_bert.py to a machine
with a GPU: they import nothing but the package, its dependencies and pytest.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import get_args

import biorel
import numpy as np
import pandas as pd
import pytest
from biorel._types import Head

pytestmark = pytest.mark.gpu

TEXTS = ["Aspirin increases the effect of warfarin.", "No interaction was seen.", "a " * 90]


def short(corpus: biorel.Corpus, encoder: biorel.Encoder, **settings: object) -> biorel.Run:
    values = {"max_length": 96, "max_steps": 10, "learning_rate": 1e-3, "progress": False, "precision": "f32"}
    return biorel.finetune(corpus, encoder, **{**values, **settings})


def test_the_device_is_listed_and_chosen(ddi: biorel.Corpus, encoder: biorel.Encoder) -> None:
    devices = biorel.devices().set_index("device")
    assert devices.loc["cuda:0", "available"]
    assert devices.loc["cuda:0", "memory"] > 2**30
    run = short(ddi, encoder, max_steps=1, device="auto", precision="auto")
    assert (run.settings["device"], run.settings["precision"]) == ("cuda:0", "bf16")


def test_a_missing_gpu_is_an_error(encoder: biorel.Encoder) -> None:
    with pytest.raises(biorel.DeviceError, match="cuda:99: there is no such device, only cuda:0"):
        encoder.encode(TEXTS, device="cuda:99")


@pytest.mark.parametrize(("precision", "tolerance"), [("f32", 2e-5), ("bf16", 4e-2)])
@pytest.mark.parametrize("name", ["tiny", "minilm"])
def test_hidden_states_match_the_cpu(encoder: biorel.Encoder, name: str, precision: str, tolerance: float) -> None:
    loaded = encoder if name == "tiny" else biorel.load_encoder(os.environ.get("BIOREL_GPU_ENCODER", "minilm"))
    expected = loaded.encode(TEXTS, device="cpu", precision="f32")
    for ours, theirs in zip(loaded.encode(TEXTS, device="cuda", precision=precision), expected, strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() <= tolerance * max(1.0, np.abs(theirs).max())


@pytest.mark.parametrize("head", get_args(Head))
def test_ten_steps_match_the_cpu(ddi: biorel.Corpus, encoder: biorel.Encoder, head: Head) -> None:
    cpu, gpu = (short(ddi, encoder, head=head, device=device) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(gpu.history["loss"], cpu.history["loss"], rtol=2e-4)
    np.testing.assert_allclose(gpu.history["gradient_norm"], cpu.history["gradient_norm"], rtol=2e-3)
    labels = [f"p_{label}" for label in ddi.labels]
    columns = [name for name in gpu.predictions("test").columns if name in labels]
    np.testing.assert_allclose(gpu.predictions("test")[columns], cpu.predictions("test")[columns], atol=2e-3)


def test_ten_steps_in_bf16_stay_close(ddi: biorel.Corpus, encoder: biorel.Encoder) -> None:
    cpu, gpu = short(ddi, encoder, device="cpu"), short(ddi, encoder, device="cuda", precision="bf16")
    np.testing.assert_allclose(gpu.history["loss"], cpu.history["loss"], rtol=5e-2)


@pytest.mark.parametrize("precision", ["f32", "bf16"])
@pytest.mark.parametrize("head", ["attention", "lstm"])
def test_the_same_seed_gives_the_same_bits(
    ddi: biorel.Corpus, encoder: biorel.Encoder, head: Head, precision: str
) -> None:
    first, second = (short(ddi, encoder, head=head, device="cuda", precision=precision) for _ in range(2))
    pd.testing.assert_frame_equal(first.history.drop(columns="seconds"), second.history.drop(columns="seconds"))
    pd.testing.assert_frame_equal(first.predictions("test"), second.predictions("test"))


@pytest.mark.parametrize(("trained", "loaded"), [("cuda", "cpu"), ("cpu", "cuda")])
def test_a_saved_model_moves(
    ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path, trained: str, loaded: str
) -> None:
    run = short(ddi, encoder, device=trained)
    run.model.save(tmp_path / "model")
    expected = biorel.load(tmp_path / "model", device=trained, precision="f32").predictions(ddi, "test")
    pd.testing.assert_frame_equal(expected, run.predictions("test"))
    moved = biorel.load(tmp_path / "model", device=loaded, precision="f32").predictions(ddi, "test")
    pd.testing.assert_frame_equal(moved, expected, rtol=1e-3, atol=1e-5)


def test_a_stopped_run_resumes_to_the_same_bits(ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path) -> None:
    class Stop(biorel.Callback):
        def on_step(self, row: dict[str, float]) -> None:
            if row["step"] == 4:
                raise KeyboardInterrupt

    uninterrupted = short(ddi, encoder, device="cuda", head="lstm")
    checkpoint = tmp_path / "run.checkpoint"
    with pytest.raises(biorel.TrainingInterrupted):
        short(ddi, encoder, device="cuda", head="lstm", checkpoint=checkpoint, callbacks=[Stop()])
    resumed = short(ddi, encoder, device="cuda", head="lstm", checkpoint=checkpoint)
    pd.testing.assert_frame_equal(
        resumed.history.drop(columns="seconds"), uninterrupted.history.drop(columns="seconds")
    )
    pd.testing.assert_frame_equal(resumed.predictions("test"), uninterrupted.predictions("test"))


@pytest.mark.parametrize("jobs", [2, 3])
def test_concurrent_trials_give_the_same_bits_as_sequential_ones(
    ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path, jobs: int
) -> None:
    def compared(concurrent: int) -> pd.DataFrame:
        comparison = biorel.compare(
            ddi,
            directory=tmp_path / f"jobs-{concurrent}",
            heads=["cls", "attention", "lstm"],
            encoders=[encoder],
            jobs=concurrent,
            device="cuda",
            max_length=96,
            max_steps=10,
            progress=False,
        )
        return comparison.trials.drop(columns="seconds")

    pd.testing.assert_frame_equal(compared(jobs), compared(1))


def test_explanations_run_on_the_gpu(ddi: biorel.Corpus, encoder: biorel.Encoder) -> None:
    run = short(ddi, encoder, device="cuda")
    weights = run.attention("test", kind="gradient")
    assert np.isfinite(weights["weight"]).all()
