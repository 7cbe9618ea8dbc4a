"""Progress of a training run: the progress bar and the callbacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from biorel.errors import ConfigError
from biorel.training.callbacks import Callback
from biorel.training.run import Run
from tqdm.auto import tqdm


class Reporter:
    """Forwards the events of the core, and any error, to the progress bar and the callbacks."""

    def __init__(self, callbacks: Sequence[Callback], settings: Mapping[str, Any], show: bool) -> None:
        self._callbacks = list(callbacks)
        for callback in self._callbacks:
            if not isinstance(callback, Callback):
                message = f"callbacks: {callback!r} is not a biorel.callbacks.Callback"
                raise ConfigError(message, "callbacks")
        self._settings = settings
        self._bar = _Bar(show, f"fine-tuning in {settings['precision']}")

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, error_type: Any, error: BaseException | None, trace: Any) -> None:
        self._bar.close()
        if error is not None:
            for callback in self._callbacks:
                callback.on_error(error)

    def report(self, event: str, columns: Mapping[str, Any], total: int) -> None:
        """Called by the core with ``start``, ``step`` or ``evaluation``, a table of one row, and the total of steps."""
        row = {name: values[0].item() for name, values in columns.items()}
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
    """A progress bar over optimizer steps, in the terminal or the notebook."""

    def __init__(self, show: bool, title: str) -> None:
        self._show = show
        self._title = title
        self._bar: Any = None
        self._score = ""

    def step(self, row: Mapping[str, Any], total: int) -> None:
        """Show a step."""
        if not self._show:
            return
        if self._bar is None:
            self._bar = tqdm(total=total, desc=self._title, unit="step")
        self._bar.set_postfix_str(f"epoch {row['epoch']}, loss {row['loss']:.3f}{self._score}", refresh=False)
        self._bar.update(row["step"] - self._bar.n)

    def evaluation(self, row: Mapping[str, Any]) -> None:
        """Show the score on held-out data."""
        self._score = f", dev F1 {row['f1']:.3f}"

    def close(self) -> None:
        """Close the bar at its current position."""
        if self._bar is not None:
            self._bar.close()
