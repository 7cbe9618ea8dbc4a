"""Execute trials sequentially, concurrently in this process, or on a Ray cluster."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from biorel._numbers import whole_number
from biorel._progress import transient_bars
from biorel.errors import ConfigError
from biorel.experiments.trial import Result, Task, attempt
from biorel.training.callbacks import Callback


def checked_jobs(engine: str, jobs: int | None, settings: Mapping[str, Any], device: str) -> tuple[int, int | None]:
    """The number of concurrent trials, and of processor threads for each (None: all).

    Concurrent trials on the processor share its threads; results have the same bits for any number of threads.
    """
    if engine not in ("local", "ray"):
        raise ConfigError(f"engine: must be local or ray, not {engine!r}", "engine")
    if jobs is not None:
        whole_number(jobs, "jobs", 1)
    threads = settings.get("threads")
    if engine == "ray":
        return jobs or 0, 1 if threads is None else threads
    if jobs is None or jobs == 1 or threads is not None or device.startswith("cuda"):
        return jobs or 1, threads
    return jobs, max(1, _processors() // jobs)


def _processors() -> int:
    """The number of processors that this process may use."""
    limit = os.environ.get("RAYON_NUM_THREADS", "")
    if limit.isdigit() and int(limit) > 0:
        return int(limit)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def execute(
    tasks: Iterator[Task], *, engine: str, jobs: int, plan: Path | None, progress: bool
) -> Generator[tuple[Task, Result]]:
    """Each task with its result, in the order of completion; tasks are taken from the iterator when they can start.

    Parameters
    ----------
    tasks : iterator of Task
        The trials.
    engine : {"local", "ray"}
        Where to execute them.
    jobs : int
        The number of concurrent tasks; 0, with Ray, for as many as the cluster has room for.
    plan : path, optional
        ``plan.json`` of the run directory: a remote worker that can read the same file shares the directory.
    progress : bool
        Show the progress bars of sequential trials.

    Raises
    ------
    OSError
        Errors of the operating system (a full disk) are raised, since they would affect the other trials too.
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
        with transient_bars():
            result = attempt(task, progress=progress)
        yield task, result


class _Stop(Callback):
    """Stops a fine-tuning run at its next step; its checkpoint is kept."""

    def __init__(self, stopped: threading.Event) -> None:
        self._stopped = stopped

    def on_step(self, step: Mapping[str, Any]) -> None:
        """Raise KeyboardInterrupt if the run has to stop."""
        if self._stopped.is_set():
            raise KeyboardInterrupt


def _concurrently(tasks: Iterator[Task], jobs: int) -> Generator[tuple[Task, Result]]:
    """Execute in threads: the core releases Python's lock, and trials on a GPU share its context."""
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
            # Also after Ctrl-C or an error: the other trials stop at their next step, and the pool waits for them.
            stopped.set()
