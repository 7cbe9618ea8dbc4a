//! Pre-trained encoders.

use std::path::PathBuf;
use std::sync::Arc;

use numpy::{PyArray1, PyArray2, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use sha2::{Digest, Sha256};

use super::columns::Columns;
use super::compute::PyCompute;
use super::gate::{detached, interruptible};
use crate::corpus::Span;
use crate::encode::{Features, Tokenizer};
use crate::model::Pretrained;
use crate::model::checkpoint::LoadReport;
use crate::predict::EncodeStates;
use crate::{Error, Result};

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

    /// Write it into a directory that is there, as files that `open` reads.
    fn save(&self, py: Python<'_>, directory: PathBuf) -> PyResult<()> {
        detached(py, || self.0.save(&directory))
    }

    /// `config.json`, as text.
    #[getter]
    fn config(&self) -> PyResult<String> {
        serde_json::to_string(&self.0.config).map_err(|e| super::error::internal(&e.to_string()))
    }

    /// SHA-256 of the sizes, the casing and every weight: which encoder it is, wherever it was read from.
    #[getter]
    fn hash(&self, py: Python<'_>) -> PyResult<String> {
        detached(py, || {
            let mut hash = Sha256::new();
            hash.update(format!("{:?} {}", self.0.config, self.0.tokenizer.casing().name()));
            for value in self.0.weights.values.iter().flatten() {
                hash.update(value.to_le_bytes());
            }
            Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
        })
    }

    #[getter]
    fn casing(&self) -> &'static str {
        self.0.tokenizer.casing().name()
    }

    /// Where the weights came from: path, format, and the names of the tensors that were used, unused and missing.
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
        let states = interruptible(py, |on_batch| {
            let texts = texts.iter().enumerate();
            let features = texts.map(|(i, text)| self.whole(i, text)).collect::<Result<Vec<_>>>()?;
            let Pretrained { config, weights, .. } = &*self.0;
            compute.0.execute(EncodeStates { config, weights, features: &features, on_batch })
        })?;
        let array = |states: Vec<f32>| {
            let rows = states.len() / hidden;
            PyArray1::from_vec(py, states).reshape([rows, hidden])
        };
        states.into_iter().map(array).collect()
    }
}

impl PyEncoder {
    /// All pieces of a text; one that is too long is an error.
    fn whole(&self, index: usize, text: &str) -> Result<Features> {
        let features = whole(&self.0.tokenizer, text)?;
        let (pieces, longest) = (features.ids.len(), self.0.config.longest());
        if pieces > longest {
            let message =
                format!("text {index} has {pieces} pieces, [CLS] and [SEP] included; this encoder takes {longest}");
            return Err(Error::config("texts", message));
        }
        Ok(features)
    }
}

/// `[CLS] pieces [SEP]` of a text without entities.
fn whole(tokenizer: &Tokenizer, text: &str) -> Result<Features> {
    let pieces = tokenizer.pieces(text)?;
    let nowhere = Span { start: 0, end: 0 };
    let mut features = Features {
        ids: vec![tokenizer.cls_id()],
        spans: vec![nowhere],
        words: vec![None],
        entities: [nowhere; 2],
        cut: 0,
        label: None,
    };
    for piece in pieces {
        features.ids.push(piece.id);
        features.spans.push(piece.span);
        features.words.push(Some(piece.word));
    }
    features.ids.push(tokenizer.sep_id());
    features.spans.push(nowhere);
    features.words.push(None);
    Ok(features)
}
