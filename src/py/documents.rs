//! Documents: reading them one by one, building them from Python data, writing them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use pyo3::prelude::*;

use super::error::internal;
use super::runtime::detached;
use crate::corpus::Span;
use crate::corpus::documents as docs;
use crate::corpus::documents::{Argument, Document, DocumentFormat, Input, Mention, Passage, Records, Relation};

/// Type, concepts of the first and of the second argument, attributes.
type ConceptRelation = (String, Vec<String>, Vec<String>, BTreeMap<String, String>);

/// A document with entities and relations.
#[pyclass(frozen, name = "Document", module = "biorel._biorel")]
pub struct PyDocument(pub Arc<Document>);

/// Kind, start, text, whether it is one sentence.
type RawPassage = (String, usize, String, bool);
/// Identifier, type, concepts, segments.
type RawMention = (String, String, Vec<String>, Vec<(usize, usize)>);
/// The same, with its text.
type ShownMention = (String, String, Vec<String>, Vec<(usize, usize)>, String);
/// Identifier, type, first and second argument (the index of a mention, or a concept), attributes.
type RawRelation = (String, String, RawArgument, RawArgument, Vec<(String, String)>);

/// A mention by its index, or a concept by its name.
#[derive(FromPyObject, IntoPyObject)]
enum RawArgument {
    Mention(usize),
    Concept(String),
}

#[pymethods]
impl PyDocument {
    #[new]
    #[pyo3(signature = (id, passages, mentions, relations, *, file=None))]
    fn new(
        id: String,
        passages: Vec<RawPassage>,
        mentions: Vec<RawMention>,
        relations: Vec<RawRelation>,
        file: Option<PathBuf>,
    ) -> PyResult<Self> {
        let passage = |(passage_type, start, text, sentence)| Passage { passage_type, start, text, sentence };
        let mention = |(id, entity_type, identifiers, segments): RawMention| {
            let spans = segments.into_iter().map(|(start, end)| Span { start, end }).collect();
            Mention { id, entity_type, text: String::new(), identifiers, spans, passage: None }
        };
        let argument = |argument| match argument {
            RawArgument::Mention(index) => Argument::Mention(index),
            RawArgument::Concept(name) => Argument::Concept(name),
        };
        let relation = |(id, relation_type, first, second, attributes): RawRelation| Relation {
            id,
            relation_type,
            arguments: [argument(first), argument(second)],
            attributes,
        };
        let mut document = Document::new(
            id,
            passages.into_iter().map(passage).collect(),
            mentions.into_iter().map(mention).collect(),
            relations.into_iter().map(relation).collect(),
        )?;
        if let Some(path) = file {
            document.origin.path = path;
        }
        Ok(Self(Arc::new(document)))
    }

    #[getter]
    fn id(&self) -> &str {
        &self.0.id
    }

    /// Text with blanks between passages, so that offsets index it.
    #[getter]
    fn text(&self) -> String {
        self.0.text()
    }

    /// File, line, format; the last two are missing for a document that was made.
    #[getter]
    fn origin(&self) -> (String, Option<usize>, Option<&'static str>) {
        let origin = &self.0.origin;
        let format = origin.raw.as_ref().map(|(format, _)| format.name());
        (origin.path.display().to_string(), (origin.line > 0).then_some(origin.line), format)
    }

    #[getter]
    fn passages(&self) -> Vec<RawPassage> {
        let passage = |p: &Passage| (p.passage_type.clone(), p.start, p.text.clone(), p.sentence);
        self.0.passages.iter().map(passage).collect()
    }

    /// Identifier, type, concepts, segments, text.
    #[getter]
    fn mentions(&self) -> Vec<ShownMention> {
        let mention = |m: &Mention| {
            let segments = m.spans.iter().map(|span| (span.start, span.end)).collect();
            (m.id.clone(), m.entity_type.clone(), m.identifiers.clone(), segments, m.text.clone())
        };
        self.0.mentions.iter().map(mention).collect()
    }

    #[getter]
    fn relations(&self) -> Vec<RawRelation> {
        let argument = |argument: &Argument| match argument {
            Argument::Mention(index) => RawArgument::Mention(*index),
            Argument::Concept(name) => RawArgument::Concept(name.clone()),
        };
        let relation = |r: &Relation| {
            let [first, second] = r.arguments.each_ref().map(argument);
            (r.id.clone(), r.relation_type.clone(), first, second, r.attributes.clone())
        };
        self.0.relations.iter().map(relation).collect()
    }

    /// Name, type and indices of the mentions of each concept.
    fn concepts(&self) -> Vec<(String, String, Vec<usize>)> {
        self.0.concepts().into_iter().map(|concept| (concept.name, concept.entity_type, concept.mentions)).collect()
    }

    /// The relations with the concepts that their arguments name.
    fn concept_relations(&self) -> Vec<ConceptRelation> {
        let of = |one: &Relation| {
            let [first, second] = one.arguments.each_ref().map(|argument| self.0.concepts_named(argument));
            (one.relation_type.clone(), first, second, one.attributes.iter().cloned().collect())
        };
        self.0.relations.iter().map(of).collect()
    }

    /// Kind, identifier, reason.
    #[getter]
    fn findings(&self) -> Vec<(&'static str, String, String)> {
        let findings = self.0.findings.iter();
        findings.map(|finding| (finding.kind.name(), finding.id.clone(), finding.reason.clone())).collect()
    }

    /// The document with more entities: type, concepts, first and last character.
    fn with_entities(&self, entities: Vec<(String, Vec<String>, (usize, usize))>) -> PyResult<Self> {
        let entity = |(entity_type, identifiers, (start, end))| (entity_type, identifiers, Span { start, end });
        Ok(Self(Arc::new(self.0.with_entities(entities.into_iter().map(entity).collect())?)))
    }

    /// The sentences: start, text, indices of the mentions in each.
    fn sentences(&self) -> Vec<(usize, String, Vec<usize>)> {
        let sentences = self.0.sentences().0.into_iter();
        sentences.map(|one| (one.start, one.sentence.text, one.mentions)).collect()
    }
}

/// A file with its format, or with the reason why it is not read.
type NamedFile = (PathBuf, &'static str);

/// The files under some paths in a fixed order as (path, format), and those that are not read as
/// (path, reason). With `plain_text` a `.txt` file may be one without entities.
#[pyfunction]
#[pyo3(signature = (paths, format, *, plain_text=false))]
pub fn list_inputs(
    py: Python<'_>,
    paths: Vec<PathBuf>,
    format: Option<&str>,
    plain_text: bool,
) -> PyResult<(Vec<NamedFile>, Vec<NamedFile>)> {
    let format = format.map(str::parse).transpose()?;
    let list = if plain_text { docs::list_texts } else { docs::list_inputs };
    let (inputs, skipped) = detached(py, || list(&paths, format))?;
    Ok((inputs.into_iter().map(|input| (input.path, input.format.name())).collect(), skipped))
}

/// (path, format) as the core has it.
pub fn inputs_of(inputs: Vec<(PathBuf, String)>) -> PyResult<Vec<Input>> {
    let input = |(path, format): (PathBuf, String)| Ok(Input { path, format: format.parse()? });
    inputs.into_iter().map(input).collect()
}

/// The documents of files one by one. After an error, the next call continues with the next
/// document.
#[pyclass(frozen, name = "DocumentReader", module = "biorel._biorel")]
pub struct PyDocumentReader(Mutex<Reader>);

struct Reader {
    inputs: std::vec::IntoIter<Input>,
    records: Option<Records>,
}

#[pymethods]
impl PyDocumentReader {
    #[new]
    fn new(inputs: Vec<(PathBuf, String)>) -> PyResult<Self> {
        let inputs = inputs_of(inputs)?.into_iter();
        Ok(Self(Mutex::new(Reader { inputs, records: None })))
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<PyDocument>> {
        py.check_signals()?;
        let next = detached(py, || {
            let Ok(mut reader) = self.0.lock() else { return Ok(Err(internal("a reader was lost"))) };
            loop {
                if let Some(records) = &mut reader.records
                    && let Some(record) = records.next()
                {
                    return record.and_then(Document::parse).map(|document| Ok(Some(document)));
                }
                let Some(input) = reader.inputs.next() else { return Ok(Ok(None)) };
                reader.records = None;
                reader.records = Some(Records::open(&input)?);
            }
        })?;
        Ok(next?.map(|document| PyDocument(Arc::new(document))))
    }
}

/// The files of documents in a format with several files per document or table: the end of each
/// file's name and, for each document, its contents. Empty for a format with one file.
#[pyfunction]
pub fn write_files(
    py: Python<'_>,
    documents: Vec<Py<PyDocument>>,
    format: &str,
) -> PyResult<Vec<Vec<(&'static str, String)>>> {
    let format: DocumentFormat = format.parse()?;
    let documents: Vec<Arc<Document>> = documents.iter().map(|document| document.get().0.clone()).collect();
    detached(py, || documents.iter().map(|document| docs::write_files(document, &[], format)).collect())
}

/// The text of a file with the documents in a format; for brat one document's annotation.
#[pyfunction]
pub fn write_documents(py: Python<'_>, documents: Vec<Py<PyDocument>>, format: &str) -> PyResult<String> {
    let format: DocumentFormat = format.parse()?;
    let documents: Vec<Arc<Document>> = documents.iter().map(|document| document.get().0.clone()).collect();
    detached(py, || {
        let texts = documents.iter().map(|document| docs::write_document(document, &[], format));
        let texts = texts.collect::<crate::Result<Vec<String>>>()?;
        let own = documents.first().filter(|one| one.origin.raw.as_ref().is_some_and(|(own, _)| *own == format));
        Ok(docs::write_collection(format, own.map_or("", |one| one.origin.header.as_str()), &texts))
    })
}
