//! The loop of a training run over its steps, evaluations and checkpoints.

use std::borrow::Cow;
use std::time::Instant;

use super::checkpoint::{CheckpointPlan, Checkpointer};
use super::evaluation::{Dev, Evaluation};
use super::instances::Instances;
use super::objective::Objective;
use super::progress::{PendingStep, Progress, StepRecord};
use super::schedule::Schedule;
use super::trainer::Trainer;
use crate::config::{ClassWeights, TrainingSettings};
use crate::encode::{Batch, Features};
use crate::model::{Network, Weights};
use crate::ops::Ops;
use crate::ops::compute::Job;
use crate::{Error, Result};

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
    /// Whether the caller stopped the run before its end.
    pub interrupted: bool,
}

/// An event of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    /// The data is ready; the run takes `steps` steps unless it is stopped.
    Started {
        /// Optimizer steps in all.
        steps: usize,
    },
    /// A step was taken.
    Step(StepRecord),
    /// The weights were scored on held-out data.
    Evaluated(Evaluation),
    /// A batch of an evaluation was computed.
    Batch,
    /// A batch of held-out texts was computed by a language model, before the first step or after the last.
    HeldOut {
        /// Parts of texts so far.
        done: usize,
        /// Parts in all.
        total: usize,
    },
    /// A batch of the hidden states of a frozen encoder was computed, before the first step.
    Encoded {
        /// Instances so far, about.
        done: usize,
        /// Instances in all.
        total: usize,
    },
}

/// Called with every event. Returning [`Error::Interrupted`] stops the run, which then returns its
/// result so far.
pub type OnEvent<'a> = &'a mut (dyn FnMut(Event) -> Result<()> + Send);

/// A training run on word pieces, for [`crate::ops::compute::Compute::execute`].
/// [`super::fine_tune`] creates one from instances.
pub struct TrainingRun<'a, M = Network> {
    /// Architecture.
    pub network: &'a M,
    /// Initial parameters of encoder and head, in the order of [`Network::specs`] or [`crate::model::MaskedLm::specs`].
    pub weights: &'a Weights,
    /// Labelled instances, or texts of which a language model masks words.
    pub instances: Instances<'a>,
    /// How to train.
    pub settings: &'a TrainingSettings,
    /// Held-out instances to score while training.
    pub dev: Option<Dev<'a>>,
    /// Where to save a checkpoint from which a killed run resumes; `None` to save none.
    pub checkpoint: Option<CheckpointPlan<'a>>,
    /// Progress.
    pub on_event: OnEvent<'a>,
}

impl<M: Objective> Job for TrainingRun<'_, M> {
    type Output = Trained;

    fn run<O: Ops>(self, ops: &O) -> Result<Trained> {
        train(ops, self)
    }
}

/// Train on labelled instances.
///
/// # Errors
/// [`Error::Config`] for settings out of range or no instances, [`Error::Training`] when loss or
/// gradient are not finite, and whatever else `on_event` returns.
pub fn train<O: Ops, M: Objective>(ops: &O, run: TrainingRun<'_, M>) -> Result<Trained> {
    let TrainingRun { network, weights, instances, settings, dev, checkpoint, on_event } = run;
    settings.validate()?;
    if instances.is_empty() {
        return Err(Error::config("train", "there are no training instances"));
    }
    match &dev {
        Some(dev) => dev.validate()?,
        None if settings.patience.is_some() || settings.eval_steps.is_some() => {
            let field = if settings.patience.is_some() { "patience" } else { "eval_steps" };
            return Err(Error::config(field, "needs held-out data to evaluate on: name a split as dev"));
        }
        None => {}
    }
    let schedule = Schedule::new(settings, instances.len());
    let class_weights = class_weights(settings, instances.in_memory(), network.labels())?;
    let mut trainer = Trainer::new(ops, network, weights, settings.clone(), class_weights)?;
    let mut progress = Progress::default();
    let held_out = dev.as_ref().map_or(&[][..], |dev| dev.features);
    let data = [instances, held_out.into()];
    let checkpointer = checkpoint.map(|plan| Checkpointer::new(plan, network, weights, data, settings));
    if let Some(checkpointer) = &checkpointer {
        checkpointer.restore(&mut trainer, &mut progress)?;
    }
    let plan = Plan { schedule, settings, instances, dev, checkpointer };
    let prepared = plan.prepare(&trainer, &progress, on_event);
    let interrupted = match prepared.and_then(|()| plan.run(&mut trainer, &mut progress, on_event)) {
        Ok(()) => false,
        Err(Error::Interrupted) => {
            progress.drain(0)?; // the weights include these steps
            !matches!(plan.next(&progress), Next::End)
        }
        Err(error) => return Err(error),
    };
    if let Some(checkpointer) = &plan.checkpointer {
        checkpointer.save(&trainer, &progress)?;
    }
    let Progress { history, evaluations, .. } = progress;
    let (weights, step) = match (evaluations.best_step(), evaluations.best) {
        (Some(step), Some(best)) => (best, step),
        _ => (trainer.weights()?, history.len()),
    };
    Ok(Trained { weights, step, history, evaluations: evaluations.records, interrupted })
}

/// The next action of the run. It depends only on the progress, so that a resumed run continues as
/// if it had not been stopped.
enum Next<'a, 'b> {
    Evaluate(&'b Dev<'a>),
    Step(usize),
    End,
}

struct Plan<'a> {
    schedule: Schedule,
    settings: &'a TrainingSettings,
    instances: Instances<'a>,
    dev: Option<Dev<'a>>,
    checkpointer: Option<Checkpointer>,
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

    /// Compute what a frozen encoder yields for the instances to come. The order does not depend on the
    /// progress, so that a resumed run has the same bits.
    fn prepare<O: Ops, M: Objective>(
        &self,
        trainer: &Trainer<'_, O, M>,
        progress: &Progress,
        on_event: OnEvent<'_>,
    ) -> Result<()> {
        if matches!(self.next(progress), Next::End) {
            return Ok(());
        }
        let Self { schedule, settings, instances, .. } = self;
        // Texts on disk are a language model's, whose masks differ in every step.
        let features = instances.in_memory();
        let seen = (0..schedule.total()).map_while(|step| match schedule.step(step) {
            (0, range) => Some(range.len()),
            _ => None,
        });
        let seen: usize = seen.sum();
        let first: Cow<[Features]> = match seen < features.len() {
            // Less than an epoch.
            true => {
                let order = instances.shuffled(settings.seed, 0);
                order[..seen].iter().map(|index| features[*index].clone()).collect()
            }
            false => Cow::Borrowed(features),
        };
        let parts = [&*first, self.dev.as_ref().map_or(&[][..], |dev| dev.features)];
        let total = parts.map(<[Features]>::len).iter().sum();
        let mut before = 0;
        for part in parts {
            let done = |share: f64| before + (share * part.len() as f64) as usize;
            trainer.prepare(part, &mut |share| on_event(Event::Encoded { done: done(share), total }))?;
            before += part.len();
        }
        Ok(())
    }

    fn run<O: Ops, M: Objective>(
        &self,
        trainer: &mut Trainer<'_, O, M>,
        progress: &mut Progress,
        on_event: OnEvent<'_>,
    ) -> Result<()> {
        let mut order: Option<(usize, Vec<usize>)> = None;
        loop {
            match self.next(progress) {
                Next::Evaluate(dev) => {
                    emit(progress.drain(0)?, progress, on_event)?;
                    let at = (progress.history.len(), progress.history.last().map_or(0, |record| record.epoch));
                    let evaluation = trainer.evaluate(dev, at, &mut |_| on_event(Event::Batch))?;
                    let weights = || trainer.weights();
                    let evaluation = progress.evaluations.push(evaluation, self.settings.load_best_model, weights)?;
                    on_event(Event::Evaluated(evaluation))?;
                }
                Next::Step(step) => {
                    let pending = self.step(trainer, step, &mut order)?;
                    progress.pending.push_back(pending);
                    let due = self.checkpointer.as_ref().filter(|checkpointer| checkpointer.due(step + 1));
                    let finished = progress.drain(if due.is_some() { 0 } else { trainer.max_in_flight() })?;
                    if let Some(checkpointer) = due {
                        checkpointer.save(trainer, progress)?;
                    }
                    emit(finished, progress, on_event)?;
                }
                Next::End => return emit(progress.drain(0)?, progress, on_event),
            }
        }
    }

    /// Take a step. `order` is the order of the instances in the epoch of the last step.
    fn step<O: Ops, M: Objective>(
        &self,
        trainer: &mut Trainer<'_, O, M>,
        step: usize,
        order: &mut Option<(usize, Vec<usize>)>,
    ) -> Result<PendingStep> {
        let started = Instant::now();
        let Self { schedule, settings, instances, .. } = self;
        let (epoch, range) = schedule.step(step);
        let (_, order) = match order {
            Some(order) if order.0 == epoch => order,
            other => other.insert((epoch, instances.shuffled(settings.seed, epoch))),
        };
        let count = range.len();
        let first = (step * settings.gradient_accumulation_steps) as u32;
        let chunks = (first..).zip(order[range].chunks(settings.batch_size));
        let pack = |(number, chunk): (u32, &[usize])| {
            let items = chunk.iter().map(|index| instances.get(*index)).collect::<Result<Vec<_>>>()?;
            Ok(trainer.network().pack(items.iter().map(AsRef::as_ref), number))
        };
        let batches: Vec<Batch> = chunks.map(pack).collect::<Result<_>>()?;
        let learning_rate = schedule.learning_rate(step);
        let sums = trainer.step(&batches, learning_rate)?;
        let record = StepRecord {
            step: step + 1,
            epoch: epoch + 1,
            loss: f64::NAN, // this and the next are set when the step has finished
            gradient_norm: f64::NAN,
            learning_rate,
            instances: count,
            tokens: batches.iter().map(Batch::tokens).sum(),
            seconds: 0.0,
        };
        Ok(PendingStep { record, sums, started })
    }
}

/// Report the last `count` steps.
fn emit(count: usize, progress: &Progress, on_event: OnEvent<'_>) -> Result<()> {
    let first = progress.history.len() - count;
    progress.history[first..].iter().try_for_each(|record| on_event(Event::Step(*record)))
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
