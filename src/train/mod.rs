//! Fine-tuning: the loop, the schedule, the optimizer, evaluation on held-out data, and the state that an interrupted run
//! goes on from.

mod evaluation;
mod sampling;
mod schedule;
mod state;
mod trainer;

use std::collections::VecDeque;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::config::{ClassWeights, TrainingSettings};
use crate::encode::{Batch, Features};
use crate::model::{Network, Weights};
use crate::ops::compute::Job;
use crate::ops::{Ops, Pending, StepResult};
use crate::rng::{Purpose, Stream};
use crate::{Error, Result};
use evaluation::Evaluations;
use state::Keeper;

pub use evaluation::{Dev, Evaluation};
pub use sampling::fewer_negatives;
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
    /// Wall-clock time of the step; on a GPU, from the end of the step before.
    pub seconds: f64,
}

/// The result of a training run.
#[derive(Debug, Clone)]
pub struct Trained {
    /// All parameters after step `step`.
    pub weights: Weights,
    /// The last finished step, or the one whose evaluation was best.
    pub step: usize,
    /// One record per finished step.
    pub history: Vec<StepRecord>,
    /// One record per evaluation on held-out data.
    pub evaluations: Vec<Evaluation>,
    /// Whether the caller stopped it before its end.
    pub interrupted: bool,
}

/// What a run has to tell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum News {
    /// A step was taken.
    Step(StepRecord),
    /// The weights were scored on held-out data.
    Evaluated(Evaluation),
    /// An evaluation is under way.
    Evaluating,
}

/// Called with all news. Returning [`Error::Interrupted`] stops the run, which then returns what it has.
pub type OnNews<'a> = &'a mut (dyn FnMut(News) -> Result<()> + Send);

/// A training run to be: [`crate::ops::compute::Compute::execute`] runs it on the engine of the caller's choice.
pub struct Finetune<'a> {
    /// Architecture.
    pub network: &'a Network,
    /// Initial parameters of encoder and head, in the order of [`Network::specs`].
    pub weights: &'a Weights,
    /// Labelled instances.
    pub features: &'a [Features],
    /// How to train.
    pub settings: &'a TrainingSettings,
    /// Held-out instances to score while training.
    pub dev: Option<Dev<'a>>,
    /// Where the state is kept from which a killed run goes on, if it is to be kept.
    pub state: Option<StatePlan<'a>>,
    /// Progress.
    pub on_news: OnNews<'a>,
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
/// finite, and whatever else `on_news` returns.
pub fn finetune<O: Ops>(ops: &O, job: Finetune<'_>) -> Result<Trained> {
    let Finetune { network, weights, features, settings, dev, state, on_news } = job;
    settings.validate()?;
    if features.is_empty() {
        return Err(Error::config("train", "there are no training instances"));
    }
    match &dev {
        Some(dev) => dev.validate()?,
        None if settings.patience.is_some() || settings.evaluate_every.is_some() => {
            let field = if settings.patience.is_some() { "patience" } else { "evaluate_every" };
            return Err(Error::config(field, "needs held-out data to evaluate on: name a split as dev"));
        }
        None => {}
    }
    let schedule = Schedule::new(settings, features.len());
    let class_weights = class_weights(settings, features, network.labels)?;
    let mut trainer = Trainer::new(ops, network, weights, settings.clone(), class_weights)?;
    let mut progress = Progress::default();
    let held_out = dev.as_ref().map_or(&[][..], |dev| dev.features);
    let keeper = state.map(|plan| Keeper::new(plan, network, weights, [features, held_out], settings));
    if let Some(keeper) = &keeper {
        keeper.restore(&mut trainer, &mut progress)?;
    }
    let plan = Plan { schedule, settings, features, dev, keeper };
    let interrupted = match plan.run(&mut trainer, &mut progress, on_news) {
        Ok(()) => false,
        Err(Error::Interrupted) => {
            progress.settle(0)?; // the weights have these steps in them
            !matches!(plan.next(&progress), Next::End)
        }
        Err(error) => return Err(error),
    };
    if let Some(keeper) = &plan.keeper {
        keeper.keep(&trainer, &progress)?;
    }
    let Progress { history, evaluations, .. } = progress;
    let (weights, step) = match (evaluations.best_step(), evaluations.best) {
        (Some(step), Some(best)) => (best, step),
        _ => (trainer.weights()?, history.len()),
    };
    Ok(Trained { weights, step, history, evaluations: evaluations.records, interrupted })
}

/// What a run has come to so far, besides weights and moments.
#[derive(Default)]
struct Progress {
    history: Vec<StepRecord>,
    evaluations: Evaluations,
    /// Steps behind those of the history, which the device may not have finished.
    underway: VecDeque<Underway>,
    /// When the last step was found to be done.
    settled: Option<Instant>,
}

/// A step whose loss and gradient norm are not known yet.
struct Underway {
    record: StepRecord,
    sums: Pending<StepResult>,
    started: Instant,
}

impl Progress {
    /// Steps that are taken or under way.
    fn steps(&self) -> usize {
        self.history.len() + self.underway.len()
    }

    /// Wait for all steps under way but the last `leave`, and add them to the history: how many.
    fn settle(&mut self, leave: usize) -> Result<usize> {
        let before = self.history.len();
        while self.underway.len() > leave {
            let Some(Underway { mut record, sums, started }) = self.underway.pop_front() else { break };
            StepResult { loss: record.loss, norm: record.gradient_norm } = sums.get()?;
            // The steps before it were done at their own cost.
            let started = self.settled.map_or(started, |settled| settled.max(started));
            record.seconds = started.elapsed().as_secs_f64();
            self.settled = Some(Instant::now());
            self.history.push(record);
        }
        Ok(self.history.len() - before)
    }
}

/// What comes next: a function of the progress alone, so that a run that was stopped goes on as if it never had been.
enum Next<'a, 'b> {
    Evaluate(&'b Dev<'a>),
    Step(usize),
    End,
}

struct Plan<'a> {
    schedule: Schedule,
    settings: &'a TrainingSettings,
    features: &'a [Features],
    dev: Option<Dev<'a>>,
    keeper: Option<Keeper>,
}

impl<'a> Plan<'a> {
    fn next(&self, progress: &Progress) -> Next<'a, '_> {
        let step = progress.steps();
        match &self.dev {
            Some(dev) if step > 0 && self.schedule.evaluates(step) && !progress.evaluations.done(step) => {
                Next::Evaluate(dev)
            }
            _ if step >= self.schedule.total() || progress.evaluations.exhausted(self.settings) => Next::End,
            _ => Next::Step(step),
        }
    }

    fn run<O: Ops>(&self, trainer: &mut Trainer<'_, O>, progress: &mut Progress, on_news: OnNews<'_>) -> Result<()> {
        let mut order: Option<(usize, Vec<usize>)> = None;
        loop {
            match self.next(progress) {
                Next::Evaluate(dev) => {
                    tell(progress.settle(0)?, progress, on_news)?;
                    let at = (progress.history.len(), progress.history.last().map_or(0, |record| record.epoch));
                    let evaluation = trainer.evaluate(dev, at, &mut |_| on_news(News::Evaluating))?;
                    let weights = || trainer.weights();
                    let evaluation = progress.evaluations.push(evaluation, self.settings.keep, weights)?;
                    on_news(News::Evaluated(evaluation))?;
                }
                Next::Step(step) => {
                    let underway = self.step(trainer, step, &mut order)?;
                    progress.underway.push_back(underway);
                    let due = self.keeper.as_ref().filter(|keeper| keeper.due(step + 1));
                    let settled = progress.settle(if due.is_some() { 0 } else { trainer.max_in_flight() })?;
                    if let Some(keeper) = due {
                        keeper.keep(trainer, progress)?;
                    }
                    tell(settled, progress, on_news)?;
                }
                Next::End => return tell(progress.settle(0)?, progress, on_news),
            }
        }
    }

    /// `order` is that of the epoch of the last step.
    fn step<O: Ops>(
        &self,
        trainer: &mut Trainer<'_, O>,
        step: usize,
        order: &mut Option<(usize, Vec<usize>)>,
    ) -> Result<Underway> {
        let started = Instant::now();
        let Self { schedule, settings, features, .. } = self;
        let (epoch, range) = schedule.step(step);
        let (_, order) = match order {
            Some(order) if order.0 == epoch => order,
            other => other.insert((epoch, shuffled(features.len(), settings.seed, epoch))),
        };
        let batches: Vec<Batch> = order[range]
            .chunks(settings.batch_size)
            .map(|chunk| trainer.network().pack(chunk.iter().map(|i| &features[*i])))
            .collect();
        let learning_rate = schedule.learning_rate(step);
        let sums = trainer.step(&batches, learning_rate)?;
        let record = StepRecord {
            step: step + 1,
            epoch: epoch + 1,
            loss: f64::NAN, // it and the next are set when the step is done
            gradient_norm: f64::NAN,
            learning_rate,
            instances: batches.iter().map(Batch::len).sum(),
            tokens: batches.iter().map(Batch::tokens).sum(),
            seconds: 0.0,
        };
        Ok(Underway { record, sums, started })
    }
}

/// The news of the last `count` steps.
fn tell(count: usize, progress: &Progress, on_news: OnNews<'_>) -> Result<()> {
    let first = progress.history.len() - count;
    progress.history[first..].iter().try_for_each(|record| on_news(News::Step(*record)))
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
