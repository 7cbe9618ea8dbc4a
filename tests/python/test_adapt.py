"""Adapting an encoder to texts: what is read, what is trained, and what is saved."""

import sys
from collections.abc import Iterator
from pathlib import Path

import biorel
import numpy as np
import pandas as pd
import pytest
from biorel.cli.main import main
from biorel.training.adapt import texts_of
from child_process import start_python
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


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("\ufeffA.\r\nB.\r\n\r\n \tC.\r\n", ["A. B.", "C."]),
        ("A.\rB.\n", ["A.", "B."]),
        (" A.\nB.", [" A.", "B."]),
        ("\n\n\nA.\n \n\nB.\n\n", ["A.", "B."]),
        ("A.\u2028B.\n\nC.", ["A. B.", "C."]),
        ("", []),
        ("\n \n", []),
    ],
)
def test_lines_of_plain_text(tmp_path: Path, content: str, expected: list[str]) -> None:
    plain = tmp_path / "plain.txt"
    plain.write_bytes(content.encode())
    assert list(texts_of(plain)) == expected


def test_a_corpus_gives_its_documents_without_the_test_split() -> None:
    corpus = biorel.load_sample("ddi")
    texts = list(texts_of(corpus))
    sentences = corpus.sentences("train")
    assert len(texts) == sentences["document"].nunique() == 28
    assert texts[0].startswith(sentences["text"][0])
    everything = " ".join(texts)
    assert not any(text in everything for text in corpus.sentences("test")["text"])


def test_sentences_of_a_document_may_be_apart() -> None:
    rows = [("a", "Aspirin raises heparin."), ("b", "Heparin lowers aspirin."), ("a", "Heparin raises aspirin.")]
    table = pd.DataFrame(rows, columns=["document", "text"])
    table = table.assign(entity1="aspirin", entity2="heparin", label=["x", "y", "x"], split="train")
    corpus = biorel.load_corpus("table", table)
    assert list(texts_of(corpus)) == [f"{rows[0][1]} {rows[2][1]}", rows[1][1]]


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


def test_texts_that_are_read_one_by_one_change_nothing(encoder: Path) -> None:
    """The losses are those of the version that kept all texts in memory."""
    corpus = biorel.load_sample("ddi")
    adapted = biorel.adapt(encoder, corpus, **SETTINGS)
    assert adapted.history["tokens"].tolist() == [221, 228, 206, 214]
    losses = [6.202271461486816, 6.066103458404541, 6.24622917175293, 5.962307929992676]
    assert adapted.history["loss"].tolist() == pytest.approx(losses, rel=1e-5)
    assert adapted.perplexity is not None
    assert adapted.perplexity["loss"].tolist() == pytest.approx([6.23748779296875, 6.199049813406808], rel=1e-5)
    streamed = biorel.adapt(encoder, texts_of(corpus), **SETTINGS)
    assert (streamed.history["loss"] == adapted.history["loss"]).all()
    assert streamed.encoder._core.hash == adapted.encoder._core.hash


def test_the_held_out_texts_are_those_of_the_seed(encoder: Path) -> None:
    texts = [f"aspirin {'heparin ' * number}" for number in range(40)]
    chosen = np.random.default_rng(1).permutation(40)[:8].tolist()
    kept = [text for number, text in enumerate(texts) if number not in chosen]
    some = biorel.adapt(encoder, texts, held_out=0.2, **SETTINGS)
    assert (some.texts, some.held_out) == (32, 8)
    others = biorel.adapt(encoder, kept, held_out=0, **SETTINGS)
    assert (some.history["loss"] == others.history["loss"]).all()
    assert (some.parts, some.pieces) == (others.parts, others.pieces)


ADAPT = """
import sys
import biorel

encoder, source, count, directory = sys.argv[1:]
if source == "limit":
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
words = "Nalexbital should never be taken together with nalexpidol in patients with renal failure".split()


def texts():
    for number in range(int(count)):
        yield " ".join(words[(number + place * place) % len(words)] for place in range(150))


path = f"{directory}/abstracts.pubtator"
if source == "file":
    with open(path, "w") as file:
        for number, text in enumerate(texts()):
            file.write(f"{number}|t|Title.\\n{number}|a|{text}\\n\\n")
settings = {"max_steps": 2, "batch_size": 4, "max_length": 64, "held_out": 0.0005, "threads": 1, "progress": False}
try:
    adapted = biorel.adapt(encoder, path if source == "file" else texts(), **settings)
except OSError as error:
    print(error)
else:
    assert adapted.texts + adapted.held_out == int(count)
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(int(peak.split()[1]) / 1024)
"""


def run_adapt(encoder: Path, directory: Path, source: str, count: int) -> str:
    process = start_python(ADAPT, encoder, source, str(count), directory, stdout=-1)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0
    return output.decode()


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
@pytest.mark.parametrize("source", ["iterator", "file"])
def test_memory_does_not_grow_with_the_texts(encoder: Path, tmp_path: Path, source: str) -> None:
    few, many = (float(run_adapt(encoder, tmp_path, source, count)) for count in (2_000, 20_000))
    # A list of texts and of their pieces took 190 MB more.
    assert many - few < 20, f"{few:.0f} to {many:.0f} MB"


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
def test_a_full_disk_is_named(encoder: Path, tmp_path: Path) -> None:
    message = run_adapt(encoder, tmp_path, "limit", 1_000)
    assert "the word pieces of the texts are written to a temporary file there" in message
    assert "TMPDIR" in message


def test_an_error_of_the_iterator_is_raised(encoder: Path) -> None:
    def texts() -> Iterator[str]:
        yield "Aspirin helps."
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        biorel.adapt(encoder, texts(), **SETTINGS)


def test_the_temporary_file_is_beside_the_checkpoint_and_has_no_name(encoder: Path, tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def texts() -> Iterator[str]:
        for _ in range(5_000):
            yield "Aspirin helps."
        seen.append([path.name for path in (tmp_path / "new").iterdir()])

    biorel.adapt(encoder, texts(), checkpoint=tmp_path / "new" / "checkpoint", **SETTINGS)
    if sys.platform == "linux":
        assert seen == [[]]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["checkpoint"]


def test_another_choice_of_held_out_texts_is_another_run(encoder: Path, tmp_path: Path) -> None:
    texts = [f"Aspirin number {number} helps." for number in range(40)]
    settings = SETTINGS | {"checkpoint": tmp_path / "checkpoint"}
    biorel.adapt(encoder, texts, **settings)
    for other, fraction in ((texts, 0.2), ([*texts[:-1], "Heparin."], 0.05), ([*texts, ""], 0.05)):
        with pytest.raises(biorel.ConfigError, match="other settings, data or encoder"):
            biorel.adapt(encoder, other, held_out=fraction, **settings)


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
    path.write_bytes("Aspirin.\nHeparin.\nEntzündung".encode("latin-1"))
    with pytest.raises(biorel.ConfigError, match=r"latin\.txt: is not UTF-8 at byte 22"):
        biorel.adapt(encoder, path, **SETTINGS)


def test_a_lone_surrogate_is_named(encoder: Path) -> None:
    with pytest.raises(biorel.CorpusError, match="texts: item 1: character 2 is a lone surrogate"):
        biorel.adapt(encoder, ["aspirin", "as\ud800"], **SETTINGS)


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
    arguments = ["adapt", str(encoder), "--max-steps", "1", "--max-length", "64", "--threads", "1", "--no-progress"]
    both = [str(texts), f"ddi={biorel.sample_path('ddi')}", str(texts), "--output", str(tmp_path / "both")]
    assert main([*arguments, *both]) == 0
    assert "103 texts" in capsys.readouterr().err  # 28 + 2 x 40, without 5 that are held out
    for wrong, message in (("none.txt", "no file or folder none.txt"), ("ddi=none", "none"), ("x=y", "folder x=y")):
        assert main([*arguments, str(texts), wrong, "--output", str(tmp_path / "none")]) == 1
        assert message in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert main(["adapt", str(encoder), str(texts), "--output", str(tmp_path / "full")]) == 1
    assert "is not an encoder" in capsys.readouterr().err
