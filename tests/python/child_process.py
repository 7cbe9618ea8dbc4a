"""Run Python code in a child process, and kill it once it has made progress."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def start_python(code: str, *arguments: Path | str, **options: Any) -> subprocess.Popen[bytes]:
    """Start Python with this code and these arguments."""
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], **options)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes], *, seconds: float = 600) -> None:
    """Wait until the condition holds or the process has ended."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and not condition():
        assert time.monotonic() < deadline, "the process makes no progress"
        time.sleep(0.001)


def kill_after(condition: Callable[[], bool], process: subprocess.Popen[bytes], *, delay: float = 0.0) -> bool:
    """Kill the process this many seconds after the condition holds; returns False if it had ended before."""
    wait_until(condition, process)
    time.sleep(delay)
    running = process.poll() is None
    if running:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return running
