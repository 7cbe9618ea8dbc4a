"""Prediction as a function of batches, for frameworks that send work to other processes: Ray Data, Spark, Dask."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from biorel import _biorel
from biorel._types import PathLike, Precision
from biorel.data.document_tables import check_columns, document_of_row
from biorel.errors import CorpusError
from biorel.models.devices import choose
from biorel.models.relation_model import RelationModel, load
from biorel.prediction.documents import documents_of, relation_columns, table_of


class Predictor:
    """Classifies batches of documents, and can be sent to other processes.

    It carries the model's place and not its weights. The model is loaded where and when the first batch is classified,
    once in each process. Batches are documents, or tables with one row per document (``documents_to_rows``), as
    ``ray.data.Dataset.map_batches`` and Spark's ``mapInPandas`` give them.

    Parameters
    ----------
    model : path, str or RelationModel
        A saved model's directory, which every process can read; ``owner/name`` on the Hugging Face hub; or a model,
        which is then sent with its weights.
    device, precision
        As in ``load``.
    threads : int, optional
        Processor threads in each process. By default those that Ray gives to the task or actor; elsewhere all, which is
        too many for several processes on one machine.
    types, related_only, threshold, max_pairs
        As in ``predict_documents``.

    Examples
    --------
    >>> model.save(folder / "model")
    >>> predictor = biorel.Predictor(folder / "model", threads=1)
    >>> entities = [{"start": 0, "end": 11, "type": "drug"}, {"start": 16, "end": 26, "type": "drug"}]
    >>> rows = pd.DataFrame({"document": ["d1"], "text": ["Velotrazine and nalexpidol."], "entities": [entities]})
    >>> predictor(rows)["entity2"].tolist()
    ['nalexpidol']
    """

    def __init__(
        self,
        model: PathLike | RelationModel,
        *,
        device: str = "auto",
        precision: Precision = "auto",
        threads: int | None = None,
        types: Mapping[str, str] | None = None,
        related_only: bool = False,
        threshold: float = 0.0,
        max_pairs: int = 100_000,
    ) -> None:
        if isinstance(model, RelationModel):
            self.model: PathLike | RelationModel = model
        else:
            self.model = Path(model).absolute() if os.path.exists(model) else model
        self.device = device
        self.precision = precision
        choose("cpu", "auto", threads)  # a number out of range is an error now; the device may be another machine's
        self.threads = threads
        self.types = dict(types or {})
        self.related_only = related_only
        self.threshold = threshold
        self.max_pairs = max_pairs
        self._loaded: RelationModel | None = None

    def __call__(self, documents: Any) -> Any:
        """Classify documents: the table of ``predict_documents``.

        Parameters
        ----------
        documents : DataFrame, pyarrow.Table, dict of arrays, or iterable of Document or spaCy Doc
            The documents, or a table with one row for each.

        Returns
        -------
        pandas.DataFrame or pyarrow.Table
            One row per pair, for a pyarrow Table a Table. For rows there is a column ``error`` too: a document that
            cannot be used is one row that has its reason there, and nothing but its ``document`` and ``file`` else.
        """
        if isinstance(documents, pd.DataFrame):
            return self._of_rows(documents)
        if isinstance(documents, Mapping):
            return self._of_rows(pd.DataFrame({name: list(values) for name, values in documents.items()}))
        if type(documents).__module__.startswith("pyarrow"):
            import pyarrow as pa  # noqa: PLC0415  an extra, and there if one of its tables is

            frame = pd.DataFrame(documents.to_pydict())
            return pa.Table.from_pandas(self._of_rows(frame), schema=self.arrow_schema(), preserve_index=False)
        return self._of_documents(documents)

    def arrow_schema(self) -> Any:
        """The columns of the result for rows, as a ``pyarrow.Schema``, from which Spark's can be made."""
        import pyarrow as pa  # noqa: PLC0415  an extra

        kinds = {"text": pa.string(), "offset": pa.int64(), "number": pa.float64()}
        return pa.schema([(name, kinds[kind]) for name, kind in self._columns().items()])

    def _columns(self) -> dict[str, str]:
        """What the result for rows has, whatever is in it."""
        return {**relation_columns(self._model().labels), "error": "text"}

    def _of_documents(self, documents: Iterable[Any]) -> pd.DataFrame:
        settings = {"types": self.types, "max_pairs": self.max_pairs}
        related, threshold = self.related_only, self.threshold
        return table_of(self._model(), documents_of(documents), settings, related=related, threshold=threshold)

    def _of_rows(self, rows: pd.DataFrame) -> pd.DataFrame:
        check_columns("rows", rows.columns)
        made = []
        failures: list[tuple[str | None, str | None, str]] = []
        for row in rows.to_dict("records"):
            name, file = str(row["document"]), row.get("file")
            try:
                made.append(document_of_row(row, f"document {name}")._core)
            except CorpusError as error:
                failures.append((file if isinstance(file, str) else "", name, str(error)))
        model = self._model()
        part = _biorel.predict_documents(
            model._core,
            made,
            types=self.types,
            max_pairs=self.max_pairs,
            keep_failures=True,
            compute=model._compute,
        )
        failures += [(file, name, reason) for file, _, name, reason in part.failures]
        table = pd.DataFrame(part.columns(related=self.related_only, threshold=self.threshold))
        bad = pd.DataFrame(failures, columns=["file", "document", "error"])
        kinds: dict[str, Any] = {"text": object, "offset": "Int64", "number": float}
        types = {name: kinds[kind] for name, kind in self._columns().items()}
        parts = [one.reindex(columns=list(types)).astype(types) for one in (table, bad)]
        return pd.concat(parts, ignore_index=True).assign(model=model.identity)

    def _model(self) -> RelationModel:
        if isinstance(self.model, RelationModel):
            return self.model
        if self._loaded is None:
            threads = _threads_from_ray() if self.threads is None else self.threads
            self._loaded = load(self.model, device=self.device, precision=self.precision, threads=threads)
        return self._loaded

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the loaded model."""
        return {**self.__dict__, "_loaded": None}


def _threads_from_ray() -> int | None:
    """The processors that Ray gives to the task or actor that this runs in."""
    ray: Any = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    share = ray.get_runtime_context().get_assigned_resources().get("CPU")
    return None if share is None else max(1, int(share))
