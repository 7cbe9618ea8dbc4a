"""Callbacks of fine-tuning: your own, and those for TensorBoard, MLflow and Weights & Biases.

Their libraries are extras (``pip install "biorel[tensorboard]"``, ``[mlflow]``, ``[wandb]``) and are imported when a
callback is made.

>>> class Printer(biorel.Callback):
...     def on_step(self, step):
...         print(step["step"], sorted(step))
>>> run = biorel.finetune(
...     biorel.load_sample("ddi"), "minilm", max_steps=1, callbacks=[Printer()], progress=False
... )
1 ['epoch', 'gradient_norm', 'instances', 'learning_rate', 'loss', 'seconds', 'step', 'tokens']
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping
from typing import Any

from biorel._types import PathLike
from biorel.errors import ConfigError
from biorel.training.run import Run


class Callback:
    """The events of a fine-tuning run; override the methods that you need.

    All methods are called in the thread that called ``finetune``. If one raises an exception, training stops within a
    step and ``finetune`` raises it. A run that resumes from a checkpoint reports only new steps, so its first step has
    a higher number.
    """

    def on_start(self, settings: Mapping[str, Any], total_steps: int) -> None:
        """Called once before the first step, with every setting (as in ``Run.settings``) and the number of steps."""

    def on_step(self, step: Mapping[str, Any]) -> None:
        """Called after each step with its row of ``Run.history``. On a GPU two more steps are in flight by then."""

    def on_evaluation(self, evaluation: Mapping[str, Any]) -> None:
        """Called after each evaluation on the dev split with its row of ``Run.evaluations``."""

    def on_end(self, run: Run) -> None:
        """Called once when training has finished."""

    def on_error(self, error: BaseException) -> None:
        """Called once, instead of ``on_end``, when an exception (also Ctrl-C) has stopped the training."""


class _Tracker(Callback):
    """A callback that logs metrics under names such as ``train/loss``, ``dev/f1``, ``test/micro/f1``."""

    def on_step(self, step: Mapping[str, Any]) -> None:
        """Log loss, gradient norm, learning rate, epoch and speed."""
        numbers = {f"train/{name}": float(step[name]) for name in ("loss", "gradient_norm", "learning_rate", "epoch")}
        numbers["train/instances_per_second"] = step["instances"] / max(step["seconds"], 1e-9)
        self._log(numbers, int(step["step"]))

    def on_evaluation(self, evaluation: Mapping[str, Any]) -> None:
        """Log the scores on the dev split."""
        numbers = {f"dev/{name}": float(evaluation[name]) for name in ("loss", "precision", "recall", "f1")}
        self._log(numbers, int(evaluation["step"]))

    def on_end(self, run: Run) -> None:
        """Log the scores on the test split, and close the tracker."""
        if run.test is not None:
            self._log(final_scores(run), len(run.history))
        self._close(None)

    def on_error(self, error: BaseException) -> None:
        """Close the tracker with the state failed."""
        self._close(error)

    def _log(self, numbers: dict[str, float], step: int) -> None:
        raise NotImplementedError

    def _close(self, error: BaseException | None) -> None:
        raise NotImplementedError


class TensorBoard(_Tracker):
    """Writes event files that ``tensorboard --logdir DIRECTORY`` shows.

    Parameters
    ----------
    directory : path
        The directory to write to; use a new one for each run.

    Raises
    ------
    ConfigError
        When the library is not installed.
    """

    def __init__(self, directory: PathLike) -> None:
        self._writer = _library("tensorboardX", "tensorboard").SummaryWriter(os.fspath(directory))

    def on_start(self, settings: Mapping[str, Any], total_steps: int) -> None:
        """Write the settings as a text."""
        self._writer.add_text("settings", "\n".join(f"    {name}: {value}" for name, value in settings.items()))

    def _log(self, numbers: dict[str, float], step: int) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def _close(self, error: BaseException | None) -> None:
        self._writer.close()


class MLflow(_Tracker):
    """Logs to MLflow: to the active run, which stays open, or to a new run if there is none.

    Parameters
    ----------
    experiment : str, optional
        The experiment of a new run.
    run_name : str, optional
        The name of a new run.
    tracking_uri : str, optional
        The tracking server; by default the one that MLflow is configured with (``MLFLOW_TRACKING_URI``).

    Raises
    ------
    ConfigError
        When the library is not installed.
    """

    def __init__(
        self, experiment: str | None = None, *, run_name: str | None = None, tracking_uri: str | None = None
    ) -> None:
        self._mlflow = _library("mlflow", "mlflow")
        self._experiment, self._run_name, self._tracking_uri = experiment, run_name, tracking_uri
        self._own_run = False

    def on_start(self, settings: Mapping[str, Any], total_steps: int) -> None:
        """Start a run if there is none, and log the settings as its parameters."""
        if self._mlflow.active_run() is None:
            if self._tracking_uri is not None:
                self._mlflow.set_tracking_uri(self._tracking_uri)
            if self._experiment is not None:
                self._mlflow.set_experiment(self._experiment)
            self._mlflow.start_run(run_name=self._run_name)
            self._own_run = True
        self._mlflow.log_params({name: plain(value) for name, value in settings.items()})

    def _log(self, numbers: dict[str, float], step: int) -> None:
        # Labels may contain characters that MLflow does not allow.
        allowed = {"".join(c if c.isalnum() or c in "_-./ " else "_" for c in name): v for name, v in numbers.items()}
        self._mlflow.log_metrics(allowed, step=step)

    def _close(self, error: BaseException | None) -> None:
        if self._own_run:
            status = "FINISHED" if error is None else "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
            self._mlflow.end_run(status)
            self._own_run = False


class WandB(_Tracker):
    """Logs to Weights & Biases: to the current run, which stays open, or to a new run if there is none.

    Parameters
    ----------
    project : str, optional
        The project of a new run.
    name : str, optional
        The name of a new run.
    **options
        Other arguments of ``wandb.init``, such as ``mode="offline"``.

    Raises
    ------
    ConfigError
        When the library is not installed.
    """

    def __init__(self, project: str | None = None, *, name: str | None = None, **options: Any) -> None:
        self._wandb = _library("wandb", "wandb")
        self._options = {"project": project, "name": name, **options}
        self._own_run = False

    def on_start(self, settings: Mapping[str, Any], total_steps: int) -> None:
        """Start a run if there is none, and log the settings as its configuration."""
        if self._wandb.run is None:
            self._wandb.init(**self._options)
            self._own_run = True
        self._wandb.config.update({name: plain(value) for name, value in settings.items()}, allow_val_change=True)

    def _log(self, numbers: dict[str, float], step: int) -> None:
        self._wandb.log(numbers, step=step)

    def _close(self, error: BaseException | None) -> None:
        if self._own_run:
            self._wandb.finish(exit_code=0 if error is None else 1)
            self._own_run = False


def final_scores(run: Run) -> dict[str, float]:
    """Precision, recall and F1 of every class and average on a run's test split: ``test/micro/f1``, ..."""
    rows = run.scores.set_index("class")[["precision", "recall", "f1"]].astype(float)
    return {f"test/{row}/{name}": float(value) for row, values in rows.iterrows() for name, value in values.items()}


def plain(value: Any) -> str | int | float | bool | None:
    """A setting in a type that trackers accept: lists and mappings become JSON, paths text."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return json.dumps(value, default=str)


def _library(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        message = f'callbacks: {module} is not installed; run `pip install "biorel[{extra}]"`'
        raise ConfigError(message, "callbacks") from error
