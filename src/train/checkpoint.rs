//! Checkpoints of a training run on disk, so that a killed run resumes and ends with the same bits.
//!
//! All randomness is a function of (seed, step). A checkpoint is therefore complete with weights,
//! moments, the history, and the evaluations with the best weights. It also contains a fingerprint
//! of everything that the run depends on, and the checkpoint of another run is refused.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::evaluation::{Evaluation, Evaluations};
use super::instances::Instances;
use super::objective::Objective;
use super::progress::{Progress, StepRecord};
use super::trainer::{Snapshot, Trainer};
use crate::atomic;
use crate::config::TrainingSettings;
use crate::digest::hex;
use crate::model::{ParamSpec, Weights, checkpoint};
use crate::ops::Ops;
use crate::{Error, Result};

/// Where and how often checkpoints of a run are saved.
#[derive(Debug, Clone, Copy)]
pub struct CheckpointPlan<'a> {
    /// The file. If it exists, the run resumes from it.
    pub path: &'a Path,
    /// Steps between two saves. A checkpoint is also saved after the last step and when the run is
    /// stopped.
    pub every: usize,
}

/// Metadata key of the [`Header`].
const HEADER: &str = "biorel.training";
/// Raised when the file's layout changes.
const FORMAT: u32 = 3;

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: u32,
    fingerprint: String,
    steps: u32,
    history: Vec<StepRecord>,
    evaluations: Vec<Evaluation>,
    /// Whether it contains the weights of the best evaluation.
    best: bool,
}

/// Saves and restores the checkpoint of one run.
pub struct Checkpointer {
    path: PathBuf,
    every: usize,
    fingerprint: String,
}

impl Checkpointer {
    pub fn new(
        plan: CheckpointPlan<'_>,
        network: &impl Objective,
        weights: &Weights,
        [instances, held_out]: [Instances<'_>; 2],
        settings: &TrainingSettings,
    ) -> Self {
        let mut hash = Sha256::new();
        hash.update(format!("{network:?} {settings:?}"));
        hash.update("0");
        instances.fingerprint(&mut hash);
        hash.update("1");
        held_out.fingerprint(&mut hash);
        for values in &weights.values {
            hash.update(bytes(values));
        }
        let fingerprint = hex(hash);
        Self { path: plan.path.to_path_buf(), every: plan.every.max(1), fingerprint }
    }

    /// Whether a checkpoint is due after `step` steps.
    pub fn due(&self, step: usize) -> bool {
        step.is_multiple_of(self.every)
    }

    /// Save a checkpoint, atomically.
    pub fn save<O: Ops, M: Objective>(&self, trainer: &Trainer<'_, O, M>, progress: &Progress) -> Result<()> {
        let Progress { history, evaluations, .. } = progress;
        let snapshot = trainer.snapshot()?;
        let header = Header {
            format: FORMAT,
            fingerprint: self.fingerprint.clone(),
            steps: snapshot.steps,
            history: history.clone(),
            evaluations: evaluations.records.clone(),
            best: evaluations.best.is_some(),
        };
        let unwritable = |e: &dyn std::fmt::Display| Error::checkpoint(&self.path, format!("cannot be written: {e}"));
        let header = serde_json::to_string(&header).map_err(|e| unwritable(&e))?;
        let mut tensors: Vec<(String, Vec<u8>, &ParamSpec)> = Vec::new();
        for (index, spec) in trainer.specs().iter().enumerate() {
            tensors.push((format!("value.{}", spec.name), bytes(&snapshot.params[index]), spec));
            if let Some([m, v]) = &snapshot.moments[index] {
                tensors.push((format!("m.{}", spec.name), bytes(m), spec));
                tensors.push((format!("v.{}", spec.name), bytes(v), spec));
            }
            if let Some(best) = &evaluations.best {
                tensors.push((format!("best.{}", spec.name), bytes(&best.values[index]), spec));
            }
        }
        let views = tensors.iter().map(|(name, data, spec)| {
            let view = TensorView::new(Dtype::F32, spec.shape.clone(), data);
            view.map(|view| (name.clone(), view)).map_err(|e| unwritable(&e))
        });
        let views = views.collect::<Result<Vec<_>>>()?;
        let metadata = HashMap::from([(HEADER.to_string(), header)]);
        atomic::write_file(&self.path, |file| checkpoint::write_tensors(file, views, metadata))
    }

    /// Resume from the file, if there is one.
    ///
    /// # Errors
    /// [`Error::Config`] when it belongs to another run, [`Error::Checkpoint`] when it is corrupt.
    pub fn restore<O: Ops, M: Objective>(
        &self,
        trainer: &mut Trainer<'_, O, M>,
        progress: &mut Progress,
    ) -> Result<()> {
        atomic::discard_partial(&self.path);
        let data = match std::fs::read(&self.path) {
            Ok(data) => data,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(Error::Io { path: self.path.clone(), source }),
        };
        let corrupt = |what: &str| {
            let message = format!("not a training checkpoint ({what}); delete it to start again");
            Error::checkpoint(&self.path, message)
        };
        let (_, metadata) = SafeTensors::read_metadata(&data).map_err(|e| corrupt(&e.to_string()))?;
        let header = metadata.metadata().as_ref().and_then(|metadata| metadata.get(HEADER));
        let header: Header = header
            .and_then(|header| serde_json::from_str(header).ok())
            .ok_or_else(|| corrupt("its header is missing"))?;
        if header.format != FORMAT {
            return Err(corrupt("another version of biorel wrote it"));
        }
        if header.fingerprint != self.fingerprint {
            let message = format!(
                "{} belongs to a run with other settings, data or encoder; give another file, or delete it to start again",
                self.path.display()
            );
            return Err(Error::config("checkpoint", message));
        }
        if usize::try_from(header.steps) != Ok(header.history.len()) {
            return Err(corrupt("its history does not match its steps"));
        }
        let file = SafeTensors::deserialize(&data).map_err(|e| corrupt(&e.to_string()))?;
        let read = |name: String, spec: &ParamSpec| -> Result<Vec<f32>> {
            let view = file.tensor(&name).map_err(|e| corrupt(&e.to_string()))?;
            if view.shape() != spec.shape || view.dtype() != Dtype::F32 {
                return Err(corrupt(&format!("{name} has another shape")));
            }
            Ok(view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
        };
        let mut snapshot = trainer.snapshot()?;
        snapshot.steps = header.steps;
        let Snapshot { params, moments, .. } = &mut snapshot;
        for (index, spec) in trainer.specs().iter().enumerate() {
            params[index] = read(format!("value.{}", spec.name), spec)?;
            if let Some([m, v]) = &mut moments[index] {
                *m = read(format!("m.{}", spec.name), spec)?;
                *v = read(format!("v.{}", spec.name), spec)?;
            }
        }
        let best = trainer.specs().iter().map(|spec| read(format!("best.{}", spec.name), spec));
        let best = if header.best { Some(best.collect::<Result<_>>()?) } else { None };
        let best = best.map(|values| Weights { specs: trainer.specs().to_vec(), values });
        let evaluations = Evaluations { records: header.evaluations, best };
        *progress = Progress { history: header.history, evaluations, ..Progress::default() };
        trainer.restore(&snapshot)
    }
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
