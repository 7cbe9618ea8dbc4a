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
    """What a fine-tuning tells; override what you need.

    All methods are called in the thread that called ``finetune``. An exception that one raises stops the training
    within a step and comes out of ``finetune``. A run that resumes from a checkpoint reports only what is new: its
    first step then has a higher number.
    """

    def on_start(self, settings: Mapping[str, Any], total_steps: int) -> None:
        """Once, before the first step: every setting, as ``Run.settings`` has them, and the steps in all."""

    def on_step(self, step: Mapping[str, Any]) -> None:
        """After a step: its row of ``Run.history``. On a GPU two more steps are under way by then."""

    def on_evaluation(self, evaluation: Mapping[str, Any]) -> None:
        """After the dev split was scored: its row of ``Run.evaluations``."""

    def on_end(self, run: Run) -> None:
        """Once, when the training has finished."""

    def on_error(self, error: BaseException) -> None:
        """Once, when the training was stopped by an exception, Ctrl-C included; ``on_end`` is not called then."""


class _Tracker(Callback):
    """A callback that logs numbers under names such as ``train/loss``, ``dev/f1``, ``test/micro/f1``."""

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
        """Log the scores on the test split, and close."""
        if run.test is not None:
            self._log(final_scores(run), len(run.history))
        self._close(None)

    def on_error(self, error: BaseException) -> None:
        """Close as failed."""
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
        Where to write them; a new one for each run.

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
    """Logs to MLflow: into the active run if there is one, which stays open, else into a new one.

    Parameters
    ----------
    experiment : str, optional
        The experiment of a new run.
    run_name : str, optional
        The name of a new run.
    tracking_uri : str, optional
        Where to log; by default what MLflow is set to (``MLFLOW_TRACKING_URI``).

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
        self._ours = False

    def on_start(self, settings: Mapping[str, Any], total_steps: int) -> None:
        """Start a run if there is none, and log the settings as its parameters."""
        if self._mlflow.active_run() is None:
            if self._tracking_uri is not None:
                self._mlflow.set_tracking_uri(self._tracking_uri)
            if self._experiment is not None:
                self._mlflow.set_experiment(self._experiment)
            self._mlflow.start_run(run_name=self._run_name)
            self._ours = True
        self._mlflow.log_params({name: plain(value) for name, value in settings.items()})

    def _log(self, numbers: dict[str, float], step: int) -> None:
        # MLflow allows no comma or other marks that labels may have.
        allowed = {"".join(c if c.isalnum() or c in "_-./ " else "_" for c in name): v for name, v in numbers.items()}
        self._mlflow.log_metrics(allowed, step=step)

    def _close(self, error: BaseException | None) -> None:
        if self._ours:
            status = "FINISHED" if error is None else "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
            self._mlflow.end_run(status)
            self._ours = False


class WandB(_Tracker):
    """Logs to Weights & Biases: into the current run if there is one, which stays open, else into a new one.

    Parameters
    ----------
    project : str, optional
        The project of a new run.
    name : str, optional
        The name of a new run.
    **options
        What else ``wandb.init`` takes, such as ``mode="offline"``.

    Raises
    ------
    ConfigError
        When the library is not installed.
    """

    def __init__(self, project: str | None = None, *, name: str | None = None, **options: Any) -> None:
        self._wandb = _library("wandb", "wandb")
        self._options = {"project": project, "name": name, **options}
        self._ours = False

    def on_start(self, settings: Mapping[str, Any], total_steps: int) -> None:
        """Start a run if there is none, and log the settings as its configuration."""
        if self._wandb.run is None:
            self._wandb.init(**self._options)
            self._ours = True
        self._wandb.config.update({name: plain(value) for name, value in settings.items()}, allow_val_change=True)

    def _log(self, numbers: dict[str, float], step: int) -> None:
        self._wandb.log(numbers, step=step)

    def _close(self, error: BaseException | None) -> None:
        if self._ours:
            self._wandb.finish(exit_code=0 if error is None else 1)
            self._ours = False


def final_scores(run: Run) -> dict[str, float]:
    """Precision, recall and F1 of every class and average on a run's test split: ``test/micro/f1``, ..."""
    rows = run.scores.set_index("class")[["precision", "recall", "f1"]].astype(float)
    return {f"test/{row}/{name}": float(value) for row, values in rows.iterrows() for name, value in values.items()}


def plain(value: Any) -> str | int | float | bool | None:
    """A setting as trackers take it: lists and mappings as JSON, paths as text."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return json.dumps(value, default=str)


def _library(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        message = f'callbacks: {module} is not installed; run `pip install "biorel[{extra}]"`'
        raise ConfigError(message, "callbacks") from error
