"""A picklable function that predicts batches of documents, for Ray Data, Spark and Dask."""

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
from biorel.prediction.documents import check_threshold, documents_of, relation_columns, table_of


class Predictor:
    """Classifies batches of documents, and can be pickled.

    The pickle has the path of the model and not its weights. Each process loads the model when it classifies its first
    batch. Batches are documents, or tables with one row per document (``documents_to_rows``), as
    ``ray.data.Dataset.map_batches`` and Spark's ``mapInPandas`` give them.

    Parameters
    ----------
    model : path, str or RelationModel
        The directory of a saved model, which every process can read; ``owner/name`` on the Hugging Face hub; or a
        model, which is then pickled with its weights.
    device, precision
        As in ``load``.
    threads : int, optional
        Processor threads per process. By default as many as Ray assigns to the task or actor; without Ray all, which is
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
        choose("cpu", "auto", threads)  # checks `threads` now; the device may exist only on other machines
        self.threads = threads
        self.types = dict(types or {})
        self.related_only = related_only
        check_threshold(threshold)
        self.threshold = threshold
        self.max_pairs = max_pairs
        self._loaded: RelationModel | None = None

    def __call__(self, documents: Any) -> Any:
        """Classify documents, with the same table as ``predict_documents``.

        Parameters
        ----------
        documents : DataFrame, pyarrow.Table, dict of arrays, or iterable of Document or spaCy Doc
            The documents, or a table with one row for each.

        Returns
        -------
        pandas.DataFrame or pyarrow.Table
            One row per pair; a pyarrow Table if a Table was given. For tables there is also a column ``error``: a
            document that cannot be used becomes one row with only ``error``, ``document`` and ``file``.
        """
        if isinstance(documents, pd.DataFrame):
            return self._of_rows(documents)
        if isinstance(documents, Mapping):
            return self._of_rows(pd.DataFrame({name: list(values) for name, values in documents.items()}))
        if type(documents).__module__.startswith("pyarrow"):
            import pyarrow as pa  # noqa: PLC0415  an extra, installed if a table of it was given

            frame = pd.DataFrame(documents.to_pydict())
            return pa.Table.from_pandas(self._of_rows(frame), schema=self.arrow_schema(), preserve_index=False)
        return self._of_documents(documents)

    def arrow_schema(self) -> Any:
        """The columns of the result for tables, as a ``pyarrow.Schema``, from which Spark's can be derived."""
        import pyarrow as pa  # noqa: PLC0415  an extra

        types = {"text": pa.string(), "offset": pa.int64(), "number": pa.float64()}
        return pa.schema([(name, types[dtype]) for name, dtype in self._columns().items()])

    def _columns(self) -> dict[str, str]:
        """The columns of the result for tables, with their data types."""
        return {**relation_columns(self._model().labels), "error": "text"}

    def _of_documents(self, documents: Iterable[Any]) -> pd.DataFrame:
        settings = {"types": self.types, "max_pairs": self.max_pairs}
        related, threshold = self.related_only, self.threshold
        return table_of(self._model(), documents_of(documents), settings, related=related, threshold=threshold)[0]

    def _of_rows(self, rows: pd.DataFrame) -> pd.DataFrame:
        check_columns("rows", rows.columns)
        documents = []
        failures: list[tuple[str | None, str | None, str]] = []
        for row in rows.to_dict("records"):
            name, file = str(row["document"]), row.get("file")
            try:
                documents.append(document_of_row(row, f"document {name}")._core)
            except CorpusError as error:
                failures.append((file if isinstance(file, str) else "", name, str(error)))
        model = self._model()
        part = _biorel.predict_documents(
            model._core,
            documents,
            types=self.types,
            max_pairs=self.max_pairs,
            keep_failures=True,
            compute=model._compute,
        )
        failures += [(file, name, reason) for file, _, name, reason in part.failures]
        table = pd.DataFrame(part.columns(related=self.related_only, threshold=self.threshold))
        bad = pd.DataFrame(failures, columns=["file", "document", "error"])
        dtypes: dict[str, Any] = {"text": object, "offset": "Int64", "number": float}
        types = {name: dtypes[dtype] for name, dtype in self._columns().items()}
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
        """Everything except the loaded model."""
        return {**self.__dict__, "_loaded": None}


def _threads_from_ray() -> int | None:
    """The number of processors that Ray has assigned to the current task or actor; None outside Ray."""
    ray: Any = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    share = ray.get_runtime_context().get_assigned_resources().get("CPU")
    return None if share is None else max(1, int(share))
