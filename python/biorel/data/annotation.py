"""Entities for documents that have none: from a list of terms, scispaCy, GLiNER, or any function."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import pandas as pd
from biorel import _biorel
from biorel._types import PathLike
from biorel.data.dictionary import Dictionary
from biorel.data.documents import Document, encodable
from biorel.errors import ConfigError, CorpusError

# Type, concepts, first and one past the last character of the document.
_Entity: TypeAlias = tuple[str, list[str], tuple[int, int]]
_Annotate: TypeAlias = Callable[[Sequence[Document]], Iterable[list[_Entity]]]
Annotator: TypeAlias = "_Annotate | Dictionary"

SCISPACY_MODEL = "en_ner_bc5cdr_md"
GLINER_MODEL = "urchade/gliner_large_bio-v0.1"
# Documents that an annotator gets at once.
_DOCUMENTS = 64


def annotate(
    documents: Iterable[Document | str],
    annotator: str | PathLike | Mapping[str, Any] | pd.DataFrame | Dictionary | Callable[[str], Any],
    *,
    labels: Sequence[str] | None = None,
    threshold: float = 0.5,
) -> Iterator[Document]:
    """Add entities to documents.

    Parameters
    ----------
    documents : iterable of Document or str
        Documents, such as those of ``read_documents(folder, "text")``, or texts, which become ``doc0``, ``doc1``, ...
    annotator : path, mapping, DataFrame, Dictionary, str, or callable
        Where the entities come from.

        - A list of terms: a file (``terms.tsv``), a mapping, a DataFrame, or a ``Dictionary``.
        - ``"scispacy"``: the model ``en_ner_bc5cdr_md`` (``CHEMICAL``, ``DISEASE``); ``"scispacy:NAME"`` is another
          model of scispaCy or spaCy. Needs ``pip install "biorel[scispacy]"`` and the model.
        - ``"gliner"``: the model ``urchade/gliner_large_bio-v0.1`` with the types of `labels`; ``"gliner:NAME"`` is
          another one. Needs ``pip install "biorel[gliner]"``. It reads sentence by sentence.
        - A spaCy pipeline, or any function from a text to its entities: dicts with ``start``, ``end`` (characters,
          exclusive), ``type`` and optionally ``concept``, tuples in this order, or an object with spaCy's ``ents``.
    labels : sequence of str, optional
        GLiNER only, and needed there: the types to find, such as ``["Chemical", "Gene"]``.
    threshold : float
        GLiNER only: the least score of an entity.

    Yields
    ------
    Document
        The documents in order, with more entities. An entity that overlaps one that the document already has is left
        out, which ``Document.findings`` counts.

    Raises
    ------
    ConfigError
        For an unknown annotator, or one that is not installed; the message says how to install it.
    CorpusError
        For an entity outside of the text.

    See Also
    --------
    predict_documents : `entities` does the same for a stream of files.

    Examples
    --------
    >>> terms = {"aspirin": "Chemical", "warfarin": ("Chemical", "MESH:D014859")}
    >>> [document] = biorel.annotate(["Aspirin enhances warfarin."], terms)
    >>> document.entities[["type", "concept", "start", "end"]].values.tolist()
    [['Chemical', '', 0, 7], ['Chemical', 'MESH:D014859', 17, 25]]
    >>> capitals = lambda text: [(at, at + 1, "Capital") for at, letter in enumerate(text) if letter.isupper()]
    >>> [document] = biorel.annotate(["A binds B."], capitals)
    >>> document.entities["text"].tolist()
    ['A', 'B']
    """
    if isinstance(documents, (str, os.PathLike)):
        raise TypeError('documents must be an iterable; for files give biorel.read_documents(path, "text")')
    add = annotator_of(annotator, labels=labels, threshold=threshold)
    return add_entities(_documents_of(documents), add)


def annotator_of(annotator: Any, *, labels: Sequence[str] | None = None, threshold: float = 0.5) -> Annotator:
    """A function that finds the entities of some documents, or a dictionary."""
    name, _, model = annotator.partition(":") if isinstance(annotator, str) else ("", "", "")
    if name == "gliner":
        if not labels:
            raise ConfigError('labels: GLiNER needs the types to find, such as labels=["Chemical", "Gene"]', "labels")
        return _gliner(model or GLINER_MODEL, list(labels), threshold)
    if labels is not None:
        raise ConfigError("labels: applies to GLiNER only", "labels")
    if name == "scispacy":
        return _scispacy(model or SCISPACY_MODEL)
    if isinstance(annotator, Dictionary):
        return annotator
    if isinstance(annotator, (os.PathLike, str, Mapping, pd.DataFrame)):
        if isinstance(annotator, str) and not os.path.exists(annotator):
            message = f"annotator: `{annotator}` is neither a file of terms, nor scispacy, nor gliner"
            raise ConfigError(message, "annotator")
        return Dictionary(annotator)
    if callable(annotator):
        return _pipeline(annotator) if hasattr(annotator, "pipe") else _function(annotator)
    raise TypeError(f"annotator must be a list of terms, a name or a callable, not {type(annotator).__name__}")


def _documents_of(documents: Iterable[Document | str]) -> Iterator[Document]:
    for number, one in enumerate(documents):
        if isinstance(one, Document):
            yield one
        elif isinstance(one, str):
            text = encodable(one, f"documents[{number}]")
            yield Document(_biorel.Document(f"doc{number}", [("", 0, text, False)], [], []))
        else:
            raise TypeError(f"documents[{number}] must be a Document or str, not {type(one).__name__}")


def add_entities(documents: Iterator[Document], add: Annotator) -> Iterator[Document]:
    """The documents with the entities that a dictionary or function finds."""
    if isinstance(add, Dictionary):
        for document in documents:
            yield Document(add._core.annotate(document._core))
        return
    while chunk := list(itertools.islice(documents, _DOCUMENTS)):
        for document, entities in zip(chunk, add(chunk), strict=True):
            yield Document(document._core.with_entities(entities))


def _scispacy(model: str) -> _Annotate:
    try:
        import spacy  # noqa: PLC0415
    except ImportError:
        message = 'annotator: scispaCy is not installed; pip install "biorel[scispacy]"'
        raise ConfigError(message, "annotator") from None
    try:
        return _pipeline(spacy.load(model))
    except OSError as error:
        message = (
            f"annotator: spaCy cannot load the model {model} ({str(error).splitlines()[0]}); install it, for scispaCy "
            "with pip and the model's address at https://allenai.github.io/scispacy/"
        )
        raise ConfigError(message, "annotator") from None


def _gliner(model: str, labels: list[str], threshold: float) -> _Annotate:
    try:
        from gliner import GLiNER  # noqa: PLC0415
    except ImportError:
        message = 'annotator: GLiNER is not installed; pip install "biorel[gliner]"'
        raise ConfigError(message, "annotator") from None
    loaded = GLiNER.from_pretrained(model)

    def add(documents: Sequence[Document]) -> Iterator[list[_Entity]]:
        # Sentence by sentence: the model reads a limited number of words and drops the others.
        for document in documents:
            entities: list[_Entity] = []
            for start, text, _ in document._core.sentences():
                for one in loaded.predict_entities(text, labels, threshold=threshold):
                    entities.append((one["label"], [], (start + one["start"], start + one["end"])))
            yield entities

    return add


def _pipeline(pipeline: Any) -> _Annotate:
    """A spaCy pipeline."""

    def add(documents: Sequence[Document]) -> Iterator[list[_Entity]]:
        for document, found in zip(documents, pipeline.pipe(one.text for one in documents), strict=True):
            yield _entities(found, document)

    return add


def _function(function: Callable[[str], Any]) -> _Annotate:
    def add(documents: Sequence[Document]) -> Iterator[list[_Entity]]:
        for document in documents:
            yield _entities(function(document.text), document)

    return add


def _entities(found: Any, document: Document) -> list[_Entity]:
    """What an annotator found in a document."""
    if hasattr(found, "ents"):
        return [(one.label_, [one.kb_id_] if one.kb_id_ else [], (one.start_char, one.end_char)) for one in found.ents]
    length = len(document.text)
    entities = []
    for number, one in enumerate(found):
        where = f"document {document.id}: entity {number} of the annotator"
        try:
            if isinstance(one, Mapping):
                start, end, entity_type, concept = one["start"], one["end"], one["type"], one.get("concept")
            else:
                start, end, entity_type, concept = (*one, None) if len(one) == 3 else one
            start, end = int(start), int(end)
        except (KeyError, TypeError, ValueError):
            message = f"{where} must have start, end, type and maybe concept, not {one!r}"
            raise CorpusError(message, document.id) from None
        if not 0 <= start < end <= length:
            message = f"{where}: characters {start} to {end} are outside the text of {length} characters"
            raise CorpusError(message, document.id)
        entities.append((str(entity_type), [str(concept)] if concept else [], (start, end)))
    return entities
