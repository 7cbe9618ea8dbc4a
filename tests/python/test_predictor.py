"""Prediction of batches: documents as rows, in pandas, Arrow and Parquet."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import biorel
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

TEXT = "Testol raises cdol. \U0001d6fc-Testol and cdol.\n"
PUBTATOR = (
    "1|t|Testol raises cdol.\n1|a|Then \U0001d6fcdrug with cdol, and cdol.\n"
    "1\t0\t6\tTestol\tdrug\tD1\n1\t14\t18\tcdol\tdrug\n1\t25\t30\t\U0001d6fcdrug\tdrug\tD3\n1\t36\t40\tcdol\tdrug\tD2\n\n"
    "2|t|Nothing here.\n2|a|\n\n"
)


@pytest.fixture
def documents(tmp_path: Path) -> list[biorel.Document]:
    (tmp_path / "some.txt").write_text(PUBTATOR, encoding="utf-8")
    return list(biorel.read_documents(tmp_path / "some.txt"))


def rows_of(pairs: list[tuple[str, Any, Any]]) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=["document", "text", "entities"])


def test_documents_survive_a_round_trip_through_rows(documents: list[biorel.Document], tmp_path: Path) -> None:
    rows = biorel.documents_to_rows(documents)
    assert biorel.documents_from_rows(rows) == documents
    rows.to_parquet(tmp_path / "rows.parquet")
    assert biorel.documents_from_rows(pd.read_parquet(tmp_path / "rows.parquet")) == documents
    arrow = pq.read_table(tmp_path / "rows.parquet")
    assert biorel.documents_from_rows(pd.DataFrame(arrow.to_pydict())) == documents


def test_rows_are_classified_like_their_documents(
    run: biorel.Run, documents: list[biorel.Document], tmp_path: Path
) -> None:
    expected = biorel.predict_documents(run.model, documents)
    assert isinstance(expected, pd.DataFrame)
    assert len(expected) > 1
    run.model.save(tmp_path / "model")
    rows = biorel.documents_to_rows(documents)
    for model in (tmp_path / "model", run.model):
        predictor = pickle.loads(pickle.dumps(biorel.Predictor(model, threads=1)))
        table = predictor(rows)
        assert table["error"].isna().all()
        columns = [name for name in expected.columns if name != "model"]
        pd.testing.assert_frame_equal(table[columns], expected[columns], check_dtype=False, check_exact=True)
        arrow = predictor(pa.Table.from_pandas(rows))
        assert arrow.schema == predictor.arrow_schema()
        pd.testing.assert_frame_equal(
            arrow.to_pandas()[columns], expected[columns], check_dtype=False, check_exact=True
        )
        arrays = {name: rows[name].to_numpy() for name in rows.columns}
        pd.testing.assert_frame_equal(predictor(arrays), table)


def test_a_bad_document_is_a_row_with_its_reason(run: biorel.Run) -> None:
    good = [{"start": 0, "end": 6, "type": "drug"}, {"start": 14, "end": 18, "type": "drug"}]
    rows = rows_of(
        [
            ("good", TEXT, good),
            ("outside", TEXT, [{"start": 0, "end": 600, "type": "drug"}]),
            ("no type", TEXT, [{"start": 0, "end": 6}]),
            ("no text", None, good),
            ("no end", TEXT, [{"start": 0, "type": "drug"}]),
            ("too many", TEXT, [*good, {"start": 2, "end": 4, "type": "drug"}]),
            ("good", TEXT, good),
            ("none", TEXT, None),
        ]
    )
    predictor = biorel.Predictor(run.model, threads=1, max_pairs=2)
    table = predictor(rows)
    assert table["document"].tolist() == ["good", "good", "outside", "no type", "no text", "no end", "too many"]
    reasons = dict(zip(table["document"], table["error"], strict=True))
    assert pd.isna(reasons["good"])
    assert "characters 0 to 600 are outside the text of 39 characters" in reasons["outside"]
    assert "entities[0] must be a mapping with `type`" in reasons["no type"]
    assert "`text` must be a string" in reasons["no text"]
    assert "needs `start` and `end`" in reasons["no end"]
    assert "more than 2 pairs" in reasons["too many"]
    bad = table[table["error"].notna()]
    assert bad[["relation", "probability", "start1", "entity1"]].isna().all(axis=None)
    assert predictor(pa.Table.from_pandas(rows)).num_rows == len(table)


def test_batches_without_pairs_have_the_same_columns(run: biorel.Run) -> None:
    predictor = biorel.Predictor(run.model, threads=1)
    for rows in (rows_of([("1", "Nothing.", [])]), rows_of([])):
        assert len(predictor(rows)) == 0
        arrow = predictor(pa.Table.from_pandas(rows))
        assert (arrow.num_rows, arrow.schema) == (0, predictor.arrow_schema())
    only_bad = rows_of([("1", "Nothing.", [{"start": 5, "end": 60, "type": "drug"}])])
    assert predictor(only_bad).columns.tolist() == predictor(rows_of([])).columns.tolist()


def test_a_malformed_table_is_refused(run: biorel.Run) -> None:
    with pytest.raises(biorel.CorpusError, match=r"no column `entities`; the columns are document, text"):
        biorel.Predictor(run.model)(pd.DataFrame({"document": ["1"], "text": ["a"]}))
    with pytest.raises(biorel.CorpusError, match=r"rows: row 0: entities\[0\]: characters 3 to 2"):
        biorel.documents_from_rows(rows_of([("1", "abcd", [{"start": 3, "end": 2, "type": "drug"}])]))


@pytest.mark.parametrize("head", ["cls", "lstm", "attention", "attention-no-cls", "lstm-all-cls", "attention-all-cls"])
def test_the_bits_do_not_depend_on_the_batch(ddi: biorel.Corpus, encoder: biorel.Encoder, head: Any) -> None:
    result = biorel.finetune(ddi, encoder, head=head, max_length=96, max_steps=2, learning_rate=1e-3, progress=False)
    sentences = [
        {
            "text": "Testol raises cdol. " * (1 + number % 3),
            "entities": [{"start": 0, "end": 6, "type": "drug"}, {"start": 14, "end": 18, "type": "drug"}],
        }
        for number in range(300)
    ]
    together = result.model.predict(sentences)
    for size in (1, 7, 64):
        parts = [result.model.predict(sentences[at : at + size]) for at in range(0, len(sentences), size)]
        columns = [name for name in together.columns if name.startswith("p_")]
        apart = pd.concat(parts, ignore_index=True)
        pd.testing.assert_frame_equal(apart[columns], together[columns], check_exact=True)
