"""The endpoints of the service: their answers are those of the package, and their errors name field and row."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import biorel
import pandas as pd
import pytest
from biorel.serving.limits import Limits
from biorel.serving.schemas import Schemas
from service import Answer, Running, running

TEXT = "Velotrazine and β-nalexpidol increase the clearance of brelozine."
NAMES = ("Velotrazine", "β-nalexpidol", "brelozine")
ENTITIES = [{"start": TEXT.index(one), "end": TEXT.index(one) + len(one), "type": "drug"} for one in NAMES]
SENTENCE: dict[str, Any] = {"text": TEXT, "entities": ENTITIES}
PUBTATOR = "7|t|Velotrazine and nalexpidol.\n7|a|\n7\t0\t11\tVelotrazine\t{0}\n7\t16\t26\tnalexpidol\t{0}\n\n"


@pytest.fixture(scope="module")
def model(run: biorel.Run) -> biorel.RelationModel:
    """A tiny model."""
    return run.model


@pytest.fixture(scope="module")
def service(model: biorel.RelationModel) -> Iterator[Running]:
    """Its service."""
    with running(model) as one:
        yield one


def entity(start: Any = 0, end: Any = 11, **more: Any) -> dict[str, Any]:
    return {"start": start, "end": end, "type": "drug", **more}


def assert_same_rows(found: list[dict[str, Any]], expected: pd.DataFrame) -> None:
    """The rows of an answer are those of the package."""
    rows = expected.astype(object).where(expected.notna(), None).to_dict("records")
    assert len(found) == len(rows)
    for one, row in zip(found, rows, strict=True):
        assert list(one) == list(row)
        assert one == pytest.approx(row, abs=1e-6)


def test_predict_is_predict(service: Running, model: biorel.RelationModel) -> None:
    sentences = [SENTENCE, {**SENTENCE, "id": "mine"}, {"text": "Nothing.", "entities": []}]
    expected = model.predict(sentences)
    for body in ({"sentences": sentences}, sentences):
        answer = service.call("/predict", body)
        assert answer.status == 200
        assert answer.json["model"] == model.identity
        assert_same_rows(answer.json["pairs"], expected)
    assert len(expected) == 6
    assert service.call("/predict", []).json["pairs"] == []


def test_predict_takes_rows_of_a_table(service: Running, model: biorel.RelationModel) -> None:
    rows = [{"text": TEXT, "entity1": NAMES[0], "entity2": other, "note": 3, "p_int": "x"} for other in NAMES[1:]]
    answer = service.call("/predict", rows)
    assert_same_rows(answer.json["pairs"], model.predict(rows))  # type: ignore[arg-type]
    assert answer.json["pairs"][0]["given_p_int"] == "x"
    renamed = [{"s": TEXT, "a": NAMES[0], "entity2": NAMES[2]}]
    columns = {"text": "s", "entity1": "a"}
    answer = service.call("/predict", {"sentences": renamed, "columns": columns})
    assert_same_rows(answer.json["pairs"], model.predict(renamed, columns=columns))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        (b"{", "body", "body: is not JSON: "),
        (b"\xff", "body", "body: is not JSON: "),
        (b"[" * 100_000, "body", "body: is not JSON: "),
        (b'{"sentences": NaN}', "body", "NaN is not a JSON number"),
        (3, "body", "body: must be a JSON object with sentences, not a number"),
        ({}, "body", "body: has no 'sentences'"),
        ({"sentences": [], "colums": {}}, "body", "body: has an unknown field 'colums'; the fields are sentences, "),
        ({"sentences": SENTENCE}, "sentences", "sentences: must be a list, not an object"),
        ({"sentences": [SENTENCE], "columns": {"text": "a"}}, "columns", "columns: applies to a table"),
        (["a.csv"], "sentences[0]", "sentences[0]: must be a dict, not str"),
        ([SENTENCE, {"entities": []}], "sentences[1]", "sentences[1]: has no 'text'"),
        ([{"text": TEXT}], "sentences[0]", "sentences[0]: has no 'entities'"),
        ([{"text": TEXT, "entities": [entity(-1)]}], "sentences[0].entities[0]", "characters -1 to 11 are not in its"),
        ([{"text": TEXT, "entities": [entity(0, 10**30)]}], "sentences[0].entities[0]", "are not in its text of 65"),
        ([{"text": TEXT, "entities": [entity(0.5)]}], "sentences[0].entities[0]", "'start' must be int, not float"),
        ([{"text": TEXT, "entities": [entity(text="x")]}], "sentences[0].entities[0]", "its text is 'x', but 0 to 11"),
        ([{"text": "\ud800 a", "entities": []}], "sentences[0]", "character 0 is a lone surrogate"),
        (
            [SENTENCE, {"text": TEXT, "entities": [ENTITIES[0], {**ENTITIES[1], "type": "gene"}]}],
            "sentences[1].entities[1]",
            "sentences[1].entities[1]: the model does not know the type 'gene'; it knows drug",
        ),
        ([{"text": TEXT, "entity1": "Velotrazine", "entity2": "x"}], "table", "entity2"),
        ([{"text": TEXT, "entity1": "a", "entity2": "b"}, "/etc/hostname"], "table", "table: row 1: must be an object"),
        ([{"text": TEXT, "entity1": "a", "entity2": "b", "c": "\ud800"}], "table", "row 0: has a lone surrogate"),
        ({"sentences": [{"entity1": "a"}], "columns": 3}, "columns", "columns: must be an object of names"),
        ({"sentences": [{"entity1": "a"}], "columns": {"text": ["x"]}}, "columns", "columns: must be an object"),
        ({"sentences": [{"text": "a", "entity1": "a", "entity2": "a"}], "offsets": "x"}, "offsets", "'x' is unknown"),
        ([{"text": TEXT, "entity1": ["a"], "entity2": {}}], "table", "entity1"),
    ],
)
def test_errors_of_sentences_name_the_field(service: Running, body: Any, field: str, message: str) -> None:
    answer = service.call("/predict", body)
    assert (answer.status, answer.json["field"]) == (422, field), answer.body
    assert message in answer.json["detail"]


def explain(service: Running, **changes: Any) -> Answer:
    return service.call("/explain", {**SENTENCE, "pair": [0, 2], **changes})


@pytest.mark.parametrize("kind", ["head", "encoder", "gradient"])
def test_explain_is_attention(service: Running, model: biorel.RelationModel, kind: Any) -> None:
    """The weights are those of ``attention`` for the same pair in a corpus, shaded as its heat map is."""
    answer = explain(service, kind=kind).json
    sides = {"entity1": [NAMES[0]], "entity2": [NAMES[2]], "entity1_type": ["drug"], "entity2_type": ["drug"]}
    rows = pd.DataFrame({"text": [TEXT], **sides, "label": ["int"]})
    corpus = biorel.load_corpus("table", rows.assign(split="test"), labels=model.labels, negative="false")  # type: ignore[arg-type]
    weights = model.attention(corpus, kind=kind)
    words = answer["words"]
    assert [one["word"] for one in words] == weights["word"].tolist()
    assert [one["weight"] for one in words] == pytest.approx(weights["weight"].tolist(), abs=1e-6)
    shades = re.findall(r"rgba\(230,159,0,([\d.]+)\)", biorel.heatmap(weights).html())
    assert [f"{one['shade']:.3f}" for one in words] == shades
    assert answer["kind"] == kind
    expected = model.predict([SENTENCE]).iloc[1]
    assert (answer["entity1"], answer["entity2"]) == (NAMES[0], NAMES[2])
    assert answer["relation"] == expected["relation"]
    assert answer["probability"] == pytest.approx(expected["probability"], abs=1e-6)
    tags = {tuple(one["entities"]): TEXT[one["start"] : one["end"]] for one in words if one["entities"]}
    assert tags == {(1,): NAMES[0], (2,): NAMES[2]}
    assert all(TEXT[one["start"] : one["end"]] == one["word"] for one in words if not one["entities"])


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"pair": [0, 3]}, "pair", "pair: must be the positions of two of the 3 entities, from 0"),
        ({"pair": [1, 1]}, "pair", "pair: must be the positions of two"),
        ({"pair": [0.0, True]}, "pair", "pair: must be the positions of two"),
        ({"pair": {}}, "pair", "pair: must be the positions of two"),
        ({"kind": "x"}, "kind", "kind: 'x' is not among the weights of this model's words (head, encoder, gradient)"),
        ({"entities": [entity(), entity(3, 99)]}, "entities[1]", "entities[1]: characters 3 to 99 are not in its text"),
        ({"entities": [entity(), entity(type="x")]}, "entities[1]", "entities[1]: the model does not know the type"),
        ({"text": 1}, "body", "body: 'text' must be str, not int"),
        ({"more": 1}, "body", "body: has an unknown field 'more'"),
    ],
)
def test_errors_of_a_pair_name_the_field(service: Running, changes: Any, field: str, message: str) -> None:
    answer = explain(service, **changes)
    assert (answer.status, answer.json["field"]) == (422, field), answer.body
    assert message in answer.json["detail"]


def test_a_head_without_word_weights(ddi: biorel.Corpus, encoder: biorel.Encoder) -> None:
    run = biorel.finetune(ddi, encoder, head="cls", max_length=96, max_steps=1, progress=False)
    with running(run.model) as service:
        assert service.call("/health").json["kinds"] == ["encoder", "gradient"]
        assert explain(service).json["kind"] == "encoder"
        answer = explain(service, kind="head")
        assert answer.status == 422
        assert "kind: 'head' is not among the weights of this model's words (encoder, " in answer.json["detail"]


def test_levitated_markers_read_the_other_entities(ddi: biorel.Corpus, encoder: biorel.Encoder) -> None:
    settings: dict[str, Any] = {"head": "entity-attention", "marking": "levitated", "max_length": 96}
    model = biorel.finetune(ddi, encoder, max_steps=1, progress=False, **settings).model
    expected = model.predict([SENTENCE])
    with running(model) as service:
        assert_same_rows(service.call("/predict", [SENTENCE]).json["pairs"], expected)
        for position, pair in enumerate(([0, 1], [0, 2], [1, 2])):
            found = explain(service, pair=pair[::-1]).json
            assert (found["start1"], found["start2"]) == tuple(expected.loc[position, ["start1", "start2"]])
            assert found["probability"] == pytest.approx(expected["probability"][position], abs=1e-6)


def test_documents_are_those_of_predict_documents(
    service: Running, model: biorel.RelationModel, tmp_path: Path
) -> None:
    text = PUBTATOR.format("Drug") + PUBTATOR.replace("7", "8").format("drug")
    (tmp_path / "one.pubtator").write_text(text)
    expected = biorel.predict_documents(model, tmp_path / "one.pubtator")
    assert isinstance(expected, pd.DataFrame)
    answer = service.call("/documents", text.encode())
    assert (answer.status, answer.json["documents"], answer.json["model"]) == (200, 2, model.identity)
    assert_same_rows(answer.json["pairs"], expected.drop(columns=["file", "model"]))
    assert answer.json["sentences"][1] == {"sentence": "8.s0", "start": 0, "text": "Velotrazine and nalexpidol."}
    lines = service.call("/documents?format=jsonl", text.encode())
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert_same_rows([json.loads(line) for line in lines.body.splitlines()], expected.drop(columns="file"))


@pytest.mark.parametrize("format", ["pubtator", "bioc-json", "bioc-xml"])
@pytest.mark.parametrize("written", ["pubtator", "bioc-json", "bioc-xml"])
def test_documents_in_every_format(
    service: Running, model: biorel.RelationModel, tmp_path: Path, format: Any, written: Any
) -> None:
    """The answer is the document with the relations that ``predict_documents`` writes."""
    (tmp_path / "one.pubtator").write_text(PUBTATOR.format("Drug"))
    endings = {"pubtator": "pubtator", "bioc-json": "json", "bioc-xml": "xml"}
    source = tmp_path / "in" / f"one.{endings[format]}"
    source.parent.mkdir()
    biorel.write_documents(biorel.read_documents(tmp_path / "one.pubtator"), source, format)
    biorel.predict_documents(model, source, tmp_path / "out", format=written, progress=False)
    (part,) = (tmp_path / "out" / "relations").iterdir()
    answer = service.call(f"/documents?format={written}", source.read_bytes())
    assert answer.status == 200
    assert answer.body.decode().replace(model.identity, "M") == part.read_text().replace(model.identity, "M")
    if written == "bioc-json":
        assert answer.headers["content-type"] == "application/json"


def test_documents_with_other_types(service: Running) -> None:
    answer = service.call("/documents", PUBTATOR.format("Chemical").encode())
    assert (answer.status, answer.json["field"]) == (422, "type")
    assert "give type={'Chemical': 'drug'} (--type Chemical=drug)" in answer.json["detail"]
    answer = service.call(
        "/documents?type=Chemical=drug&related_only=true&threshold=1", PUBTATOR.format("Chemical").encode()
    )
    assert (answer.status, answer.json["pairs"]) == (200, [])


@pytest.mark.parametrize(
    ("query", "body", "field", "message"),
    [
        ("", b"9|t|Bad\n9|a|\n9\t0\t50\tBad\tDrug\n", "body", "body:3: document 9: a mention has offsets 0-50"),
        ("", b'{"documents": [{"id": "1", "passages": 3}]}', "body", "body:1: "),
        ("", b"<collection>", "body", "body:1: "),
        ("", b"", "body", "body: has no document in the format pubtator"),
        ("", b"\x1f\x8bxxx", "body", "body: is compressed with gzip; send it uncompressed"),
        ("?format=x", b"", "format", "format: `x` is unknown; choose one of json, jsonl, pubtator, "),
        ("?input_format=brat", b"x", "input_format", "input_format: `brat` is unknown; choose one of pubtator, "),
        ("?threshold=2", b"", "threshold", "threshold: must be from 0 to 1, not 2.0"),
        ("?threshold=x", b"", "threshold", "threshold: "),
        ("?type=Drug", b"", "type", "type: `Drug` is not of the form THEIRS=OURS"),
        ("?type=Drug=x", b"", "type", "type: `Drug` is to be `x`, which the model does not know (drug"),
    ],
)
def test_errors_of_documents_name_the_line(service: Running, query: str, body: bytes, field: str, message: str) -> None:
    answer = service.call(f"/documents{query}", body)
    assert (answer.status, answer.json["field"]) == (422, field), answer.body
    assert message in answer.json["detail"]


def test_health_and_metrics(service: Running, model: biorel.RelationModel) -> None:
    health = service.call("/health").json
    expected = {
        "status": "ok",
        "version": biorel.__version__,
        "model": model.identity,
        "device": "cpu",
        "head": "attention",
    }
    assert {name: health[name] for name in expected} == expected
    assert (health["labels"], health["negative"], health["default_type"]) == (model.labels, "false", "drug")
    before = (
        service.metric('biorel_requests_total{endpoint="/predict",code="200"}'),
        service.metric("biorel_pairs_total"),
    )
    service.call("/predict", [SENTENCE])
    assert service.metric('biorel_requests_total{endpoint="/predict",code="200"}') == before[0] + 1
    assert service.metric("biorel_pairs_total") == before[1] + 3
    assert service.call("/nowhere").status == 404
    assert service.metric('biorel_requests_total{endpoint="other",code="404"}') >= 1
    assert service.call("/predict").status == 405
    answer = service.call("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    line = r'(# (HELP|TYPE) \w+ .+|\w+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? [\d.e+]+)'
    assert [one for one in answer.body.decode().splitlines() if not re.fullmatch(line, one)] == []
    buckets = re.findall(
        r'biorel_request_seconds_bucket\{endpoint="/predict",le="([^"]+)"\} (\d+)', answer.body.decode()
    )
    counts = [int(count) for _, count in buckets]
    assert counts == sorted(counts)
    assert buckets[-1][0] == "+Inf"
    assert counts[-1] == service.metric('biorel_request_seconds_count{endpoint="/predict"}')


def test_the_examples_of_the_description_work(service: Running, model: biorel.RelationModel) -> None:
    paths = service.call("/openapi.json").json["paths"]
    schemas = Schemas(model)
    for path, schema in (("/predict", schemas.prediction), ("/explain", schemas.explanation)):
        for example in paths[path]["post"]["requestBody"]["content"]["application/json"]["examples"].values():
            answer = service.call(path, example["value"])
            assert answer.status == 200
            schema.model_validate(answer.json)
    (example,) = paths["/documents"]["post"]["requestBody"]["content"]["text/plain"]["examples"].values()
    answer = service.call("/documents", example["value"].encode())
    schemas.documents.model_validate(answer.json)
    assert len(answer.json["pairs"]) == 1
    described = json.dumps(service.call("/openapi.json").json)
    assert all(f"p_{label}" in described for label in model.labels)


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_the_pages_load_nothing_from_elsewhere(service: Running, path: str) -> None:
    answer = service.call(path)
    page = answer.body.decode()
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert re.findall(r"(?:https?:)?//[\w.-]+\.\w+", page) == []
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", page) == []
    rules = answer.headers["content-security-policy"]
    assert "default-src 'none'" in rules
    assert "unsafe" not in rules


def test_limits_are_checked() -> None:
    for name in ("max_body", "body_timeout", "max_sentences", "max_pairs", "queue_pairs", "batch_pairs"):
        with pytest.raises(biorel.ConfigError, match=f"{name}: must be greater than 0, not 0"):
            Limits(**{name: 0})
    with pytest.raises(biorel.ConfigError, match="batch_wait: must be 0 or more, not -1"):
        Limits(batch_wait=-1)
    with pytest.raises(biorel.ConfigError, match="queue_pairs: 5 is less than the 6 pairs of one request; raise it"):
        Limits(max_pairs=6, queue_pairs=5)
