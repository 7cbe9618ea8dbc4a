//! The state of a training run on disk, so that a killed run goes on and ends with the same bits.
//!
//! All randomness is a function of (seed, step), so weights, moments, the history and the evaluations with the weights
//! that did best are everything. The file also holds a fingerprint of what the run depends on; a state of another run is
//! refused rather than continued.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::evaluation::Evaluations;
use super::trainer::{Snapshot, Trainer};
use super::{Evaluation, Progress, StepRecord, TrainingSettings};
use crate::atomic;
use crate::encode::Features;
use crate::model::{Network, ParamSpec, Weights, checkpoint};
use crate::ops::Ops;
use crate::{Error, Result};

/// Where and how often the state of a run is kept.
#[derive(Debug, Clone, Copy)]
pub struct StatePlan<'a> {
    /// The file. If it is there, the run goes on from it.
    pub path: &'a Path,
    /// Steps between two writes; it is also written after the last step and when the run is stopped.
    pub every: usize,
}

/// Key of the header's metadata that holds the [`Header`].
const HEADER: &str = "biorel.training";
/// Raised when the file's layout changes.
const FORMAT: u32 = 2;

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: u32,
    fingerprint: String,
    steps: u32,
    history: Vec<StepRecord>,
    evaluations: Vec<Evaluation>,
    /// Whether the weights of the best evaluation are there.
    best: bool,
}

/// Keeps and restores the state of one run.
pub struct Keeper {
    path: PathBuf,
    every: usize,
    fingerprint: String,
}

impl Keeper {
    pub fn new(
        plan: StatePlan<'_>,
        network: &Network,
        weights: &Weights,
        features: [&[Features]; 2],
        settings: &TrainingSettings,
    ) -> Self {
        let mut hash = Sha256::new();
        hash.update(format!("{network:?} {settings:?}"));
        for (index, features) in features.into_iter().enumerate() {
            hash.update(format!("{index}"));
            for item in features {
                hash.update(format!("{:?} {:?}", item.ids, item.label));
            }
        }
        for values in &weights.values {
            hash.update(bytes(values));
        }
        let fingerprint = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { path: plan.path.to_path_buf(), every: plan.every.max(1), fingerprint }
    }

    /// Whether the state is to be written after `step` steps.
    pub fn due(&self, step: usize) -> bool {
        step.is_multiple_of(self.every)
    }

    /// Write the state: complete or not at all, and never over a good one before the new one is whole.
    pub fn keep<O: Ops>(&self, trainer: &Trainer<'_, O>, progress: &Progress) -> Result<()> {
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
        let damaged = |e: &dyn std::fmt::Display| Error::checkpoint(&self.path, format!("cannot be written: {e}"));
        let header = serde_json::to_string(&header).map_err(|e| damaged(&e))?;
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
            view.map(|view| (name.clone(), view)).map_err(|e| damaged(&e))
        });
        let views = views.collect::<Result<Vec<_>>>()?;
        // In a folder of its own: whatever a kill leaves half-written, the next run knows it by the folder's name.
        let partial = self.partial();
        let file = partial.join("state");
        let metadata = HashMap::from([(HEADER.to_string(), header)]);
        let result = std::fs::create_dir_all(&partial)
            .map_err(Error::io(&partial))
            .and_then(|()| checkpoint::write_tensors(&file, views, metadata))
            .and_then(|()| atomic::sync(&partial))
            .and_then(|()| std::fs::rename(&file, &self.path).map_err(Error::io(&self.path)));
        if let (Ok(()), Some(folder)) = (&result, partial.parent()) {
            atomic::sync_names(folder);
        }
        // What is half-written is of no use; that it could not be removed matters less than the error itself.
        let _ = std::fs::remove_dir_all(&partial);
        result
    }

    /// Where the state is written before it takes the place of the old one.
    fn partial(&self) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.path.with_file_name(format!(".{name}.partial"))
    }

    /// Go on from the file, if there is one.
    ///
    /// # Errors
    /// [`Error::Config`] when it is the state of another run, [`Error::Checkpoint`] when it is damaged.
    pub fn restore<O: Ops>(&self, trainer: &mut Trainer<'_, O>, progress: &mut Progress) -> Result<()> {
        // What a killed run had half-written; there is rarely anything, and nothing depends on its removal.
        let _ = std::fs::remove_dir_all(self.partial());
        let data = match std::fs::read(&self.path) {
            Ok(data) => data,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(Error::Io { path: self.path.clone(), source }),
        };
        let damaged = |what: &str| {
            let message = format!("not a training state ({what}); delete it to start the run anew");
            Error::checkpoint(&self.path, message)
        };
        let (_, metadata) = SafeTensors::read_metadata(&data).map_err(|e| damaged(&e.to_string()))?;
        let header = metadata.metadata().as_ref().and_then(|metadata| metadata.get(HEADER));
        let header: Header = header
            .and_then(|header| serde_json::from_str(header).ok())
            .ok_or_else(|| damaged("its header is missing"))?;
        if header.format != FORMAT || header.fingerprint != self.fingerprint {
            let message = format!(
                "{} belongs to a run with other settings, data or encoder; give another file, or delete it to start anew",
                self.path.display()
            );
            return Err(Error::config("state", message));
        }
        if usize::try_from(header.steps) != Ok(header.history.len()) {
            return Err(damaged("its history is not that of its steps"));
        }
        let file = SafeTensors::deserialize(&data).map_err(|e| damaged(&e.to_string()))?;
        let read = |name: String, spec: &ParamSpec| -> Result<Vec<f32>> {
            let view = file.tensor(&name).map_err(|e| damaged(&e.to_string()))?;
            if view.shape() != spec.shape || view.dtype() != Dtype::F32 {
                return Err(damaged(&format!("{name} has another shape")));
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
