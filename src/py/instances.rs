//! Marked pairs, the input of training and prediction.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::columns::Columns;
use super::error::internal;
use crate::corpus::{Corpus, Task};
use crate::encode::{Instance, Marking, instances};
use crate::{Error, Result};

/// Instances of one task in one marking.
#[pyclass(frozen, name = "Instances", module = "biorel._biorel")]
pub struct PyInstances {
    pub items: Arc<Vec<Instance>>,
    pub task: Arc<Task>,
    pub marking: Marking,
    /// SHA-256 of the content of the splits they come from, joined by `+`; empty for new sentences.
    pub hash: String,
}

#[pymethods]
impl PyInstances {
    fn __len__(&self) -> usize {
        self.items.len()
    }

    /// The instances of several parts for one model, in order, to classify them together.
    #[staticmethod]
    fn join(parts: Vec<Bound<'_, Self>>) -> PyResult<Self> {
        let first = parts.first().ok_or_else(|| internal("no instances to join"))?.get();
        let items = parts.iter().flat_map(|part| part.get().items.iter().cloned()).collect();
        Ok(Self::new(items, Task::clone(&first.task), first.marking, String::new()))
    }

    /// The instance at a position, alone.
    fn only(&self, position: usize) -> PyResult<Self> {
        let item = self.items.get(position).cloned().ok_or_else(|| internal("no such instance"))?;
        Ok(Self::new(vec![item], Task::clone(&self.task), self.marking, self.hash.clone()))
    }

    fn columns<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let items = self.items.iter();
        let rows: Option<Vec<usize>> = items.clone().map(|item| item.row.map(|row| row.row)).collect();
        let label = |item: &Instance| item.label.and_then(|label| self.task.labels.get(label));
        let labels = items.clone().map(|item| label(item).map(String::as_str));
        let columns = Columns::new(py)
            .text("id", items.clone().map(|item| item.id.as_str()))?
            .integers_if_there("row", rows)?
            .text("document", items.clone().map(|item| item.document.as_str()))?
            .text("sentence", items.clone().map(|item| item.sentence.as_str()))?
            .text("text", items.clone().map(|item| item.text.as_str()))?
            .maybe_text("label", labels)?
            .text("entity1", items.clone().map(|item| item.mentions[0].as_str()))?
            .text("entity2", items.clone().map(|item| item.mentions[1].as_str()))?;
        let names: Option<Vec<&[String; 2]>> = items.map(|item| item.concepts.as_ref()).collect();
        Ok(match names.filter(|names| !names.is_empty()) {
            None => columns,
            Some(names) => columns
                .text("concept1", names.iter().map(|names| names[0].as_str()))?
                .text("concept2", names.iter().map(|names| names[1].as_str()))?,
        }
        .finish())
    }
}

impl PyInstances {
    /// Instances of a task.
    pub fn new(items: Vec<Instance>, task: Task, marking: Marking, hash: String) -> Self {
        Self { items: Arc::new(items), task: Arc::new(task), marking, hash }
    }

    /// The gold pairs of some splits together, in order.
    pub fn of_splits(corpus: &Corpus, splits: &[String], marking: Marking) -> Result<Self> {
        Self::of_task(corpus, splits, marking, &corpus.task)
    }

    /// The same for the model of another task: with its tags, and with its labels, by name.
    pub fn of_task(corpus: &Corpus, splits: &[String], marking: Marking, task: &Task) -> Result<Self> {
        let labels: Vec<Option<usize>> = corpus.task.labels.iter().map(|label| task.label(label)).collect();
        let (mut items, mut hashes) = (Vec::new(), Vec::new());
        for name in splits {
            let split = corpus.split(name)?;
            items.extend(instances(&split.sentences, task, marking)?);
            hashes.push(split.content_hash(&corpus.task));
        }
        for item in &mut items {
            let Some(own) = item.label else { continue };
            item.label = Some(labels.get(own).copied().flatten().ok_or_else(|| {
                let name = corpus.task.labels.get(own).map_or("", String::as_str);
                let known = task.labels.join(", ");
                Error::config("corpus", format!("pair {} has the label `{name}`; the model's are {known}", item.id))
            })?);
        }
        Ok(Self::new(items, task.clone(), marking, hashes.join("+")))
    }
}
