"""Execute trials as tasks of a Ray cluster (``pip install "biorel[ray]"``).

Only the driver writes to the run directory. A worker gets the corpus and the encoder through Ray's object store and
returns scores, predictions and, if the model is to be saved, its files. If a worker can access the run directory (on
the same machine or a shared file system), it saves training checkpoints there, so that a trial resumes after its worker
or node has died; otherwise the trial starts again from the beginning. The bits are the same either way.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from biorel import _biorel
from biorel._files import atomic_write_directory, exclusive_lock
from biorel._pickling import check_version
from biorel.data.corpus import Corpus
from biorel.errors import ConfigError
from biorel.experiments.folds import Folds
from biorel.experiments.trial import Done, Result, Task, attempt
from biorel.models.encoder import Encoder

# How often a trial is restarted if its worker or node dies.
RETRIES = 3


def library() -> Any:
    """Import Ray; if it is missing, the error says what to install."""
    try:
        import ray  # noqa: PLC0415
    except ImportError:
        message = 'engine: Ray is not installed; run: pip install "biorel[ray]"'
        raise ConfigError(message, "engine") from None
    return ray


def on_ray(tasks: Iterator[Task], jobs: int, plan: Path | None) -> Generator[tuple[Task, Result]]:
    """Each task with its result, in the order of completion; `jobs` is as in ``execute``."""
    ray = library()
    if not ray.is_initialized():
        ray.init(log_to_driver=False)  # connects to RAY_ADDRESS, or starts a cluster on this machine
    plan_content = plan.read_text(encoding="utf-8") if plan is not None else None
    shared: dict[int, tuple[Any, Any]] = {}  # by id; the reference to the object keeps its id unique

    def put(what: Any) -> Any:
        if id(what) not in shared:
            shared[id(what)] = what, ray.put(what)
        return shared[id(what)][1]

    running: dict[Any, Task] = {}
    try:
        exhausted = False
        while True:
            while not exhausted and (jobs == 0 or len(running) < jobs):
                task = next(tasks, None)
                if task is None:
                    exhausted = True
                    break
                gpu = str(task.settings.get("device", "")).startswith("cuda")
                remote = ray.remote(_work).options(
                    num_cpus=task.settings.get("threads") or 1,
                    num_gpus=1 if gpu else 0,
                    max_retries=RETRIES,
                    name=f"biorel {task.name}",
                )
                order = _Order(
                    _biorel.__version__,
                    task.name,
                    task.fold,
                    task.settings,
                    None if task.checkpoint is None else str(task.checkpoint.absolute()),
                    None if plan is None else str(plan.absolute()),
                    plan_content,
                    task.model is not None,
                )
                running[remote.remote(order, put(task.source), put(task.encoder))] = task
            if not running:
                return
            (reference,), _ = ray.wait(list(running), num_returns=1)
            task = running.pop(reference)
            yield task, _received(ray, reference, task)
    finally:
        for reference in running:
            with contextlib.suppress(Exception):  # the results are not needed any more
                ray.cancel(reference, force=True)


def _received(ray: Any, reference: Any, task: Task) -> Result:
    try:
        result, files = ray.get(reference)
    except ray.exceptions.RayError as error:  # no retries are left, or the object store is full
        return error if isinstance(error, Exception) else RuntimeError(str(error))
    if task.model is not None and files is not None:
        atomic_write_directory(task.model, files)
    return result  # type: ignore[no-any-return]


class _Order(NamedTuple):
    """A task for a worker, without the corpus and the encoder."""

    version: str
    name: str
    fold: int | None
    settings: dict[str, Any]
    checkpoint: str | None
    plan: str | None
    plan_content: str | None
    save_model: bool


def _work(order: _Order, source: Corpus | Folds, encoder: Encoder) -> tuple[Result, dict[str, bytes] | None]:
    """Run one trial in a worker; returns its result and the files of its model."""
    try:
        check_version(order.version)
    except ConfigError as error:
        return error, None
    task = Task(order.name, source, order.fold, encoder, order.settings, None, None)
    with contextlib.ExitStack() as stack:
        if order.checkpoint is not None and order.plan is not None and _can_read(order.plan, order.plan_content):
            checkpoint = Path(order.checkpoint)
            # A worker that Ray has lost may still hold the lock: then this one starts from the beginning.
            with contextlib.suppress(ConfigError):
                stack.enter_context(exclusive_lock(checkpoint.with_suffix(".lock"), checkpoint))
                task = task._replace(checkpoint=checkpoint)
        if not order.save_model:
            return attempt(task), None
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="biorel-"))) / "model"
        result = attempt(task._replace(model=folder))
        if not isinstance(result, Done):
            return result, None
        return result, {path.name: path.read_bytes() for path in folder.iterdir()}


def _can_read(path: str, content: str | None) -> bool:
    """Whether this machine has the file with the same content."""
    try:
        return Path(path).read_text(encoding="utf-8") == content
    except OSError:
        return False
