"""Formats of shared tasks and annotation tools: hand-written files, what is read of them, and what is refused.

One file, although it is long: the formats share the round trip and the table of mistakes.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import biorel
import pandas as pd
import pytest

DATA = Path(__file__).parent.parent / "data" / "documents"


def entities(document: biorel.Document) -> list[tuple[str, str, str]]:
    """Type, text at the offsets, and concepts of each entity."""
    rows = []
    for _, of_type, concepts, segments, _ in document._core.mentions:
        text = "+".join(document.text[start:end] for start, end in segments)
        rows.append((of_type, text, ";".join(concepts)))
    return rows


def relations(document: biorel.Document) -> list[tuple[str, str, str]]:
    """Type, and the texts of both arguments, of each relation."""
    texts = dict(document.entities[["id", "text"]].itertuples(index=False, name=None))
    return [(row.type, texts[row.entity1], texts[row.entity2]) for row in document.relations.itertuples()]


def reasons(document: biorel.Document) -> list[tuple[str, str]]:
    return list(document.findings[["id", "reason"]].itertuples(index=False, name=None))


def read(path: Path | str, format: Any = None) -> dict[str, biorel.Document]:
    found = list(biorel.read_documents(DATA / path, format))
    assert all(document.format == (format or found[0].format) for document in found)
    return {document.id: document for document in found}


def test_bionlp() -> None:
    documents = read("bionlp")
    assert list(documents) == ["two", "one"]
    one = documents["one"]
    assert entities(one)[:4] == [
        ("Protein", "Testol", ""),
        ("Protein", "𝛼-testin", ""),
        ("Bacteria", "Escherichia fictiva", "562"),
        ("Habitat", "soil", "OBT:000427"),
    ]
    # Events of two mentions are relations; one has a trigger, one has none.
    assert sorted(relations(one)) == [
        ("Binding", "Testol", "𝛼-testin"),
        ("Lives_In", "Escherichia fictiva", "soil"),
        ("Lives_In", "bacterium", "soil"),
    ]
    assert one.relations["trigger"].dropna().tolist() == ["T7"]
    assert reasons(one) == [
        ("one.*", "an equivalence"),
        ("one.E2", "an event of one mention"),
        ("one.E3", "an event with an event as argument"),
        ("one.M1", "an attribute"),
    ]
    assert len(documents["two"].relations) == 0
    corpus = biorel.load_corpus("bionlp", DATA / "bionlp" / "train")
    assert corpus.labels == ["none", "Binding", "Lives_In"]
    positive = corpus.instances("all").query("label != 'none'")
    # The bacterium is named in another sentence than the soil.
    assert positive[["entity1", "entity2", "label"]].values.tolist() == [
        ["Testol", "𝛼-testin", "Binding"],
        ["bacterium", "soil", "Lives_In"],
    ]
    assert corpus.statistics()["lost"].tolist() == [1]


def test_drugprot() -> None:
    documents = read("drugprot")
    first = documents["9100001"]
    assert entities(first) == [
        ("GENE", "KinC", ""),
        ("GENE-N", "KinB", ""),
        ("CHEMICAL", "testol", ""),
        ("GENE-Y", "𝛼-kinase", ""),
        ("CHEMICAL", "Testol", ""),
    ]
    assert ("ANTAGONIST", "testol", "KinB") in relations(first)
    assert documents["9100002"].entities.empty
    corpus = biorel.load_corpus("drugprot", DATA / "drugprot")
    found = corpus.instances("train")[["entity1", "entity2", "label"]].values.tolist()
    # A pair with two labels is two instances; the relation with KinC crosses sentences.
    assert found == [
        ["Testol", "𝛼-kinase", "INHIBITOR"],
        ["testol", "KinB", "DIRECT-REGULATOR"],
        ["testol", "KinB", "ANTAGONIST"],
    ]
    assert corpus.statistics()[["pairs", "lost"]].values.tolist() == [[3, 1]]


def test_prodigy() -> None:
    documents = read("prodigy")
    assert list(documents) == ["note 1", "-21", "31"]
    assert entities(documents["note 1"]) == [("CHEM", "𝛼-Testol", ""), ("GENE", "KinA", ""), ("CHEM", "placebol", "")]
    assert relations(documents["note 1"]) == [("Binds", "𝛼-Testol", "KinA")]
    # The second span is stated by a relation alone, and once without its label.
    assert entities(documents["-21"]) == [("CHEM", "Testol", ""), ("GENE", "KinB", "")]
    assert relations(documents["-21"]) == [("Reg", "KinB", "Testol"), ("Binds", "Testol", "KinB")]
    assert reasons(documents["31"]) == [
        ("31.answer", "the answer is `reject`: the annotations of the document are not used")
    ]
    corpus = biorel.load_corpus("prodigy", DATA / "prodigy")
    assert corpus.instances("train")["label"].tolist() == ["Binds", "none", "Reg", "Binds"]


def test_prodigy_offsets_in_other_units_are_seen_in_the_tokens(tmp_path: Path) -> None:
    """Spans have no text, but tokens have: here both count UTF-16 code units."""
    row = json.loads((DATA / "prodigy" / "train.jsonl").read_text(encoding="utf-8").split("\n")[0])

    def shifted(value: Any) -> Any:
        if isinstance(value, dict):
            moved = {key: shifted(one) for key, one in value.items()}
            for key in ("start", "end"):
                if key in moved and moved[key] > 0:
                    moved[key] += 1  # one astral character comes first
            return moved
        return [shifted(one) for one in value] if isinstance(value, list) else value

    (tmp_path / "a.jsonl").write_text(json.dumps(shifted(row)))
    [document] = biorel.read_documents(tmp_path)
    assert entities(document)[0] == ("CHEM", "𝛼-Testol", "")
    assert reasons(document) == [("note 1.offsets", "offsets count UTF-16 code units; converted to characters")]


def test_bigbio() -> None:
    first = read("bigbio")["9200001"]
    assert entities(first) == [
        ("Chemical", "Testol", "MESH:C1"),
        ("Chemical", "alpha-+blockers", ""),
        ("Chemical", "Testol", "MESH:C1;CHEBI:7"),
        ("Disease", "𝛼-headache", ""),
    ]
    assert relations(first) == [("CID", "Testol", "𝛼-headache")]
    assert first.passages["type"].tolist() == ["title", "abstract"]
    assert [reason.split(";")[0] for _, reason in reasons(first)] == ["an event", "a coreference"]
    assert biorel.load_corpus("bigbio", DATA / "bigbio").labels == ["none", "CID"]


def test_label_studio() -> None:
    documents = read("label_studio")
    first = documents["71"]
    assert entities(first) == [("Drug", "𝛼-Testol", ""), ("Gene", "KinA", ""), ("Gene", "KinB", "")]
    assert relations(first) == [
        ("raises", "𝛼-Testol", "KinA"),
        ("raises", "𝛼-Testol", "KinB"),
        ("related", "KinA", "KinB"),
    ]
    assert first.relations["direction"].dropna().tolist() == ["bi"]
    assert dict(reasons(first)) == {
        "71.offsets": "offsets count UTF-16 code units; converted to characters",
        "71.annotations": "1 more annotations of the same task; the first one is read",
        "71.d": "a result of the type `choices`, neither a label nor a relation",
    }
    assert entities(documents["72"]) == [("Drug", "Testol", "")]
    assert reasons(documents["72"]) == [("72.predictions", "no annotation; the first prediction is read")]
    assert biorel.load_corpus("label-studio", DATA / "label_studio").labels == ["none", "raises", "related"]


def test_inception() -> None:
    document = read("inception")["note-1.txt"]
    assert entities(document) == [
        ("Drug", "𝛼-Testol", ""),
        ("Gene", "KinA", "http://example.org/KinA"),
        ("Gene", "KinB", ""),
    ]
    assert relations(document) == [("raises", "𝛼-Testol", "KinA")]
    assert document.sentences["text"].tolist() == ["𝛼-Testol raises KinA.", "KinB stays."]
    assert document.passages["is_sentence"].all()
    corpus = biorel.load_corpus("inception", DATA / "inception")
    assert corpus.instances("train")["label"].tolist() == ["raises"]
    with pytest.raises(biorel.ConfigError, match="`inception` is only read; choose one of pubtator"):
        biorel.write_documents([document], "never.json", "inception")


def test_plain_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Title\n\nTestol binds.", encoding="utf-8")
    [document] = biorel.read_documents(tmp_path, "text")
    assert (document.id, document.entities.empty) == ("a", True)
    assert document.sentences["text"].tolist() == ["Title", "Testol binds."]
    # Only where it is asked for: other texts lie beside documents.
    with pytest.raises(biorel.CorpusError, match="no file of documents was found"):
        list(biorel.read_documents(tmp_path))


FILES = {
    "bionlp": "bionlp/train",
    "drugprot": "drugprot",
    "prodigy": "prodigy/train.jsonl",
    "bigbio": "bigbio/train.jsonl",
    "label-studio": "label_studio/train.json",
}


@pytest.mark.parametrize("format", FILES)
def test_documents_survive_a_round_trip(tmp_path: Path, format: Any) -> None:
    documents = list(biorel.read_documents(DATA / FILES[format]))
    assert documents[0].format == format
    target = tmp_path / ("out" if format in ("bionlp", "drugprot") else "out.json")
    biorel.write_documents(documents, target, format)
    assert list(biorel.read_documents(target, format)) == documents
    # Without their original text, they keep what biorel has read.
    rebuilt = [
        biorel.Document(
            biorel._biorel.Document(
                one.id, one._core.passages, [mention[:4] for mention in one._core.mentions], one._core.relations
            )
        )
        for one in documents
    ]
    again = tmp_path / ("again" if format in ("bionlp", "drugprot") else "again.json")
    biorel.write_documents(rebuilt, again, format)
    for one, other in zip(rebuilt, biorel.read_documents(again, format), strict=True):
        assert (one.id, one.text) == (other.id, other.text)
        assert sorted(relations(one)) == sorted(relations(other))
        assert sorted(entities(one)) == sorted(entities(other))


@pytest.mark.parametrize("format", ["prodigy", "bigbio", "label-studio"])
def test_predicted_relations_are_written(tmp_path: Path, run: biorel.Run, format: Any) -> None:
    found = biorel.predict_documents(
        run.model,
        DATA / FILES[format],
        tmp_path,
        format=format,
        types={"CHEM": "drug", "GENE": "drug", "Chemical": "drug", "Disease": "drug", "Drug": "drug", "Gene": "drug"},
        progress=False,
    )
    assert found.pairs > 0
    [part] = (tmp_path / "relations").iterdir()
    before = list(biorel.read_documents(DATA / FILES[format]))
    after = list(biorel.read_documents(part, format))
    assert [one.id for one in after] == [one.id for one in before]
    assert [entities(one) for one in after] == [entities(one) for one in before]
    if format != "label-studio":  # there they are a prediction beside the annotation
        assert sum(len(one.relations) for one in after) >= sum(len(one.relations) for one in before)


def copy(tmp_path: Path, name: str) -> Path:
    target = tmp_path / Path(name).name
    (shutil.copytree if (DATA / name).is_dir() else shutil.copy)(DATA / name, target)  # type: ignore[operator]
    return target


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text, old
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


BAD: list[tuple[str, str, str, str, str]] = [
    ("bionlp/train", "one.a2", "Theme:T1", "Theme:T99", r"one\.a2:5: E1 names T99, which is not in the file"),
    ("bionlp/train", "one.a2", "\tbind", "\tbound", r"one\.a2:1: T7 has offsets .* which is `bind`, but its text is"),
    ("bionlp/train", "one.a1", "T2\t", "T1\t", r"one\.a1:2: T1 appears twice"),
    (
        "drugprot",
        "drugprot_training_entities.tsv",
        "\tKinB",
        "\tKinX",
        r"entities\.tsv:2: document 9100001: entity T4 .* `KinB`",
    ),
    (
        "drugprot",
        "drugprot_training_relations.tsv",
        "Arg2:T4",
        "Arg2:T9",
        r"relations\.tsv:2: 9100001 has no entity T9",
    ),
    (
        "drugprot",
        "drugprot_training_relations.tsv",
        "\tArg1:T1",
        "",
        r"relations\.tsv:1: has 3 columns; a table of relations",
    ),
    (
        "drugprot",
        "drugprot_training_relations.tsv",
        "9100001",
        "77",
        r"relations\.tsv:1: document 77 is not in drugprot_tr",
    ),
    (
        "drugprot",
        "drugprot_training_abstracs.tsv",
        "\tIn mice",
        " In mice",
        r"abstracs\.tsv:1: has 2 columns; a table of abs",
    ),
    (
        "prodigy",
        "train.jsonl",
        '"label": "Binds"',
        '"label": ""',
        r"train\.jsonl:1: document note 1: relations\[0\] has no",
    ),
    (
        "prodigy",
        "train.jsonl",
        '"text": "binds"',
        '"text": "bound"',
        r"train\.jsonl:1: document note 1: entity token .* `binds`",
    ),
    (
        "bigbio",
        "train.jsonl",
        '"arg2_id": "6"',
        '"arg2_id": "66"',
        r"train\.jsonl:1: document 9200001: relation 9 names 66",
    ),
    (
        "bigbio",
        "train.jsonl",
        '"offsets": [[0, 6]]',
        '"offsets": [[1, 6]]',
        r"document 9200001: entity 3 has offsets 1-6, which",
    ),
    (
        "label_studio",
        "train.json",
        '"from_id": "a"',
        '"from_id": "z"',
        r"task 71: a relation names the region z, which does",
    ),
    ("label_studio", "train.json", '"KinA"', '"KinX"', r"task 71: entity b has offsets .* but its text is `KinX`"),
    (
        "inception",
        "train.json",
        '"@Dependent": 7',
        '"@Dependent": 70',
        r"document note-1\.txt: relation 9 names 70, which",
    ),
    ("inception", "train.json", '"sofaString"', '"other"', r"train\.json:1: the CAS has no text"),
]


@pytest.mark.parametrize("bad", BAD, ids=[f"{row[1]}-{row[3][:12]}" for row in BAD])
def test_a_mistake_is_an_error_with_its_place_or_a_finding(tmp_path: Path, bad: tuple[str, str, str, str, str]) -> None:
    folder, file, old, new, message = bad
    root = copy(tmp_path, folder)
    count = len(list(biorel.read_documents(root)))
    change(root / file, old, new)
    with pytest.raises(biorel.CorpusError, match=message):
        list(biorel.read_documents(root))
    with pytest.warns(UserWarning, match=f"skipped: .*{message}"):
        kept = list(biorel.read_documents(root, errors="skip"))
    # Rows of an unknown document cost no other document.
    assert len(kept) == count - ("77" not in new)


def test_missing_files_are_named(tmp_path: Path) -> None:
    root = copy(tmp_path, "drugprot")
    (root / "drugprot_training_entities.tsv").unlink()
    with pytest.raises(biorel.CorpusError, match=r"abstracs\.tsv: its table of entities is missing"):
        list(biorel.read_documents(root))
    shutil.rmtree(root)
    root = copy(tmp_path, "bionlp")
    (root / "train" / "one.txt").unlink()
    with pytest.raises(biorel.CorpusError, match=r"one\.a1: its text .*one\.txt is missing"):
        list(biorel.read_documents(root / "train"))


def test_files_of_several_formats_in_a_folder(tmp_path: Path) -> None:
    for name in ("bionlp", "drugprot", "prodigy", "bigbio", "label_studio", "inception"):
        shutil.copytree(DATA / name, tmp_path / name)
    for file in [*tmp_path.rglob("*.jsonl"), *tmp_path.rglob("*.a2"), *tmp_path.rglob("*entities.tsv")]:
        Path(f"{file}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    formats = pd.Series([one.format for one in biorel.read_documents(tmp_path)]).value_counts().to_dict()
    assert formats == {
        "prodigy": 3, "bionlp": 2, "drugprot": 2, "bigbio": 2, "label-studio": 2, "inception": 1,
    }  # fmt: skip
    with pytest.raises(biorel.CorpusError, match=r"no file in the format bioc was found; .*train\.json is inception"):
        biorel.load_corpus("bioc", tmp_path / "inception" / "train.json")
    corpus = biorel.load_corpus("prodigy", tmp_path)
    assert corpus.findings()["reason"].eq("a file of another format").sum() == 6


def test_one_location_over_a_discontinuous_mention(tmp_path: Path) -> None:
    """EU-ADR in BioC: the text of the annotation lacks words between its first and last character."""
    text = "BRCA1 in breast and ovarian cancer and in sporadic breast or colon cancer."
    start = text.index("breast or")
    xml = (
        "<collection><source/><date/><key/><document><id>1</id><passage><offset>0</offset>"
        f"<text>{text}</text><annotation id='T1'><infon key='type'>Gene</infon><location offset='0' length='5'/>"
        "<text>BRCA1</text></annotation><annotation id='T2'><infon key='type'>Disease</infon>"
        f"<location offset='{start}' length='22'/><text>breast cancer</text></annotation></passage>"
        "<relation id='R1'><infon key='type'>PA</infon><node refid='T1' role=''/><node refid='T2' role=''/></relation>"
        "</document></collection>"
    )
    (tmp_path / "a.xml").write_text(xml)
    corpus = biorel.load_corpus("bioc", tmp_path)
    assert corpus.instances("all")["label"].tolist() == ["PA"]
    [document] = biorel.read_documents(tmp_path)
    assert entities(document) == [("Gene", "BRCA1", ""), ("Disease", "breast+cancer", "")]


def test_anonymised_tables_as_biobert_has_them(tmp_path: Path) -> None:
    train = [('The @GENE$ variant is "linked" to @DISEASE$.', 1), ('"No tie of @GENE$ to @DISEASE$ was seen.', 0)]
    (tmp_path / "train.tsv").write_text("".join(f"{text}\t{label}\n" for text, label in train))
    rows = "".join(f"{number}\t{text}\t{label}\n" for number, (text, label) in enumerate(train))
    (tmp_path / "test.tsv").write_text(f"index\tsentence\tlabel\n{rows}")
    corpus = biorel.load_corpus("table", tmp_path)
    assert corpus.splits == ["train", "test"]
    for split in corpus.splits:
        found = corpus.instances(split)
        assert found["text"].tolist() == [text for text, _ in train]
        assert found["label"].tolist() == ["1", "0"]
        assert found["entity1"].tolist() == ["@GENE$", "@GENE$"]
    assert corpus.negative == "0"
    (tmp_path / "dev.tsv").write_text("The @GENE$ variant.\t1\n")
    with pytest.raises(biorel.CorpusError, match=r"dev\.tsv:1: the text has one tag"):
        biorel.load_corpus("table", tmp_path)


def relation_row(change: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
    text = "MKP-1 acts on 𝛼-STAT1 in vivo."
    row: dict[str, Any] = {"id": "d1.s0", "text": text, "directed": False, "reverse": False}
    relation = {"relation_type": "Phosphorylation", "relation_id": 25}
    for number, mention in ((1, "𝛼-STAT1"), (2, "MKP-1")):
        start = text.index(mention)
        relation |= {
            f"entity_{number}": mention,
            f"entity_{number}_idx": [start, start + len(mention)],
            f"entity_{number}_type": "GENE",
        }
    row["relation"] = [relation]
    if change is not None:
        change(row)
    return row


def test_json_lines_of_relations(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"

    def negative(row: dict[str, Any]) -> None:
        row["id"] = "d1.s1"
        row["relation"][0] |= {"relation_type": "negative", "entity_1_idx": [[6, 10], [11, 13]]}

    def reverse(row: dict[str, Any]) -> None:
        row["reverse"] = True

    path.write_text("".join(json.dumps(relation_row(one)) + "\n" for one in (None, negative, reverse)))
    with pytest.warns(UserWarning, match="1 rows that repeat others with the entities exchanged are left out"):
        corpus = biorel.load_corpus("table", path)
    found = corpus.instances("all")
    assert found[["id", "label", "entity1", "entity2"]].values.tolist() == [
        ["d1.s0", "Phosphorylation", "𝛼-STAT1", "MKP-1"],
        ["d1.s1", "negative", "acts on", "MKP-1"],
    ]

    def wrong(row: dict[str, Any]) -> None:
        row["relation"][0] |= {"entity_1_idx": [0, 5], "relation_type": "negative"}

    path.write_text(json.dumps(relation_row()) + "\n" + json.dumps(relation_row(wrong)) + "\n")
    with pytest.raises(biorel.CorpusError, match=r"train\.jsonl:2: entity1 is `𝛼-STAT1`, but characters 0 to 5 of the"):
        biorel.load_corpus("table", path)
    path.write_text(json.dumps(relation_row(lambda row: row.pop("text"))) + "\n")
    with pytest.raises(biorel.CorpusError, match=r"train\.jsonl:1: has no `text`"):
        biorel.load_corpus("table", path)
