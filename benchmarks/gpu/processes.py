"""One measurement is one process with a time limit; its result is appended to a file at once, whatever became of it."""

import ctypes
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any


def measure(command: list[str], seconds: float, memory: bool = False) -> dict[str, Any]:
    """The object that the program printed as its last line, with `status`: ok, skipped, failed or timeout."""
    started = time.perf_counter()
    watch = Memory() if memory else None
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True
    )
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        # With the processes that it started, such as those of torch.compile.
        os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
        return {"status": "timeout", "process_seconds": round(seconds, 1), "error": errors[-2000:]}
    finally:
        used = watch.stop() if watch else {}
    result = {"process_seconds": round(time.perf_counter() - started, 1), **used}
    try:
        values = json.loads(output.splitlines()[-1])
    except (IndexError, ValueError):
        values = None
    if process.returncode or not isinstance(values, dict):
        return {"status": "failed", "exit_code": process.returncode, "error": errors[-2000:], **result}
    return {"status": "skipped" if "skipped" in values else "ok", **values, **result}


def append(path: Path | None, record: dict[str, Any]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            print(json.dumps(record, default=str), file=file, flush=True)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


class Nvml:
    """NVIDIA's management library, which comes with the driver. `reason` says why it cannot be used."""

    class _Info(ctypes.Structure):
        _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]

    def __init__(self) -> None:
        self.reason = ""
        self.device = ctypes.c_void_p()
        try:
            self.library = ctypes.CDLL("libnvidia-ml.so.1")
            for call in (
                self.library.nvmlInit_v2,
                lambda: self.library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(self.device)),
            ):
                if status := call():
                    self.reason = f"NVML returned {status}"
                    return
        except (OSError, AttributeError) as error:
            self.reason = str(error)

    def used(self) -> float:
        """MB in use on the first GPU, by all processes."""
        info = self._Info()
        status = self.library.nvmlDeviceGetMemoryInfo(self.device, ctypes.byref(info))
        return float("nan") if status else info.used / 1e6

    def describe(self) -> str:
        """Name and driver."""
        if self.reason:
            return f"unknown ({self.reason})"
        texts = [ctypes.create_string_buffer(96), ctypes.create_string_buffer(96)]
        self.library.nvmlDeviceGetName(self.device, texts[0], 96)
        self.library.nvmlSystemGetDriverVersion(texts[1], 96)
        return ", driver ".join(text.value.decode(errors="replace") for text in texts)


class Memory:
    """The peak of the memory in use above that of the start, sampled every 20 ms: contexts and caches included."""

    def __init__(self) -> None:
        self._nvml = Nvml()
        self._done = threading.Event()
        if self._nvml.reason:
            return
        self._before = self._peak = self._nvml.used()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self._peak = max(self._peak, self._nvml.used())

    def stop(self) -> dict[str, Any]:
        if self._nvml.reason:
            return {"memory_mb": None, "memory_reason": self._nvml.reason}
        self._done.set()
        self._thread.join()
        return {"memory_mb": round(self._peak - self._before)}
