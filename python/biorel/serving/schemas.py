"""The schemas and examples of the OpenAPI description, made for the model that is served."""

from __future__ import annotations

from typing import Any, Literal

from biorel.models.relation_model import RelationModel
from biorel.models.table_prediction import default_type
from pydantic import BaseModel, ConfigDict, Field, create_model

_TEXT = "Velotrazine increases the clearance of nalexpidol."
_MENTIONS = ((0, 11), (39, 49))


class Entity(BaseModel):
    """A mention in the text."""

    start: int = Field(description="first character, from 0", ge=0)
    end: int = Field(description="one past the last character")
    type: str | None = Field(
        None, description="as in the training corpus; may be missing if the model has one tag only"
    )
    id: str | None = None
    text: str | None = Field(None, description="if given, it must be the text from start to end")


class Sentence(BaseModel):
    """A sentence with its entities; every pair whose types can be related is classified."""

    text: str
    entities: list[Entity]
    id: str | None = Field(None, description="repeated in the answer; by default s0, s1, ...")


class Row(BaseModel):
    """One pair, with the columns of the table that trained the model."""

    model_config = ConfigDict(extra="allow")

    text: str
    entity1: str
    entity2: str


class PredictBody(BaseModel):
    """What ``RelationModel.predict`` takes; the list of sentences or rows alone is taken, too."""

    sentences: list[Sentence] | list[Row]
    columns: dict[str, str] | None = Field(None, description="rows only: our names of columns, and yours")
    offsets: Literal["characters", "bytes"] = Field("characters", description="rows only: what offsets count")


class ExplainBody(Sentence):
    """A sentence, and two of its entities."""

    pair: tuple[int, int] = Field(description="positions of two entities, from 0")
    kind: Literal["head", "encoder", "gradient"] | None = Field(
        None, description="whose weights; by default the head's, if it weights words"
    )


class Word(BaseModel):
    """A word as the model reads it."""

    word: str
    stem: str
    weight: float = Field(description="the words of a sentence sum to 1")
    shade: float = Field(description="opacity of the colour in a heat map, from 0 to 0.6")
    entities: list[Literal[1, 2]] = Field(description="the entities of the pair to which it belongs")
    start: int | None = Field(description="place in the text; of a tag, that of the mention")
    end: int | None


class DocumentSentence(BaseModel):
    """A sentence of a document with at least one pair."""

    sentence: str = Field(description="as in the pairs")
    start: int = Field(description="its first character in the document")
    text: str


class Health(BaseModel):
    """The state of the service."""

    status: Literal["ok"]
    version: str = Field(description="of biorel")
    model: str = Field(description="name and the first digits of the hash")
    head: str
    marking: str
    device: str
    precision: str
    labels: list[str]
    negative: str | None = Field(description="the label that means no relation")
    types: list[str] = Field(description="entity types that the model relates; empty for any")
    rules: list[tuple[list[str], list[str]]] = Field(
        description="types of the first and of the second entity of a pair, rule by rule; empty for any"
    )
    default_type: str | None = Field(description="the type of an entity without one")
    kinds: list[str] = Field(description="kinds of word weights, the default first")


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str = Field(description="the field or row, what is wrong with it, and the remedy")
    field: str | None = Field(description="the field, row or body")


class Schemas:
    """The models whose fields depend on the labels, and examples with the model's types."""

    def __init__(self, model: RelationModel) -> None:
        probability = (float | None, Field(description="null if the pair exceeds the model's maximum length"))
        label = (str | None, Field(description=f"one of {', '.join(model.labels)}"))
        decided: dict[str, Any] = {"relation": label, "probability": probability}
        decided |= {f"p_{name}": probability for name in model.labels}
        sides = [(name, str if name in ("entity", "type") else int) for name in ("entity", "type", "start", "end")]
        fields: dict[str, Any] = {"sentence": (str, Field(description="id of the sentence"))}
        fields |= {f"{name}{side}": (kind, ...) for side in (1, 2) for name, kind in sides}
        allow = ConfigDict(extra="allow")
        self.pair = create_model("Pair", __doc__="A pair of entities and its relation.", **fields, **decided)
        self.row = create_model("DecidedRow", __config__=allow, __doc__="A row as it was sent.", **decided)
        pairs = list[self.pair] | list[self.row]  # type: ignore[name-defined]
        self.prediction = create_model("Prediction", model=(str, ...), pairs=(pairs, ...))
        words: dict[str, Any] = {"kind": (str, ...), "words": (list[Word], ...), "model": (str, ...)}
        self.explanation = create_model("Explanation", __base__=self.pair, **words)
        more: dict[str, Any] = {"document": (str, ...)}
        more |= {f"{name}{side}": (str, ...) for side in (1, 2) for name in ("id", "concept")}
        self.document_pair = create_model("DocumentPair", __base__=self.pair, **more)
        counts = Field(description="what was left out or repaired, with the number of times")
        documents: dict[str, Any] = {"model": (str, ...), "documents": (int, ...)}
        documents |= {"counts": (dict[str, int], counts), "sentences": (list[DocumentSentence], ...)}
        documents |= {"pairs": (list[self.document_pair], ...)}  # type: ignore[name-defined]
        self.documents = create_model("Documents", **documents)
        self._types = _example_types(model)

    def sentence(self) -> dict[str, Any]:
        """A sentence with two entities."""
        places = zip(_MENTIONS, self._types, strict=True)
        return {"text": _TEXT, "entities": [{"start": a, "end": b, "type": one} for (a, b), one in places]}

    def table_row(self) -> dict[str, Any]:
        """The same pair as a row of a table."""
        first, second = (_TEXT[start:end] for start, end in _MENTIONS)
        return {"text": _TEXT, "entity1": first, "entity2": second}

    def pubtator(self) -> str:
        """The same sentence as a document."""
        lines = ["1|t|" + _TEXT, "1|a|"]
        for (start, end), one in zip(_MENTIONS, self._types, strict=True):
            lines.append(f"1\t{start}\t{end}\t{_TEXT[start:end]}\t{one}")
        return "\n".join(lines) + "\n"


def _example_types(model: RelationModel) -> tuple[str, str]:
    rules = model._core.task.rules
    return (rules[0][0][0], rules[0][1][0]) if rules else (default_type(model._core.task) or "entity",) * 2
