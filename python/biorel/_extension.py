"""Which extension module computes: that of the CUDA part, if it is installed and loads, else biorel's own.

Both are the same crate; the CUDA part (the package ``biorel_cuda13``) has the GPU as well. It cannot be loaded without
NVIDIA's driver and libraries, because it is linked to them, so biorel must work without it. This module is imported
before anything that uses ``biorel._biorel``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import warnings

_PART = "biorel-cuda13"
_INSTALL = 'pip install "biorel[cuda13]"'


def _choose() -> str:
    """Put the module to use in the place of ``biorel._biorel``; why it is not that of the CUDA part, or nothing."""
    try:
        version = importlib.metadata.version(_PART)
    except importlib.metadata.PackageNotFoundError:
        return f"the CUDA part is not installed: {_INSTALL}"
    own = importlib.metadata.version("biorel")
    if version != own:
        reason = f"{_PART} {version} is installed beside biorel {own}; they must be of one version: {_INSTALL}"
        warnings.warn(reason, stacklevel=2)
        return reason
    try:
        module = importlib.import_module("biorel_cuda13._biorel")
    except ImportError as error:
        return _meaning(str(error))
    # What importing `biorel._biorel` would do: name it, and make it an attribute of its package.
    sys.modules["biorel._biorel"] = module
    vars(sys.modules["biorel"])["_biorel"] = module
    return ""


def _meaning(error: str) -> str:
    """What it means that the dynamic linker could not load the module, and what to do about it."""
    if "libcuda.so" in error:
        return f"there is no NVIDIA driver on this machine ({error}): install one, version 580 or newer"
    if "cannot open shared object file" in error:
        return (
            f"one of NVIDIA's libraries is missing ({error}): {_INSTALL} installs them beside the CUDA part; libraries "
            "elsewhere are found through LD_LIBRARY_PATH"
        )
    if "undefined symbol: cu" in error:
        return f"the NVIDIA driver is too old ({error}): update it to version 580 or newer"
    return f"the CUDA part cannot be loaded: {error}"


no_cuda = _choose()
