"""Progress of a training run: the progress bar and the callbacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from biorel._progress import MEASURED, LongWork, Progress, describe_duration, is_long, write_line
from biorel.errors import ConfigError
from biorel.training.callbacks import Callback
from biorel.training.run import Run


class Reporter:
    """Forwards the events of the core, and any error, to the progress bar and the callbacks."""

    def __init__(
        self, callbacks: Sequence[Callback], settings: Mapping[str, Any], show: bool, title: str = "fine-tuning"
    ) -> None:
        self._callbacks = list(callbacks)
        for callback in self._callbacks:
            if not isinstance(callback, Callback):
                message = f"callbacks: {callback!r} is not a biorel.callbacks.Callback"
                raise ConfigError(message, "callbacks")
        self._settings = settings
        self._bar = _Bar(show, f"{title} in {settings['precision']}")

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, error_type: Any, error: BaseException | None, trace: Any) -> None:
        self._bar.close()
        if error is not None:
            for callback in self._callbacks:
                callback.on_error(error)

    def report(self, event: str, columns: Mapping[str, Any], total: int) -> None:
        """Called by the core with the kind of the event, a table of one row, and the total of steps.

        The kinds are ``start``, ``encoding`` (with a frozen encoder), ``held_out`` (of a language model), ``step`` and
        ``evaluation``.
        """
        row = {name: values[0].item() for name, values in columns.items()}
        if event == "encoding":
            self._bar.encoding(row)
            return
        if event == "held_out":
            self._bar.held_out(row)
            return
        if event == "step":
            self._bar.step(row, total)
        for callback in self._callbacks:
            if event == "start":
                callback.on_start(self._settings, total)
            elif event == "step":
                callback.on_step(row)
            else:
                callback.on_evaluation(row)
        if event == "evaluation":
            self._bar.evaluation(row)

    def end(self, run: Run) -> None:
        """Called when training has finished."""
        self._bar.close()
        for callback in self._callbacks:
            callback.on_end(run)


class _Bar:
    """The progress over optimizer steps, and for a long run its expected duration."""

    def __init__(self, show: bool, title: str) -> None:
        self._show = show
        self._title = title
        self._progress: Progress | None = None
        self._encoding: Progress | None = None
        self._held_out: LongWork | None = None
        self._score = ""
        self._first: list[Mapping[str, Any]] = []

    def encoding(self, row: Mapping[str, Any]) -> None:
        """Show how many sentences the frozen encoder has read."""
        if self._encoding is None:
            title = "computing hidden states"
            self._encoding = Progress(row["total"], title, "sentences", show=self._show, estimated=True)
        self._encoding.advance(row["done"])
        if row["done"] == row["total"]:
            self._encoding.close()

    def held_out(self, row: Mapping[str, Any]) -> None:
        """Show how many parts of held-out texts the language model has read, if that takes long."""
        if self._held_out is None:
            if self._progress is not None:
                self._progress.close()
            self._held_out = LongWork(row["total"], "measuring the held-out texts", "parts", show=self._show)
        self._held_out.report(row["done"] / row["total"])
        if row["done"] == row["total"]:
            self._held_out.close()
            self._held_out = None

    def step(self, row: Mapping[str, Any], total: int) -> None:
        """Show a step."""
        if not self._show:
            return
        if self._progress is None:
            # A run that resumes starts at a later step.
            self._progress = Progress(total, self._title, "steps", initial=row["step"] - 1)
        if len(self._first) < MEASURED:
            self._first.append(row)
            if len(self._first) == MEASURED and (text := estimate(self._first, total)):
                write_line(text)
        self._progress.advance(row["step"], f"epoch {row['epoch']}, loss {row['loss']:.3f}{self._score}")

    def evaluation(self, row: Mapping[str, Any]) -> None:
        """Show the score on held-out data."""
        self._score = f", dev F1 {row['f1']:.3f}"

    def close(self) -> None:
        """Close the bar at its current position."""
        for progress in (self._encoding, self._held_out, self._progress):
            if progress is not None:
                progress.close()


def estimate(first: Sequence[Mapping[str, Any]], total: int) -> str:
    """The expected duration of the remaining steps, if that is more than a minute, else an empty string.

    Parameters
    ----------
    first : sequence of mapping
        The rows of the first steps of this process. The very first is slower than the others and is left out.
    total : int
        The last step of the run.

    Examples
    --------
    >>> from biorel.training.progress import estimate
    >>> rows = [{"step": step, "instances": 32, "seconds": 2.0} for step in (1, 2, 3)]
    >>> estimate(rows, 1003)
    'about 33 min: 1,000 steps, 32,000 sentences at 16.0 a second'
    """
    measured = list(first)[1:]
    seconds = sum(row["seconds"] for row in measured)
    instances = sum(row["instances"] for row in measured)
    steps = total - first[-1]["step"]
    expected = steps * seconds / len(measured)
    if not is_long(expected):
        return ""
    rate = instances / max(seconds, 1e-9)
    sentences = round(steps * instances / len(measured))
    return f"about {describe_duration(expected)}: {steps:,} steps, {sentences:,} sentences at {rate:.1f} a second"
