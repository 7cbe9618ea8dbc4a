"""Devices: the processor, and NVIDIA GPUs where biorel's CUDA part is installed."""

from __future__ import annotations

import os
import platform

import pandas as pd
from biorel import _biorel, _extension
from biorel.errors import DeviceError


def devices() -> pd.DataFrame:
    """The devices of this machine, with the reason why one cannot be used.

    Returns
    -------
    pandas.DataFrame
        ``device`` (the value for `device=`), ``name``, ``memory`` (bytes, if known), ``available``, and ``reason``:
        empty, or what is missing, with its remedy.

    Examples
    --------
    >>> biorel.devices()[["device", "available"]].head(1)
      device  available
    0    cpu       True
    """
    rows = [("cpu", _processor(), _memory(), True, "")]
    gpus, missing = _biorel.gpus()
    for index, (name, memory, reason) in enumerate(gpus):
        rows.append((f"cuda:{index}", name, memory, reason is None, reason or ""))
    if missing is not None:
        rows.append(("cuda", "", None, False, _extension.no_cuda or missing))
    table = pd.DataFrame(rows, columns=["device", "name", "memory", "available", "reason"])
    return table.astype({"memory": "Int64"})


def choose(device: str, precision: str, threads: int | None) -> _biorel.Compute:
    """Choose device, precision and threads; the error for an unusable device says why."""
    try:
        return _biorel.Compute(device, precision, threads)
    except DeviceError as error:
        if _extension.no_cuda:
            raise DeviceError(f"{error.device}: {_extension.no_cuda}", error.device) from None
        raise


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
