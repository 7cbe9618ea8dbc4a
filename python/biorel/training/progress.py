"""What a training tells while it runs: the progress bar and the callbacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from biorel.errors import ConfigError
from biorel.training.callbacks import Callback
from biorel.training.run import Run
from tqdm.auto import tqdm


class Reporter:
    """Tells the progress bar and the callbacks what the core says; on any error, tells the callbacks of that."""

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

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._bar.close()
        if error is not None:
            for callback in self._callbacks:
                callback.on_error(error)

    def tell(self, kind: str, columns: Mapping[str, Any], total: int) -> None:
        """What the core calls: ``start``, ``step`` or ``evaluation``, its columns of one row, the steps in all."""
        row = {name: values[0].item() for name, values in columns.items()}
        if kind == "step":
            self._bar.step(row, total)
        for callback in self._callbacks:
            if kind == "start":
                callback.on_start(self._settings, total)
            elif kind == "step":
                callback.on_step(row)
            else:
                callback.on_evaluation(row)
        if kind == "evaluation":
            self._bar.evaluation(row)

    def end(self, run: Run) -> None:
        """The training has come to its end."""
        self._bar.close()
        for callback in self._callbacks:
            callback.on_end(run)


class _Bar:
    """A progress bar over optimizer steps: a terminal's or a notebook's, as tqdm finds."""

    def __init__(self, show: bool, title: str) -> None:
        self._show = show
        self._title = title
        self._bar: Any = None
        self._score = ""

    def step(self, row: Mapping[str, Any], total: int) -> None:
        """A step was taken."""
        if not self._show:
            return
        if self._bar is None:
            self._bar = tqdm(total=total, desc=self._title, unit="step")
        self._bar.set_postfix_str(f"epoch {row['epoch']}, loss {row['loss']:.3f}{self._score}", refresh=False)
        self._bar.update(row["step"] - self._bar.n)

    def evaluation(self, row: Mapping[str, Any]) -> None:
        """The held-out data was scored."""
        self._score = f", dev F1 {row['f1']:.3f}"

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
