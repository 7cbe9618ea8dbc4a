"""Execute trials: one after another, several concurrently in this process, or on a Ray cluster."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from biorel.errors import ConfigError
from biorel.experiments.trial import Result, Task, attempt
from biorel.training.callbacks import Callback


def checked_jobs(engine: str, jobs: int | None, settings: Mapping[str, Any], device: str) -> tuple[int, int | None]:
    """How many trials run concurrently, and the processor threads of each (None: all).

    Several trials on the processor share its threads; the results have the same bits for any number of threads.
    """
    if engine not in ("local", "ray"):
        raise ConfigError(f"engine: must be local or ray, not {engine!r}", "engine")
    if jobs is not None and (not isinstance(jobs, int) or jobs < 1):
        raise ConfigError(f"jobs: must be a whole number from 1, not {jobs!r}", "jobs")
    threads = settings.get("threads")
    if engine == "ray":
        return jobs or 0, 1 if threads is None else threads
    if jobs is None or jobs == 1 or threads is not None or device.startswith("cuda"):
        return jobs or 1, threads
    return jobs, max(1, _processors() // jobs)


def _processors() -> int:
    """Those that this process may use."""
    asked = os.environ.get("RAYON_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def execute(
    tasks: Iterator[Task], *, engine: str, jobs: int, plan: Path | None, progress: bool
) -> Generator[tuple[Task, Result]]:
    """Each task with its result, as they come; tasks are drawn when there is room for them.

    Parameters
    ----------
    tasks : iterator of Task
        What to do.
    engine : {"local", "ray"}
        Where.
    jobs : int
        How many concurrently; 0, with Ray, for as many as the cluster takes.
    plan : path, optional
        ``plan.json`` of the run's directory: a worker elsewhere that sees the same file there shares the directory.
    progress : bool
        Show the bars of trials that run alone.

    Raises
    ------
    OSError
        What the operating system refuses (a full disk) would meet the other trials too.
    """
    if engine == "ray":
        from biorel.experiments.ray_executor import on_ray  # noqa: PLC0415  an extra

        results = on_ray(tasks, jobs, plan)
    else:
        results = _sequentially(tasks, progress) if jobs == 1 else _concurrently(tasks, jobs)
    for task, result in results:
        if isinstance(result, OSError):
            raise result
        yield task, result


def _sequentially(tasks: Iterator[Task], progress: bool) -> Generator[tuple[Task, Result]]:
    for task in tasks:
        yield task, attempt(task, progress=progress)


class _Stop(Callback):
    """Ends a fine-tuning at its next step; its state is kept."""

    def __init__(self, stopped: threading.Event) -> None:
        self._stopped = stopped

    def on_step(self, step: Mapping[str, Any]) -> None:
        """A step was taken."""
        if self._stopped.is_set():
            raise KeyboardInterrupt


def _concurrently(tasks: Iterator[Task], jobs: int) -> Generator[tuple[Task, Result]]:
    """In threads: the core computes without Python's lock, and trials on a GPU share its context."""
    stopped = threading.Event()
    with ThreadPoolExecutor(jobs, thread_name_prefix="biorel-trial") as pool:
        running: dict[Future[Result], Task] = {}
        try:
            while True:
                while len(running) < jobs and (task := next(tasks, None)) is not None:
                    running[pool.submit(attempt, task, callbacks=[_Stop(stopped)])] = task
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        finally:
            # After Ctrl-C or an error, too: the others stop at their next step, and leaving the pool waits for that.
            stopped.set()
