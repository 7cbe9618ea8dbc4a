"""What all benchmarks record: the machine, the commit, and the JSON lines that both training programs write.

README.md has the format of the lines.
"""

import json
import os
import platform
import resource
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def cpu_features() -> list[str]:
    """Of the instruction sets that decide the speed of matrix products, those that this CPU has."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return []
    return [f for f in ["avx2", "avx512f", "avx512_bf16", "amx_bf16"] if f in flags]


def load_average() -> list[float]:
    return [round(x, 2) for x in os.getloadavg()]


def commit() -> str:
    """The checkout's commit, with a `+` where files differ from it."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class RunLog:
    """One log file, or standard output; a record is written when it is given."""

    def __init__(self, path: Path | None):
        self.path = path
        if path is not None:
            path.write_text("", encoding="utf-8")

    def write(self, record: dict[str, Any]) -> None:
        line = json.dumps(record, separators=(",", ":"))
        if self.path is None:
            print(line, flush=True)
        else:
            with open(self.path, "a", encoding="utf-8") as file:
                print(line, file=file)

    def header(self, program: str, script: str, versions: dict, settings: dict, data: dict, encoder: str) -> None:
        """`settings` are the script's options; those that are paths must be left out."""
        command = ["python", f"benchmarks/speed/{script}"]
        for name, value in settings.items():
            if value is None or value is False:
                continue
            command.append(f"--{name.replace('_', '-')}")
            if value is not True:
                command.append(str(value))
        self.write(
            {
                "event": "header",
                "program": program,
                "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "machine": {"cpu": cpu_name(), "cores": os.cpu_count(), "features": cpu_features()},
                "load_average": load_average(),
                "versions": {"python": platform.python_version()} | versions,
                "command": " ".join(command),
                "encoder": encoder,
                "settings": settings,
                "data": data,
            }
        )

    def epoch(self, epoch: int, losses: list[float], seconds: list[float]) -> None:
        """Loss and duration of each step of an epoch."""
        self.write(
            {
                "event": "epoch",
                "epoch": epoch,
                "mean_loss": round(statistics.fmean(losses), 5),
                "seconds": round(sum(seconds), 2),
                "median_step_seconds": round(statistics.median(seconds), 4),
                "losses": [round(loss, 5) for loss in losses],
            }
        )

    def end(self, steps: int, sentences: int, seconds: float, scores: dict | None) -> None:
        """Totals of the training; `scores` as `binary_scores` gives them, or None for a run that was cut short."""
        record = {
            "event": "end",
            "steps": steps,
            "training_seconds": round(seconds, 2),
            "sentences_per_second": round(sentences / seconds, 2),
            "load_average": load_average(),
        }
        if scores is not None:
            record["scores"] = scores
        record["peak_memory_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        self.write(record)


def binary_scores(gold: list[int], predicted: list[int]) -> dict:
    """P / R / F1 of class 1, with the counts behind them."""
    pairs = list(zip(gold, predicted, strict=True))
    tp, fp, fn = pairs.count((1, 1)), pairs.count((0, 1)), pairs.count((1, 0))
    precision = tp / (tp + fp) if tp + fp else 0.0
    recall = tp / (tp + fn) if tp + fn else 0.0
    f1 = 2 * tp / (2 * tp + fp + fn) if tp else 0.0
    scores = {"precision": round(precision, 4), "recall": round(recall, 4), "f1": round(f1, 4)}
    return scores | {"tp": tp, "fp": fp, "fn": fn, "pairs": len(pairs), "positives": tp + fn}
