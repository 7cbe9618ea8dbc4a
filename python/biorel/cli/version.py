"""``biorel --version``: the version, and what determines speed and bits on this machine."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Sequence
from typing import Any

from biorel import _biorel
from biorel.models.devices import devices


class ShowVersion(argparse.Action):
    """Print the version with the build and the machine, and exit."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Print and exit."""
        print(describe_version())
        parser.exit()


def describe_version() -> str:
    """The version, the build's features, the instruction set and the devices.

    Examples
    --------
    >>> from biorel.cli.version import describe_version
    >>> describe_version().splitlines()[0] == f"biorel {biorel.__version__}"
    True
    """
    compute = _biorel.Compute("cpu", "auto", None)
    with_cuda = _biorel.__name__.startswith("biorel_cuda")
    lines = [
        f"biorel {_biorel.__version__}",
        f"build: {'CPU and CUDA' if with_cuda else 'CPU'} ({_biorel.__name__})",
        f"instructions: {compute.instructions}; precision auto is {compute.precision}",
    ]
    for row in devices().itertuples():
        lines.append(f"device: {row.device}, {row.name}" if row.available else f"no {row.device}: {row.reason}")
    lines.append(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    return "\n".join(lines)
