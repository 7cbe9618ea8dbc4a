//! Pre-trained encoders.

use std::path::PathBuf;
use std::sync::Arc;

use numpy::{PyArray1, PyArray2, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::columns::Columns;
use super::compute::PyCompute;
use super::runtime::{detached, interruptible};
use crate::model::Pretrained;
use crate::model::checkpoint::LoadReport;
use crate::predict::hidden_states;

/// A pre-trained encoder with its tokenizer.
#[pyclass(frozen, name = "Encoder", module = "biorel._biorel")]
pub struct PyEncoder(pub Arc<Pretrained>);

#[pymethods]
impl PyEncoder {
    #[staticmethod]
    #[pyo3(signature = (directory, casing))]
    fn open(py: Python<'_>, directory: PathBuf, casing: Option<&str>) -> PyResult<Self> {
        let casing = casing.map(str::parse).transpose()?;
        detached(py, || Pretrained::open(&directory, casing)).map(|encoder| Self(Arc::new(encoder)))
    }

    /// Write it into an existing directory, as files that `open` reads.
    fn save(&self, py: Python<'_>, directory: PathBuf) -> PyResult<()> {
        detached(py, || self.0.save(&directory))
    }

    /// `config.json`, as text.
    #[getter]
    fn config(&self) -> PyResult<String> {
        serde_json::to_string(&self.0.config).map_err(|e| super::error::internal(&e.to_string()))
    }

    /// SHA-256 of the sizes, the casing and every weight. It does not depend on the location of the
    /// files.
    #[getter]
    fn hash(&self, py: Python<'_>) -> PyResult<String> {
        detached(py, || Ok(self.0.content_hash()))
    }

    #[getter]
    fn casing(&self) -> &'static str {
        self.0.tokenizer.casing().name()
    }

    /// The source of the weights: path, format, and the names of the tensors that were used,
    /// unused and missing.
    #[getter]
    fn report<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let LoadReport { path, format, used, unused, missing } = &self.0.report;
        let report = PyDict::new(py);
        report.set_item("path", path.display().to_string())?;
        report.set_item("format", format.name())?;
        report.set_item("used", used)?;
        report.set_item("unused", unused)?;
        report.set_item("missing", missing)?;
        Ok(report)
    }

    fn tokenize<'py>(&self, py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyDict>> {
        let pieces = detached(py, || self.0.tokenizer.pieces(text))?;
        let columns = Columns::new(py)
            .text("piece", pieces.iter().map(|piece| piece.text.as_str()))?
            .integers("id", pieces.iter().map(|piece| piece.id as usize))?
            .integers("start", pieces.iter().map(|piece| piece.span.start))?
            .integers("end", pieces.iter().map(|piece| piece.span.end))?
            .integers("word", pieces.iter().map(|piece| piece.word as usize))?;
        Ok(columns.finish())
    }

    /// The last layer's states of every text, each (pieces + 2, hidden).
    fn encode<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<String>,
        compute: &PyCompute,
    ) -> PyResult<Vec<Bound<'py, PyArray2<f32>>>> {
        let hidden = self.0.config.hidden_size;
        let states = interruptible(py, None, |on_batch| hidden_states(&self.0, &texts, compute.0, on_batch))?;
        let array = |states: Vec<f32>| {
            let rows = states.len() / hidden;
            PyArray1::from_vec(py, states).reshape([rows, hidden])
        };
        states.into_iter().map(array).collect()
    }
}
