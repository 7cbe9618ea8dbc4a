//! Adapting an encoder to texts.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::compute::PyCompute;
use super::encoder::PyEncoder;
use super::runtime::{Outcome, detached, reporting};
use super::settings::PySettings;
use super::training::{emitter, step_columns};
use crate::train::{Adapt, Adapted, CheckpointPlan, Spool, StepRecord, masked_lm};

/// Texts to adapt to, as word pieces in a temporary file in `directory`.
#[pyclass(frozen, name = "Spool", module = "biorel._biorel")]
pub struct PySpool {
    encoder: Py<PyEncoder>,
    spool: Mutex<Spool>,
}

#[pymethods]
impl PySpool {
    /// Check the settings of the adaptation too, before texts are read.
    #[new]
    #[pyo3(signature = (encoder, settings, mask_rate, directory))]
    fn new(encoder: Py<PyEncoder>, settings: &PySettings, mask_rate: f64, directory: PathBuf) -> PyResult<Self> {
        let pretrained = &encoder.get().0;
        masked_lm(pretrained, mask_rate, &settings.0)?;
        let spool = Mutex::new(Spool::new(&directory, &pretrained.tokenizer, settings.0.max_length)?);
        Ok(Self { encoder, spool })
    }

    /// Append texts.
    fn extend(&self, py: Python<'_>, texts: Vec<String>, compute: &PyCompute) -> PyResult<()> {
        let tokenizer = &self.encoder.get().0.tokenizer;
        detached(py, || compute.0.within(|| self.lock().extend(tokenizer, &texts)))
    }

    fn __len__(&self) -> usize {
        self.lock().len()
    }
}

impl PySpool {
    fn lock(&self) -> MutexGuard<'_, Spool> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The result of an adaptation.
#[pyclass(frozen, name = "Adapted", module = "biorel._biorel")]
pub struct PyAdapted {
    #[pyo3(get)]
    encoder: Py<PyEncoder>,
    /// Whether the parameters above the encoder were initialised rather than read with it.
    #[pyo3(get)]
    new_decoder: bool,
    /// Texts after long ones were divided, and all their word pieces.
    #[pyo3(get)]
    parts: usize,
    #[pyo3(get)]
    pieces: usize,
    /// Mean cross-entropy of the held-out texts' masked pieces before and after, in nats.
    #[pyo3(get)]
    held_out_loss: Option<[f64; 2]>,
    /// The exception that stopped the run before its last step.
    raised: Option<PyErr>,
    history: Vec<StepRecord>,
}

#[pymethods]
impl PyAdapted {
    #[getter]
    fn raised<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.raised.as_ref().map(|error| error.value(py).clone().into_any())
    }

    /// One row per step.
    #[getter]
    fn history<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        step_columns(py, &self.history)
    }
}

/// Train an encoder on texts as a masked language model; `held_out` are numbers of texts. `report`,
/// `checkpoint` and `save_steps` are as in `finetune`.
#[pyfunction]
#[pyo3(signature = (texts, held_out, settings, *, mask_rate, compute, checkpoint, save_steps, report))]
#[expect(clippy::too_many_arguments, reason = "the arguments of the Python call, which are keywords there")]
pub fn adapt(
    py: Python<'_>,
    texts: &PySpool,
    held_out: Vec<usize>,
    settings: &PySettings,
    mask_rate: f64,
    compute: &PyCompute,
    checkpoint: Option<PathBuf>,
    save_steps: usize,
    report: Option<Py<PyAny>>,
) -> PyResult<PyAdapted> {
    let encoder = &texts.encoder.get().0;
    let Outcome { value: adapted, raised } = reporting(py, emitter(report), |on_event| {
        let run = Adapt {
            encoder,
            texts: &texts.lock(),
            held_out: &held_out,
            mask_rate,
            settings: &settings.0,
            compute: compute.0,
            checkpoint: checkpoint.as_deref().map(|path| CheckpointPlan { path, every: save_steps }),
        };
        crate::train::adapt(run, on_event)
    })?;
    let Adapted { encoder, new_decoder, parts, pieces, held_out_loss, history, .. } = adapted;
    let encoder = Py::new(py, PyEncoder(Arc::new(encoder)))?;
    Ok(PyAdapted { encoder, new_decoder, parts, pieces, held_out_loss, raised, history })
}
