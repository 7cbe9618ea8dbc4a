//! Adapting an encoder to a user's texts: more steps of the masked language model that it was
//! pre-trained with (Gururangan et al. 2020).

use super::checkpoint::CheckpointPlan;
use super::progress::StepRecord;
use super::schedule::Schedule;
use super::training_loop::{Event, OnEvent, Trained, TrainingRun};
use crate::config::TrainingSettings;
use crate::encode::{Features, Masking, Tokenizer};
use crate::model::checkpoint::{self, Extra};
use crate::model::params::Layout;
use crate::model::{MaskedLm, Pretrained, Weights};
use crate::ops::Ops;
use crate::ops::compute::{Compute, Job};
use crate::{Error, Result};

/// The arguments of [`adapt`].
pub struct Adapt<'a> {
    /// The encoder to start from.
    pub encoder: &'a Pretrained,
    /// What to train on.
    pub texts: &'a [String],
    /// What to measure the perplexity on, before and after; may be empty.
    pub held_out: &'a [String],
    /// The share of the word pieces that are to be predicted.
    pub mask_rate: f64,
    /// How to train; nothing that belongs to a head is used.
    pub settings: &'a TrainingSettings,
    /// Engine, precision and threads.
    pub compute: Compute,
    /// Where to save a checkpoint from which a killed run resumes; `None` to save none.
    pub checkpoint: Option<CheckpointPlan<'a>>,
}

/// The result of [`adapt`].
#[derive(Debug, Clone)]
pub struct Adapted {
    /// The encoder with its new weights. Its extras have the parameters above it.
    pub encoder: Pretrained,
    /// Whether the parameters above the encoder were initialised rather than read with it.
    pub new_decoder: bool,
    /// Texts after those longer than `max_length` were divided.
    pub parts: usize,
    /// Word pieces of all parts, `[CLS]` and `[SEP]` included.
    pub pieces: usize,
    /// Mean cross-entropy of the held-out texts' masked pieces before and after, in nats.
    pub held_out_loss: Option<[f64; 2]>,
    /// One record per finished step.
    pub history: Vec<StepRecord>,
    /// Whether the caller stopped the run before its end.
    pub interrupted: bool,
}

/// The number of the batches that mask the held-out texts: the same masks before and after, and of
/// no training step.
const HELD_OUT: u32 = u32::MAX;

/// Train an encoder on texts as a masked language model. The same seed, settings, texts and machine
/// give the same bits.
///
/// # Errors
/// [`Error::Config`] for settings out of range, no text, or a vocabulary without `[MASK]`;
/// [`Error::Checkpoint`] when the encoder's files have a corrupt language model;
/// [`Error::Training`]; and whatever `on_event` returns. [`Error::Interrupted`] is not a failure: it
/// stops the run, and the encoder has the weights so far.
pub fn adapt(run: Adapt<'_>, on_event: OnEvent<'_>) -> Result<Adapted> {
    let Adapt { encoder, texts, held_out, mask_rate, settings, compute, checkpoint } = run;
    settings.validate()?;
    let longest = encoder.config.longest();
    if settings.max_length > longest {
        let message = format!("{} is too long for this encoder; its limit is {longest}", settings.max_length);
        return Err(Error::config("max_length", message));
    }
    if !(mask_rate > 0.0 && mask_rate < 1.0) {
        return Err(Error::config("mask_rate", format!("{mask_rate} is out of range; it must be between 0 and 1")));
    }
    if encoder.config.model_type.names().language_model.is_none() {
        let message = format!("the masked language model of `{}` is not supported", encoder.config.model_type);
        return Err(Error::config("encoder", message));
    }
    let Some(mask) = encoder.tokenizer.mask_id() else {
        return Err(Error::config("encoder", "its vocabulary has no [MASK], so it is no masked language model"));
    };
    let vocabulary = encoder.tokenizer.vocab_size() as u32;
    let masking = Masking { rate: mask_rate, mask, vocabulary, seed: settings.seed };
    let model = MaskedLm { encoder: encoder.config.clone(), masking };
    let of = |texts: &[String]| compute.within(|| parts(&encoder.tokenizer, texts, settings.max_length));
    let (features, held_out) = (of(texts)?, of(held_out)?);
    if features.is_empty() {
        return Err(Error::config("texts", "there is no text to train on"));
    }
    let (decoder, new_decoder) = decoder_of(encoder, settings.seed)?;
    let mut weights = encoder.weights.clone();
    weights.extend(decoder);
    let score = |weights: &Weights| match held_out.is_empty() {
        true => Ok(None),
        false => {
            let job = HeldOutLoss { model: &model, weights, features: &held_out, size: settings.batch_size };
            compute.execute(job).map(Some)
        }
    };
    on_event(Event::Started { steps: Schedule::new(settings, features.len()).total() })?;
    let before = score(&weights)?;
    let trained = compute.execute(TrainingRun {
        network: &model,
        weights: &weights,
        features: &features,
        settings,
        dev: None,
        checkpoint,
        on_event,
    })?;
    let Trained { weights: mut trained, history, interrupted, .. } = trained;
    let held_out_loss = before.zip(score(&trained)?).map(<[f64; 2]>::from);
    let above = Layout::new(&model.encoder).len;
    let decoder = trained.specs.split_off(above).into_iter().zip(trained.values.split_off(above));
    let decoder = decoder.map(|(spec, values)| Extra { name: spec.name, shape: spec.shape, values });
    let mut adapted = Pretrained { weights: trained, ..encoder.clone() };
    adapted.extras.retain(|extra| extra.is_pooler());
    adapted.extras.extend(decoder);
    let pieces = features.iter().map(|part| part.ids.len()).sum();
    Ok(Adapted { encoder: adapted, new_decoder, parts: features.len(), pieces, held_out_loss, history, interrupted })
}

/// The texts in parts of at most `max_length` pieces.
fn parts(tokenizer: &Tokenizer, texts: &[String], max_length: usize) -> Result<Vec<Features>> {
    use rayon::prelude::*;
    // All results are collected first, so that the first error by position is reported.
    let parts: Vec<_> = texts.par_iter().map(|text| tokenizer.parts(text, max_length)).collect();
    Ok(parts.into_iter().collect::<Result<Vec<_>>>()?.concat())
}

/// The parameters above the encoder, and whether they are new: of an encoder that was adapted, else
/// those in its files, else initial ones.
fn decoder_of(encoder: &Pretrained, seed: u64) -> Result<(Weights, bool)> {
    let specs = MaskedLm::decoder_specs(&encoder.config);
    let kept = specs.iter().map(|spec| encoder.extras.iter().find(|extra| extra.name == spec.name));
    if let Some(kept) = kept.collect::<Option<Vec<_>>>() {
        let values = kept.into_iter().map(|extra| extra.values.clone()).collect();
        return Ok((Weights { specs, values }, false));
    }
    // The files may spell the rest of a name in their own way (`checkpoint::names`).
    let transform = encoder.config.model_type.names().language_model.map_or("", |[transform, ..]| transform);
    let is_decoder = |name: &String| name.replace('/', ".").contains(transform);
    if !encoder.report.unused.iter().any(is_decoder) {
        return Ok((Weights::initial(specs, seed), true));
    }
    let (mut read, ..) = checkpoint::read(&encoder.directory, &encoder.config, &specs)?;
    let above = read.specs.len() - specs.len();
    Ok((Weights { specs, values: read.values.split_off(above) }, false))
}

/// The mean cross-entropy of the masked pieces of held-out texts.
struct HeldOutLoss<'a> {
    model: &'a MaskedLm,
    weights: &'a Weights,
    features: &'a [Features],
    size: usize,
}

impl Job for HeldOutLoss<'_> {
    type Output = f64;

    fn run<O: Ops>(self, ops: &O) -> Result<f64> {
        let params = self.weights.upload(ops)?;
        let (mut sum, mut masked) = (0.0, 0);
        for (number, texts) in (0..).zip(self.features.chunks(self.size.max(1))) {
            let batch = self.model.pack(texts, HELD_OUT - number);
            sum += self.model.loss(ops, &params, &batch)?;
            masked += batch.len();
        }
        Ok(sum / masked as f64)
    }
}
