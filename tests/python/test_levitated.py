"""Levitated markers: all pairs of a sentence are classified in one pass."""

from __future__ import annotations

import json
import pickle
import struct
import subprocess
from pathlib import Path
from typing import Any

import biorel
import numpy as np
import pandas as pd
import pytest
from child_process import kill_after, start_python
from tiny_bert import HIDDEN, write_encoder

SETTINGS: dict[str, Any] = {"max_length": 96, "max_steps": 6, "learning_rate": 1e-3, "progress": False}


@pytest.fixture(scope="module", params=["levitated", "levitated-visible"])
def run(request: pytest.FixtureRequest, ddi: biorel.Corpus, encoder: biorel.Encoder) -> biorel.Run:
    return biorel.finetune(ddi, encoder, head="entity-attention", marking=request.param, **SETTINGS)


def load_file(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file, all in f32."""
    data = path.read_bytes()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    header = {name: about for name, about in json.loads(data[8:start]).items() if name != "__metadata__"}
    return {
        name: np.frombuffer(data[start:][slice(*about["data_offsets"])], np.float32).reshape(about["shape"])
        for name, about in header.items()
    }


def same(first: pd.DataFrame, second: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(first.reset_index(drop=True), second.reset_index(drop=True), check_exact=True)


def test_the_text_is_the_same_for_all_pairs_of_a_sentence(ddi: biorel.Corpus) -> None:
    for marking in ("levitated", "levitated-visible"):
        instances = ddi.instances("test", marking)
        assert (instances.groupby("sentence")["text"].nunique() == 1).all()
        assert instances.groupby("sentence").size().max() > 1
        assert instances["text"].str.contains(r"@DRUG\$").any() == (marking == "levitated")
    visible = ddi.instances("test", "levitated-visible").merge(ddi.sentences("test"), left_on="sentence", right_on="id")
    assert (visible["text_x"] == visible["text_y"]).all()


def test_a_saved_model_has_the_same_predictions_and_the_encoder_its_own_words(
    run: biorel.Run, encoder: biorel.Encoder, ddi: biorel.Corpus, tmp_path: Path
) -> None:
    run.model.save(tmp_path / "model")
    loaded = biorel.load(tmp_path / "model")
    assert (loaded.hash, loaded.marking) == (run.model.hash, run.model.marking)
    same(loaded.predictions(ddi), run.predictions())
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    words = len((tmp_path / "model" / "vocab.txt").read_text().splitlines())
    assert tensors["embeddings.word_embeddings.weight"].shape == (words, HIDDEN)
    assert tensors["head.markers.weight"].shape == (4, HIDDEN)  # all entities have the tag DRUG
    biorel.load_encoder(tmp_path / "model")


def test_markers_start_from_subject_and_object(ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path) -> None:
    options = SETTINGS | {"max_steps": 0}
    for seed in (1, 2):
        model = biorel.finetune(ddi, encoder, head="entity", marking="levitated", seed=seed, **options).model
        model.save(tmp_path / f"{seed}")
    first, second = (load_file(tmp_path / f"{seed}" / "model.safetensors") for seed in (1, 2))
    assert (first["head.markers.weight"] != second["head.markers.weight"]).all()
    words = first["embeddings.word_embeddings.weight"]
    vocabulary = (tmp_path / "1" / "vocab.txt").read_text().splitlines()
    for row, word in zip(first["head.markers.weight"], ["subject", "subject", "object", "object"], strict=True):
        pieces = [vocabulary.index(piece) for piece in _pieces(word, vocabulary)]
        assert np.abs(row - words[pieces].mean(axis=0)).max() <= 0.021


def _pieces(word: str, vocabulary: list[str]) -> list[str]:
    """WordPiece: the longest piece that fits, from the start."""
    pieces: list[str] = []
    while word:
        candidates = (("##" if pieces else "") + word[:end] for end in range(len(word), 0, -1))
        piece = next(candidate for candidate in candidates if candidate in vocabulary)
        pieces.append(piece)
        word = word[len(piece.removeprefix("##")) :]
    return pieces


def test_a_pair_has_the_same_probabilities_whatever_else_is_asked(run: biorel.Run) -> None:
    words = [f"drug{letter}" for letter in "abcdefgh"]
    text = " with ".join(words) + " was given."
    starts = [text.index(word) for word in words]
    entities = [{"start": start, "end": start + 5, "type": "drug"} for start in starts]
    table = run.model.predict([{"text": text, "entities": entities}])
    assert len(table) == 28
    columns = [f"p_{label}" for label in run.model.labels]
    if run.model.marking == "levitated-visible":  # blinded, the text depends on which entities are given
        for row in table.iloc[[0, 9, 27]].itertuples():
            pair = [entity for entity in entities if entity["start"] in (row.start1, row.start2)]
            alone = run.model.predict([{"text": text, "entities": pair}])
            np.testing.assert_array_equal(alone[columns].iloc[0].to_numpy(), table.loc[row.Index, columns].to_numpy())
    documents = biorel.documents_from_tables(
        pd.DataFrame([{"document": "d", "text": text}]), pd.DataFrame(entities).assign(document="d")
    )
    found = biorel.predict_documents(run.model, documents)
    assert isinstance(found, pd.DataFrame)
    np.testing.assert_array_equal(
        found.sort_values(["start1", "start2"])[columns].to_numpy(),
        table.sort_values(["start1", "start2"])[columns].to_numpy(),
    )


STREAM = """
import sys, biorel
model, documents, out = sys.argv[1:]
settings = {"part_documents": 1, "format": "jsonl"}
print(biorel.predict_documents(biorel.load(model, threads=1), documents, out, **settings).documents)
"""


def test_a_stream_has_the_same_rows_in_shards_on_workers_and_after_a_kill(run: biorel.Run, tmp_path: Path) -> None:
    texts = [f"Drug{chr(97 + number)} with drugx and drugy was given." for number in range(24)]
    entities = [
        {"document": str(number), "start": start, "end": start + 5, "type": "drug"}
        for number in range(24)
        for start in (0, 11, 21)
    ]
    table = pd.DataFrame({"document": [str(number) for number in range(24)], "text": texts})
    documents = biorel.documents_from_tables(table, pd.DataFrame(entities))
    biorel.write_documents(documents, tmp_path / "documents.txt")
    run.model.save(tmp_path / "model")
    given: Any = (run.model, tmp_path / "documents.txt")
    whole = biorel.predict_documents(*given)
    assert isinstance(whole, pd.DataFrame)
    assert len(whole) == 24 * 3
    shards: list[Any] = [
        biorel.predict_documents(*given, tmp_path / "out", part_documents=2, shard=(number, 3)) for number in (1, 2, 3)
    ]
    parts = pd.concat([shard.table() for shard in shards]).sort_values(["document", "start1", "start2"])
    expected = whole.sort_values(["document", "start1", "start2"])
    same(parts[expected.columns], expected)
    columns = [name for name in expected.columns if name not in ("model", "file")]
    predictor = pickle.loads(pickle.dumps(biorel.Predictor(run.model, threads=1)))
    on_worker = predictor(biorel.documents_to_rows(documents[5:9]))[columns]
    alone = whole.loc[whole["document"].isin(["5", "6", "7", "8"]), columns]
    pd.testing.assert_frame_equal(on_worker, alone.reset_index(drop=True), check_dtype=False, check_exact=True)
    arguments = (tmp_path / "model", tmp_path / "documents.txt", tmp_path / "killed")
    process = start_python(STREAM, *arguments)
    kill_after(lambda: any((tmp_path / "killed").glob("**/*.jsonl")), process)
    resumed = start_python(STREAM, *arguments, stdout=subprocess.PIPE)
    assert resumed.communicate()[0].decode().splitlines() == ["24"]
    files = (tmp_path / "killed").glob("relations/*.jsonl")
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    after = pd.DataFrame(rows).sort_values(["document", "start1", "start2"])
    assert after["document"].nunique() == 24
    for column in ("document", "start1", "start2", "relation", "p_false"):
        assert after[column].tolist() == expected[column].tolist()


def test_attention_is_read_per_pair(run: biorel.Run, ddi: biorel.Corpus) -> None:
    words = run.attention()
    assert np.allclose(words.groupby("instance")["weight"].sum(), 1)
    assert (words[words["is_entity"]].groupby("instance").size() >= 1).all()
    for kind in ("encoder", "gradient"):
        other = run.attention(kind=kind)
        assert other["word"].tolist() == words["word"].tolist()
    sentences = ddi.instances("test").set_index("id")["sentence"]
    words["sentence"] = words["instance"].map(sentences)
    of_place = words.groupby(["sentence", "start"])["weight"].nunique()
    assert of_place.max() > 1, "the weights differ between the pairs of a sentence"
    assert words["word"].iloc[0] in biorel.heatmap(words).html()
    masked = run.model.mask_words(ddi, "test", words=[1], n_random=2, related=False)
    assert set(masked["ranking"]) == {"attention", "encoder", "gradient", "random"}


def test_a_comparison_and_a_cross_validation(ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path) -> None:
    options = SETTINGS | {"marking": "levitated", "max_steps": 2}
    result = biorel.compare(
        ddi, directory=tmp_path, heads=["entity", "entity-attention"], encoders=[encoder], class_weights="balanced",
        gradient_accumulation_steps=2, negative_ratio=2.0, **options,
    )  # fmt: skip
    assert (result.trials["status"] == "finished").all()
    folds = biorel.cross_validate(biorel.load_sample("aimed"), encoder, head="entity", folds=2, **options)
    assert folds.predictions["fold"].nunique() == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "attention"}, "choose entity or entity-attention"),
        ({"head": "entity", "max_length": 512}, "leave room for 508"),
        ({"head": "entity", "compat": "su2020"}, "has no levitated markers"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    ddi: biorel.Corpus, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    long = np.zeros((512, HIDDEN), np.float32)
    directory = write_encoder(tmp_path, embeddings__position_embeddings__weight=long)
    config = json.loads((directory / "config.json").read_text()) | {"max_position_embeddings": 512}
    (directory / "config.json").write_text(json.dumps(config))
    encoder = biorel.load_encoder(directory)
    with pytest.raises(biorel.ConfigError, match=message):
        biorel.finetune(ddi, encoder, marking="levitated", **SETTINGS | options)


TRAIN = """
import sys, biorel
encoder, checkpoint, model = sys.argv[1:]
run = biorel.finetune(
    biorel.load_sample("ddi"), encoder, head="entity-attention", marking="levitated", max_length=96, max_steps=300,
    seed=3, progress=False, dev="test", test=None, eval_steps=50, checkpoint=checkpoint, save_steps=2,
)
run.model.save(model)
"""


def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    checkpoint = tmp_path / "checkpoint"
    assert start_python(TRAIN, encoder, tmp_path / "other", tmp_path / "uninterrupted").wait() == 0
    process = start_python(TRAIN, encoder, checkpoint, tmp_path / "model")
    assert kill_after(checkpoint.exists, process, delay=0.05), "the run ended before it could be killed"
    assert start_python(TRAIN, encoder, checkpoint, tmp_path / "model").wait() == 0
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("model", "uninterrupted")]
    assert models[0] == models[1]
