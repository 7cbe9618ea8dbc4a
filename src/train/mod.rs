//! Fine-tuning: the loop, the schedule, the optimizer.

mod schedule;

use std::time::Instant;

use crate::config::TrainingSettings;
use crate::encode::{Batch, Features};
use crate::model::encoder::Pass;
use crate::model::{Network, ParamSpec, Weights};
use crate::ops::engine::Job;
use crate::ops::{AdamWStep, Moments, Ops};
use crate::rng::{Purpose, Stream};
use crate::{Error, Result};

pub use schedule::Schedule;

/// What one optimizer step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepRecord {
    /// Counted from 1.
    pub step: usize,
    /// Counted from 1.
    pub epoch: usize,
    /// Mean cross-entropy of the batch, before the update.
    pub loss: f64,
    /// Global L2 norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Instances in the batch.
    pub instances: usize,
    /// Word pieces in the batch.
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
    let Finetune { network, weights, features, settings, on_step } = job;
    settings.validate()?;
    if features.is_empty() {
        return Err(Error::config("train", "there are no training instances"));
    }
    let schedule = Schedule::new(settings, features.len());
    let mut trainer = Trainer::new(ops, network, weights, settings.clone())?;
    let mut history = Vec::with_capacity(schedule.total());
    let mut interrupted = false;
    let mut order: Vec<usize> = Vec::new();
    for step in 0..schedule.total() {
        let started = Instant::now();
        let (epoch, range) = schedule.batch(step);
        if range.start == 0 {
            order = (0..features.len()).collect();
            Stream::new(settings.seed, Purpose::Shuffle, epoch as u32).shuffle(&mut order);
        }
        let batch = Batch::pack(order[range].iter().map(|i| &features[*i]));
        let learning_rate = schedule.learning_rate(step);
        let (loss, gradient_norm) = trainer.step(&batch, learning_rate)?;
        let record = StepRecord {
            step: step + 1,
            epoch: epoch + 1,
            loss,
            gradient_norm,
            learning_rate,
            instances: batch.len(),
            tokens: batch.tokens(),
            seconds: started.elapsed().as_secs_f64(),
        };
        history.push(record);
        match on_step(&record) {
            Ok(()) => {}
            Err(Error::Interrupted) => {
                interrupted = step + 1 < schedule.total();
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Trained { weights: trainer.weights()?, history, interrupted })
}

/// A network on an engine with its optimizer: takes one step at a time.
pub struct Trainer<'a, O: Ops> {
    ops: &'a O,
    network: &'a Network,
    settings: TrainingSettings,
    specs: Vec<ParamSpec>,
    params: Vec<O::Buffer>,
    moments: Vec<Moments<O::Buffer>>,
    steps: u32,
}

impl<'a, O: Ops> Trainer<'a, O> {
    /// Bring `weights` onto the engine, with moments of zero.
    ///
    /// # Errors
    /// When the engine refuses, for instance for lack of memory.
    pub fn new(ops: &'a O, network: &'a Network, weights: &Weights, settings: TrainingSettings) -> Result<Self> {
        let zeros = |spec: &ParamSpec| Ok(Moments { m: ops.zeros(&spec.shape)?, v: ops.zeros(&spec.shape)? });
        let moments = weights.specs.iter().map(zeros).collect::<Result<_>>()?;
        let params = network.upload(ops, weights)?;
        Ok(Self { ops, network, settings, specs: weights.specs.clone(), params, moments, steps: 0 })
    }

    /// One optimizer step on one batch: its mean loss and the gradient's global norm before clipping.
    ///
    /// # Errors
    /// [`Error::Training`] when either is not finite; the weights are then those before this step.
    pub fn step(&mut self, batch: &Batch, learning_rate: f64) -> Result<(f64, f64)> {
        let Self { ops, network, settings, .. } = self;
        let pass = Pass {
            seed: settings.seed,
            step: self.steps,
            micro: 0,
            hidden: settings.dropout.unwrap_or(network.encoder.hidden_dropout_prob),
            attention: settings.dropout.unwrap_or(network.encoder.attention_probs_dropout_prob),
            head: settings.head_dropout,
        };
        let (loss, gradients) = network.gradient(*ops, &self.params, batch, &pass, batch.len())?;
        let squares = gradients.iter().map(|gradient| ops.sum_squares(gradient)).collect::<Result<Vec<_>>>()?;
        let norm = squares.iter().sum::<f64>().sqrt();
        self.steps += 1;
        if !(loss.is_finite() && norm.is_finite()) {
            let message = format!(
                "the loss is {loss} and the gradient norm {norm}; a lower learning_rate or a longer warmup usually \
                 helps (learning rate at this step: {learning_rate:.3e})"
            );
            return Err(Error::Training { step: self.steps as usize, message });
        }
        let steps = self.steps as i32;
        let step = AdamWStep {
            learning_rate,
            decay: settings.weight_decay,
            betas: settings.betas,
            epsilon: settings.epsilon,
            clip: if settings.max_grad_norm > 0.0 { (settings.max_grad_norm / norm).min(1.0) } else { 1.0 },
            corrections: settings.betas.map(|beta| match settings.bias_correction {
                true => 1.0 / (1.0 - beta.powi(steps)),
                false => 1.0,
            }),
        };
        for (index, gradient) in gradients.iter().enumerate() {
            let decay = if self.specs[index].decay { step.decay } else { 0.0 };
            let step = AdamWStep { decay, ..step };
            ops.adamw(&mut self.params[index], &mut self.moments[index], gradient, &step)?;
        }
        Ok((loss, norm))
    }

    /// The parameters as they are now.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn weights(&self) -> Result<Weights> {
        let values = self.params.iter().map(|param| self.ops.download(param)).collect::<Result<Vec<_>>>()?;
        Ok(Weights { specs: self.specs.clone(), values })
    }
}
