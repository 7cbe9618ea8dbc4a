"""Test the two wheels on a machine without a GPU: `make cuda` runs this in an environment with both and nothing else.

Each case is a process of its own, because a module is loaded once. The driver is cuda13/stub.c in its variants.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TRAIN = """
import biorel, sys
sys.path.insert(0, sys.argv[1])
from tiny_bert import write_encoder
encoder = biorel.load_encoder(write_encoder(__import__("pathlib").Path(sys.argv[2]) / "encoder"))
run = biorel.finetune(biorel.load_sample("ddi"), encoder, max_length=96, max_steps=2, progress=False)
print(run.settings["device"], biorel._biorel.__file__)
print(biorel.devices().to_string(max_colwidth=None))
try:
    biorel.finetune(biorel.load_sample("ddi"), encoder, max_length=96, max_steps=2, progress=False, device="cuda")
except biorel.DeviceError as error:
    print("error:", error.device, error)
"""


def has_driver() -> bool:
    return shutil.which("nvidia-smi") is not None and subprocess.run(["nvidia-smi"], check=False).returncode == 0


def train(folder: Path, **environment: str) -> list[str]:
    """Two steps on the CPU, the list of devices, and the error of asking for a GPU."""
    command = [sys.executable, "-c", TRAIN, str(HERE.parent / "tests" / "python"), str(folder)]
    clean = {name: value for name, value in os.environ.items() if name not in ("LD_LIBRARY_PATH", "PYTHONPATH")}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={**clean, **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def driver(folder: Path, *options: str) -> str:
    """A folder with a libcuda.so.1."""
    folder.mkdir()
    library = str(folder / "libcuda.so.1")
    subprocess.run(["cc", "-shared", "-fPIC", *options, str(HERE / "stub.c"), "-o", library], check=True)
    return str(folder)


@pytest.mark.skipif(has_driver(), reason="there is a driver")
def test_without_a_driver(tmp_path: Path) -> None:
    first, *devices, error = train(tmp_path)
    assert first.startswith("cpu ")
    assert "biorel_cuda13" not in first
    assert any("there is no NVIDIA driver" in line and "False" in line for line in devices)
    assert error.startswith("error: cuda:0 cuda:0: there is no NVIDIA driver")


def test_with_a_driver_that_finds_no_device(tmp_path: Path) -> None:
    first, *devices, error = train(tmp_path, LD_LIBRARY_PATH=driver(tmp_path / "driver"))
    assert first.startswith("cpu ")
    assert "biorel_cuda13" in first  # the CUDA part computed on the CPU
    assert any("no CUDA device" in line for line in devices)
    assert error.startswith("error: cuda:0 cuda:0: no CUDA device")


def test_with_a_driver_that_is_too_old(tmp_path: Path) -> None:
    first, *devices, error = train(tmp_path, LD_LIBRARY_PATH=driver(tmp_path / "driver", "-DVERSION=12040"))
    assert first.startswith("cpu ")
    assert any("too old: it supports CUDA 12.4" in line for line in devices)
    assert "Update it to version 580" in error


def test_with_a_driver_that_lacks_functions(tmp_path: Path) -> None:
    first, *devices, error = train(tmp_path, LD_LIBRARY_PATH=driver(tmp_path / "driver", "-DcuInit=no_such_function"))
    assert first.startswith("cpu ")
    assert "biorel_cuda13" not in first
    assert any("the NVIDIA driver is too old (" in line for line in devices)
    assert "580" in error


def test_without_nvidias_libraries(tmp_path: Path) -> None:
    """The CUDA part alone, in another folder, does not find the libraries next to it."""
    import biorel_cuda13

    shutil.copytree(Path(biorel_cuda13.__file__).parent, tmp_path / "other" / "biorel_cuda13")
    environment = {"LD_LIBRARY_PATH": driver(tmp_path / "driver"), "PYTHONPATH": str(tmp_path / "other")}
    first, *devices, error = train(tmp_path, **environment)
    assert first.startswith("cpu ")
    assert any("one of NVIDIA's libraries is missing" in line and "make cuda" in line for line in devices)
    assert error.startswith("error: cuda:0 cuda:0: one of NVIDIA's libraries is missing")
