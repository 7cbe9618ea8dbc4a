//! The fine-tuning pipeline: sampling of negatives, tokenisation, held-out data, head, training
//! loop, model.

use std::borrow::Cow;

use super::checkpoint::CheckpointPlan;
use super::evaluation::{Dev, Evaluation};
use super::progress::StepRecord;
use super::sampling::fewer_negatives;
use super::schedule::Schedule;
use super::training_loop::{Event, OnEvent, Trained, TrainingRun};
use crate::Result;
use crate::config::TrainingSettings;
use crate::corpus::Task;
use crate::encode::{Encoded, Instance, Marking};
use crate::model::{Pretrained, RelationModel};
use crate::ops::compute::Compute;

/// The labelled instances to train on.
#[derive(Debug, Clone, Copy)]
pub struct TrainingData<'a> {
    /// The instances.
    pub instances: &'a [Instance],
    /// The task: labels and everything else that the model needs.
    pub task: &'a Task,
    /// How their entities are marked; the model marks new sentences in the same way.
    pub marking: Marking,
    /// SHA-256 of their content, which is saved with the model.
    pub hash: Option<&'a str>,
}

/// Labelled instances of the same task to score on while training.
#[derive(Debug, Clone, Copy)]
pub struct HeldOut<'a> {
    /// The instances.
    pub instances: &'a [Instance],
    /// Gold positives that never became instances, `(labels)`: misses.
    pub lost: &'a [u64],
}

/// The arguments of [`fine_tune`].
pub struct FineTune<'a> {
    /// The encoder to start from.
    pub encoder: &'a Pretrained,
    /// Its name or path, which is saved with the model.
    pub encoder_name: &'a str,
    /// What to train on.
    pub data: TrainingData<'a>,
    /// What to score on while training, if anything.
    pub held_out: Option<HeldOut<'a>>,
    /// How to train.
    pub settings: &'a TrainingSettings,
    /// Engine, precision and threads.
    pub compute: Compute,
    /// Where to save a checkpoint from which a killed run resumes; `None` to save none.
    pub checkpoint: Option<CheckpointPlan<'a>>,
}

/// Counts of the training instances, by how they were used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstanceCounts {
    /// Trained on.
    pub trained: usize,
    /// Of those, cut to a window.
    pub cut: usize,
    /// Dropped as too long.
    pub dropped: usize,
    /// Negatives that the settings leave out.
    pub left_out: usize,
}

impl InstanceCounts {
    /// `items` are what was left of `instances`, and `encoded` what became of them.
    pub(super) fn new(instances: &[Instance], items: &[Instance], encoded: &Encoded) -> Self {
        Self {
            trained: encoded.features.len(),
            cut: encoded.cut,
            dropped: encoded.dropped.len(),
            left_out: instances.len() - items.len(),
        }
    }
}

/// The instances to train on, after the sampling of negatives.
pub(super) fn sampled<'a>(data: &TrainingData<'a>, settings: &TrainingSettings) -> Result<Cow<'a, [Instance]>> {
    match settings.negative_ratio {
        None => Ok(Cow::Borrowed(data.instances)),
        Some(n) => Ok(Cow::Owned(fewer_negatives(data.instances, data.task.negative, n, settings.seed)?)),
    }
}

/// The result of [`fine_tune`].
#[derive(Debug, Clone)]
pub struct FineTuned {
    /// The model, with the weights after step `step`.
    pub model: RelationModel,
    /// Counts of the training instances.
    pub counts: InstanceCounts,
    /// The last finished step, or the one whose evaluation was best.
    pub step: usize,
    /// One record per finished step.
    pub history: Vec<StepRecord>,
    /// One record per evaluation on held-out data.
    pub evaluations: Vec<Evaluation>,
    /// Whether the caller stopped the run before its end.
    pub interrupted: bool,
}

/// Fine-tune an encoder with a new head. The same seed, settings, data and machine give the same
/// bits.
///
/// # Errors
/// [`Error::Config`] for settings out of range, a `max_length` beyond the encoder's, or data that
/// does not fit them; [`Error::Training`] when loss or gradient are not finite; and whatever
/// `on_event` returns. [`Error::Interrupted`] is not a failure: it stops the run, and the model has
/// the weights so far.
pub fn fine_tune(run: FineTune<'_>, on_event: OnEvent<'_>) -> Result<FineTuned> {
    let FineTune { encoder, encoder_name, data, held_out, settings, compute, checkpoint } = run;
    let TrainingData { instances, task, marking, hash } = data;
    settings.check_length(encoder.config.longest())?;
    let encode = |items: &[Instance]| {
        compute.within(|| encoder.tokenizer.encode_all(items, settings.max_length, settings.too_long))
    };
    let items = sampled(&data, settings)?;
    let encoded = encode(&items)?;
    let counts = InstanceCounts::new(instances, &items, &encoded);
    let dev_encoded = held_out.map(|held_out| encode(held_out.instances)).transpose()?;
    let dev = dev_encoded.as_ref().zip(held_out).map(|(encoded, held_out)| {
        let dropped = encoded.lost(task.labels.len(), task.negative);
        let lost = held_out.lost.iter().zip(dropped).map(|(lost, dropped)| lost + dropped).collect();
        Dev { features: &encoded.features, task, lost }
    });
    let (network, initial) = encoder.with_head(settings, task, marking)?;
    let steps = Schedule::new(settings, encoded.features.len().max(1)).total();
    on_event(Event::Started { steps })?;
    let trained = compute.execute(TrainingRun {
        network: &network,
        weights: &initial,
        instances: (&encoded.features).into(),
        settings,
        dev,
        checkpoint,
        on_event,
    })?;
    let Trained { weights, step, history, evaluations, interrupted } = trained;
    let origin = (encoder_name.to_owned(), hash.map(str::to_owned), step);
    let model = RelationModel::new(encoder, network, weights, settings.clone(), (task.clone(), marking), origin);
    Ok(FineTuned { model, counts, step, history, evaluations, interrupted })
}
