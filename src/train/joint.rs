//! Fine-tuning on several corpora at once: one encoder and one head, with a classifier for each task.
//!
//! The classifiers are rows of one layer. The loss of an instance is the cross-entropy over the
//! labels of its own task, so that the other tasks' rows have no gradient from it. Levitated markers
//! are of their task too: they tell the encoder which one it reads for. The result is an ordinary
//! model for each task; they differ only in these rows and in the embeddings of their markers.

use super::checkpoint::CheckpointPlan;
use super::evaluation::{Dev, Evaluation};
use super::fine_tune::{InstanceCounts, TrainingData, sampled};
use super::objective::Objective;
use super::progress::StepRecord;
use super::schedule::Schedule;
use super::training_loop::{Event, OnEvent, Trained, TrainingRun};
use crate::config::TrainingSettings;
use crate::corpus::{Candidates, Scope, Task};
use crate::encode::{Batch, Features};
use crate::model::encoder::ForwardContext;
use crate::model::network::Gradient;
use crate::model::params::Layout;
use crate::model::{EncoderConfig, Network, Pretrained, RelationModel, Weights};
use crate::ops::compute::Compute;
use crate::ops::{Loss, Ops};
use crate::predict::OnBatch;
use crate::rng::{Purpose, Stream};
use crate::{Error, Result};

/// The arguments of [`fine_tune_jointly`].
pub struct FineTuneJointly<'a> {
    /// The encoder to start from.
    pub encoder: &'a Pretrained,
    /// Its name or path, which is saved with the models.
    pub encoder_name: &'a str,
    /// What to train on: one entry for each task, in one marking.
    pub parts: &'a [TrainingData<'a>],
    /// T of the sampling: a task of n instances has a share of every epoch that is proportional to
    /// `n^(1/T)`. With 1 every instance is read once; the higher it is, the more often those of small
    /// tasks are repeated. No instance is left out.
    pub temperature: f64,
    /// How to train.
    pub settings: &'a TrainingSettings,
    /// Engine, precision and threads.
    pub compute: Compute,
    /// Where to save a checkpoint from which a killed run resumes; `None` to save none.
    pub checkpoint: Option<CheckpointPlan<'a>>,
}

/// The result of [`fine_tune_jointly`].
#[derive(Debug, Clone)]
pub struct FineTunedJointly {
    /// A model for each task, in order, with the weights after step `step`.
    pub models: Vec<RelationModel>,
    /// Counts of the instances of each task, without repetitions.
    pub counts: Vec<InstanceCounts>,
    /// The last finished step.
    pub step: usize,
    /// One record per finished step.
    pub history: Vec<StepRecord>,
    /// Whether the caller stopped the run before its end.
    pub interrupted: bool,
}

/// Fine-tune one encoder on several corpora. With one corpus it is [`super::fine_tune`], bit by bit.
///
/// # Errors
/// As [`super::fine_tune`]; [`Error::Config`] also for a temperature below 1, class weights, which
/// belong to one task, and markings that differ.
pub fn fine_tune_jointly(run: FineTuneJointly<'_>, on_event: OnEvent<'_>) -> Result<FineTunedJointly> {
    let FineTuneJointly { encoder, encoder_name, parts, temperature, settings, compute, checkpoint } = run;
    let Some(TrainingData { marking, .. }) = parts.first().copied() else {
        return Err(Error::config("corpus", "there is no corpus to train on"));
    };
    if parts.iter().any(|part| part.marking != marking) {
        return Err(Error::config("marking", "all corpora need the same marking"));
    }
    if !(temperature.is_finite() && temperature >= 1.0) {
        return Err(Error::config("temperature", format!("must be at least 1, not {temperature}")));
    }
    if settings.class_weights.is_some() {
        return Err(Error::config("class_weights", "belong to the labels of one corpus; leave them out for several"));
    }
    settings.check_length(encoder.config.longest())?;
    let sizes: Vec<Size> = parts.iter().map(|part| Size::of(part.task)).collect();
    let (mut features, mut counts) = (Vec::new(), Vec::new());
    for (index, part) in parts.iter().enumerate() {
        let items = sampled(part, settings)?;
        let encoded =
            compute.within(|| encoder.tokenizer.encode_all(&items, settings.max_length, settings.too_long))?;
        counts.push(InstanceCounts::new(part.instances, &items, &encoded));
        features.push(encoded.features.into_iter().map(|item| shifted(item, &sizes[..index])).collect::<Vec<_>>());
    }
    let repeats = repeats(&features.iter().map(Vec::len).collect::<Vec<_>>(), temperature);
    let features: Vec<Features> = (0u32..)
        .zip(features.iter().zip(repeats))
        .flat_map(|(index, (part, times))| repeated(part, times, settings.seed, index))
        .collect();
    let (network, initial) = encoder.with_head(settings, &union(parts, &sizes), marking)?;
    let joint = Joint { network, sizes };
    on_event(Event::Started { steps: Schedule::new(settings, features.len().max(1)).total() })?;
    let Trained { weights, step, history, interrupted, .. } = compute.execute(TrainingRun {
        network: &joint,
        weights: &initial,
        instances: (&features).into(),
        settings,
        dev: None,
        checkpoint,
        on_event,
    })?;
    let models = parts.iter().enumerate().map(|(index, part)| {
        let (network, weights) = joint.of_task(index, &weights);
        let origin = (encoder_name.to_owned(), part.hash.map(str::to_owned), step);
        RelationModel::new(encoder, network, weights, settings.clone(), (part.task.clone(), marking), origin)
    });
    Ok(FineTunedJointly { models: models.collect(), counts, step, history, interrupted })
}

/// The numbers of a task's labels and of its entity types with markers of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    labels: usize,
    types: usize,
}

impl Size {
    fn of(task: &Task) -> Self {
        Self { labels: task.labels.len(), types: task.type_tags().len().max(1) }
    }

    fn sum(sizes: &[Self]) -> Self {
        let add = |sum: Self, size: &Self| Self { labels: sum.labels + size.labels, types: sum.types + size.types };
        sizes.iter().fold(Self { labels: 0, types: 0 }, add)
    }
}

/// Features whose label and markers follow those of the tasks `before`.
fn shifted(mut features: Features, before: &[Size]) -> Features {
    let Size { labels, types } = Size::sum(before);
    features.label = features.label.map(|label| label + labels);
    features.marker_types = features.marker_types.map(|two| two.map(|number| number + types as u32));
    features
}

/// How often the instances of each task are read in an epoch: at least once.
fn repeats(counts: &[usize], temperature: f64) -> Vec<f64> {
    let times = counts.iter().map(|count| (*count).max(1) as f64).map(|count| count.powf(1.0 / temperature - 1.0));
    let least = times.clone().fold(f64::INFINITY, f64::min);
    times.map(|times| times / least).collect()
}

/// The features `times` times; of the fractional time a random choice.
fn repeated(features: &[Features], times: f64, seed: u64, task: u32) -> Vec<Features> {
    let mut all: Vec<Features> = Vec::new();
    (0..times.floor() as usize).for_each(|_| all.extend_from_slice(features));
    let mut order: Vec<usize> = (0..features.len()).collect();
    Stream::new(seed, Purpose::Sample, 0x100 + task).shuffle(&mut order);
    let more = (times.fract() * features.len() as f64).round() as usize;
    all.extend(order[..more].iter().map(|index| features[*index].clone()));
    all
}

/// A task with the labels and the entity types of all.
fn union(parts: &[TrainingData<'_>], sizes: &[Size]) -> Task {
    let Size { labels, types } = Size::sum(sizes);
    let types: Vec<String> = (0..types).map(|number| number.to_string()).collect();
    let mut task = parts[0].task.clone();
    task.labels = (0..labels).map(|number| number.to_string()).collect();
    task.candidates = Candidates { rules: vec![(types.clone(), types)] };
    if parts.iter().any(|part| part.task.scope == Scope::Document) {
        task.scope = Scope::Document;
    }
    task
}

/// The network of all tasks.
#[derive(Debug)]
struct Joint {
    network: Network,
    sizes: Vec<Size>,
}

impl Joint {
    /// The network and the parameters of one task.
    fn of_task(&self, index: usize, all: &Weights) -> (Network, Weights) {
        let before = Size::sum(&self.sizes[..index]);
        let Size { labels, types } = self.sizes[index];
        let levitated = self.network.markers().is_some();
        let marker_types = if levitated { types as u32 } else { 0 };
        let network = Network { labels, marker_types, ..self.network.clone() };
        let specs = network.specs();
        let mut values = all.values.clone();
        // Rows of the classifier's weight and bias, the last two parameters.
        for (values, spec) in values.iter_mut().zip(&specs).skip(specs.len() - 2) {
            let width = spec.elements() / labels;
            *values = values[before.labels * width..][..labels * width].to_vec();
        }
        if levitated {
            let width = specs[Layout::WORDS].shape[1];
            let words = &mut values[Layout::WORDS];
            let markers = words.split_off(network.encoder.vocab_size * width);
            for role in markers.chunks(self.network.marker_types as usize * width) {
                words.extend_from_slice(&role[before.types * width..][..types * width]);
            }
        }
        (network, Weights { specs, values })
    }
}

impl Objective for Joint {
    fn encoder(&self) -> &EncoderConfig {
        &self.network.encoder
    }

    fn labels(&self) -> usize {
        self.network.labels
    }

    fn pack<'a>(&self, features: impl IntoIterator<Item = &'a Features>, _: u32) -> Batch {
        self.network.pack(features)
    }

    fn prepare<O: Ops>(
        &self,
        ops: &O,
        params: &[O::Buffer],
        features: &[Features],
        on_batch: OnBatch<'_>,
    ) -> Result<()> {
        self.network.prepare(ops, params, features, on_batch)
    }

    fn gradient<O: Ops>(
        &self,
        ops: &O,
        params: &[O::Buffer],
        batch: &Batch,
        context: &ForwardContext,
        loss: &Loss<'_>,
    ) -> Result<Gradient<O::Buffer>> {
        let groups: Vec<usize> = self.sizes.iter().map(|size| size.labels).collect();
        self.network.gradient_in_groups(ops, params, batch, context, loss, &groups)
    }

    fn evaluate<O: Ops>(
        &self,
        _: &O,
        _: &[O::Buffer],
        _: &Dev<'_>,
        _: (usize, usize),
        _: OnBatch<'_>,
    ) -> Result<Evaluation> {
        Err(Error::config("dev", "held-out data of several tasks is not scored while training"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_tasks_are_repeated_by_temperature() {
        assert_eq!(repeats(&[100, 900], 1.0), [1.0, 1.0]);
        let square = repeats(&[100, 900], 2.0); // shares of 10 and 30: 300 and 900 instances
        assert!((square[0] - 3.0).abs() < 1e-12 && square[1] == 1.0, "{square:?}");
        let even = repeats(&[100, 900], 1e9);
        assert!((even[0] - 9.0).abs() < 1e-6, "{even:?}");
        assert_eq!(repeats(&[0, 5], 3.0).len(), 2);
    }
}
