//! Fine-tuning.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::columns::Columns;
use super::compute::PyCompute;
use super::encoder::PyEncoder;
use super::instances::PyInstances;
use super::model::PyModel;
use super::runtime::{Outcome, reporting};
use super::settings::PySettings;
use crate::model::RelationModel;
use crate::train::{
    CheckpointPlan, Evaluation, Event, FineTune, FineTuneJointly, FineTuned, FineTunedJointly, HeldOut, InstanceCounts,
    StepRecord, TrainingData, fine_tune, fine_tune_jointly,
};

/// The result of a fine-tuning.
#[pyclass(frozen, name = "Outcome", module = "biorel._biorel")]
pub struct PyOutcome {
    #[pyo3(get)]
    model: Py<PyModel>,
    /// Training instances: `trained` on, of those `cut` to a window; `dropped` as too long;
    /// negatives `left_out`.
    #[pyo3(get)]
    counts: BTreeMap<&'static str, usize>,
    /// Names of the parameters that were initialised rather than read: the head's.
    #[pyo3(get)]
    initialised: Vec<String>,
    /// The step after which the model has its weights.
    #[pyo3(get)]
    step: usize,
    /// The exception that stopped the run before its last step.
    raised: Option<PyErr>,
    history: Vec<StepRecord>,
    evaluations: Vec<Evaluation>,
}

impl PyOutcome {
    fn new(
        py: Python<'_>,
        model: RelationModel,
        counts: InstanceCounts,
        step: usize,
        raised: Option<PyErr>,
        history: Vec<StepRecord>,
        evaluations: Vec<Evaluation>,
    ) -> PyResult<Self> {
        let new = model.network.new_specs();
        Ok(Self {
            initialised: new.into_iter().map(|spec| spec.name).collect(),
            model: Py::new(py, PyModel(Arc::new(model)))?,
            counts: BTreeMap::from([
                ("trained", counts.trained),
                ("cut", counts.cut),
                ("dropped", counts.dropped),
                ("left_out", counts.left_out),
            ]),
            step,
            raised,
            history,
            evaluations,
        })
    }
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

pub(super) fn step_columns<'py>(py: Python<'py>, steps: &[StepRecord]) -> PyResult<Bound<'py, PyDict>> {
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

/// What calls `report`, if there is one, with the kind of an event (`start`, `encoding`, `step`,
/// `evaluation`), its columns of one row each, and the steps in all.
pub(super) fn emitter(report: Option<Py<PyAny>>) -> impl FnMut(Python<'_>, Event) -> PyResult<()> {
    let mut steps = 0;
    move |py, event| {
        if let Event::Started { steps: total } = event {
            steps = total;
        }
        let Some(report) = &report else { return Ok(()) };
        let (kind, columns) = match event {
            Event::Started { .. } => ("start", PyDict::new(py)),
            Event::Step(record) => ("step", step_columns(py, &[record])?),
            Event::Evaluated(evaluation) => ("evaluation", evaluation_columns(py, &[evaluation])?),
            Event::Encoded { done, total } => ("encoding", share(py, done, total)?),
            Event::HeldOut { done, total } => ("held_out", share(py, done, total)?),
            Event::Batch => return Ok(()),
        };
        report.call1(py, (kind, columns, steps)).map(drop)
    }
}

fn share<'py>(py: Python<'py>, done: usize, total: usize) -> PyResult<Bound<'py, PyDict>> {
    Ok(Columns::new(py).integers("done", [done])?.integers("total", [total])?.finish())
}

/// Fine-tune `encoder` on `instances`. See [`emitter`] for `report`. `dev` are the instances to
/// evaluate on while training, with the number of gold positives of each label that never became
/// instances. `checkpoint` is the file from which a killed run resumes, written every `save_steps`
/// steps.
#[pyfunction]
#[pyo3(signature = (encoder, name, instances, settings, *, dev, compute, checkpoint, save_steps, report))]
#[expect(clippy::too_many_arguments, reason = "the arguments of the Python call, which are keywords there")]
pub fn finetune(
    py: Python<'_>,
    encoder: &PyEncoder,
    name: String,
    instances: &PyInstances,
    settings: &PySettings,
    dev: Option<(PyRef<'_, PyInstances>, Vec<u64>)>,
    compute: &PyCompute,
    checkpoint: Option<PathBuf>,
    save_steps: usize,
    report: Option<Py<PyAny>>,
) -> PyResult<PyOutcome> {
    let dev = dev.map(|(instances, lost)| (Arc::clone(&instances.items), lost));
    let Outcome { value: tuned, raised } = reporting(py, emitter(report), |on_event| {
        let run = FineTune {
            encoder: &encoder.0,
            encoder_name: &name,
            data: TrainingData {
                instances: &instances.items,
                task: &instances.task,
                marking: instances.marking,
                hash: Some(&instances.hash),
            },
            held_out: dev.as_ref().map(|(instances, lost)| HeldOut { instances, lost }),
            settings: &settings.0,
            compute: compute.0,
            checkpoint: checkpoint.as_deref().map(|path| CheckpointPlan { path, every: save_steps }),
        };
        fine_tune(run, on_event)
    })?;
    let FineTuned { model, counts, step, history, evaluations, .. } = tuned;
    PyOutcome::new(py, model, counts, step, raised, history, evaluations)
}

/// Fine-tune `encoder` on the instances of several tasks. The result is an outcome for each, with the
/// same history. The arguments are those of [`finetune`].
#[pyfunction]
#[pyo3(signature = (encoder, name, parts, settings, *, temperature, compute, checkpoint, save_steps, report))]
#[expect(clippy::too_many_arguments, reason = "the arguments of the Python call, which are keywords there")]
#[expect(clippy::needless_pass_by_value, reason = "a Python list arrives by value")]
pub fn finetune_jointly(
    py: Python<'_>,
    encoder: &PyEncoder,
    name: String,
    parts: Vec<PyRef<'_, PyInstances>>,
    settings: &PySettings,
    temperature: f64,
    compute: &PyCompute,
    checkpoint: Option<PathBuf>,
    save_steps: usize,
    report: Option<Py<PyAny>>,
) -> PyResult<Vec<PyOutcome>> {
    let own: Vec<_> = parts
        .iter()
        .map(|part| (Arc::clone(&part.items), Arc::clone(&part.task), part.marking, part.hash.clone()))
        .collect();
    let Outcome { value: tuned, raised } = reporting(py, emitter(report), |on_event| {
        let data: Vec<TrainingData<'_>> = own
            .iter()
            .map(|(items, task, marking, hash)| TrainingData {
                instances: items,
                task,
                marking: *marking,
                hash: Some(hash),
            })
            .collect();
        let run = FineTuneJointly {
            encoder: &encoder.0,
            encoder_name: &name,
            parts: &data,
            temperature,
            settings: &settings.0,
            compute: compute.0,
            checkpoint: checkpoint.as_deref().map(|path| CheckpointPlan { path, every: save_steps }),
        };
        fine_tune_jointly(run, on_event)
    })?;
    let FineTunedJointly { models, counts, step, history, .. } = tuned;
    let outcome = |(model, counts)| {
        let raised = raised.as_ref().map(|error| error.clone_ref(py));
        PyOutcome::new(py, model, counts, step, raised, history.clone(), Vec::new())
    };
    models.into_iter().zip(counts).map(outcome).collect()
}
