"""Shared by the benchmarks: the machine, the commit, and the options and log of both training programs.

README.md has the format of the log.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
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
    """The instruction sets of this CPU that affect the speed of matrix products."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return []
    return [f for f in ["avx2", "avx512f", "avx512_bf16", "amx_bf16"] if f in flags]


def load_average() -> list[float]:
    return [round(x, 2) for x in os.getloadavg()]


def commit() -> str:
    """The commit of the checkout, with a `+` if files were changed; without git that of a file COMMIT (`make gpu-kit`)."""
    note = Path(__file__).parents[1] / "COMMIT"
    if note.exists():
        return note.read_text(encoding="utf-8").strip()
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Append a row to a TSV file, which gets its header with the first; several processes may do so concurrently."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        header = "" if path.stat().st_size else "\t".join(row) + "\n"
        file.write(header + "\t".join(str(value) for value in row.values()) + "\n")


class RunLog:
    """A log file, or standard output; records are written immediately."""

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
        """`settings` are the options of the script, except for paths."""
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
        """Totals of the training; `scores` are from `binary_scores`, or None for a shortened run."""
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
    """P / R / F1 of class 1, with the counts that they are computed from."""
    pairs = list(zip(gold, predicted, strict=True))
    tp, fp, fn = pairs.count((1, 1)), pairs.count((0, 1)), pairs.count((1, 0))
    precision = tp / (tp + fp) if tp + fp else 0.0
    recall = tp / (tp + fn) if tp + fn else 0.0
    f1 = 2 * tp / (2 * tp + fp + fn) if tp else 0.0
    scores = {"precision": round(precision, 4), "recall": round(recall, 4), "f1": round(f1, 4)}
    return scores | {"tp": tp, "fp": fp, "fn": fn, "pairs": len(pairs), "positives": tp + fn}


def training_parser(description: str | None) -> argparse.ArgumentParser:
    """The options that both training programs have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="aimed_pairs.tsv; default: $BIOREL_CORPORA/aimed/aimed_pairs.tsv")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fold", type=int, default=0, help="the fold to hold out")
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--max-steps", type=int, help="stop after so many steps, without scores")
    parser.add_argument(
        "--gradient-checkpointing", action="store_true", help="compute activations twice to save memory"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--log", type=Path, help="JSON lines; default: standard output")
    return parser


def aimed_table(options: argparse.Namespace) -> Path:
    """The path of AIMed's table of pairs."""
    if options.corpus is not None:
        return options.corpus
    if "BIOREL_CORPORA" not in os.environ:
        sys.exit("Give --corpus or set BIOREL_CORPORA")
    return Path(os.environ["BIOREL_CORPORA"]) / "aimed" / "aimed_pairs.tsv"
