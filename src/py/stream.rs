//! Prediction on streams of documents.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::columns::Columns;
use super::compute::PyCompute;
use super::dictionary::PyDictionary;
use super::documents::{PyDocument, inputs_of};
use super::error::{ConfigError, internal};
use super::model::PyModel;
use super::runtime::{detached, interruptible};
use crate::corpus::Task;
use crate::corpus::documents::{Document, DocumentFormat, Predicted, relation_lines, write_collection, write_document};
use crate::predict::stream::{self, DocumentStream, Part, Position, Row, StreamSettings};

/// How often signals are checked while the next part is computed.
const PATIENCE: Duration = Duration::from_millis(50);

/// A running prediction over files.
#[pyclass(frozen, name = "Stream", module = "biorel._biorel")]
pub struct PyStream {
    stream: Mutex<Option<DocumentStream>>,
    task: Arc<Task>,
}

#[pymethods]
impl PyStream {
    #[new]
    #[pyo3(signature = (model, inputs, start, *, types, part_documents, part_pairs, max_pairs, shard, keep_raw, dictionary, compute))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of the one caller, biorel.prediction.documents")]
    fn new(
        py: Python<'_>,
        model: &PyModel,
        inputs: Vec<(PathBuf, String)>,
        start: (usize, usize),
        types: BTreeMap<String, String>,
        part_documents: usize,
        part_pairs: usize,
        max_pairs: usize,
        shard: (usize, usize),
        keep_raw: bool,
        dictionary: Option<&PyDictionary>,
        compute: &PyCompute,
    ) -> PyResult<Self> {
        let inputs = inputs_of(inputs)?;
        let compute = compute.0;
        let task = Arc::new(model.0.card.task.clone());
        let dictionary = dictionary.map(|dictionary| dictionary.0.clone());
        let settings =
            StreamSettings { types, part_documents, part_pairs, max_pairs, shard, keep_raw, dictionary, compute };
        check_types(&task, &settings)?;
        let (model, start) = (model.0.clone(), Position { file: start.0, record: start.1 });
        let stream = detached(py, || DocumentStream::start(model, inputs, start, settings))?;
        Ok(Self { stream: Mutex::new(Some(stream)), task })
    }

    /// The next part, or None at the end. Ctrl-C is raised here.
    fn next_part(&self, py: Python<'_>) -> PyResult<Option<PyPart>> {
        loop {
            py.check_signals()?;
            let next = detached(py, || {
                let Ok(mut stream) = self.stream.lock() else { return Ok(Err(internal("the stream was lost"))) };
                Ok(Ok(match stream.as_mut() {
                    Some(stream) => stream.next(PATIENCE),
                    None => Ok(Ok(None)),
                }))
            })??;
            if let Ok(part) = next {
                return Ok(part?.map(|part| PyPart { part, task: self.task.clone() }));
            }
        }
    }

    /// Stop, and wait for all threads to end.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        detached(py, || {
            if let Ok(mut stream) = self.stream.lock() {
                drop(stream.take());
            }
            Ok(())
        })
    }
}

/// Refuse renamed types that the model does not know: they would silently form no pairs.
fn check_types(task: &Task, settings: &StreamSettings) -> PyResult<()> {
    for (theirs, ours) in &settings.types {
        if !task.candidates.includes(ours) {
            let known: Vec<&str> =
                task.candidates.rules.iter().flat_map(|(a, b)| a.iter().chain(b)).map(String::as_str).collect();
            let message = format!(
                "types: `{theirs}` is to be `{ours}`, which the model does not know; it knows {}",
                known.join(", ")
            );
            return Err(ConfigError::new_err((message, "types")));
        }
    }
    Ok(())
}

/// Documents with classified pairs.
#[pyclass(frozen, name = "Part", module = "biorel._biorel")]
pub struct PyPart {
    part: Part,
    task: Arc<Task>,
}

/// File, line, document, reason.
type RawFailure = (String, Option<usize>, Option<String>, String);

#[pymethods]
impl PyPart {
    /// How many documents could be used.
    #[getter]
    fn documents(&self) -> usize {
        self.part.documents.len()
    }

    /// How many pairs they have.
    #[getter]
    fn pairs(&self) -> usize {
        self.part.rows.len()
    }

    #[getter]
    fn failures(&self) -> Vec<RawFailure> {
        let failure = |one: &stream::Failure| {
            (one.path.display().to_string(), one.line, one.document.clone(), one.reason.clone())
        };
        self.part.failures.iter().map(failure).collect()
    }

    /// How often something was left out or repaired, by reason.
    #[getter]
    fn counts(&self) -> BTreeMap<String, usize> {
        self.part.counts.clone()
    }

    /// Where the next part starts: the file, and how many of its documents are done.
    #[getter]
    fn next(&self) -> (usize, usize) {
        (self.part.next.file, self.part.next.record)
    }

    /// Bytes of the files read so far.
    #[getter]
    fn bytes(&self) -> u64 {
        self.part.bytes
    }

    /// One row per pair.
    #[pyo3(signature = (*, related=false, threshold=0.0))]
    fn columns<'py>(&self, py: Python<'py>, related: bool, threshold: f32) -> PyResult<Bound<'py, PyDict>> {
        let part = &self.part;
        let rows: Vec<(&Row, &Document, Option<usize>)> = part
            .rows
            .iter()
            .map(|row| (row, &part.documents[row.document], row.label()))
            .filter(|(row, _, label)| !related || self.is_related(row, *label, threshold))
            .collect();
        let paths: Vec<String> =
            part.documents.iter().map(|document| document.origin.path.display().to_string()).collect();
        let sentence = |row: &Row, document: &Document| match row.sentence {
            Some(number) => format!("{}.s{number}", document.id),
            None => document.id.clone(),
        };
        let sentences: Vec<String> = rows.iter().map(|(row, document, _)| sentence(row, document)).collect();
        let mut columns = Columns::new(py)
            .text("file", rows.iter().map(|(row, ..)| paths[row.document].as_str()))?
            .text("document", rows.iter().map(|(_, document, _)| document.id.as_str()))?
            .text("sentence", sentences.iter().map(String::as_str))?;
        for side in [0, 1] {
            let mentions = || rows.iter().map(move |(row, document, _)| &document.mentions[row.mentions[side]]);
            let number = side + 1;
            let concept = |(row, document, _): &(&Row, &Document, _)| match &row.concepts {
                Some(concepts) => concepts[side].clone(),
                None => document.mentions[row.mentions[side]].identifiers.join(";"),
            };
            let concepts: Vec<String> = rows.iter().map(concept).collect();
            columns = columns
                .text(&format!("entity{number}"), mentions().map(|mention| mention.text.as_str()))?
                .text(&format!("type{number}"), mentions().map(|mention| mention.entity_type.as_str()))?
                .text(&format!("id{number}"), mentions().map(|mention| mention.id.as_str()))?
                .text(&format!("concept{number}"), concepts.iter().map(String::as_str))?
                .integers(&format!("start{number}"), mentions().map(|mention| mention.bounding_span().start))?
                .integers(&format!("end{number}"), mentions().map(|mention| mention.bounding_span().end))?;
        }
        let name = |label: usize| self.task.labels[label].as_str();
        let probability = |row: &Row, label: Option<usize>| {
            label.and_then(|label| Some(f64::from(*row.probabilities.as_ref()?.get(label)?))).unwrap_or(f64::NAN)
        };
        columns = columns
            .maybe_text("relation", rows.iter().map(|(.., label)| label.map(name)))?
            .floats("probability", rows.iter().map(|(row, _, label)| probability(row, *label)))?;
        for (label, name) in self.task.labels.iter().enumerate() {
            columns =
                columns.floats(&format!("p_{name}"), rows.iter().map(|(row, ..)| probability(row, Some(label))))?;
        }
        Ok(columns.finish())
    }

    /// The documents in a format, with the relations found; or, for `pubtator-relations`, only
    /// their lines. And the documents that the format cannot represent.
    fn text(&self, py: Python<'_>, format: &str, model: &str, threshold: f32) -> PyResult<(String, Vec<RawFailure>)> {
        let lines_only = format == "pubtator-relations";
        let format: DocumentFormat = if lines_only { DocumentFormat::Pubtator } else { format.parse()? };
        detached(py, || {
            let mut predicted: Vec<Vec<Predicted>> = self.part.documents.iter().map(|_| Vec::new()).collect();
            for row in &self.part.rows {
                let label = row.label().filter(|label| self.is_related(row, Some(*label), threshold));
                if let (Some(label), Some(probabilities)) = (label, &row.probabilities) {
                    let (probability, mentions) = (probabilities[label], row.mentions);
                    let label = self.task.labels[label].as_str();
                    let concepts = row.concepts.as_ref().map(|names| names.each_ref().map(String::as_str));
                    predicted[row.document].push(Predicted { label, mentions, concepts, probability, model });
                }
            }
            let documents = || self.part.documents.iter().zip(&predicted);
            if lines_only {
                let lines = documents().map(|(document, found)| relation_lines(document, found, "\n"));
                return Ok((lines.collect(), Vec::new()));
            }
            let (mut texts, mut failures) = (Vec::new(), Vec::new());
            for (document, found) in documents() {
                match write_document(document, found, format) {
                    Ok(text) => texts.push(text),
                    Err(error) => {
                        let path = document.origin.path.display().to_string();
                        let line = (document.origin.line > 0).then_some(document.origin.line);
                        failures.push((path, line, Some(document.id.clone()), error.to_string()));
                    }
                }
            }
            let own = |one: &&Document| one.origin.raw.as_ref().is_some_and(|(own, _)| *own == format);
            let header = self.part.documents.first().filter(own).map_or("", |one| one.origin.header.as_str());
            Ok((write_collection(format, header, &texts), failures))
        })
    }
}

impl PyPart {
    /// Whether a pair is predicted to be in a relation, with at least the threshold's probability.
    fn is_related(&self, row: &Row, label: Option<usize>, threshold: f32) -> bool {
        let (Some(label), Some(probabilities)) = (label, &row.probabilities) else { return false };
        Some(label) != self.task.negative && probabilities[label] >= threshold
    }
}

/// Classify documents in memory.
#[pyfunction]
#[pyo3(signature = (model, documents, *, types, max_pairs, keep_failures, compute))]
pub fn predict_documents(
    py: Python<'_>,
    model: &PyModel,
    documents: Vec<Py<PyDocument>>,
    types: BTreeMap<String, String>,
    max_pairs: usize,
    keep_failures: bool,
    compute: &PyCompute,
) -> PyResult<PyPart> {
    let settings = StreamSettings { types, max_pairs, ..StreamSettings::new(compute.0) };
    check_types(&model.0.card.task, &settings)?;
    let documents: Vec<Document> = documents.iter().map(|document| (*document.get().0).clone()).collect();
    let part = interruptible(py, None, |on_batch| {
        stream::predict_documents(&model.0, documents, &settings, keep_failures, on_batch)
    })?;
    Ok(PyPart { part, task: Arc::new(model.0.card.task.clone()) })
}
