"""Choose the extension module: that of the CUDA part, if it is installed and loads, else biorel's own.

Both are built from the same crate; that of the CUDA part (the package ``biorel_cuda13``) also supports GPUs. It is
linked to NVIDIA's driver and libraries and cannot be loaded without them, so biorel must work without it. This module
must be imported before anything that uses ``biorel._biorel``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import warnings

_PART = "biorel-cuda13"
# The part is in no package index yet.
_INSTALL = "run `make cuda` in a clone of biorel, then `pip install dist/*.whl`"


def _choose() -> str:
    """Replace ``biorel._biorel`` by the CUDA part's module; returns why that was not possible, or an empty string."""
    try:
        version = importlib.metadata.version(_PART)
    except importlib.metadata.PackageNotFoundError:
        return f"the CUDA part is not installed: {_INSTALL}"
    own = importlib.metadata.version("biorel")
    if version != own:
        reason = f"{_PART} {version} does not match biorel {own}; install the same version of both: {_INSTALL}"
        warnings.warn(reason, stacklevel=2)
        return reason
    try:
        module = importlib.import_module("biorel_cuda13._biorel")
    except ImportError as error:
        return _explain(str(error))
    # As an import of `biorel._biorel` would do: register the module, and make it an attribute of its package.
    sys.modules["biorel._biorel"] = module
    vars(sys.modules["biorel"])["_biorel"] = module
    return ""


def _explain(error: str) -> str:
    """Explain an error of the dynamic linker, and name the remedy."""
    if "libcuda.so" in error:
        return f"there is no NVIDIA driver on this machine ({error}): install one, version 580 or newer"
    if "cannot open shared object file" in error:
        return (
            f"one of NVIDIA's libraries is missing ({error}): the CUDA part's wheel installs them ({_INSTALL}); "
            "those in other directories are found through LD_LIBRARY_PATH"
        )
    if "undefined symbol: cu" in error:
        return f"the NVIDIA driver is too old ({error}): update it to version 580 or newer"
    return f"the CUDA part cannot be loaded: {error}"


no_cuda = _choose()
