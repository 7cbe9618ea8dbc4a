"""A directory that keeps what a long experiment has finished, so that a killed one resumes where it stopped.

``plan.json`` says what is being done; a directory of another plan is refused. ``trials.jsonl`` has one line for each
finished trial, appended and synced as a whole. ``predictions/`` has one file per trial, written before its line, and
``states/`` the training state of the trial that is running. ``models/`` has a directory per trial, if models are kept.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from biorel._files import PARTIAL, atomic_write, exclusive_lock
from biorel._journal import Journal
from biorel._types import PathLike
from biorel.errors import ConfigError

FORMAT = 2


class RunDirectory:
    """One experiment's directory, which belongs to this process alone while it is locked.

    Parameters
    ----------
    path : path
        A new or empty directory, or one of the same plan.
    plan : mapping
        What decides the results, in JSON's types.
    """

    def __init__(self, path: PathLike, plan: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.plan = json.loads(json.dumps({"format": FORMAT, **plan}, default=os.fspath))
        self._journal = Journal(
            self.path / "plan.json",
            self.path / "trials.jsonl",
            field="directory",
            remedy="delete that line, and its trial is done again",
        )
        self.records: dict[str, dict[str, Any]] = {}

    @contextlib.contextmanager
    def locked(self) -> Iterator[RunDirectory]:
        """Lock the directory, check its plan, and read what is finished."""
        (self.path / "predictions").mkdir(parents=True, exist_ok=True)
        (self.path / "states").mkdir(exist_ok=True)
        with exclusive_lock(self.path / "lock", self.path):
            # Nobody else writes here now: what is half-written is a killed run's.
            for path in (self.path / "states").iterdir():
                if path.suffix != ".state":
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            self._check_plan()
            self._read()
            for trial in self.records:
                # A kill right behind the line of a finished trial leaves its state.
                self.state(trial).unlink(missing_ok=True)
            yield self

    @property
    def plan_file(self) -> Path:
        """What is being done."""
        return self._journal.plan

    def state(self, trial: str) -> Path:
        """Where the training state of a trial is kept while it runs."""
        return self.path / "states" / f"{_file_name(trial)}.state"

    def model(self, trial: str) -> Path:
        """Where the model of a trial is kept, if it is."""
        return self.path / "models" / _file_name(trial)

    def finish(self, trial: str, record: Mapping[str, Any], predictions: list[dict[str, Any]] | None) -> None:
        """Keep the result of a trial; once this returns, it survives whatever happens to this process."""
        if predictions is not None:
            lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in predictions)
            atomic_write(self._predictions(trial), "".join(lines))
        self.records[trial] = self._journal.append({"trial": trial, **record})
        self.state(trial).unlink(missing_ok=True)

    def predictions(self, trial: str) -> list[dict[str, Any]]:
        """The predictions of a finished trial, a dict per instance."""
        with self._predictions(trial).open(encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def write_tables(self, **tables: pd.DataFrame) -> None:
        """Write tables for people to read, ``NAME.tsv``; nothing reads them back."""
        for name, table in tables.items():
            atomic_write(self.path / f"{name}.tsv", table.to_csv(sep="\t", index=False))

    def _predictions(self, trial: str) -> Path:
        return self.path / "predictions" / f"{_file_name(trial)}.jsonl"

    def _check_plan(self) -> None:
        found = self._journal.read_plan()
        if found is not None:
            if found.get("format") != FORMAT:
                message = f"directory: {self.path} was written by another version of biorel; give a new directory"
                raise ConfigError(message, "directory")
            self._journal.check_plan(found, self.plan)
            return
        known = {"lock", "predictions", "states"}
        others = sorted(entry.name for entry in self.path.iterdir() if entry.name not in known)
        # A kill between making the directory and writing the plan leaves only what is known, or a partial plan.
        if [name for name in others if not name.endswith(PARTIAL)]:
            message = f"directory: {self.path} holds other things ({', '.join(others[:3])}); give a new directory"
            raise ConfigError(message, "directory")
        self._journal.write_plan(self.plan)

    def _read(self) -> None:
        records, torn = self._journal.read(_check_record)
        if torn:
            warnings.warn(
                f"{self._journal.lines}: the last line was cut off when a run was killed; its trial is done again",
                stacklevel=6,
            )
        self.records = {record["trial"]: record for record in records}


def _check_record(record: Any, _: int) -> None:
    if not isinstance(record, dict) or not isinstance(record.get("trial"), str):
        raise ValueError("it names no trial")


def prediction_rows(predictions: pd.DataFrame) -> list[dict[str, Any]]:
    """A table of predictions as JSON's types; what is missing is None."""
    columns = {}
    for name in predictions.columns:
        values = predictions[name]
        missing = values.isna()
        columns[name] = [None if gone else value for value, gone in zip(values.tolist(), missing, strict=True)]
    # An index may hold dates or tuples, which JSON does not.
    if "row" in columns:
        columns["row"] = [row if isinstance(row, (int, float, str)) else str(row) for row in columns["row"]]
    names = list(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def prediction_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The table that ``prediction_rows`` was made from, the same whether it has been on disk or not."""
    table = pd.DataFrame(rows)
    for name in table.columns:
        if name.startswith("p_") or name == "probability":
            table[name] = table[name].astype(float)
    return table


def _file_name(trial: str) -> str:
    return re.sub(r"[^\w.=+-]+", "-", trial)
