"""Published files and hand-written ones with the same properties, compared with a small independent reader.

The reader takes only the starts of sentences from biorel; it reads lines, identifiers, relations and labels itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import biorel
import pytest

DATA = Path(__file__).parent.parent / "data" / "documents" / "field"
Pair = tuple[str, str, tuple[str, str]]


def concepts(field: str) -> set[str]:
    """The identifiers of a mention: the field itself, and its parts, unless it is a variant in tmVar's form."""
    if re.match(r"[a-z]?\|[A-Za-z]", field) or "HGVS:" in field:
        return {field}
    return {field, *re.split(r"[|,;]", field)} - {"-", "-1", "none", ""}


def named(argument: str, mentions: list[tuple[int, int, str, str, set[str]]]) -> list[int]:
    complete = [number for number, mention in enumerate(mentions) if argument in mention[4]]
    if complete or re.match(r"[a-z]?\|[A-Za-z]", argument):
        return complete
    parts = set(re.split(r"[|,;]", argument))
    return [number for number, mention in enumerate(mentions) if parts <= mention[4]]


def labelled_pairs(path: Path) -> Counter[Pair]:
    """Document, label and the two texts of each labelled pair of mentions of one sentence."""
    starts = {one.id: one.sentences["start"].tolist() for one in biorel.read_documents(path, "pubtator")}
    found: Counter[Pair] = Counter()
    for block in re.split(r"\n\s*\n", path.read_text(encoding="utf-8").strip()):
        lines = [line.rstrip("\r").split("\t") for line in block.split("\n")]
        document = lines[0][0].split("|")[0]
        mentions = [
            (int(row[1]), int(row[2]), row[3], row[4], concepts(row[5].strip() if len(row) > 5 else ""))
            for row in lines
            if len(row) >= 5 and row[1].isdigit()
        ]
        sentence = [sum(start <= mention[0] for start in starts[document]) for mention in mentions]
        pairs: set[tuple[frozenset[int], str]] = set()
        for row in lines:
            if len(row) < 4 or row[1].isdigit():
                continue
            for first in named(row[2].strip(), mentions):
                for second in named(row[3].strip(), mentions):
                    one, other = mentions[first], mentions[second]
                    # A mention listed twice is not a pair.
                    if sentence[first] == sentence[second] and (one[:2] != other[:2] or one[3] != other[3]):
                        pairs.add((frozenset((first, second)), row[1]))
        for numbers, label in pairs:
            first, second = sorted(mentions[number][2] for number in numbers)
            found[document, label, (first, second)] += 1
    return found


def read_pairs(corpus: biorel.Corpus) -> Iterator[Pair]:
    """The same for the corpus that biorel reads."""
    for split in corpus.splits:
        for row in corpus.instances(split).query("label != 'none'").itertuples():
            first, second = sorted((str(row.entity1), str(row.entity2)))
            yield str(row.document), str(row.label), (first, second)


def compare(path: Path) -> Counter[Pair]:
    expected = labelled_pairs(path)
    assert expected
    found = Counter(read_pairs(biorel.load_corpus("pubtator", path)))
    assert not found - expected, "read, but not in the file"
    assert not expected - found, "in the file, but not read"
    return found


def test_variants_and_composite_mentions_by_hand() -> None:
    found = compare(DATA / "concepts.pubtator")
    assert found == {
        ("7001", "Association", ("Q192R", "asthma")): 2,
        ("7002", "CID", ("Prednisolone", "nausea and vomiting")): 1,
        ("7002", "CID", ("Prednisolone", "nausea")): 1,
        ("7002", "CID", ("Prednisolone", "hepatic and renal failure")): 1,
        ("7003", "Association", ("KINA and KINB", "p.V600E")): 1,
    }


@pytest.mark.parametrize(
    ("file", "pairs"),
    [
        ("biored/Train.PubTator", 8827),
        ("biored/Dev.PubTator", 2309),
        ("biored/Test.PubTator", 2104),
        ("bc5cdr/CDR_TrainingSet.PubTator.PubTator.txt", 1809),
        ("bc5cdr/CDR_DevelopmentSet.PubTator.txt", 1945),
    ],
)
def test_biored_and_bc5cdr(corpora: Path, file: str, pairs: int) -> None:
    assert compare(corpora / file).total() == pairs


def test_bc5cdr_is_the_same_in_xml_and_text(corpora: Path) -> None:
    """Offsets of passages in the XML count escaped characters, and one annotation is off by one."""
    path = corpora / "bc5cdr" / "CDR_DevelopmentSet.BioC.xml"
    with pytest.raises(biorel.CorpusError, match="document 6415512: annotation .* `atypical absence seizures`"):
        biorel.load_corpus("bioc", path)
    xml = biorel.load_corpus("bioc", path, errors="skip")
    text = biorel.load_corpus("pubtator", corpora / "bc5cdr" / "CDR_DevelopmentSet.PubTator.txt")
    findings = xml.findings()
    assert findings["reason"].str.startswith("offsets count characters of escaped XML").sum() == 13
    [left] = findings.loc[findings["reason"].str.startswith("a document that cannot be read"), "reason"]
    assert "6415512" in left
    assert xml.statistics()["documents"].tolist() == [499]
    documents = [set(one.sentences(one.splits[0])["document"]) for one in (xml, text)]
    assert documents[1] - documents[0] == {"6415512"}
    expected = Counter(pair for pair in read_pairs(text) if pair[0] != "6415512")
    found = Counter(read_pairs(xml))
    assert not expected - found
    # The XML also lists the parts of composite mentions, such as `hemorrhagic` of `hemorrhagic cystitis`.
    assert (found - expected).total() == 92


def test_unreadable_documents_are_errors_or_findings(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("These files are described elsewhere.\n")
    (tmp_path / "a.txt").write_text((DATA / "concepts.pubtator").read_text(encoding="utf-8"))
    corpus = biorel.load_corpus("pubtator", tmp_path)
    assert corpus.findings().iloc[0][["kind", "reason"]].tolist() == [
        "skipped",
        "not a file of documents, by its first lines",
    ]
    (tmp_path / "b.txt").write_text("1|t|A\n1\t0\t5\tA\tX\n\n2|t|B\n2|a|C\n")
    with pytest.raises(biorel.CorpusError, match=r"b.txt:2: document 1"):
        biorel.load_corpus("pubtator", tmp_path)
    skipped: Any = biorel.load_corpus("pubtator", tmp_path, errors="skip")
    row = skipped.findings().query("reason.str.contains('cannot be read')").iloc[0]
    assert (row["id"], row["split"]) == (f"{tmp_path / 'b.txt'}:2", "all")
    assert "2" in set(skipped.sentences("all")["document"])
    with pytest.raises(biorel.ConfigError, match="choose raise or skip"):
        biorel.load_corpus("pubtator", tmp_path, errors="ignore")  # type: ignore[arg-type]
    with pytest.raises(biorel.ConfigError, match="errors: ddi does not take it"):
        biorel.load_corpus("ddi", biorel.sample_path("ddi"), errors="skip")
