"""Callbacks: user-defined ones, and those for experiment trackers with the real libraries and without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import biorel
import pandas as pd
import pytest
from biorel.training.callbacks import MLflow, TensorBoard, WandB

# In every test: two steps, an evaluation after each, scores on the test split.
SETTINGS: dict[str, Any] = {"max_length": 96, "max_steps": 2, "eval_steps": 1, "dev": "dev", "progress": False}


def train(encoder: biorel.Encoder, callback: biorel.Callback) -> biorel.Run:
    return biorel.finetune(
        biorel.load_sample("chemprot"), encoder, callbacks=[callback], load_best_model=False, **SETTINGS
    )


class Broken(biorel.Callback):
    """Fails at the second step."""

    def __init__(self, error: type[BaseException]) -> None:
        self._error = error

    def on_step(self, step: Any) -> None:
        if step["step"] == 2:
            raise self._error("failed on purpose")


def fail(encoder: biorel.Encoder, callback: biorel.Callback, error: type[BaseException]) -> None:
    with pytest.raises((error, biorel.TrainingInterrupted)):
        biorel.finetune(biorel.load_sample("chemprot"), encoder, callbacks=[callback, Broken(error)], **SETTINGS)


def test_tensorboard(encoder: biorel.Encoder, tmp_path: Path) -> None:
    from tensorboardX.event_file_writer import EventsWriter  # noqa: F401  (the library is installed)
    from tensorboardX.proto.event_pb2 import Event

    run = train(encoder, TensorBoard(tmp_path / "logs"))
    scalars: dict[str, list[tuple[int, float]]] = {}
    for file in (tmp_path / "logs").glob("events.out.tfevents.*"):
        data = file.read_bytes()
        while data:  # TFRecord: length, its checksum, the event, its checksum
            length = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    scalars.setdefault(value.tag, []).append((event.step, value.simple_value))
    losses = [(int(row.step), pytest.approx(row.loss)) for row in run.history.itertuples()]
    assert scalars["train/loss"] == losses
    assert scalars["dev/f1"] == [(int(row.step), pytest.approx(row.f1)) for row in run.evaluations.itertuples()]
    micro = run.scores.set_index("class").loc["micro", "f1"]
    assert scalars["test/micro/f1"] == [(2, pytest.approx(micro))]


@pytest.fixture
def mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """MLflow with a folder as its store."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    import mlflow

    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    yield mlflow
    while mlflow.active_run() is not None:
        mlflow.end_run()


@pytest.mark.filterwarnings("ignore::FutureWarning:mlflow.*", "ignore::UserWarning:mlflow.*")
def test_mlflow(encoder: biorel.Encoder, mlflow: Any) -> None:
    run = train(encoder, MLflow("relations", run_name="first"))
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("relations")
    [logged] = client.search_runs([experiment.experiment_id])
    assert (logged.info.run_name, logged.info.status) == ("first", "FINISHED")
    assert logged.data.params["head"] == "attention"
    assert logged.data.params["adam_beta2"] == "0.999"
    history = client.get_metric_history(logged.info.run_id, "train/loss")
    assert [(metric.step, metric.value) for metric in history] == list(
        run.history[["step", "loss"]].itertuples(index=False, name=None)
    )
    assert logged.data.metrics["test/micro/f1"] == run.scores.set_index("class").loc["micro", "f1"]
    assert "test/CPR_3/f1" in logged.data.metrics  # CPR:3, in characters that MLflow allows

    for error, status in ((RuntimeError, "FAILED"), (KeyboardInterrupt, "KILLED")):
        fail(encoder, MLflow("relations", run_name=status), error)
        [stopped] = client.search_runs([experiment.experiment_id], f"run_name = '{status}'")
        assert stopped.info.status == status

    # An active run is used, and stays active.
    with mlflow.start_run() as active:
        train(encoder, MLflow())
        assert mlflow.active_run().info.run_id == active.info.run_id
        assert "dev/f1" in client.get_run(active.info.run_id).data.metrics


def test_wandb(encoder: biorel.Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
        (tmp_path / name.lower()).mkdir()
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    import wandb

    run = train(encoder, WandB("relations", name="first"))
    assert wandb.run is None
    wandb.teardown()  # flushes what its service has not written yet
    [file] = (tmp_path / "wandb_dir" / "wandb").glob("offline-run-*/*.wandb")
    rows, config, code = logged_offline(file)
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert losses == run.history["loss"].tolist()
    assert [row["dev/f1"] for row in rows if "dev/f1" in row] == run.evaluations["f1"].tolist()
    assert rows[-1]["test/micro/f1"] == run.scores.set_index("class").loc["micro", "f1"]
    assert (config["head"], config["max_steps"], code) == ("attention", 2, 0)

    fail(encoder, WandB("relations", name="second"), RuntimeError)
    assert wandb.run is None
    wandb.teardown()
    [failed] = set((tmp_path / "wandb_dir" / "wandb").glob("offline-run-*/*.wandb")) - {file}
    rows, _, code = logged_offline(failed)
    assert "train/loss" in rows[0]
    assert code == 1


def logged_offline(file: Path) -> tuple[list[dict[str, Any]], dict[str, Any], int]:
    """The rows, the configuration and the exit code of an offline run."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, position, parts = file.read_bytes(), 7, b""  # the header has 7 bytes
    rows, config, code = [], {}, -1
    # The log format of LevelDB: blocks of 32 KiB; a fragment of a record has a checksum (4 bytes), its length (2 bytes)
    # and its type (1 byte): full (1), first (2), middle (3) or last (4).
    while position < len(data):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
            continue
        length, fragment = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if fragment in (2, 3):
            continue
        record, parts = Record.FromString(parts), b""
        if record.HasField("history"):
            items = record.history.item
            rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
        for part in (record.config, record.run.config):
            config |= {item.key: json.loads(item.value_json) for item in part.update if item.key}
        if record.HasField("exit"):
            code = record.exit.exit_code
    return rows, config, code


@pytest.mark.parametrize(
    ("module", "make", "extra"),
    [
        ("tensorboardX", lambda: TensorBoard("logs"), "tensorboard"),
        ("mlflow", MLflow, "mlflow"),
        ("wandb", WandB, "wandb"),
    ],
)
def test_a_missing_library_names_the_extra(module: str, make: Any, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(biorel.ConfigError, match=rf'pip install "biorel\[{extra}\]"') as raised:
        make()
    assert raised.value.field == "callbacks"


def test_no_tracker_is_imported_with_biorel() -> None:
    code = (
        "import biorel, sys; print(sorted({'tensorboardX', 'mlflow', 'wandb', 'huggingface_hub'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert result.stdout.strip() == "[]"


class Recorder(biorel.Callback):
    """Records all events."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.events: list[tuple[str, Any]] = []
        self._stop_at = stop_at

    def on_start(self, settings: Mapping[str, Any], total_steps: int) -> None:
        self.events.append(("start", (settings["head"], total_steps)))

    def on_step(self, step: Mapping[str, Any]) -> None:
        self.events.append(("step", dict(step)))
        if step["step"] == self._stop_at:
            raise ZeroDivisionError("the tracker is full")

    def on_evaluation(self, evaluation: Mapping[str, Any]) -> None:
        self.events.append(("evaluation", dict(evaluation)))

    def on_end(self, run: biorel.Run) -> None:
        self.events.append(("end", run.step))

    def on_error(self, error: BaseException) -> None:
        self.events.append(("error", repr(error)))


def test_callbacks_receive_all_events(encoder: biorel.Encoder) -> None:
    recorder = Recorder()
    settings: dict[str, Any] = {"max_steps": 4, "eval_steps": 2, "load_best_model": False}
    run = biorel.finetune(biorel.load_sample("chemprot"), encoder, callbacks=[recorder], **SETTINGS | settings)
    names = [name for name, _ in recorder.events]
    assert names == ["start", "step", "step", "evaluation", "step", "step", "evaluation", "end"]
    assert recorder.events[0][1] == ("attention", 4)
    steps = [row for name, row in recorder.events if name == "step"]
    pd.testing.assert_frame_equal(pd.DataFrame(steps), run.history)
    evaluations = [row for name, row in recorder.events if name == "evaluation"]
    pd.testing.assert_frame_equal(pd.DataFrame(evaluations), run.evaluations)


def test_a_callback_that_fails_stops_the_run(ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"max_length": 96, "max_steps": 500, "progress": False}
    recorders = [Recorder(), Recorder(stop_at=2)]
    checkpoint = tmp_path / "run.checkpoint"
    with pytest.raises(ZeroDivisionError, match="is full"):
        biorel.finetune(ddi, encoder, callbacks=recorders, checkpoint=checkpoint, **settings)
    for recorder in recorders:
        assert recorder.events[-1] == ("error", "ZeroDivisionError('the tracker is full')")
        assert ("step", 3) not in [(name, row["step"]) for name, row in recorder.events if name == "step"]
    # A resumed run reports only new steps.
    recorder = Recorder(stop_at=40)
    with pytest.raises(ZeroDivisionError):
        biorel.finetune(ddi, encoder, callbacks=[recorder], checkpoint=checkpoint, **settings)
    assert recorder.events[1][1]["step"] > 2
