"""A user's own table: entities as strings, files in many formats, and predictions for rows without labels."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import biorel
import pandas as pd
import pytest
from biorel.cli.main import main
from biorel.data.mentions import inside_words, occurrences
from pair_table import COLUMNS, TABLE
from tiny_bert import write_encoder


@pytest.mark.parametrize(
    ("text", "mention", "expected"),
    [
        ("TNF binds TNF.", "TNF", ["TNF", "TNF"]),
        ("tnf binds TNF.", "TNF", ["TNF"]),  # the case as given comes first
        ("tnf binds Tnf.", "TNF", ["tnf", "Tnf"]),
        ("IL-2R and IL-2.", "IL-2", ["IL-2"]),
        ("anti-TNF (TNF-α)", "TNF", ["TNF", "TNF"]),
        ("Statins help.", "statin", []),
        ("Die Straße.", "STRASSE", ["Straße"]),  # folding changes the length
        ("Die ßs.", "s", []),  # half of a folded character is no mention
        ("a.b", "a.b", ["a.b"]),
        ("x", "", []),
    ],
)
def test_occurrences_of_a_mention(text: str, mention: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in occurrences(text, mention)] == expected


def test_the_inside_of_words() -> None:
    spans = [(4, 9), (4, 8), (5, 9), (0, 3), (3, 4)]
    assert [span for span in spans if inside_words("the drugs", *span)] == [(4, 8), (5, 9)]


def test_entities_as_strings() -> None:
    corpus = biorel.load_corpus("table", TABLE, columns=COLUMNS)
    # The column `sentence` is the text here, and not an identifier.
    assert corpus.instances("all")["sentence"].tolist() == [f"table.s{row}" for row in range(4)]
    assert corpus.instances("all")["text"].tolist() == [
        "@ENTITY$ enhances @ENTITY$.",
        "No tie of @ENTITY$ to naïve @ENTITY$.",
        "@ENTITY$, but not IL-2R, enhances @ENTITY$.",
        "@ENTITY$ was given, and @ENTITY$.",
    ]
    assert corpus.instances("all")["entity2"].tolist() == ["warfarin", "β-warfarin", "Warfarin", "warfarin"]
    rows = biorel.load_corpus("table", TABLE.to_dict("records"), columns=COLUMNS)
    pd.testing.assert_frame_equal(rows.instances("all"), corpus.instances("all"))


def test_the_same_mention_twice_and_occurrences() -> None:
    text = "A b, a b, and c."
    table = pd.DataFrame({"text": [text] * 2, "entity1": ["b", "b"], "entity2": ["b", "c"], "label": ["x", "none"]})
    with pytest.raises(biorel.CorpusError, match=r"row 1: entity1 `b` occurs 2 times; which one\?"):
        biorel.load_corpus("table", table)
    table["entity1_occurrence"] = [None, 2]
    corpus = biorel.load_corpus("table", table)
    assert corpus.instances("all", "markers")["text"].tolist() == [
        "A [E1] b [/E1], a [E2] b [/E2], and c.",
        "A b, a [E1] b [/E1], and [E2] c [/E2].",
    ]
    with pytest.raises(biorel.CorpusError, match="entity1_occurrence is 3, but `b` occurs 2 times"):
        biorel.load_corpus("table", table.assign(entity1_occurrence=[None, 3]))
    with pytest.raises(biorel.CorpusError, match="row 0: both entities are the same mention `c`"):
        biorel.load_corpus("table", table.assign(entity1=["c", "b"], entity2="c"))


def test_mentions_that_cannot_be_located_are_listed(tmp_path: Path) -> None:
    table = TABLE.assign(drug_a=["aspirn", "tie ", "IL", "Asp"], drug_b=["Warfarin", "", "Warfarin", "warfarin"])
    with pytest.raises(biorel.CorpusError, match="row 1: column `drug_b` has no value"):
        biorel.load_corpus("table", table, columns=COLUMNS)
    table.loc[1, "drug_b"] = "aspirin"
    table.to_csv(tmp_path / "pairs.csv", index=False)
    for source, place in ((table, "row"), (tmp_path / "pairs.csv", "line")):
        with pytest.raises(biorel.CorpusError) as raised:
            biorel.load_corpus("table", source, columns=COLUMNS)
        first, *problems, remedy = str(raised.value).splitlines()
        assert "the entities of 3 of 4 rows" in first
        numbers = (0, 2, 3) if place == "row" else (2, 4, 5)
        assert [problem.split(": ", 1) for problem in problems] == [
            [f"  {place} {numbers[0]}", "drug_a `aspirn` is not in the text (it has `Aspirin`)"],
            [f"  {place} {numbers[1]}", "drug_a `IL` occurs 2 times; which one? (entity1_occurrence = 1 to 2)"],
            [f"  {place} {numbers[2]}", "drug_a `Asp` is not in the text as a word, only inside `Aspirin`"],
        ]
        assert "entity1_occurrence" in remedy
    many = pd.DataFrame({"text": ["a b"] * 30, "entity1": "a", "entity2": "c", "label": "none"})
    with pytest.raises(biorel.CorpusError, match="and 10 more"):
        biorel.load_corpus("table", many)


def test_names_of_columns_are_suggested() -> None:
    with pytest.raises(biorel.CorpusError) as raised:
        biorel.load_corpus("table", TABLE.rename(columns={"label": "relation"}))
    message = "no column `text`; the columns are sentence, drug_a, drug_b, relation; name yours, perhaps columns="
    message += '{"text": "sentence", "entity1": "drug_a", "entity2": "drug_b", "label": "relation"}'
    assert message in str(raised.value)
    with pytest.raises(biorel.CorpusError, match=r'no column `entity1`, neither offsets.*"entity1": "drug_a"'):
        biorel.load_corpus("table", TABLE, columns={"text": "sentence"})


@pytest.mark.parametrize(
    "name", ["a.csv", "a.tsv", "a.txt", "a.jsonl", "a.parquet", "a.xlsx", "semicolons.csv", "bom.csv"]
)
def test_formats_of_tables(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    match path.suffix:
        case ".jsonl":
            TABLE.to_json(path, orient="records", lines=True)
        case ".parquet":
            TABLE.to_parquet(path)
        case ".xlsx":
            TABLE.to_excel(path, index=False)
        case suffix:
            separator = ";" if name == "semicolons.csv" else "," if suffix == ".csv" else "\t"
            TABLE.to_csv(path, sep=separator, index=False, encoding="utf-8-sig" if name == "bom.csv" else "utf-8")
    found = biorel.load_corpus("table", path, columns=COLUMNS)
    expected = biorel.load_corpus("table", TABLE, columns=COLUMNS)
    pd.testing.assert_frame_equal(found.instances("all"), expected.instances("all"))


def test_words_and_sheets_of_excel(tmp_path: Path) -> None:
    table = TABLE.assign(label=["None", "NA", "None", "NA"])
    with pd.ExcelWriter(tmp_path / "a.xlsx") as writer:
        table.to_excel(writer, sheet_name="pairs", index=False)
        pd.DataFrame({"note": ["x"]}).to_excel(writer, sheet_name="notes", index=False)
        pd.DataFrame().to_excel(writer, sheet_name="empty", index=False)
    with pytest.warns(UserWarning, match="pairs|NA") as found:
        corpus = biorel.load_corpus("table", tmp_path / "a.xlsx", columns=COLUMNS)
    assert corpus.instances("all")["label"].tolist() == table["label"].tolist()
    messages = [str(one.message) for one in found]
    assert any("only the sheet `pairs` is read, not `notes`; save" in one for one in messages), messages
    assert any("missing value: 'NA'" in one for one in messages), messages


def test_cells_as_people_have_them(tmp_path: Path) -> None:
    # pandas makes whole numbers of a column with gaps floats.
    numbers = TABLE.assign(label=[1.0, 0.0, 1.0, 0.0], document=[7.0, 8.0, None, 9.0])
    corpus = biorel.load_corpus("table", numbers, columns=COLUMNS)
    assert (corpus.labels, corpus.negative) == (["0", "1"], "0")
    assert corpus.instances("all")["document"].tolist()[:2] == ["7", "8"]
    assert biorel.load_corpus("table", numbers, columns=COLUMNS, negative=0.0).negative == "0"
    with pytest.raises(biorel.CorpusError, match="row 1: column `split` has no value, and other rows have one"):
        biorel.load_corpus("table", TABLE.assign(split=["train", "", "train", "test"]), columns=COLUMNS)
    # Rows without any value, as spreadsheets append them, and white space of any kind in a mention.
    text = "Acetyl\u00a0 salicylic acid enhances warfarin."
    lines = ["text,entity1,entity2,label", f"{text},acetyl salicylic acid,warfarin,x", ",,,", "", " , ,,"]
    (tmp_path / "a.csv").write_text("\n".join([*lines, "A binds B.,A,B,none", ",,,"]))
    found = biorel.load_corpus("table", tmp_path / "a.csv").instances("all")
    assert found["entity1"].tolist() == ["Acetyl\u00a0 salicylic acid", "A"]
    wrong: Any
    for setting, wrong in (("labels", "none,effect"), ("columns", ["text"])):
        with pytest.raises(biorel.ConfigError, match=f"{setting}: must be a "):
            biorel.load_corpus("table", TABLE, **{setting: wrong})
    with pytest.raises(biorel.ConfigError, match="name: must be that of a corpus or format"):
        biorel.load_corpus(TABLE, "table")  # type: ignore[arg-type]


def test_files_with_other_columns(tmp_path: Path) -> None:
    TABLE.assign(document="d", note="x").to_csv(tmp_path / "train.csv", index=False)
    TABLE.assign(document="e").to_csv(tmp_path / "test.csv", index=False)
    assert biorel.load_corpus("table", tmp_path, columns=COLUMNS).splits == ["train", "test"]
    TABLE.to_csv(tmp_path / "test.csv", index=False)
    with pytest.raises(biorel.CorpusError, match=r"test\.csv: has no column `document`, which .*train\.csv has"):
        biorel.load_corpus("table", tmp_path, columns=COLUMNS)


def test_empty_cells_of_optional_columns(tmp_path: Path) -> None:
    table = TABLE.assign(
        document=["d", None, "d", ""], entity1_type=["drug", "", None, "drug"], id=["a", "", "b", None]
    )
    table.to_csv(tmp_path / "a.csv", index=False)
    for source, where in ((table, "table: .*row 1"), (tmp_path / "a.csv", r"a\.csv: .*line 3")):
        with pytest.warns(UserWarning, match=f"{where}; their entities become @ENTITY"):
            found = biorel.load_corpus("table", source, columns=COLUMNS).instances("all")
        assert found["document"].tolist()[::2] == ["d", "d"]
        assert found["document"].nunique() == 3
        assert found["id"].tolist()[::2] == ["a", "b"]
        assert found["text"].tolist()[:2] == ["@DRUG$ enhances @ENTITY$.", "No tie of @ENTITY$ to naïve @ENTITY$."]


def test_several_files_are_splits(tmp_path: Path) -> None:
    for split, rows in (("train", TABLE[:2]), ("test", TABLE[2:])):
        rows.to_csv(tmp_path / f"{split}.csv", index=False)
    corpus = biorel.load_corpus("table", tmp_path, columns=COLUMNS)
    assert corpus.splits == ["train", "test"]
    assert corpus.instances("test")["row"].tolist() == [0, 1]
    bad = TABLE[2:].assign(drug_a="x")
    bad.to_csv(tmp_path / "test.csv", index=False)
    with pytest.raises(biorel.CorpusError, match=r"test\.csv, line 2: drug_a `x` is not in the text"):
        biorel.load_corpus("table", tmp_path, columns=COLUMNS)


OFFSETS = b"entity1_start,entity1_end,entity2_start,entity2_end"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"text,label\nna\xefve,x\n", r"a\.csv:2: .*\(byte 0xEF\); in Windows-1252 it reads `naïve,x`"),
        ("text,label\n".encode("utf-16"), "is UTF-16, not UTF-8"),
        (b"text,label\n\x81,x\n", r"a\.csv:2: is not UTF-8 \(byte 0x81\); convert it"),
        (b"text,label\na,b,c\n", r"a\.csv:2: has 3 columns where the header has 2"),
        (b'text,label\n"a,b\n', r"a\.csv:2: unexpected end of data"),
        (b"text,text\na,b\n", r"a\.csv:1: column `text` appears twice"),
        (b"text,label,entity1,entity2\n", r"a\.csv: has no rows"),
        (b"", r"a\.csv: has no rows"),
        (
            b"id,text,label,entity1,entity2\n7,a b,x,a,b\n7,c d,y,c,d\n",
            r"a\.csv:3: id 7 appears twice; .*rename the column",
        ),
        (
            b"sentence,text,label,entity1,entity2\n1,a b,x,a,b\n1,c d,y,c,d\n",
            r"a\.csv:3: sentence 1 has another text .* rename the column",
        ),
        (b"text,label,entity1,entity2\na b,,a,b\n", r"a\.csv:2: column `label` has no value"),
        (b"text,label,entity1_start\na b,x,0\n", "no column `entity1_end`"),
        (b"text,label," + OFFSETS + b"\na b,x,0,1,2,9\na b,y,0,1,2,3\n", r"a\.csv:2: entity2_end 9"),
        (b"text,label," + OFFSETS + b"\na b,x,0,1,-1,0\n", r"a\.csv:2: .*`str.find` gives -1"),
    ],
)
def test_errors_of_table_files(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(biorel.CorpusError, match=words):
        biorel.load_corpus("table", tmp_path / "a.csv", negative="x")


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    for name in ("a.docx", "a.xlsx", "a.parquet", "a.zip"):
        (tmp_path / name).write_bytes(b"no table")
        with pytest.raises(biorel.CorpusError, match=name):
            biorel.load_corpus("table", tmp_path / name)
    with pytest.raises(FileNotFoundError):
        biorel.load_corpus("table", tmp_path / "none.csv")
    for options in ({"splits": "blue"}, {"pairs": [("a", "b")]}, {"errors": "skip"}):
        with pytest.raises(biorel.ConfigError, match=next(iter(options))):
            biorel.load_corpus("table", TABLE, columns=COLUMNS, **options)  # type: ignore[arg-type]
    with pytest.raises(biorel.ConfigError, match="offsets"):
        biorel.load_corpus("ddi", biorel.sample_path("ddi"), offsets="bytes")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (None, "a table is a path.*, not NoneType"),
        (5, "not int"),
        ([], "an empty list has no table"),
        ({"text": ["x"]}, r"not dict; for a dict of columns write pd.DataFrame\(source\)"),
        ([["x", "none"]], r"\['x', 'none'\] is neither a path nor a row"),
    ],
)
def test_sources_that_are_no_tables(source: Any, words: str) -> None:
    with pytest.raises(biorel.ConfigError, match=f"source: .*{words}"):
        biorel.load_corpus("table", source)


@pytest.mark.parametrize(("labels", "negative"), [([1, 0, 1, 0], 0), ([True, False, True, False], False)])
def test_labels_that_are_no_strings(labels: list[Any], negative: Any) -> None:
    table = TABLE.assign(label=labels)
    corpus = biorel.load_corpus("table", table, columns=COLUMNS, negative=negative, labels=[labels[1], labels[0]])
    assert (corpus.labels, corpus.negative) == ([str(labels[1]), str(labels[0])], str(negative))
    numbered = table.set_axis(range(4), axis=1)
    columns: Any = dict(zip(COLUMNS, range(3), strict=True)) | {"label": 3}
    assert biorel.load_corpus("table", numbered, columns=columns).labels == corpus.labels


def test_offsets_in_bytes() -> None:
    text = "Naïve β-warfarin enhances aspirin."
    spans = [(len(text[: text.index(name)].encode()), len(name.encode())) for name in ("β-warfarin", "aspirin")]
    offsets = {f"entity{n}_start": start for n, (start, _) in enumerate(spans, 1)}
    offsets |= {f"entity{n}_end": start + length for n, (start, length) in enumerate(spans, 1)}
    table = pd.DataFrame([{"text": text, "label": label, **offsets} for label in ("none", "x")])
    named = table.assign(entity1="β-warfarin", entity2="aspirin")
    with pytest.raises(
        biorel.CorpusError, match='row 0: entity1 is `β-warfarin`.*they are bytes: give offsets="bytes"'
    ):
        biorel.load_corpus("table", named)
    for one in (table, named):
        corpus = biorel.load_corpus("table", one, offsets="bytes")
        assert corpus.instances("all")["text"][0] == "Naïve @ENTITY$ enhances @ENTITY$."
    with pytest.raises(biorel.CorpusError, match="row 0: entity1: bytes 3 to 5 cut a character"):
        biorel.load_corpus("table", table.assign(entity1_start=3, entity1_end=5), offsets="bytes")
    with pytest.raises(biorel.CorpusError, match="row 0: entity2_end"):
        biorel.load_corpus("table", table.assign(entity2_end=99), offsets="bytes")


@pytest.fixture(scope="module")
def model(encoder: biorel.Encoder, tmp_path_factory: pytest.TempPathFactory) -> biorel.RelationModel:
    corpus = biorel.load_corpus("table", TABLE, columns=COLUMNS)
    run = biorel.finetune(corpus, encoder, train="all", test=None, max_steps=2, max_length=64, progress=False)
    run.save(tmp_path_factory.mktemp("own") / "model")
    return run.model


NEW = TABLE.drop(columns="label").set_axis(["w", "x", "y", "z"])


def test_a_table_is_predicted_with_the_columns_that_trained_the_model(
    model: biorel.RelationModel, tmp_path: Path
) -> None:
    gold = model.predictions(biorel.load_corpus("table", TABLE, columns=COLUMNS), "all")
    model.save(tmp_path / "model")
    for one in (model, biorel.load(tmp_path / "model")):
        found = one.predict(NEW)
        assert found.columns.tolist() == [*NEW.columns, "relation", "probability", "p_none", "p_effect"]
        assert found.index.tolist() == NEW.index.tolist()
        assert found["p_effect"].tolist() == gold["p_effect"].tolist()
        assert found["relation"].tolist() == gold["predicted"].tolist()
    # Rows as dicts, our own names, other names, a part of the rows.
    renamed = NEW.rename(columns={theirs: ours for ours, theirs in COLUMNS.items()})
    other = NEW.rename(columns={"sentence": "satz"})
    for table, options in (
        (NEW.to_dict("records"), {}),
        (renamed, {}),
        (other, {"columns": COLUMNS | {"text": "satz"}}),
    ):
        assert one.predict(table, **options)["p_none"].tolist() == found["p_none"].tolist()
    assert one.predict(NEW[1:2])["p_none"].tolist() == found["p_none"].tolist()[1:2]


def test_columns_of_a_table_that_is_predicted(model: biorel.RelationModel) -> None:
    found = model.predict(NEW.assign(relation="?"))
    assert found.columns[3:5].tolist() == ["given_relation", "relation"]
    with pytest.raises(
        biorel.CorpusError, match="no column `sentence`; the model was trained .* sentence, drug_a, drug_b"
    ):
        model.predict(NEW.rename(columns={"sentence": "satz"}))
    with pytest.raises(biorel.CorpusError, match="row y: drug_a `x` is not in the text"):
        model.predict(NEW.assign(drug_a=["aspirin", "aspirin", "x", "Aspirin"]))
    with pytest.raises(biorel.ConfigError, match="columns: applies to a table"):
        model.predict([{"text": "a", "entities": []}], columns={"text": "x"})


def test_columns_that_prediction_does_not_need(model: biorel.RelationModel, tmp_path: Path) -> None:
    """They may mean anything, and repeat."""
    expected = model.predict(NEW)
    table = NEW.assign(id=7, document="d", split="x", fold="?", entities="see note")
    table.to_csv(tmp_path / "new.csv", index=False)
    table.to_json(tmp_path / "new.jsonl", orient="records", lines=True)
    model.save(tmp_path / "model")
    for found in (model.predict(table), model.predict(table.to_dict("records"))):
        assert found["p_effect"].tolist() == expected["p_effect"].tolist()
        assert found["entities"].tolist() == ["see note"] * 4
    for name in ("new.csv", "new.jsonl"):
        output = tmp_path / f"out-{name}.tsv"
        assert main(["predict", str(tmp_path / "model"), str(tmp_path / name), "--output", str(output)]) == 0
        assert pd.read_csv(output, sep="\t")["relation"].tolist() == expected["relation"].tolist()
    assert len(model.predict(pd.DataFrame({"text": [], "entities": []}))) == 0
    with pytest.raises(biorel.CorpusError, match=r"sentences\[1\]: 'entities' must be a list"):
        model.predict(pd.DataFrame({"text": ["a", "b"], "entities": [[], None]}))


def test_rows_come_from_anything_but_paths(model: biorel.RelationModel) -> None:
    rows: Any = NEW.to_dict("records")
    assert model.predict(iter(rows))["p_none"].tolist() == model.predict(NEW)["p_none"].tolist()
    for path in ("new.csv", Path("new.csv")):
        with pytest.raises(biorel.ConfigError, match="sentences: must be a table or sentences, not a path"):
            model.predict(path)  # type: ignore[arg-type]


def test_options_of_documents_do_not_apply_to_tables(
    model: biorel.RelationModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model.save(tmp_path / "model")
    NEW.to_csv(tmp_path / "new.csv", index=False)
    command = ["predict", str(tmp_path / "model"), str(tmp_path / "new.csv")]
    for option in (["--related-only"], ["--threshold", "0.5"], ["--type", "a=b"], ["--shard", "1/2"]):
        assert main([*command, *option]) == 1
        assert f"error: {option[0][2:]}: applies to documents" in capsys.readouterr().err
    assert main([*command, "--output", str(tmp_path / "new.csv")]) == 1
    assert "is the table that is read; choose another name" in capsys.readouterr().err


def test_types_that_are_assumed(run: biorel.Run, encoder: biorel.Encoder) -> None:
    """A model of a published corpus knows which type comes first; of a user's table the columns say it."""
    corpus = biorel.load_sample("chemprot")
    settings: dict[str, Any] = {"max_steps": 1, "max_length": 64, "progress": False}
    trained = biorel.finetune(corpus, encoder, **settings).model
    row = {"text": "BRCA1 is inhibited by aspirin.", "entity1": "BRCA1", "entity2": "aspirin"}
    with pytest.warns(UserWarning, match="1 rows have no types of entities, so entity1 is taken to be CHEMICAL"):
        assumed = trained.predict([row])
    types = {"entity1_type": "CHEMICAL", "entity2_type": "GENE-Y"}
    assert trained.predict([row | types])["probability"].tolist() == assumed["probability"].tolist()
    assert len(run.model.predict([row])) == 1  # drugs alone


def test_a_labelled_table_on_the_command_line_has_the_columns_of_the_model(
    model: biorel.RelationModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model.save(tmp_path / "model")
    TABLE.to_csv(tmp_path / "a.csv", index=False)
    corpus = biorel.load_corpus("table", TABLE, columns=COLUMNS)
    for command in ("evaluate", "attention"):
        arguments = [command, str(tmp_path / "model"), "table", str(tmp_path / "a.csv"), "--split", "all"]
        assert main([*arguments, "--format", "csv"]) == 0
        found = pd.read_csv(io.StringIO(capsys.readouterr().out))
        if command == "evaluate":
            assert found["f1"].tolist() == pytest.approx(model.evaluate(corpus, "all")["f1"].tolist())
        else:
            assert found["instance"].unique().tolist() == corpus.instances("all")["id"].tolist()
    TABLE.rename(columns={"drug_b": "other"}).to_csv(tmp_path / "a.csv", index=False)
    assert main(["evaluate", str(tmp_path / "model"), "table", str(tmp_path / "a.csv"), "--split", "all"]) == 1
    assert "no column `entity2`" in capsys.readouterr().err


def test_types_of_a_table_that_is_predicted(encoder: biorel.Encoder, run: biorel.Run) -> None:
    settings: dict[str, Any] = {"train": "all", "test": None, "max_steps": 1, "max_length": 64, "progress": False}
    text = ["@GENE$ causes @DISEASE$.", "@GENE$ is not @DISEASE$."]
    tagged = biorel.finetune(
        biorel.load_corpus("table", pd.DataFrame({"text": text, "label": ["x", "none"]})), encoder, **settings
    ).model
    assert len(tagged.predict(pd.DataFrame({"text": text}))) == 2
    with pytest.raises(
        biorel.CorpusError, match="row 0: the model does not relate the types GENE and CELL, only GENE with DISEASE"
    ):
        tagged.predict(pd.DataFrame({"text": ["@GENE$ causes @CELL$."]}))
    row = {"text": "Famosis comes from ABC1.", "entity1": "ABC1", "entity2": "famosis"}
    expected = tagged.predict([row])
    for types in (("gene", "Disease"), ("", "DISEASE"), ("GENE", "")):
        typed = tagged.predict([row | {"entity1_type": types[0], "entity2_type": types[1]}])
        assert typed["p_x"].tolist() == expected["p_x"].tolist()
    # The types decide which entity is the first argument.
    swapped = {"entity1": "famosis", "entity2": "ABC1", "entity1_type": "disease", "entity2_type": "gene"}
    assert tagged.predict([row | swapped])["p_x"].tolist() == expected["p_x"].tolist()
    # The tags are those of the model: in its corpus every type of drug is @DRUG$.
    sentence = {"text": "Aspirin enhances warfarin.", "entity1": "aspirin", "entity2": "warfarin"}
    drugs = [run.model.predict([sentence | {"entity1_type": one, "entity2_type": two}]) for one, two in
             (("drug", "drug"), ("brand", "group"), ("", ""))]  # fmt: skip
    assert len({table["p_false"][0] for table in drugs}) == 1
    spans = [{"start": 0, "end": 7}, {"start": 17, "end": 25, "type": "Drug"}]
    assert run.model.predict([{"text": sentence["text"], "entities": spans}])["p_false"][0] == drugs[0]["p_false"][0]
    with pytest.raises(biorel.CorpusError, match="does not relate the types drug and disease"):
        run.model.predict([sentence | {"entity1_type": "drug", "entity2_type": "disease"}])
    both = pd.DataFrame(
        {"text": "a b", "entity1": "a", "entity2": "b", "entity1_type": ["x", "y"], "entity2_type": ["y", "x"]}
    )
    undirected = biorel.finetune(
        biorel.load_corpus("table", both.assign(label=["r", "none"])), encoder, **settings
    ).model
    with pytest.raises(biorel.CorpusError, match="entity1 has no type, and the model knows several: x, y"):
        undirected.predict(both[["text", "entity1", "entity2"]])


def test_labels_are_matched_by_name(model: biorel.RelationModel) -> None:
    """The order of a test set's labels does not matter, and it may lack some; the model's negative label counts."""
    expected = model.evaluate(biorel.load_corpus("table", TABLE, columns=COLUMNS), "all")
    turned = biorel.load_corpus("table", TABLE, columns=COLUMNS, labels=["effect", "none"], negative="effect")
    assert turned.labels == list(reversed(model.labels))
    pd.testing.assert_frame_equal(model.evaluate(turned, "all"), expected)
    assert model.evaluate(turned, "all").protocol == expected.protocol
    words = model.attention(turned, "all")
    assert words.drop_duplicates("instance")["gold"].tolist() == TABLE["label"].tolist()
    one = biorel.load_corpus("table", TABLE[:1], columns=COLUMNS, labels=["effect", "other"])
    scores = model.evaluate(one, "all").set_index("class")
    assert scores.loc[["none", "effect"], "support"].tolist() == [0, 1]
    other = TABLE.assign(label=["effect", "none", "advise", "none"])
    with pytest.raises(
        biorel.ConfigError, match=r"pair table\.s2\.p0 has the label `advise`; the model's are none, effect"
    ):
        model.evaluate(biorel.load_corpus("table", other, columns=COLUMNS), "all")


def test_lost_positives_are_matched_by_name(run: biorel.Run) -> None:
    """Gold positives that the reader lost count as misses of their label, whatever its position."""
    text = pd.DataFrame({"document": ["d"], "text": ["Aaa hurts bbb. Ccc is well."]})
    spans = {"start": [0, 10, 15], "end": [3, 13, 18], "type": "drug", "id": ["A", "B", "C"]}
    related = {"entity1": ["A", "A"], "entity2": ["B", "C"], "label": ["effect", "advise"]}
    tables = [pd.DataFrame(columns).assign(document="d") for columns in (spans, related)]
    documents = biorel.documents_from_tables(text, *tables)
    labels = list(reversed(run.model.labels))
    corpus = biorel.load_corpus("documents", documents, labels=labels, negative="false")
    assert corpus.statistics()["lost"].tolist() == [1]
    scores = run.model.evaluate(corpus, "all").set_index("class")
    assert scores["support"][run.model.labels].tolist() == [0, 0, 1, 1, 0]
    assert scores.loc["advise", "recall"] == 0


def test_the_command_line_describes_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs, encoder = tmp_path / "pairs.csv", write_encoder(tmp_path / "encoder")
    TABLE.to_csv(pairs, index=False)
    NEW.to_csv(tmp_path / "new.csv", index=False)
    NEW.to_json(tmp_path / "new.jsonl", orient="records", lines=True)
    names = [f"{ours}={theirs}" for ours, theirs in COLUMNS.items()]
    described = ["--columns", *names, "--labels", "none", "effect", "--negative", "none"]
    assert main(["statistics", "table", str(pairs), *described, "--format", "csv"]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("none,effect,lost")
    options = ["--encoder", str(encoder), "--train", "all", "--max-steps", "1", "--no-progress"]
    train = ["finetune", "table", str(pairs), *described, *options, "--max-length", "64"]
    assert main([*train, "--output", str(tmp_path / "model")]) == 0
    capsys.readouterr()
    printed = []
    for name in ("new.csv", "new.jsonl"):
        assert main(["predict", str(tmp_path / "model"), str(tmp_path / name), "--format", "csv"]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert pd.read_csv(io.StringIO(printed[0]))["drug_b"].tolist() == NEW["drug_b"].tolist()
    NEW.assign(drug_a="x").to_csv(tmp_path / "bad.csv", index=False)
    for arguments, words in (
        (["predict", str(tmp_path / "model"), str(tmp_path / "bad.csv")], "line 2: drug_a `x` is not in the text"),
        (["statistics", "table", str(pairs)], "--columns text=sentence entity1=drug_a entity2=drug_b"),
        (
            ["statistics", "table", str(pairs), "--columns", "text"],
            "`text` is not of the form OURS=YOURS",
        ),
        (["statistics", "pubtator", str(tmp_path), "--pairs", "a"], "`a` is not of the form FIRST,SECOND"),
    ):
        assert main(arguments) == 1
        assert words in capsys.readouterr().err
