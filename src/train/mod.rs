//! Fine-tuning: the loop, the schedule, the optimizer, and the state that an interrupted run goes on from.

mod schedule;
mod state;
mod trainer;

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::config::{ClassWeights, TrainingSettings};
use crate::encode::{Batch, Features};
use crate::model::{Network, Weights};
use crate::ops::Ops;
use crate::ops::engine::Job;
use crate::rng::{Purpose, Stream};
use crate::{Error, Result};

pub use schedule::Schedule;
pub use state::StatePlan;
pub use trainer::Trainer;

/// What one optimizer step did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Counted from 1.
    pub step: usize,
    /// Counted from 1.
    pub epoch: usize,
    /// Loss of the step's instances before the update: the mean cross-entropy, or as the settings weight it.
    pub loss: f64,
    /// Global L2 norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Instances of the step.
    pub instances: usize,
    /// Word pieces of the step.
    pub tokens: usize,
    /// Wall-clock time of the step.
    pub seconds: f64,
}

/// The result of a training run.
#[derive(Debug, Clone)]
pub struct Trained {
    /// All parameters after the last finished step.
    pub weights: Weights,
    /// One record per finished step.
    pub history: Vec<StepRecord>,
    /// Whether the caller stopped it before its last step.
    pub interrupted: bool,
}

/// Called after every step. Returning [`Error::Interrupted`] stops the run, which then returns what it has.
pub type OnStep<'a> = &'a mut (dyn FnMut(&StepRecord) -> Result<()> + Send);

/// A training run to be: [`crate::ops::engine::run`] runs it on the engine of the caller's choice.
pub struct Finetune<'a> {
    /// Architecture.
    pub network: &'a Network,
    /// Initial parameters of encoder and head, in the order of [`Network::specs`].
    pub weights: &'a Weights,
    /// Labelled instances.
    pub features: &'a [Features],
    /// How to train.
    pub settings: &'a TrainingSettings,
    /// Where the state is kept from which a killed run goes on, if it is to be kept.
    pub state: Option<StatePlan<'a>>,
    /// Progress.
    pub on_step: OnStep<'a>,
}

impl Job for Finetune<'_> {
    type Output = Trained;

    fn run<O: Ops>(self, ops: &O) -> Result<Trained> {
        finetune(ops, self)
    }
}

/// Fine-tune on labelled instances.
///
/// # Errors
/// [`Error::Config`] for settings out of range or no instances, [`Error::Training`] when loss or gradient are not
/// finite, and whatever else `on_step` returns.
pub fn finetune<O: Ops>(ops: &O, job: Finetune<'_>) -> Result<Trained> {
    let Finetune { network, weights, features, settings, state, on_step } = job;
    settings.validate()?;
    if features.is_empty() {
        return Err(Error::config("train", "there are no training instances"));
    }
    let schedule = Schedule::new(settings, features.len());
    let class_weights = class_weights(settings, features, network.labels)?;
    let mut trainer = Trainer::new(ops, network, weights, settings.clone(), class_weights)?;
    let mut history = Vec::with_capacity(schedule.total());
    let keeper = state.map(|plan| state::Keeper::new(plan, network, weights, features, settings));
    if let Some(keeper) = &keeper {
        keeper.restore(&mut trainer, &mut history)?;
    }
    let mut interrupted = false;
    let mut order: Option<(usize, Vec<usize>)> = None;
    for step in history.len()..schedule.total() {
        let started = Instant::now();
        let (epoch, range) = schedule.step(step);
        let (_, order) = match &mut order {
            Some(order) if order.0 == epoch => order,
            other => other.insert((epoch, shuffled(features.len(), settings.seed, epoch))),
        };
        let batches: Vec<Batch> = order[range]
            .chunks(settings.batch_size)
            .map(|chunk| Batch::pack(chunk.iter().map(|i| &features[*i])))
            .collect();
        let learning_rate = schedule.learning_rate(step);
        let (loss, gradient_norm) = trainer.step(&batches, learning_rate)?;
        let record = StepRecord {
            step: step + 1,
            epoch: epoch + 1,
            loss,
            gradient_norm,
            learning_rate,
            instances: batches.iter().map(Batch::len).sum(),
            tokens: batches.iter().map(Batch::tokens).sum(),
            seconds: started.elapsed().as_secs_f64(),
        };
        history.push(record);
        if let Some(keeper) = &keeper
            && keeper.due(step + 1, schedule.total())
        {
            keeper.keep(&trainer, &history)?;
        }
        match on_step(&record) {
            Ok(()) => {}
            Err(Error::Interrupted) => {
                interrupted = step + 1 < schedule.total();
                break;
            }
            Err(error) => return Err(error),
        }
    }
    if let Some(keeper) = &keeper
        && interrupted
    {
        keeper.keep(&trainer, &history)?;
    }
    Ok(Trained { weights: trainer.weights()?, history, interrupted })
}

/// The order of the instances in an epoch: a function of the seed and the epoch alone.
fn shuffled(instances: usize, seed: u64, epoch: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..instances).collect();
    Stream::new(seed, Purpose::Shuffle, epoch as u32).shuffle(&mut order);
    order
}

/// The weight of every label, from the settings and the training instances.
fn class_weights(settings: &TrainingSettings, features: &[Features], labels: usize) -> Result<Option<Vec<f64>>> {
    match &settings.class_weights {
        None => Ok(None),
        Some(ClassWeights::Given(weights)) if weights.len() == labels => Ok(Some(weights.clone())),
        Some(ClassWeights::Given(weights)) => {
            let message = format!("there are {} weights for {labels} labels", weights.len());
            Err(Error::config("class_weights", message))
        }
        Some(ClassWeights::Balanced) => {
            let mut counts = vec![0usize; labels];
            for label in features.iter().filter_map(|f| f.label).filter(|label| *label < labels) {
                counts[label] += 1;
            }
            // A label without instances never counts; its weight only has to be finite.
            let weight = |count: &usize| features.len() as f64 / (labels * (*count).max(1)) as f64;
            Ok(Some(counts.iter().map(weight).collect()))
        }
    }
}
