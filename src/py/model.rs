//! Relation models: prediction, attention, saving.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use numpy::{PyArray1, PyArray2, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::columns::Columns;
use super::compute::PyCompute;
use super::corpus::{PyCorpus, PyTask};
use super::instances::PyInstances;
use super::runtime::{detached, interruptible};
use crate::Result;
use crate::corpus::documents::{ConceptCandidate, Document, Mention, Passage};
use crate::corpus::{Entity, Scope, Sentence, Span};
use crate::encode::{Encoded, Instance, mark_arguments, mark_concepts};
use crate::model::{Card, RelationModel};
use crate::predict::{Prediction, classify_instances};

/// A fine-tuned relation classifier.
#[pyclass(frozen, name = "Model", module = "biorel._biorel")]
pub struct PyModel(pub Arc<RelationModel>);

/// Probabilities of some instances.
#[pyclass(frozen, name = "Predicted", module = "biorel._biorel")]
pub struct PyPredicted {
    /// Rows of the instances that were classified; the others were dropped.
    #[pyo3(get)]
    kept: Vec<usize>,
    /// How many of them lost word pieces to a window.
    #[pyo3(get)]
    cut: usize,
    labels: usize,
    predictions: Vec<Prediction>,
}

#[pymethods]
impl PyPredicted {
    /// (instances, labels)
    #[getter]
    fn probabilities<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let values: Vec<f32> = self.predictions.iter().flat_map(|one| one.probabilities.iter().copied()).collect();
        PyArray1::from_vec(py, values).reshape([self.predictions.len(), self.labels])
    }
}

/// The candidate pairs of new sentences.
#[pyclass(frozen, name = "Pairs", module = "biorel._biorel")]
pub struct PyPairs {
    #[pyo3(get)]
    instances: Py<PyInstances>,
    /// Entity types that the model does not know, with the number of entities.
    #[pyo3(get)]
    unknown_types: BTreeMap<String, usize>,
    pairs: Vec<NewPair>,
}

#[pymethods]
impl PyPairs {
    fn columns<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let mut columns = Columns::new(py).text("sentence", self.pairs.iter().map(|pair| pair.sentence.as_str()))?;
        for side in [0, 1] {
            let entities = self.pairs.iter().map(|pair| &pair.entities[side]);
            let number = side + 1;
            let concepts: Option<Vec<&str>> =
                self.pairs.iter().map(|pair| Some(pair.concepts.as_ref()?[side].as_str())).collect();
            columns = columns
                .text(&format!("entity{number}"), entities.clone().map(|entity| entity.text.as_str()))?
                .text(&format!("type{number}"), entities.clone().map(|entity| entity.entity_type.as_str()))?
                .integers(&format!("start{number}"), entities.clone().map(|entity| entity.bounding_span().start))?
                .integers(&format!("end{number}"), entities.map(|entity| entity.bounding_span().end))?;
            if let Some(concepts) = concepts.filter(|concepts| !concepts.is_empty()) {
                columns = columns.text(&format!("concept{number}"), concepts)?;
            }
        }
        Ok(columns.finish())
    }
}

#[pymethods]
impl PyModel {
    #[staticmethod]
    fn load(py: Python<'_>, directory: PathBuf) -> PyResult<Self> {
        let model = detached(py, || RelationModel::load(&directory))?;
        Ok(Self(Arc::new(model)))
    }

    /// The directory that `load` reads: `directory`, or the earlier model if a killed save had
    /// moved it aside.
    #[staticmethod]
    fn place(directory: PathBuf) -> PathBuf {
        RelationModel::place(&directory)
    }

    /// `readme` is the text of its README.md.
    fn save(&self, py: Python<'_>, directory: PathBuf, readme: &str) -> PyResult<()> {
        detached(py, || self.0.save_with(&directory, Some(readme)))
    }

    #[getter]
    fn task(&self) -> PyTask {
        PyTask(Arc::new(self.0.card.task.clone()))
    }

    #[getter]
    fn head(&self) -> &'static str {
        self.0.card.training.head.name()
    }

    #[getter]
    fn marking(&self) -> &'static str {
        self.0.card.marking.name()
    }

    /// `biorel.json`, as text.
    #[getter]
    fn card(&self) -> PyResult<String> {
        serde_json::to_string(&self.0.card).map_err(|e| super::error::internal(&e.to_string()))
    }

    /// SHA-256 of everything that its predictions depend on.
    #[getter]
    fn hash(&self, py: Python<'_>) -> PyResult<String> {
        detached(py, || Ok(self.0.content_hash()))
    }

    /// A corpus's pairs with this model's marking, tags and labels. Labels are matched by name.
    fn instances(&self, py: Python<'_>, corpus: &PyCorpus, splits: Vec<String>) -> PyResult<PyInstances> {
        let card = &self.0.card;
        detached(py, || PyInstances::of_task(&corpus.0, &splits, card.marking, &card.task))
    }

    /// All candidate pairs of new sentences, or at document scope documents. A sentence is its
    /// identifier, its text and its entities: identifier, type, start, end, concept.
    fn pairs(&self, py: Python<'_>, sentences: Vec<NewSentence>) -> PyResult<PyPairs> {
        let Candidates { instances, pairs, unknown_types } = detached(py, || self.candidates(&sentences))?;
        let card = &self.0.card;
        let instances = PyInstances::new(instances, card.task.clone(), card.marking, String::new());
        Ok(PyPairs { instances: Py::new(py, instances)?, unknown_types, pairs })
    }

    /// `report` is called with the finished share.
    #[pyo3(signature = (instances, compute, report=None))]
    fn predict(
        &self,
        py: Python<'_>,
        instances: &PyInstances,
        compute: &PyCompute,
        report: Option<Py<PyAny>>,
    ) -> PyResult<PyPredicted> {
        let (encoded, predictions) = self.run(py, instances, compute, report)?;
        let labels = self.0.card.task.labels.len();
        Ok(PyPredicted { kept: encoded.kept, cut: encoded.cut, labels, predictions })
    }
}

/// Identifier, type, start, end, and concept, which may be empty.
type NewEntity = (String, String, usize, usize, String);
/// Identifier, text and entities.
type NewSentence = (String, String, Vec<NewEntity>);

/// The candidate pairs of new sentences.
#[derive(Default)]
struct Candidates {
    instances: Vec<Instance>,
    /// Where they come from.
    pairs: Vec<NewPair>,
    /// Entity types without candidates, with the number of entities.
    unknown_types: BTreeMap<String, usize>,
}

/// A candidate pair of a new sentence.
struct NewPair {
    sentence: String,
    /// At document scope, the nearest mentions.
    entities: [Entity; 2],
    /// The names of the concepts, at document scope.
    concepts: Option<[String; 2]>,
}

impl PyModel {
    /// Encode and classify.
    pub(super) fn run(
        &self,
        py: Python<'_>,
        instances: &PyInstances,
        compute: &PyCompute,
        report: Option<Py<PyAny>>,
    ) -> PyResult<(Encoded, Vec<Prediction>)> {
        interruptible(py, report, |on_batch| classify_instances(&self.0, &instances.items, compute.0, on_batch))
    }

    fn candidates(&self, sentences: &[NewSentence]) -> Result<Candidates> {
        let task = &self.0.card.task;
        let mut found = Candidates::default();
        for (id, text, entities) in sentences {
            for (_, entity_type, ..) in entities.iter().filter(|(_, of, ..)| !task.candidates.includes(of)) {
                *found.unknown_types.entry(entity_type.clone()).or_default() += 1;
            }
            match task.scope {
                Scope::Sentence => self.pairs_of_mentions(sentence_of(id, text, entities), &mut found)?,
                Scope::Document => self.pairs_of_concepts(&document_of(id, text, entities)?, &mut found)?,
            }
        }
        Ok(found)
    }

    fn pairs_of_mentions(&self, sentence: Sentence, found: &mut Candidates) -> Result<()> {
        let Card { task, marking, .. } = &self.0.card;
        sentence.check()?;
        for (number, arguments) in task.candidates.of(&sentence).into_iter().enumerate() {
            let name = format!("{}.p{number}", sentence.id);
            found.instances.push(mark_arguments(&sentence, arguments, &name, None, task, *marking)?);
            let entities = [arguments.0, arguments.1].map(|index| sentence.entities[index].clone());
            found.pairs.push(NewPair { sentence: sentence.id.clone(), entities, concepts: None });
        }
        Ok(())
    }

    fn pairs_of_concepts(&self, document: &Document, found: &mut Candidates) -> Result<()> {
        let Card { task, marking, .. } = &self.0.card;
        let (whole, _) = document.whole_text();
        let candidates = whole.candidates(&task.candidates, task.max_mentions);
        let sentence = &whole.sentence;
        for (number, candidate) in candidates.into_iter().enumerate() {
            let name = format!("{}.p{number}", sentence.id);
            let ConceptCandidate { mentions, pair, .. } = candidate;
            found.instances.push(mark_concepts(sentence, mentions, &pair, &name, task, *marking)?);
            let entities = [mentions.0, mentions.1].map(|index| sentence.entities[index].clone());
            found.pairs.push(NewPair { sentence: sentence.id.clone(), entities, concepts: Some(pair.names) });
        }
        Ok(())
    }
}

fn sentence_of(id: &str, text: &str, entities: &[NewEntity]) -> Sentence {
    let characters: Vec<char> = text.chars().collect();
    let mention = |(id, entity_type, start, end, _): &NewEntity| Entity {
        id: id.clone(),
        entity_type: entity_type.clone(),
        text: characters.get(*start..*end).unwrap_or_default().iter().collect(),
        spans: vec![Span { start: *start, end: *end }],
    };
    Sentence {
        id: id.to_owned(),
        document: id.to_owned(),
        text: text.to_owned(),
        entities: entities.iter().map(mention).collect(),
        pairs: vec![],
    }
}

fn document_of(id: &str, text: &str, entities: &[NewEntity]) -> Result<Document> {
    let mention = |(id, entity_type, start, end, concept): &NewEntity| Mention {
        id: id.clone(),
        entity_type: entity_type.clone(),
        text: String::new(),
        identifiers: if concept.is_empty() { Vec::new() } else { vec![concept.clone()] },
        spans: vec![Span { start: *start, end: *end }],
        passage: None,
    };
    let passage = Passage { passage_type: String::new(), start: 0, text: text.to_owned(), sentence: false };
    Document::new(id.to_owned(), vec![passage], entities.iter().map(mention).collect(), Vec::new())
}
