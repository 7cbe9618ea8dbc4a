//! Corpora and their tasks.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::vec::IntoIter;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::columns::Columns;
use super::documents::PyDocument;
use super::error::CorpusError;
use super::instances::PyInstances;
use super::runtime::detached;
use crate::corpus::{Averaging, Corpus, CorpusKind, Pair, ReadOptions, Sentence, Split, TableColumns, Task};
use crate::encode::{Leakage, divide, fold_numbers, hold_out, split_at_random};

/// A classification task: its labels, and how it is scored.
#[pyclass(frozen, name = "Task", module = "biorel._biorel")]
pub struct PyTask(pub Arc<Task>);

#[pymethods]
impl PyTask {
    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    #[getter]
    fn labels(&self) -> Vec<String> {
        self.0.labels.clone()
    }

    #[getter]
    fn negative(&self) -> Option<&str> {
        self.0.negative.and_then(|index| self.0.labels.get(index)).map(String::as_str)
    }

    /// The row of the table of scores that is the task's headline.
    #[getter]
    fn headline(&self) -> &'static str {
        row_name(self.0.averaging)
    }

    /// A user's names for the columns of the table that the task comes from.
    #[getter]
    fn columns(&self) -> BTreeMap<String, String> {
        self.0.columns.clone()
    }

    /// The types of the first and second argument of candidate pairs, rule by rule; empty when any
    /// two mentions form one.
    #[getter]
    fn rules(&self) -> Vec<(Vec<String>, Vec<String>)> {
        self.0.candidates.rules.clone()
    }

    /// The text in which the two arguments of a pair are: `sentence` or `document`.
    #[getter]
    fn scope(&self) -> &'static str {
        self.0.scope.name()
    }

    /// The word of an entity type's tag.
    fn tag(&self, entity_type: &str) -> String {
        self.0.tag(entity_type)
    }

    /// The number of candidate pairs of a sentence whose entities have these types.
    fn count_pairs(&self, types: Vec<String>) -> usize {
        self.0.candidates.count_of_types(types.iter().map(String::as_str))
    }

    /// Entity types that take part in candidate pairs; empty when all do.
    #[getter]
    fn types(&self) -> Vec<String> {
        let rules = &self.0.candidates.rules;
        let kinds = rules.iter().flat_map(|(first, second)| first.iter().chain(second));
        let mut seen = HashSet::new();
        kinds.filter(|kind| seen.insert(kind.as_str())).cloned().collect()
    }
}

/// Whether a label means "no relation", by its name.
#[pyfunction]
pub fn means_none(label: &str) -> bool {
    crate::corpus::means_none(label)
}

/// Settings of the readers.
#[pyclass(frozen, name = "ReadOptions", module = "biorel._biorel")]
pub struct PyReadOptions(ReadOptions);

#[pymethods]
impl PyReadOptions {
    #[new]
    #[pyo3(signature = (*, splits=None, columns=BTreeMap::new(), labels=None, negative=None, pairs=None, skip_errors=false, scope="sentence", max_mentions=None, attribute=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of the one caller, biorel.data.loading")]
    fn new(
        splits: Option<String>,
        columns: BTreeMap<String, String>,
        labels: Option<Vec<String>>,
        negative: Option<String>,
        pairs: Option<Vec<(String, String)>>,
        skip_errors: bool,
        scope: &str,
        max_mentions: Option<usize>,
        attribute: Option<String>,
    ) -> PyResult<Self> {
        let scope = scope.parse()?;
        let name = None;
        Ok(Self(ReadOptions {
            splits,
            columns,
            labels,
            negative,
            pairs,
            skip_errors,
            scope,
            max_mentions,
            attribute,
            name,
        }))
    }
}

/// The texts of a split's documents, one by one: the sentences of each in their order, joined.
#[pyclass(frozen, name = "DocumentTexts", module = "biorel._biorel")]
pub struct PyDocumentTexts {
    corpus: Arc<Corpus>,
    split: String,
    /// The sentences of those to come.
    documents: Mutex<IntoIter<Vec<usize>>>,
}

#[pymethods]
impl PyDocumentTexts {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self) -> PyResult<Option<String>> {
        let sentences = &self.corpus.split(&self.split)?.sentences;
        let next = self.documents.lock().unwrap_or_else(PoisonError::into_inner).next();
        Ok(next.map(|own| own.iter().map(|index| sentences[*index].text.as_str()).collect::<Vec<_>>().join(" ")))
    }
}

/// A corpus in memory.
#[pyclass(frozen, name = "Corpus", module = "biorel._biorel")]
pub struct PyCorpus(pub Arc<Corpus>);

#[pymethods]
impl PyCorpus {
    #[staticmethod]
    fn read(py: Python<'_>, name: &str, paths: Vec<PathBuf>, options: &PyReadOptions) -> PyResult<Self> {
        let kind: CorpusKind = name.parse()?;
        detached(py, || Corpus::read(kind, &paths, &options.0)).map(Self::of)
    }

    /// From documents, whose relations are the labels.
    #[staticmethod]
    fn from_documents(py: Python<'_>, documents: Vec<Py<PyDocument>>, options: &PyReadOptions) -> PyResult<Self> {
        let documents = documents.iter().map(|document| (*document.get().0).clone()).collect();
        detached(py, || Corpus::from_documents(documents, &options.0)).map(Self::of)
    }

    /// From a dict of columns, each a list of strings or of whole numbers.
    #[staticmethod]
    fn from_columns(py: Python<'_>, columns: &Bound<'_, PyDict>, options: &PyReadOptions) -> PyResult<Self> {
        let table = TableColumns {
            id: column(columns, "id")?,
            document: column(columns, "document")?,
            sentence: column(columns, "sentence")?,
            text: needed(columns, "text")?,
            label: needed(columns, "label")?,
            entity1_start: column(columns, "entity1_start")?,
            entity1_end: column(columns, "entity1_end")?,
            entity2_start: column(columns, "entity2_start")?,
            entity2_end: column(columns, "entity2_end")?,
            entity1: column(columns, "entity1")?,
            entity2: column(columns, "entity2")?,
            entity1_type: column(columns, "entity1_type")?,
            entity2_type: column(columns, "entity2_type")?,
            split: column(columns, "split")?,
            fold: column(columns, "fold")?,
            row: column(columns, "row")?,
        };
        detached(py, || Corpus::from_columns(&table, &options.0)).map(Self::of)
    }

    /// The corpus of `to_bytes`.
    #[staticmethod]
    fn from_bytes(py: Python<'_>, bytes: &[u8]) -> PyResult<Self> {
        detached(py, || Corpus::from_bytes(bytes)).map(Self::of)
    }

    /// The corpus in bytes, for another process.
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        detached(py, || self.0.to_bytes()).map(|bytes| PyBytes::new(py, &bytes))
    }

    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    #[getter]
    fn task(&self) -> PyTask {
        PyTask(Arc::new(self.0.task.clone()))
    }

    /// Every pair in the order of its instances, with its sentence and its two mentions: their
    /// first and last characters, texts and types.
    fn pairs<'py>(&self, py: Python<'py>, split: &str) -> PyResult<Bound<'py, PyDict>> {
        let sentences = &self.0.split(split)?.sentences;
        let pairs = sentences.iter().flat_map(|sentence| sentence.pairs.iter().map(move |pair| (sentence, pair)));
        let mut pairs: Vec<_> = pairs.collect();
        pairs.sort_by_key(|(_, pair)| pair.row);
        let label = |pair: &Pair| self.0.task.labels.get(pair.label).map(String::as_str);
        let mut columns = Columns::new(py)
            .text("id", pairs.iter().map(|(_, pair)| pair.id.as_str()))?
            .text("sentence", pairs.iter().map(|(sentence, _)| sentence.id.as_str()))?
            .text("text", pairs.iter().map(|(sentence, _)| sentence.text.as_str()))?
            .maybe_text("label", pairs.iter().map(|(_, pair)| label(pair)))?;
        for side in [1, 2] {
            let mentions = pairs.iter().filter_map(|(sentence, pair)| {
                sentence.entities.get(if side == 1 { pair.entity1 } else { pair.entity2 })
            });
            columns = columns
                .text(&format!("entity{side}"), mentions.clone().map(|entity| entity.text.as_str()))?
                .text(&format!("type{side}"), mentions.clone().map(|entity| entity.entity_type.as_str()))?
                .integers(&format!("start{side}"), mentions.clone().map(|entity| entity.bounding_span().start))?
                .integers(&format!("end{side}"), mentions.map(|entity| entity.bounding_span().end))?;
        }
        Ok(columns.finish())
    }

    #[getter]
    fn splits(&self) -> Vec<String> {
        self.0.splits.iter().map(|split| split.name.clone()).collect()
    }

    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let rows = detached(py, || Ok(self.0.statistics()))?;
        let mut columns = Columns::new(py)
            .text("split", rows.iter().map(|row| row.split.as_str()))?
            .integers("documents", rows.iter().map(|row| row.documents))?
            .integers("documents_with_pairs", rows.iter().map(|row| row.documents_with_pairs))?
            .integers("sentences", rows.iter().map(|row| row.sentences))?
            .integers("sentences_with_pairs", rows.iter().map(|row| row.sentences_with_pairs))?
            .integers("entities", rows.iter().map(|row| row.entities))?
            .integers("pairs", rows.iter().map(|row| row.pairs))?;
        for (index, label) in self.0.task.labels.iter().enumerate() {
            let counts = rows.iter().map(|row| row.labels.get(index).map_or(0, |(_, count)| *count));
            columns = columns.integers(label, counts)?;
        }
        Ok(columns.integers("lost", rows.iter().map(|row| row.lost))?.finish())
    }

    fn sentences<'py>(&self, py: Python<'py>, split: &str) -> PyResult<Bound<'py, PyDict>> {
        let sentences = &self.0.split(split)?.sentences;
        let columns = Columns::new(py)
            .text("id", sentences.iter().map(|sentence| sentence.id.as_str()))?
            .text("document", sentences.iter().map(|sentence| sentence.document.as_str()))?
            .text("text", sentences.iter().map(|sentence| sentence.text.as_str()))?
            .integers("entities", sentences.iter().map(|sentence| sentence.entities.len()))?
            .integers("pairs", sentences.iter().map(|sentence| sentence.pairs.len()))?;
        Ok(columns.finish())
    }

    /// The text of each document of a split.
    fn document_texts(&self, split: &str) -> PyResult<PyDocumentTexts> {
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        let mut documents: Vec<Vec<usize>> = Vec::new();
        for (index, sentence) in self.0.split(split)?.sentences.iter().enumerate() {
            let number = *numbers.entry(&sentence.document).or_insert(documents.len());
            if number == documents.len() {
                documents.push(Vec::new());
            }
            documents[number].push(index);
        }
        let documents = Mutex::new(documents.into_iter());
        Ok(PyDocumentTexts { corpus: self.0.clone(), split: split.to_owned(), documents })
    }

    /// One line for each kind of finding.
    #[getter]
    fn summary(&self) -> Vec<String> {
        self.0.report.summary()
    }

    fn findings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let findings = &self.0.report.findings;
        let label = |index: usize| self.0.task.labels.get(index).map(String::as_str);
        let columns = Columns::new(py)
            .text("kind", findings.iter().map(|finding| finding.kind.name()))?
            .maybe_text("split", findings.iter().map(|finding| finding.split.as_deref()))?
            .maybe_text("document", findings.iter().map(|finding| finding.document.as_deref()))?
            .text("id", findings.iter().map(|finding| finding.id.as_str()))?
            .maybe_text("label", findings.iter().map(|finding| finding.label.and_then(label)))?
            .text("reason", findings.iter().map(|finding| finding.reason.as_str()))?;
        Ok(columns.finish())
    }

    /// Gold positives of a split that could not become a pair, per label.
    fn lost(&self, split: &str) -> PyResult<Vec<u64>> {
        self.0.split(split)?;
        let mut counts = vec![0; self.0.task.labels.len()];
        for index in self.0.lost(split).filter_map(|finding| finding.label) {
            if let Some(count) = counts.get_mut(index) {
                *count += 1;
            }
        }
        Ok(counts)
    }

    fn instances(&self, py: Python<'_>, splits: Vec<String>, marking: &str) -> PyResult<PyInstances> {
        let marking = marking.parse()?;
        detached(py, || PyInstances::of_splits(&self.0, &splits, marking))
    }

    /// New splits by document.
    fn divide(&self, py: Python<'_>, parts: Vec<(String, Vec<String>)>) -> PyResult<Self> {
        detached(py, || divide(&self.0, &parts)).map(Self::of)
    }

    /// The splits in `sources` (all, if none) divided at random into parts with these fractions.
    fn split(
        &self,
        py: Python<'_>,
        sources: Vec<String>,
        parts: Vec<(String, f64)>,
        by: &str,
        seed: u64,
    ) -> PyResult<Self> {
        let unit = by.parse()?;
        detached(py, || split_at_random(&self.0, &sources, &parts, unit, seed)).map(Self::of)
    }

    /// A split into training and test data, with one fold held out.
    fn fold(&self, py: Python<'_>, index: i64, folds: i64, by: &str, seed: u64) -> PyResult<Self> {
        let unit = by.parse()?;
        detached(py, || hold_out(&self.0, index, folds, unit, seed)).map(Self::of)
    }

    /// The numbers that `fold` takes.
    fn fold_numbers(&self, py: Python<'_>, folds: i64, by: &str, seed: u64) -> PyResult<Vec<usize>> {
        let unit = by.parse()?;
        detached(py, || fold_numbers(&self.0, folds, unit, seed))
    }

    /// How many folds the corpus itself states.
    #[getter]
    fn given_folds(&self) -> Option<usize> {
        self.0.folds.as_ref().map(|folds| folds.values().collect::<HashSet<_>>().len())
    }

    /// SHA-256 of labels and content.
    #[getter]
    fn hash(&self, py: Python<'_>) -> PyResult<String> {
        detached(py, || Ok(self.0.content_hash()))
    }

    /// What two splits share: documents, equal sentences, near-duplicates.
    fn leakage<'py>(&self, py: Python<'py>, train: &str, test: &str, threshold: f64) -> PyResult<Bound<'py, PyDict>> {
        let (train, test) = (self.0.split(train)?, self.0.split(test)?);
        let with_pairs = |split: &'_ Split| -> Vec<Sentence> {
            split.sentences.iter().filter(|sentence| !sentence.pairs.is_empty()).cloned().collect()
        };
        let found = detached(py, || {
            let (train, test) = (with_pairs(train), with_pairs(test));
            Leakage::between(&train.iter().collect::<Vec<_>>(), &test.iter().collect::<Vec<_>>(), threshold)
        })?;
        let mut rows: Vec<(&str, &str, &str, f64)> = Vec::new();
        rows.extend(found.documents.iter().map(|id| ("document", id.as_str(), id.as_str(), 1.0)));
        rows.extend(found.sentences.iter().map(|(train, test)| ("sentence", train.as_str(), test.as_str(), 1.0)));
        let near = found.near_duplicates.iter();
        rows.extend(near.map(|pair| ("near-duplicate", pair.train.as_str(), pair.test.as_str(), pair.similarity)));
        let columns = Columns::new(py)
            .text("kind", rows.iter().map(|row| row.0))?
            .text("train", rows.iter().map(|row| row.1))?
            .text("test", rows.iter().map(|row| row.2))?
            .floats("similarity", rows.iter().map(|row| row.3))?;
        Ok(columns.finish())
    }
}

impl PyCorpus {
    fn of(corpus: Corpus) -> Self {
        Self(Arc::new(corpus))
    }
}

/// A column that may be missing.
fn column<'py, T>(columns: &Bound<'py, PyDict>, name: &str) -> PyResult<Option<Vec<T>>>
where
    Vec<T>: for<'a> FromPyObject<'a, 'py>,
{
    let Some(values) = columns.get_item(name)? else { return Ok(None) };
    let refuse = || CorpusError::new_err((format!("table: column `{name}` has values of a wrong type"), "table"));
    values.extract().map(Some).map_err(|_| refuse())
}

/// A required column.
fn needed<'py, T>(columns: &Bound<'py, PyDict>, name: &str) -> PyResult<Vec<T>>
where
    Vec<T>: for<'a> FromPyObject<'a, 'py>,
{
    let there = || columns.keys().iter().map(|key| key.to_string()).collect::<Vec<_>>().join(", ");
    let refuse = || CorpusError::new_err((format!("table: no column `{name}`; the columns are {}", there()), "table"));
    column(columns, name)?.ok_or_else(refuse)
}

/// The name of an average's row.
pub fn row_name(averaging: Averaging) -> &'static str {
    match averaging {
        Averaging::Micro => "micro",
        Averaging::Macro => "macro",
        Averaging::MacroAll => "macro, all classes",
        Averaging::Binary => "binary",
    }
}
