"""The directory of an experiment with its finished trials, so that a killed run resumes where it stopped.

``plan.json`` describes the experiment; a directory with another plan is refused, except that variants may be added.
``trials.jsonl`` has one line per finished trial, synced to disk. ``predictions/`` has one file per trial, written
before its line. ``checkpoints/`` has the training checkpoints of running trials, ``models/`` a directory per trial
whose model is saved.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from biorel._files import PARTIAL, atomic_write, exclusive_lock
from biorel._journal import Journal
from biorel._types import PathLike
from biorel._warnings import warn
from biorel.errors import ConfigError

FORMAT = 2


class RunDirectory:
    """The directory of one experiment; only one process at a time can lock it.

    Parameters
    ----------
    path : path
        A new or empty directory, or one with the same plan.
    plan : mapping
        The settings that determine the results, in types that JSON has. Its entry ``variants``, if there is one, has
        the settings of each variant by name.
    """

    def __init__(self, path: PathLike, plan: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.plan = json.loads(json.dumps({"format": FORMAT, **plan}, default=os.fspath))
        self._journal = Journal(
            self.path / "plan.json",
            self.path / "trials.jsonl",
            field="directory",
            remedy="delete that line, and its trial will be repeated",
        )
        self.records: dict[str, dict[str, Any]] = {}

    @contextlib.contextmanager
    def locked(self) -> Iterator[RunDirectory]:
        """Lock the directory, check its plan, and read the finished trials."""
        (self.path / "predictions").mkdir(parents=True, exist_ok=True)
        (self.path / "checkpoints").mkdir(exist_ok=True)
        with exclusive_lock(self.path / "lock", self.path):
            # No other process writes here now: partial files are left over from a killed run.
            for path in (self.path / "checkpoints").iterdir():
                if path.suffix != ".checkpoint":
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            self._check_plan()
            self._read()
            for trial in self.records:
                # A run killed just after it recorded a trial leaves the checkpoint.
                self.checkpoint(trial).unlink(missing_ok=True)
            yield self

    @property
    def plan_file(self) -> Path:
        """The file that describes the experiment."""
        return self._journal.plan

    def checkpoint(self, trial: str) -> Path:
        """The file for the training checkpoint of a running trial."""
        return self.path / "checkpoints" / f"{_file_name(trial)}.checkpoint"

    def model(self, trial: str) -> Path:
        """The directory for the model of a trial."""
        return self.path / "models" / _file_name(trial)

    def finish(self, trial: str, record: Mapping[str, Any], predictions: list[dict[str, Any]] | None) -> None:
        """Record the result of a trial; once this returns, it survives a crash."""
        if predictions is not None:
            lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in predictions)
            atomic_write(self._predictions(trial), "".join(lines))
        self.records[trial] = self._journal.append({"trial": trial, **record})
        self.checkpoint(trial).unlink(missing_ok=True)

    def predictions(self, trial: str) -> list[dict[str, Any]]:
        """The predictions of a finished trial, one dict per instance."""
        with self._predictions(trial).open(encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def write_tables(self, **tables: pd.DataFrame) -> None:
        """Write tables as ``NAME.tsv`` for users; biorel does not read them."""
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
            self._journal.check_plan(*_shared_variants(found, self.plan))
            self.plan = {**self.plan, **_all_variants(found, self.plan)}
            if self.plan != found:
                self._journal.write_plan(self.plan)
            return
        known = {"lock", "predictions", "checkpoints"}
        names = {entry.name for entry in self.path.iterdir()} - known
        # A run killed before it wrote the plan leaves only the known names, or a partial plan.
        self._journal.check_others(name for name in names if not name.endswith(PARTIAL))
        self._journal.write_plan(self.plan)

    def _read(self) -> None:
        records, incomplete = self._journal.read(_check_record)
        if incomplete:
            warn(f"{self._journal.lines}: the last line is incomplete because a run was killed; its trial is repeated")
        self.records = {record["trial"]: record for record in records}


def _shared_variants(found: Mapping[str, Any], plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Both plans with only the variants that both have; their settings get names that include the variant."""
    shared = found.get("variants", {}).keys() & plan.get("variants", {}).keys()
    return [
        {key: value for key, value in one.items() if key != "variants"}
        | {f"{key} of variant {name}": value for name in shared for key, value in one["variants"][name].items()}
        for one in (found, plan)
    ]


def _all_variants(found: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, Any]:
    """The variants of both plans."""
    variants = {**found.get("variants", {}), **plan.get("variants", {})}
    return {"variants": variants} if variants else {}


def _check_record(record: Any, _: int) -> None:
    if not isinstance(record, dict) or not isinstance(record.get("trial"), str):
        raise ValueError("`trial` is missing")


def prediction_rows(predictions: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table of predictions in types that JSON has; missing values are None."""
    columns = {}
    for name in predictions.columns:
        values = predictions[name]
        missing = values.isna()
        columns[name] = [
            None if is_missing else value for value, is_missing in zip(values.tolist(), missing, strict=True)
        ]
    # An index may contain dates or tuples, which JSON does not have.
    if "row" in columns:
        columns["row"] = [row if isinstance(row, (int, float, str)) else str(row) for row in columns["row"]]
    names = list(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def prediction_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The inverse of ``prediction_rows``, with the same result before and after storing the rows."""
    table = pd.DataFrame(rows)
    for name in table.columns:
        if name.startswith("p_") or name == "probability":
            table[name] = table[name].astype(float)
    return table


def _file_name(trial: str) -> str:
    return re.sub(r"[^\w.=+-]+", "-", trial)
