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
use crate::corpus::{Entity, Sentence, Span};
use crate::encode::{Encoded, mark_arguments};
use crate::model::RelationModel;
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
    /// Sentence and the two entities of every pair.
    pairs: Vec<(String, [Entity; 2])>,
}

#[pymethods]
impl PyPairs {
    fn columns<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let mut columns =
            Columns::new(py).text("sentence", self.pairs.iter().map(|(sentence, _)| sentence.as_str()))?;
        for side in [0, 1] {
            let entities = self.pairs.iter().map(|(_, entities)| &entities[side]);
            let number = side + 1;
            columns = columns
                .text(&format!("entity{number}"), entities.clone().map(|entity| entity.text.as_str()))?
                .text(&format!("type{number}"), entities.clone().map(|entity| entity.entity_type.as_str()))?
                .integers(&format!("start{number}"), entities.clone().map(|entity| entity.bounding_span().start))?
                .integers(&format!("end{number}"), entities.map(|entity| entity.bounding_span().end))?;
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

    /// All candidate pairs of new sentences. A sentence is its identifier,
    /// its text and its entities: identifier, type, start, end.
    fn pairs(&self, py: Python<'_>, sentences: Vec<NewSentence>) -> PyResult<PyPairs> {
        let (items, pairs, unknown_types) = detached(py, || self.candidates(&sentences))?;
        let card = &self.0.card;
        let instances = PyInstances::new(items, card.task.clone(), card.marking, String::new());
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

/// Identifier, text, and entities as (identifier, type, start, end).
type NewSentence = (String, String, Vec<(String, String, usize, usize)>);
/// Instances, where they come from, and entity types without candidates.
type Candidates = (Vec<crate::encode::Instance>, Vec<(String, [Entity; 2])>, BTreeMap<String, usize>);

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
        let card = &self.0.card;
        let (mut items, mut pairs, mut unknown) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (id, text, entities) in sentences {
            let characters: Vec<char> = text.chars().collect();
            let mention = |(id, entity_type, start, end): &(String, String, usize, usize)| Entity {
                id: id.clone(),
                entity_type: entity_type.clone(),
                text: characters.get(*start..*end).unwrap_or_default().iter().collect(),
                spans: vec![Span { start: *start, end: *end }],
            };
            let sentence = Sentence {
                id: id.clone(),
                document: id.clone(),
                text: text.clone(),
                entities: entities.iter().map(mention).collect(),
                pairs: vec![],
            };
            sentence.check()?;
            for entity in sentence.entities.iter().filter(|entity| !card.task.candidates.includes(&entity.entity_type))
            {
                *unknown.entry(entity.entity_type.clone()).or_default() += 1;
            }
            for (number, arguments) in card.task.candidates.of(&sentence).into_iter().enumerate() {
                let name = format!("{id}.p{number}");
                items.push(mark_arguments(&sentence, arguments, &name, None, &card.task, card.marking)?);
                let entity = |index: usize| sentence.entities[index].clone();
                pairs.push((id.clone(), [entity(arguments.0), entity(arguments.1)]));
            }
        }
        Ok((items, pairs, unknown))
    }
}
