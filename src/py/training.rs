//! Fine-tuning.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::columns::Columns;
use super::compute::PyCompute;
use super::encoder::PyEncoder;
use super::error::ConfigError;
use super::gate::{Outcome, reporting};
use super::instances::PyInstances;
use super::model::PyModel;
use super::settings::PySettings;
use crate::encode::Instance;
use crate::model::RelationModel;
use crate::train::{Dev, Evaluation, Finetune, News, Schedule, StatePlan, StepRecord, fewer_negatives};

/// What a fine-tuning came to.
#[pyclass(frozen, name = "Outcome", module = "biorel._biorel")]
pub struct PyOutcome {
    #[pyo3(get)]
    model: Py<PyModel>,
    /// Training instances: `trained` on, of those `cut` to a window; `dropped` as too long; negatives `left_out`.
    #[pyo3(get)]
    counts: BTreeMap<&'static str, usize>,
    /// Names of the tensors that the encoder did not bring.
    #[pyo3(get)]
    initialised: Vec<String>,
    /// The step that the model's weights are of.
    #[pyo3(get)]
    step: usize,
    /// What stopped the run before its last step.
    raised: Option<PyErr>,
    history: Vec<StepRecord>,
    evaluations: Vec<Evaluation>,
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
        step_columns(py, &self.history)
    }

    /// One row per evaluation.
    #[getter]
    fn evaluations<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        evaluation_columns(py, &self.evaluations)
    }
}

fn step_columns<'py>(py: Python<'py>, steps: &[StepRecord]) -> PyResult<Bound<'py, PyDict>> {
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

fn evaluation_columns<'py>(py: Python<'py>, evaluations: &[Evaluation]) -> PyResult<Bound<'py, PyDict>> {
    let columns = Columns::new(py)
        .integers("step", evaluations.iter().map(|evaluation| evaluation.step))?
        .integers("epoch", evaluations.iter().map(|evaluation| evaluation.epoch))?
        .floats("loss", evaluations.iter().map(|evaluation| evaluation.loss))?
        .floats("precision", evaluations.iter().map(|evaluation| evaluation.precision))?
        .floats("recall", evaluations.iter().map(|evaluation| evaluation.recall))?
        .floats("f1", evaluations.iter().map(|evaluation| evaluation.f1))?
        .truths("best", evaluations.iter().map(|evaluation| evaluation.best))?
        .floats("seconds", evaluations.iter().map(|evaluation| evaluation.seconds))?;
    Ok(columns.finish())
}

/// Fine-tune `encoder` on `instances`. `report` is called with the kind of news (`start`, `step`, `evaluation`), its
/// columns of one row each, and the steps in all. `dev` is what to score while training, with the gold positives of each
/// label that never became instances. `state` is the file from which a killed run goes on, written every `state_every`
/// steps.
#[pyfunction]
#[pyo3(signature = (encoder, name, instances, settings, *, dev, compute, state, state_every, report))]
#[expect(clippy::too_many_arguments, reason = "they are the call's own; the package has the readable form")]
pub fn finetune(
    py: Python<'_>,
    encoder: &PyEncoder,
    name: String,
    instances: &PyInstances,
    settings: &PySettings,
    dev: Option<(PyRef<'_, PyInstances>, Vec<u64>)>,
    compute: &PyCompute,
    state: Option<PathBuf>,
    state_every: usize,
    report: Option<Py<PyAny>>,
) -> PyResult<PyOutcome> {
    let compute = &compute.0;
    let pretrained = &*encoder.0;
    let training = &settings.0;
    let longest = pretrained.config.longest();
    if training.max_length > longest {
        let message = format!("max_length: {} is too long for this encoder; it takes {longest}", training.max_length);
        return Err(ConfigError::new_err((message, "max_length")));
    }
    let tell = |py: Python<'_>, (news, total): (Option<News>, usize)| {
        let Some(report) = &report else { return Ok(()) };
        let (kind, columns) = match news {
            None => ("start", PyDict::new(py)),
            Some(News::Step(record)) => ("step", step_columns(py, &[record])?),
            Some(News::Evaluated(evaluation)) => ("evaluation", evaluation_columns(py, &[evaluation])?),
            Some(News::Evaluating) => return Ok(()),
        };
        report.call1(py, (kind, columns, total)).map(drop)
    };
    let task = &*instances.task;
    let dev = dev.map(|(instances, lost)| (Arc::clone(&instances.items), lost));
    let Outcome { value: (model, trained, counts), raised } = reporting(py, tell, |on_news| {
        let encode = |items: &[Instance]| {
            compute.within(|| pretrained.tokenizer.encode_all(items, training.max_length, training.too_long))
        };
        let fewer = training.negatives.map(|n| fewer_negatives(&instances.items, task.negative, n, training.seed));
        let fewer = fewer.transpose()?;
        let items = fewer.as_deref().unwrap_or(&instances.items);
        let encoded = encode(items)?;
        let counts = BTreeMap::from([
            ("trained", encoded.features.len()),
            ("cut", encoded.cut),
            ("dropped", encoded.dropped.len()),
            ("left_out", instances.items.len() - items.len()),
        ]);
        let held_out = dev.as_ref().map(|(items, _)| encode(items)).transpose()?;
        let dev = held_out.as_ref().zip(dev.as_ref()).map(|(encoded, (_, lost))| {
            let dropped = encoded.lost(task.labels.len(), task.negative);
            let lost = lost.iter().zip(dropped).map(|(lost, dropped)| lost + dropped).collect();
            Dev { features: &encoded.features, task, lost }
        });
        let (network, weights) = pretrained.with_head(training, task.labels.len())?;
        let total = Schedule::new(training, encoded.features.len().max(1)).total();
        on_news((None, total))?;
        let job = Finetune {
            network: &network,
            weights: &weights,
            features: &encoded.features,
            settings: training,
            dev,
            state: state.as_deref().map(|path| StatePlan { path, every: state_every }),
            on_news: &mut |news| on_news((Some(news), total)),
        };
        let mut trained = compute.execute(job)?;
        let weights = std::mem::replace(&mut trained.weights, crate::model::Weights { specs: vec![], values: vec![] });
        let model = RelationModel::new(
            pretrained,
            network,
            weights,
            training.clone(),
            ((*instances.task).clone(), instances.marking),
            (name, Some(instances.hash.clone()), trained.step),
        );
        Ok((model, trained, counts))
    })?;
    Ok(PyOutcome {
        initialised: model.network.head_specs().into_iter().map(|spec| spec.name).collect(),
        model: Py::new(py, PyModel(Arc::new(model)))?,
        counts,
        step: trained.step,
        raised,
        history: trained.history,
        evaluations: trained.evaluations,
    })
}
