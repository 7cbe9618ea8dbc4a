"""Adapting an encoder to texts: what is read, what is trained, and what is saved."""

from pathlib import Path

import biorel
import pytest
from biorel.cli.main import main
from biorel.training.adapt import texts_of
from tiny_bert import write_encoder

SETTINGS = {"max_steps": 4, "batch_size": 4, "max_length": 64, "threads": 1, "progress": False}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


def test_texts_of_every_kind(tmp_path: Path) -> None:
    plain = tmp_path / "plain.txt"
    plain.write_text("Aspirin helps.\nIt is old.\n\nHeparin too.\n", encoding="utf-8")
    assert list(texts_of(plain)) == ["Aspirin helps. It is old.", "Heparin too."]
    plain.write_text("Aspirin helps.\nHeparin too.\n", encoding="utf-8")
    assert list(texts_of(str(plain))) == ["Aspirin helps.", "Heparin too."]
    folder = tmp_path / "texts"
    (folder / "more").mkdir(parents=True)
    (folder / "b.txt").write_text("Heparin too.\n", encoding="utf-8")
    (folder / "more" / "a.txt").write_text("It is old.\n", encoding="utf-8")
    assert list(texts_of(folder)) == ["Heparin too.", "It is old."]
    pubtator = tmp_path / "abstracts.txt"
    pubtator.write_text("7|t|Aspirin.\n7|a|It helps.\n7\t0\t7\tAspirin\tChemical\tD1\n", encoding="utf-8")
    [document] = biorel.read_documents(pubtator)
    assert list(texts_of(pubtator)) == [document.text]
    assert list(texts_of([document, "Heparin too."])) == [document.text, "Heparin too."]


def test_a_corpus_gives_its_documents_without_the_test_split() -> None:
    corpus = biorel.load_sample("ddi")
    texts = list(texts_of(corpus))
    sentences = corpus.sentences("train")
    assert len(texts) == sentences["document"].nunique() == 28
    assert texts[0].startswith(sentences["text"][0])
    everything = " ".join(texts)
    assert not any(text in everything for text in corpus.sentences("test")["text"])


def test_an_adapted_encoder_is_saved_and_fine_tuned(encoder: Path, tmp_path: Path) -> None:
    corpus = biorel.load_sample("ddi")
    adapted = biorel.adapt(encoder, corpus, **SETTINGS)
    assert (adapted.texts, adapted.held_out, len(adapted.history)) == (27, 1, 4)
    assert adapted.new_decoder
    assert adapted.perplexity is not None
    assert list(adapted.perplexity.index) == ["before", "after"]
    assert "27 texts, 4 steps, perplexity" in repr(adapted)
    adapted.save(tmp_path / "adapted")
    loaded = biorel.load_encoder(tmp_path / "adapted")
    before = biorel.load_encoder(encoder).encode(["aspirin"])[0]
    states = adapted.encoder.encode(["aspirin"])[0]
    assert (states != before).any()
    assert (loaded.encode(["aspirin"])[0] == states).all()
    run = biorel.finetune(corpus, loaded, max_steps=1, max_length=96, threads=1, progress=False)
    run.model.save(tmp_path / "model")
    names = biorel.load_encoder(tmp_path / "model").report["unused"]
    assert names  # the head
    assert not [name for name in names if "predictions" in name]
    # The saved language model is the start of another adaptation.
    assert not biorel.adapt(tmp_path / "adapted", corpus, **SETTINGS).new_decoder


def test_a_resumed_adaptation_has_the_same_bits(encoder: Path, tmp_path: Path) -> None:
    corpus = biorel.load_sample("ddi")
    whole = biorel.adapt(encoder, corpus, **SETTINGS)
    settings = SETTINGS | {"checkpoint": tmp_path / "checkpoint", "save_steps": 1}
    first = biorel.adapt(encoder, corpus, **settings)
    again = biorel.adapt(encoder, corpus, **settings)
    for other in (first, again):
        assert (other.history["loss"] == whole.history["loss"]).all()
        assert (other.encoder.encode(["aspirin"])[0] == whole.encoder.encode(["aspirin"])[0]).all()


@pytest.mark.parametrize(
    ("texts", "settings", "message"),
    [
        ("missing.txt", {}, "texts: there is no file or folder missing.txt"),
        ([], {}, "there is no text to train on"),
        (["aspirin", 7], {}, "texts: item 1 is 7"),
        (["aspirin"], {"held_out": 1.0}, "held_out: must be a fraction"),
        (["aspirin"], {"mask_rate": 0.0}, "mask_rate: 0 is out of range"),
        (["aspirin"], {"max_length": 128}, "max_length: 128 is too long"),
        (["aspirin"], {"learning_rate": -1.0}, "learning_rate"),
    ],
)
def test_what_cannot_be_used_is_refused(
    encoder: Path, texts: object, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(biorel.ConfigError) as caught:
        biorel.adapt(encoder, texts, **(SETTINGS | settings))  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_text_that_is_not_utf8_is_named(encoder: Path, tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes("Entzündung".encode("latin-1"))
    with pytest.raises(biorel.ConfigError, match=r"latin\.txt: is not UTF-8 at byte 4"):
        biorel.adapt(encoder, path, **SETTINGS)


def test_an_encoder_replaces_only_an_encoder(encoder: Path, tmp_path: Path) -> None:
    loaded = biorel.load_encoder(encoder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(biorel.ConfigError, match="is not an encoder"):
        loaded.save(tmp_path / "other")
    loaded.save(tmp_path / "copy")
    loaded.save(tmp_path / "copy")
    assert biorel.load_encoder(tmp_path / "copy").config == loaded.config


def test_the_command_line(encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(f"Aspirin number {number} helps." for number in range(40)), encoding="utf-8")
    output, history = tmp_path / "out", tmp_path / "history.tsv"
    arguments = ["adapt", str(encoder), str(texts), "--output", str(output), "--history", str(history)]
    arguments += ["--max-steps", "2", "--max-length", "64", "--threads", "1", "--no-progress", "--format", "tsv"]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0] == "encoder\tloss\tperplexity"
    assert "38 texts" in captured.err
    assert biorel.load_encoder(output).name == str(output)
    assert len(history.read_text(encoding="utf-8").splitlines()) == 3
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert main(["adapt", str(encoder), str(texts), "--output", str(tmp_path / "full")]) == 1
    assert "is not an encoder" in capsys.readouterr().err
