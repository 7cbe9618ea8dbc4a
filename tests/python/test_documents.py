"""Documents in Python: compared with the library `bioc`, from tables and spaCy, as corpora."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bioc
import biorel
import pandas as pd
import pytest
from bioc import biocjson, biocxml, pubtator
from hypothesis import given, settings
from hypothesis import strategies as st

DATA = Path(__file__).parent.parent / "data" / "documents"


def spans(document: biorel.Document) -> list[tuple[str, int, int]]:
    return list(document.entities[["id", "start", "end"]].itertuples(index=False, name=None))


def test_bioc_xml_is_read_like_the_library_does() -> None:
    with (DATA / "bioc" / "edge_cases.xml").open(encoding="utf-8") as file:
        theirs = {document.id: document for document in biocxml.load(file).documents}
    ours = {document.id: document for document in biorel.read_documents(DATA / "bioc" / "edge_cases.xml")}
    assert ours.keys() == theirs.keys()
    document = theirs["bx1"]
    found = [
        (one.id, one.infons["type"], [(location.offset, location.end) for location in one.locations], one.text)
        for passage in document.passages
        for one in passage.annotations
        if one.locations
    ]
    mentions = ours["bx1"]._core.mentions
    assert [(name, entity_type, segments, text) for name, entity_type, _, segments, text in mentions] == found
    assert ours["bx1"].passages["text"].tolist() == [passage.text for passage in document.passages]
    assert ours["bx1"].passages["start"].tolist() == [passage.offset for passage in document.passages]


def test_pubtator_is_read_like_the_library_does() -> None:
    # The library does not support relations with more columns, mentions without identifier, or a missing abstract.
    text = (DATA / "pubtator" / "edge_cases.txt").read_text(encoding="utf-8").split("\n\n")[0]
    text = text.replace("Placebol\tChemical\n", "Placebol\tChemical\t-\n")
    [theirs] = pubtator.loads(text)
    ours = next(biorel.read_documents(DATA / "pubtator" / "edge_cases.txt"))
    assert ours.text == theirs.text.replace("\n", " ")
    assert ours.entities[["start", "end", "text", "type"]].values.tolist() == [
        [one.start, one.end, one.text, one.type] for one in theirs.annotations
    ]
    assert ours.relations[["type", "entity1", "entity2"]].values.tolist() == [
        [one.type, one.id1, one.id2] for one in theirs.relations
    ]


@pytest.mark.parametrize(("name", "load"), [("all.xml", biocxml.load), ("all.json", biocjson.load)])
def test_the_library_reads_our_files(tmp_path: Path, name: str, load: object) -> None:
    for folder in ("pubtator", "brat/train", "bioc"):
        documents = list(biorel.read_documents(DATA / folder))
        # Without the raw records: the library's JSON needs fields that PubTator's export omits.
        rebuilt = [biorel.Document(biorel._biorel.Document(*_parts(one))) for one in documents]
        biorel.write_documents(rebuilt, tmp_path / name)
        with (tmp_path / name).open(encoding="utf-8") as file:
            collection = load(file)  # type: ignore[operator]
        assert [one.id for one in collection.documents] == [one.id for one in documents]
        for ours, theirs in zip(rebuilt, collection.documents, strict=True):
            found = [
                (one.id, one.total_span.offset, one.total_span.end)
                for passage in theirs.passages
                for one in passage.annotations
            ]
            assert sorted(found) == sorted(spans(ours))
            assert all(isinstance(one, bioc.BioCRelation) for one in theirs.relations)
            assert len(theirs.relations) == len(ours.relations)


def _parts(document: biorel.Document) -> tuple[object, ...]:
    core = document._core
    return core.id, core.passages, [mention[:4] for mention in core.mentions], core.relations


def test_documents_survive_a_round_trip(tmp_path: Path) -> None:
    for source, target in [
        ("pubtator/edge_cases.txt", "a.txt"),
        ("bioc/edge_cases.xml", "a.xml"),
        ("bioc/export.json", "a.json"),
        ("brat/train", "brat"),
    ]:
        documents = list(biorel.read_documents(DATA / source))
        biorel.write_documents(documents, tmp_path / target, documents[0].format)
        again = list(biorel.read_documents(tmp_path / target))
        assert again == documents, source
        assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".partial")]
    with pytest.raises(biorel.ConfigError, match=r"cannot be inferred from the name a\.doc"):
        biorel.write_documents([], tmp_path / "a.doc")
    bad = biorel.documents_from_tables(pd.DataFrame({"document": ["../x"], "text": ["x"]}), pd.DataFrame())
    with pytest.raises(biorel.CorpusError, match="cannot be the name of a file"):
        biorel.write_documents(bad, tmp_path / "more", "brat")


def test_a_malformed_document_is_raised_or_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1|t|A\n1\t0\t5\tA\tX\n\n2|t|B\n2|a|C\n")
    with pytest.raises(biorel.CorpusError, match=r"a.txt:2: document 1") as caught:
        list(biorel.read_documents(tmp_path))
    assert caught.value.line == 2
    with pytest.warns(UserWarning, match="skipped: .*document 1"):
        found = list(biorel.read_documents(tmp_path, errors="skip"))
    assert [document.id for document in found] == ["2"]
    with pytest.raises(FileNotFoundError):
        list(biorel.read_documents(tmp_path / "gone.txt"))
    with pytest.raises(biorel.CorpusError, match="no file of documents was found"):
        list(biorel.read_documents(tmp_path, "bioc-xml"))
    with pytest.raises(biorel.ConfigError, match="choose raise or skip"):
        list(biorel.read_documents(tmp_path, errors="warn"))  # type: ignore[arg-type]
    with pytest.raises(biorel.ConfigError, match="choose one of pubtator, bioc-json, bioc-xml, brat"):
        list(biorel.read_documents(tmp_path, "word"))  # type: ignore[arg-type]


TEXTS = pd.DataFrame({"document": ["d1", 2], "text": ["𝛼-testol helps ab- and cdol.", "Nothing."]})
ENTITIES = pd.DataFrame(
    {
        "document": ["d1"] * 4,
        "id": ["a", "b", "b", "c"],
        "start": [0, 15, 25, 23],
        "end": [8, 18, 27, 27],
        "type": ["drug"] * 4,
        "concept": ["M1;M2", None, None, ""],
        "text": ["𝛼-testol", None, None, "cdol"],
    }
)


def test_documents_from_tables() -> None:
    relations = pd.DataFrame({"document": ["d1"], "entity1": ["a"], "entity2": ["c"], "label": ["with"]})
    first, second = biorel.documents_from_tables(TEXTS, ENTITIES, relations)
    assert (first.id, second.id, second.entities.empty) == ("d1", "2", True)
    assert first.entities["segments"].tolist() == [[(0, 8)], [(15, 18), (25, 27)], [(23, 27)]]
    assert first.entities["concept"].tolist() == ["M1;M2", "", ""]
    assert first.relations.values.tolist() == [["R1", "with", "a", "c"]]
    corpus = biorel.load_corpus("documents", [first, second])
    assert corpus.labels == ["none", "with"]
    assert corpus.instances("all")["text"].tolist()[1] == "@DRUG$ helps ab- and @DRUG$."


def test_identifiers_that_pandas_made_floats() -> None:
    texts = pd.DataFrame({"document": [1.0, 2.0], "text": ["TP53 binds MDM2.", "Nothing."]})
    entities = pd.DataFrame({"document": [1.0, 1.0], "start": [0, 11], "end": [4, 15], "type": "Gene"})
    entities = entities.assign(concept=[7157, None], id=[1.0, 2.0])
    relations = pd.DataFrame({"document": [1.0], "entity1": [1.0], "entity2": [2.0], "label": ["Bind"]})
    first, second = biorel.documents_from_tables(texts, entities, relations)
    assert (first.id, second.id) == ("1", "2")
    assert first.entities["concept"].tolist() == ["7157", ""]
    assert first.relations[["entity1", "entity2"]].values.tolist() == [["1", "2"]]
    terms = biorel.Dictionary(pd.DataFrame({"term": ["TP53"], "type": "Gene", "identifier": [7157.0]}))
    [found] = biorel.annotate(["TP53 binds."], terms)
    assert found.entities["concept"].tolist() == ["7157"]


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("entities", {"start": [0, 15, 25, 27]}, "entities: row 3: characters 27 to 27 are outside the text"),
        ("entities", {"end": [8, 18, 27, 99]}, "entities: row 3: characters 23 to 99 are outside the text of 28"),
        ("entities", {"end": [8, 18, 27, 26.5]}, "entities: row 3: `end` must be a whole number"),
        ("entities", {"text": ["testol", None, None, None]}, "entities: row 0: its text is 'testol', but 0 to 8 is"),
        ("entities", {"document": ["d1", "d1", "d1", "d9"]}, "entities: row 3: document d9 is not in the table"),
        ("entities", {"type": ["drug", None, "drug", "drug"]}, "entities: row 1: column `type` has no value"),
        ("documents", {"document": ["d1", "d1"]}, "documents: row 1: document d1 appears twice"),
        ("documents", {"text": ["ok" * 20, 7]}, "documents: row 1: `text` must be a string, not int"),
        (
            "documents",
            {"text": pd.Series(["ok" * 20, "\ud800"], dtype=object)},
            "documents: row 1: character 0 is a lone surrogate",
        ),
    ],
)
def test_bad_tables(table: str, change: dict[str, Any], message: str) -> None:
    tables = {"documents": TEXTS, "entities": ENTITIES}
    tables[table] = tables[table].assign(**change)
    with pytest.raises(biorel.CorpusError, match=message.replace("(", r"\(")):
        biorel.documents_from_tables(tables["documents"], tables["entities"])
    with pytest.raises(biorel.CorpusError, match="documents: no column `text`; the columns are document"):
        biorel.documents_from_tables(TEXTS[["document"]], ENTITIES)
    relations = pd.DataFrame({"document": ["d1"], "entity1": ["a"], "entity2": ["z"], "label": ["with"]})
    with pytest.raises(biorel.CorpusError, match="relations: row 0: document d1 has no entity 'z'"):
        biorel.documents_from_tables(TEXTS, ENTITIES, relations)


def test_documents_from_spacy() -> None:
    import spacy

    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    doc = nlp("𝛼-testol helps. Cdol does not help testol.")
    doc.user_data["id"] = "PMID1"
    doc.ents = [doc.char_span(0, 8, label="drug", kb_id="M1"), doc.char_span(16, 20, label="drug")]
    doc.spans["sc"] = [
        doc.char_span(16, 20, label="drug"),
        doc.char_span(10, 20, label="drug", alignment_mode="expand"),
    ]
    (document,) = biorel.documents_from_spacy([doc])
    assert (document.id, document.text) == ("PMID1", doc.text)
    assert document.entities[["concept", "start", "end", "text"]].values.tolist() == [
        ["M1", 0, 8, "𝛼-testol"],
        ["", 16, 20, "Cdol"],
    ]
    assert document.sentences["text"].tolist() == [sentence.text for sentence in doc.sents]
    (document,) = biorel.documents_from_spacy([doc], spans="sc")
    assert len(document.entities) == 2
    # One entity crosses two of spaCy's sentences.
    assert sum(len(inside) for inside in document.sentences["entities"]) == 1
    with pytest.raises(biorel.ConfigError, match="has no spans 'x'; it has sc"):
        list(biorel.documents_from_spacy([doc], spans="x"))
    with pytest.raises(TypeError, match=r"docs\[0\] must be a spaCy Doc, not str"):
        list(biorel.documents_from_spacy(["text"]))


def test_corpora_of_documents(encoder: biorel.Encoder, tmp_path: Path) -> None:
    brat = biorel.load_corpus("brat", DATA / "brat")
    assert (brat.name, brat.splits, brat.labels) == ("brat", ["train", "test"], ["none", "Lowers", "Raises"])
    assert brat.statistics()["lost"].tolist() == [1, 0]
    given = biorel.load_corpus("pubtator", DATA / "pubtator", negative="no", pairs=[("Chemical", "Disease")])
    assert given.labels == ["no", "Association", "CID"]
    assert (
        biorel.load_corpus("bioc", DATA / "bioc" / "edge_cases.xml").labels
        == ["none", "binds", "inhibits", "three"][:3]
    )
    run = biorel.finetune(brat, encoder, max_length=96, max_steps=2, progress=False)
    run.model.save(tmp_path / "model")
    table = biorel.predict_documents(biorel.load(tmp_path / "model"), DATA / "brat" / "test")
    assert table[["entity1", "entity2"]].values.tolist() == [["DRGA", "PGX strongly"]]
    (tmp_path / "bare.txt").write_text("1|t|Aspirin helps.\n1|a|\n1\t0\t7\tAspirin\tDrug\n")
    with pytest.raises(biorel.CorpusError, match=r"bare\.txt: its documents have no relations"):
        biorel.load_corpus("pubtator", tmp_path / "bare.txt")
    with pytest.raises(biorel.ConfigError, match='"documents" takes Document objects'):
        biorel.load_corpus("documents", DATA / "brat")
    with pytest.raises(biorel.ConfigError, match="pairs: ddi does not take it"):
        biorel.load_corpus("ddi", biorel.sample_path("ddi"), pairs=[("a", "b")])


CHARACTERS = st.characters(exclude_categories=["Cs"])


@settings(max_examples=60, deadline=None)
@given(st.text(CHARACTERS, min_size=1, max_size=80), st.data())
def test_any_text_keeps_its_offsets(text: str, data: st.DataObject) -> None:
    chosen = []
    for number in range(data.draw(st.integers(0, 4))):
        start = data.draw(st.integers(0, len(text) - 1))
        end = data.draw(st.integers(start + 1, len(text)))
        chosen.append(("d", f"T{number + 1}", start, end, "x"))
    entities = pd.DataFrame(chosen, columns=["document", "id", "start", "end", "type"])
    (document,) = biorel.documents_from_tables(pd.DataFrame({"document": ["d"], "text": [text]}), entities)
    assert document.text == text
    for start, end, own in document.entities[["start", "end", "text"]].itertuples(index=False):
        assert own == text[start:end]
    for start, own, _ in document.sentences.itertuples(index=False):
        assert text[start : start + len(own)] == own
    core = document._core
    assert biorel._biorel.write_documents([core], "bioc-json")
    assert biorel._biorel.write_documents([core], "bioc-xml")
