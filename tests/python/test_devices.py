"""The choice of a device without a GPU; `test_gpu.py` has the tests with one."""

from __future__ import annotations

from pathlib import Path

import biorel
import pytest
from biorel.models.devices import choose

NO_GPU = not biorel.devices().query("device != 'cpu'")["available"].any()


def test_the_processor_is_always_listed() -> None:
    devices = biorel.devices()
    assert devices.columns.tolist() == ["device", "name", "memory", "available", "reason"]
    processor = devices.iloc[0]
    assert processor["device"] == "cpu"
    assert processor["name"]
    assert processor["memory"] > 2**28
    assert processor["available"]
    # Only unusable devices have a reason.
    assert ((devices["reason"] == "") == devices["available"]).all()


@pytest.mark.skipif(not NO_GPU, reason="there is a GPU")
def test_the_error_for_an_unusable_gpu_says_why(ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path) -> None:
    reason = biorel.devices().iloc[1]["reason"]
    for call in (
        lambda: biorel.finetune(ddi, encoder, device="cuda:1", progress=False),
        lambda: biorel.compare(ddi, directory=tmp_path, encoders=[encoder], device="cuda:1", progress=False),
        lambda: encoder.encode(["Aspirin."], device="cuda:1"),
    ):
        with pytest.raises(biorel.DeviceError) as raised:
            call()
        assert str(raised.value) == f"cuda:1: {reason}"
        assert raised.value.device == "cuda:1"
    assert choose("auto", "f32", None).device == "cpu"


def test_an_unknown_device_is_a_wrong_setting(encoder: biorel.Encoder) -> None:
    with pytest.raises(
        biorel.ConfigError, match="`gpu` is not a device; choose one of auto, cpu, cuda, cuda:1"
    ) as raised:
        encoder.encode(["Aspirin."], device="gpu")
    assert raised.value.field == "device"


def test_a_run_records_its_device(run: biorel.Run) -> None:
    assert run.settings["device"] == choose("auto", "auto", None).device


def test_the_extra_names_the_cuda_part_of_this_version() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'cuda13 = ["biorel-cuda13=={biorel.__version__}"]' in project
