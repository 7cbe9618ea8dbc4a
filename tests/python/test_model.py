"""Saved models and prediction on new sentences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import biorel
import numpy as np
import pandas as pd
import pytest

TEXT = "Velotrazine, but not β-tiradol, increases the clearance of nalexpidol."
DRUGS = ["Velotrazine", "β-tiradol", "nalexpidol"]
SENTENCE: dict[str, Any] = {
    "id": "mine",
    "text": TEXT,
    "entities": [{"start": TEXT.index(drug), "end": TEXT.index(drug) + len(drug), "type": "drug"} for drug in DRUGS],
}


def test_every_typed_pair_is_predicted(run: biorel.Run) -> None:
    table = run.model.predict([SENTENCE])
    assert table[["entity1", "entity2"]].to_numpy().tolist() == [
        ["Velotrazine", "β-tiradol"],
        ["Velotrazine", "nalexpidol"],
        ["β-tiradol", "nalexpidol"],
    ]
    assert (table["sentence"] == "mine").all()
    for row in table.itertuples():
        assert TEXT[row.start1 : row.end1] == row.entity1
        assert TEXT[row.start2 : row.end2] == row.entity2
    probabilities = table[[f"p_{label}" for label in run.model.labels]]
    assert (probabilities.idxmax(axis=1).str.removeprefix("p_") == table["relation"]).all()


def test_other_sentences_do_not_affect_a_prediction(run: biorel.Run) -> None:
    others = [{"text": "a b " * n, "entities": [{"start": 0, "end": 1, "type": "drug"}] * 2} for n in range(1, 12)]
    alone = run.model.predict([SENTENCE])
    among = run.model.predict([*others, SENTENCE, *others])
    among = among[among["sentence"] == "mine"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, among, rtol=0, atol=1e-5)


def test_sentences_as_a_dataframe(run: biorel.Run) -> None:
    pd.testing.assert_frame_equal(run.model.predict(pd.DataFrame([SENTENCE])), run.model.predict([SENTENCE]))


def test_nothing_to_predict(run: biorel.Run) -> None:
    columns = run.model.predict([SENTENCE]).columns
    for sentences in ([], [{"text": "No drug here.", "entities": []}]):
        table = run.model.predict(sentences)
        assert len(table) == 0
        assert list(table.columns) == list(columns)


def test_unknown_types(run: biorel.Run) -> None:
    entities = [*SENTENCE["entities"], {"start": 0, "end": 4, "type": "disease"}]
    with pytest.warns(UserWarning, match="1 of type 'disease'"):
        table = run.model.predict([SENTENCE | {"entities": entities}])
    assert len(table) == 3


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ({"entities": []}, r"sentences\[0\]: has no 'text'"),
        ({"text": "a"}, r"sentences\[0\]: has no 'entities'"),
        ({"text": 5, "entities": []}, "must be str"),
        ({"text": "ab", "entities": "ab"}, "must be a list"),
        ({"text": "ab", "entities": [{"start": 0, "type": "drug"}]}, r"entities\[0\]: has no 'end'"),
        ({"text": "ab", "entities": [{"start": 0, "end": 3, "type": "drug"}]}, "0 to 3 are not in its text of 2"),
        ({"text": "ab", "entities": [{"start": 1, "end": 1, "type": "drug"}]}, "1 to 1"),
        ({"text": "ab", "entities": [{"start": -1, "end": 1, "type": "drug"}]}, "-1 to 1"),
        ({"text": "ab", "entities": [{"start": 0, "end": True, "type": "drug"}]}, "bool"),
        ({"text": "ab", "entities": [{"start": 0, "end": 1, "type": "drug", "text": "b"}]}, "its text is 'b'"),
        ("ab", "must be a dict"),
    ],
)
def test_errors_of_sentences(run: biorel.Run, sentence: Any, words: str) -> None:
    with pytest.raises(biorel.CorpusError, match=words):
        run.model.predict([sentence])


def test_one_sentence_instead_of_a_list(run: biorel.Run) -> None:
    with pytest.raises(TypeError, match="list of dicts"):
        run.model.predict(SENTENCE)  # type: ignore[arg-type]


def test_a_saved_model_is_the_same_model(run: biorel.Run, tmp_path: Path) -> None:
    run.model.save(tmp_path / "model")
    loaded = biorel.load(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.predict([SENTENCE]), run.model.predict([SENTENCE]))
    pd.testing.assert_frame_equal(loaded.evaluate(run.corpus), run.scores)
    pd.testing.assert_frame_equal(loaded.attention(run.corpus), run.attention())
    assert loaded.card == run.model.card
    assert loaded.card["training"]["learning_rate"] == 1e-3
    assert len(loaded.card["data"]) == 64
    # What transformers reads.
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["architectures"] == ["BertModel"]
    assert config["id2label"]["0"] == "false"
    assert (tmp_path / "model" / "vocab.txt").is_file()


def test_saving_again_replaces_an_earlier_model_and_nothing_else(run: biorel.Run, tmp_path: Path) -> None:
    run.model.save(tmp_path / "model")
    run.model.save(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "important.txt").write_text("keep me")
    with pytest.raises(biorel.ConfigError, match="not a biorel model"):
        run.model.save(tmp_path / "notes")
    assert (tmp_path / "notes" / "important.txt").read_text() == "keep me"
    (tmp_path / "file").write_text("")
    with pytest.raises((OSError, biorel.ConfigError)):
        run.model.save(tmp_path / "file" / "model")


def test_directories_without_a_model(run: biorel.Run, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        biorel.load(tmp_path / "nowhere")
    with pytest.raises(biorel.CheckpointError, match="not a model that biorel saved"):
        biorel.load(tmp_path)
    run.model.save(tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(biorel.CheckpointError, match=r"model\.safetensors"):
        biorel.load(tmp_path / "model")
    (tmp_path / "model" / "biorel.json").write_text("{}")
    with pytest.raises(biorel.CheckpointError, match=r"biorel\.json"):
        biorel.load(tmp_path / "model")


def test_a_corpus_of_another_task(run: biorel.Run) -> None:
    with pytest.raises(biorel.ConfigError, match=r"has the label `CPR:\d`; the model's are false, mechanism"):
        run.model.evaluate(biorel.load_sample("chemprot"))


def test_probabilities_do_not_depend_on_threads(run: biorel.Run, tmp_path: Path) -> None:
    run.model.save(tmp_path / "model")
    columns = [f"p_{label}" for label in run.model.labels]
    one, two = (biorel.load(tmp_path / "model", threads=threads).predict([SENTENCE])[columns] for threads in (1, 2))
    np.testing.assert_array_equal(one, two)
