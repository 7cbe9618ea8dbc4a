"""Micro-batches: one thread owns the model and classifies the pairs of requests that wait together."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from biorel import _biorel
from biorel.errors import BiorelError
from biorel.models.relation_model import RelationModel

# The weight of the latest batch in the moving average of the rate.
_RECENT = 0.2
_LONGEST_ADVICE = 60


class QueueFullError(BiorelError):
    """Too many pairs wait; `retry_after` is the number of seconds after which there is probably room."""

    def __init__(self, waiting: int, retry_after: int) -> None:
        super().__init__(f"{waiting:,} pairs are waiting; try again in {retry_after} s")
        self.retry_after = retry_after


class Closed(BiorelError):  # noqa: N818  (a state, not a mistake of the caller)
    """The service is shutting down."""


@dataclass(frozen=True)
class Decisions:
    """Which of a request's instances were classified, and the probabilities of their labels."""

    kept: list[int]
    # (kept instances, labels)
    probabilities: npt.NDArray[np.float32]


@dataclass(eq=False)
class Job:
    """What a request needs from the model."""

    pairs: int
    # Does the job alone.
    run: Callable[[], Any]
    # The pairs to classify, if the job can share a batch; its result is then `Decisions`.
    instances: _biorel.Instances | None = None
    future: Future[Any] = field(default_factory=Future)


class Observer(Protocol):
    """Is told about every batch."""

    def batch(self, pairs: int, jobs: int, seconds: float) -> None:
        """A batch is done."""


class Batcher:
    """The thread that owns the model, and the bounded queue of jobs before it.

    Parameters
    ----------
    model : RelationModel
        The model.
    batch_pairs : int
        Jobs are added to a batch while it has fewer pairs.
    queue_pairs : int
        The number of pairs that may wait.
    wait : float
        Seconds for which a batch that is not full waits for more jobs.
    observer : Observer, optional
        Is told about every batch.

    Examples
    --------
    >>> from biorel.serving.batching import Batcher, Job
    >>> batcher = Batcher(model, batch_pairs=64, queue_pairs=1000, wait=0.0)
    >>> batcher.start()
    >>> batcher.submit(Job(1, lambda: model.head)).result()
    'attention'
    >>> batcher.close()
    """

    def __init__(
        self,
        model: RelationModel,
        *,
        batch_pairs: int,
        queue_pairs: int,
        wait: float,
        observer: Observer | None = None,
    ) -> None:
        self._model = model
        self._batch_pairs = batch_pairs
        self._queue_pairs = queue_pairs
        self._wait = wait
        self._observer = observer
        self._waiting: deque[Job] = deque()
        self._pairs = 0
        self._rate = 0.0  # pairs per second
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="biorel-model", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Finish the jobs that wait, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def submit(self, job: Job) -> Future[Any]:
        """Add a job to the queue; its future has the result.

        Raises
        ------
        QueueFullError
            When so many pairs would wait that the job's turn would come too late.
        Closed
            After ``close``.
        """
        with self._changed:
            if self._closed:
                raise Closed("the service is shutting down")
            if self._pairs + job.pairs > self._queue_pairs:
                raise QueueFullError(self._pairs, self._retry_after())
            self._waiting.append(job)
            self._pairs += job.pairs
            self._changed.notify_all()
        return job.future

    def withdraw(self, job: Job) -> None:
        """Forget a job that no one waits for any more; one that is in work is finished."""
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                self._pairs -= job.pairs
        job.future.cancel()

    @property
    def waiting(self) -> tuple[int, int]:
        """The numbers of jobs and of pairs that wait."""
        with self._changed:
            return len(self._waiting), self._pairs

    def _retry_after(self) -> int:
        seconds = self._pairs / self._rate if self._rate else 1.0
        return min(max(math.ceil(seconds), 1), _LONGEST_ADVICE)

    def _work(self) -> None:
        while jobs := self._next_jobs():
            started = time.monotonic()
            self._execute(jobs)
            seconds = time.monotonic() - started
            pairs = sum(job.pairs for job in jobs)
            rate = pairs / max(seconds, 1e-9)
            self._rate = _RECENT * rate + (1 - _RECENT) * self._rate if self._rate else rate
            if self._observer is not None:
                self._observer.batch(pairs, len(jobs), seconds)

    def _next_jobs(self) -> list[Job]:
        """The first job and those that can share its batch; none after ``close`` when the queue is empty."""
        with self._changed:
            while not self._waiting:
                if self._closed:
                    return []
                self._changed.wait()
            jobs = [self._take()]
            if jobs[0].instances is None:
                return jobs
            deadline = time.monotonic() + self._wait
            pairs = jobs[0].pairs
            while pairs < self._batch_pairs:
                if not self._waiting:
                    left = deadline - time.monotonic()
                    if self._closed or left <= 0:
                        break
                    self._changed.wait(left)
                elif self._waiting[0].instances is None:
                    break
                else:
                    jobs.append(self._take())
                    pairs += jobs[-1].pairs
            return jobs

    def _take(self) -> Job:
        job = self._waiting.popleft()
        self._pairs -= job.pairs
        return job

    def _execute(self, jobs: list[Job]) -> None:
        jobs = [job for job in jobs if job.future.set_running_or_notify_cancel()]
        parts = [job.instances for job in jobs if job.instances is not None]
        if len(jobs) > 1 and len(parts) == len(jobs):
            try:
                found = self._together(parts)
            except Exception:
                # One of the jobs is at fault: each is done alone, so that only that one fails, with its own error.
                pass
            else:
                for job, decisions in zip(jobs, found, strict=True):
                    job.future.set_result(decisions)
                return
        for job in jobs:
            try:
                job.future.set_result(job.run())
            except BaseException as error:  # the thread must outlive whatever a job raises
                job.future.set_exception(error)

    def _together(self, parts: list[_biorel.Instances]) -> list[Decisions]:
        predicted = self._model._core.predict(_biorel.Instances.join(parts), self._model._compute)
        kept, probabilities = np.asarray(predicted.kept, dtype=np.int64), predicted.probabilities
        found, start = [], 0
        for part in parts:
            first, last = np.searchsorted(kept, [start, start + len(part)])
            found.append(Decisions((kept[first:last] - start).tolist(), probabilities[first:last]))
            start += len(part)
        return found
