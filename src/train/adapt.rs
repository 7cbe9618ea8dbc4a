//! Adapting an encoder to a user's texts: more steps of the masked language model that it was
//! pre-trained with (Gururangan et al. 2020). The texts are read once, into a [`Spool`].

use std::sync::Arc;

use super::checkpoint::CheckpointPlan;
use super::instances::Instances;
use super::progress::StepRecord;
use super::schedule::Schedule;
use super::spool::Spool;
use super::training_loop::{Event, OnEvent, Trained, TrainingRun};
use crate::config::TrainingSettings;
use crate::encode::Masking;
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
    /// All texts, in parts of at most the settings' `max_length`.
    pub texts: &'a Spool,
    /// The numbers, in ascending order, of those to measure the perplexity on, before and after; may be
    /// empty. The others are trained on.
    pub held_out: &'a [usize],
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
    /// Mean cross-entropy of the held-out texts' masked pieces before and after, in nats; `None` where
    /// there is no such text, or the run was stopped.
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
/// As [`masked_lm`]; [`Error::Config`] where there is no text; [`Error::Io`] of the texts' file;
/// [`Error::Checkpoint`] when the encoder's files have a corrupt language model;
/// [`Error::Training`]; and whatever `on_event` returns. [`Error::Interrupted`] is not a failure: it
/// stops the run, and the encoder has the weights so far.
pub fn adapt(run: Adapt<'_>, on_event: OnEvent<'_>) -> Result<Adapted> {
    let Adapt { encoder, texts, held_out, mask_rate, settings, compute, checkpoint } = run;
    let model = masked_lm(encoder, mask_rate, settings)?;
    if texts.max_length() != settings.max_length {
        let message = format!("the texts were divided into parts of {} pieces", texts.max_length());
        return Err(Error::config("max_length", message));
    }
    let [parts, held_out] = texts.divide(held_out);
    let (instances, held_out) = (Instances::Spool(texts, &parts), Instances::Spool(texts, &held_out));
    if instances.is_empty() {
        return Err(Error::config("texts", "there is no text to train on"));
    }
    let (decoder, new_decoder) = decoder_of(encoder, settings.seed)?;
    let mut weights = Weights::clone(&encoder.weights);
    weights.extend(decoder);
    let score = |weights: &Weights, on_event: OnEvent<'_>| match held_out.is_empty() {
        true => Ok(None),
        false => {
            let job = HeldOutLoss { model: &model, weights, held_out, size: settings.batch_size, on_event };
            compute.execute(job).map(Some)
        }
    };
    on_event(Event::Started { steps: Schedule::new(settings, instances.len()).total() })?;
    let before = score(&weights, on_event)?;
    let trained = compute.execute(TrainingRun {
        network: &model,
        weights: &weights,
        instances,
        settings,
        dev: None,
        checkpoint,
        on_event: &mut *on_event,
    })?;
    let Trained { weights: mut trained, history, interrupted, .. } = trained;
    // Who stops a run does not wait for the held-out texts.
    let after = if interrupted { None } else { score(&trained, on_event)? };
    let held_out_loss = before.zip(after).map(<[f64; 2]>::from);
    let above = Layout::new(&model.encoder).len;
    let decoder = trained.specs.split_off(above).into_iter().zip(trained.values.split_off(above));
    let decoder = decoder.map(|(spec, values)| Extra { name: spec.name, shape: spec.shape, values });
    let mut adapted = Pretrained { weights: Arc::new(trained), ..encoder.clone() };
    adapted.extras.retain(|extra| extra.is_pooler());
    adapted.extras.extend(decoder);
    let (parts, pieces) = (parts.len(), parts.iter().map(|part| texts.pieces(*part)).sum());
    Ok(Adapted { encoder: adapted, new_decoder, parts, pieces, held_out_loss, history, interrupted })
}

/// The masked language model of an encoder. This checks everything but the texts, which may take long
/// to read.
///
/// # Errors
/// [`Error::Config`] for settings out of range, an encoder whose language model is another, or a
/// vocabulary without `[MASK]`.
pub fn masked_lm(encoder: &Pretrained, mask_rate: f64, settings: &TrainingSettings) -> Result<MaskedLm> {
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
    if let Some(reason) = encoder.config.other_decoder() {
        return Err(Error::config("encoder", reason));
    }
    let Some(mask) = encoder.tokenizer.mask_id() else {
        return Err(Error::config("encoder", "its vocabulary has no [MASK], so it is no masked language model"));
    };
    let vocabulary = encoder.tokenizer.vocab_size() as u32;
    let masking = Masking { rate: mask_rate, mask, vocabulary, seed: settings.seed };
    Ok(MaskedLm { encoder: encoder.config.clone(), masking })
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
    held_out: Instances<'a>,
    size: usize,
    on_event: OnEvent<'a>,
}

impl Job for HeldOutLoss<'_> {
    type Output = f64;

    fn run<O: Ops>(self, ops: &O) -> Result<f64> {
        let params = self.weights.upload(ops)?;
        let (mut sum, mut masked) = (0.0, 0);
        let size = self.size.max(1);
        for (number, start) in (0..).zip((0..self.held_out.len()).step_by(size)) {
            let done = self.held_out.len().min(start + size);
            let texts = (start..done).map(|index| self.held_out.get(index)).collect::<Result<Vec<_>>>()?;
            let batch = self.model.pack(texts.iter().map(AsRef::as_ref), HELD_OUT - number);
            sum += self.model.loss(ops, &params, &batch)?;
            masked += batch.len();
            (self.on_event)(Event::HeldOut { done, total: self.held_out.len() })?;
        }
        Ok(sum / masked as f64)
    }
}
