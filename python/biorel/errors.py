"""The exceptions of biorel.

Every error of biorel derives from `BiorelError`. Files that cannot be opened, read or written raise Python's own
`OSError` family (`FileNotFoundError`, `PermissionError`, ...), and Ctrl-C raises `KeyboardInterrupt`.
"""

from __future__ import annotations


class BiorelError(Exception):
    """Base class of the errors that biorel raises itself."""


class CorpusError(BiorelError, ValueError):
    """A corpus file, or a row of your own data, does not follow its format.

    Attributes
    ----------
    path : str or None
        The file, or a name such as ``sentences[3]`` for data in memory.
    line : int or None
        The line, counted from 1, where the format has lines.
    """

    def __init__(self, message: str, path: str | None = None, line: int | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.line = line


class ConfigError(BiorelError, ValueError):
    """A setting is out of range, unknown, or contradicts another.

    Attributes
    ----------
    field : str or None
        The name of the setting as you wrote it.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class CheckpointError(BiorelError, ValueError):
    """A model directory, a weight file or a vocabulary cannot be used.

    Attributes
    ----------
    path : str or None
        The file or directory.
    tensor : str or None
        The tensor at fault, if there is one.
    """

    def __init__(self, message: str, path: str | None = None, tensor: str | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.tensor = tensor


class DeviceError(BiorelError, RuntimeError):
    """A device cannot be used: no driver, no GPU, a missing library, memory exhausted. The message names the remedy.

    Attributes
    ----------
    device : str or None
        The name of the device, such as ``cuda:0``.
    """

    def __init__(self, message: str, device: str | None = None) -> None:
        super().__init__(message)
        self.device = device


class TrainingError(BiorelError, RuntimeError):
    """Training cannot continue: the loss or a gradient is not finite.

    Attributes
    ----------
    step : int or None
        The optimizer step, counted from 1.
    """

    def __init__(self, message: str, step: int | None = None) -> None:
        super().__init__(message)
        self.step = step
