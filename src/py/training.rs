//! Fine-tuning.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::columns::Columns;
use super::encoder::PyEncoder;
use super::error::ConfigError;
use super::gate::{Outcome, reporting};
use super::instances::PyInstances;
use super::model::PyModel;
use super::settings::PySettings;
use crate::config::Engine;
use crate::model::RelationModel;
use crate::ops::engine;
use crate::train::{Finetune, Schedule, StatePlan, StepRecord};

/// What a fine-tuning came to.
#[pyclass(frozen, name = "Outcome", module = "biorel._biorel")]
pub struct PyOutcome {
    #[pyo3(get)]
    model: Py<PyModel>,
    /// Training instances that lost word pieces to a window.
    #[pyo3(get)]
    cut: usize,
    /// Identifiers of training instances that were left out.
    #[pyo3(get)]
    dropped: Vec<String>,
    /// What stopped the run before its last step.
    raised: Option<PyErr>,
    history: Vec<StepRecord>,
}

#[pymethods]
impl PyOutcome {
    #[getter]
    fn raised<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.raised.as_ref().map(|error| error.value(py).clone().into_any())
    }

    /// One row per step.
    #[getter]
    fn history<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let steps = &self.history;
        let columns = Columns::new(py)
            .integers("step", steps.iter().map(|step| step.step))?
            .integers("epoch", steps.iter().map(|step| step.epoch))?
            .floats("loss", steps.iter().map(|step| step.loss))?
            .floats("gradient_norm", steps.iter().map(|step| step.gradient_norm))?
            .floats("learning_rate", steps.iter().map(|step| step.learning_rate))?
            .integers("instances", steps.iter().map(|step| step.instances))?
            .integers("tokens", steps.iter().map(|step| step.tokens))?
            .floats("seconds", steps.iter().map(|step| step.seconds))?;
        Ok(columns.finish())
    }
}

/// Fine-tune `encoder` on `instances`. `report` is called after every step with the step, the steps in all, the epoch and
/// the loss. `state` is the file from which a killed run goes on, written every `state_every` steps.
#[pyfunction]
#[pyo3(signature = (encoder, name, instances, settings, *, device, threads, state, state_every, report))]
#[expect(clippy::too_many_arguments, reason = "they are the call's own; the package has the readable form")]
pub fn finetune(
    py: Python<'_>,
    encoder: &PyEncoder,
    name: String,
    instances: &PyInstances,
    settings: &PySettings,
    device: &str,
    threads: Option<usize>,
    state: Option<PathBuf>,
    state_every: usize,
    report: Option<Py<PyAny>>,
) -> PyResult<PyOutcome> {
    let engine: Engine = device.parse()?;
    let pretrained = &*encoder.0;
    let training = &settings.0;
    let longest = pretrained.config.longest();
    if training.max_length > longest {
        let message = format!("max_length: {} is too long for this encoder; it takes {longest}", training.max_length);
        return Err(ConfigError::new_err((message, "max_length")));
    }
    let tell = |py: Python<'_>, (record, total): (StepRecord, usize)| match &report {
        Some(report) => report.call1(py, (record.step, total, record.epoch, record.loss)).map(drop),
        None => Ok(()),
    };
    let Outcome { value: (model, trained, encoded), raised } = reporting(py, tell, |on_news| {
        let encoded = pretrained.tokenizer.encode_all(&instances.items, training.max_length, training.too_long)?;
        let (network, weights) = pretrained.with_head(training, instances.task.labels.len());
        let total = Schedule::new(training, encoded.features.len().max(1)).total();
        let job = Finetune {
            network: &network,
            weights: &weights,
            features: &encoded.features,
            settings: training,
            state: state.as_deref().map(|path| StatePlan { path, every: state_every }),
            on_step: &mut |record| on_news((*record, total)),
        };
        let mut trained = engine::run(engine, threads, job)?;
        let weights = std::mem::replace(&mut trained.weights, crate::model::Weights { specs: vec![], values: vec![] });
        let model = RelationModel::new(
            pretrained,
            network,
            weights,
            training.clone(),
            ((*instances.task).clone(), instances.marking),
            (name, Some(instances.hash.clone()), trained.history.len()),
        );
        Ok((model, trained, encoded))
    })?;
    Ok(PyOutcome {
        model: Py::new(py, PyModel(Arc::new(model)))?,
        cut: encoded.cut,
        dropped: encoded.dropped.into_iter().map(|dropped| dropped.id).collect(),
        raised,
        history: trained.history,
    })
}
