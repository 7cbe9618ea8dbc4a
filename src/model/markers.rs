//! The embeddings of levitated markers.
//!
//! They are rows behind those of the word embedding, so that the engines embed, differentiate and
//! optimise markers as they do words. In a saved model they are a tensor of their own,
//! `head.markers.weight`, and the word embedding is the encoder's: transformers opens it as before.

use crate::config::{Compat, TrainingSettings};
use crate::corpus::Task;
use crate::encode::{MARKERS, MarkerIds, Tokenizer};
use crate::model::params::Layout;
use crate::model::{EncoderConfig, Init, ParamSpec, Weights};
use crate::{Error, Result};

/// The words whose embeddings the markers of the first and of the second entity start from.
const WORDS: [&str; 2] = ["subject", "object"];
/// Standard deviation of the noise that tells markers of one word apart.
const NOISE: f64 = 0.01;

/// Refuse settings that do not fit levitated markers.
///
/// # Errors
/// [`Error::Config`] that names the setting.
pub fn check(settings: &TrainingSettings) -> Result<()> {
    if !settings.head.reads_entities() {
        let message = format!(
            "`{}` reads the text alone, which with levitated markers is the same for all pairs of a sentence; choose entity or \
             entity-attention",
            settings.head.name()
        );
        return Err(Error::config("head", message));
    }
    if settings.compat == Some(Compat::Su2020) {
        return Err(Error::config("compat", "su2020 pads sentences and has no levitated markers"));
    }
    Ok(())
}

/// The number of entity types with markers.
///
/// # Errors
/// As [`check`], and for a `max_length` that leaves no room for markers.
pub(super) fn types_of(encoder: &EncoderConfig, settings: &TrainingSettings, task: &Task) -> Result<u32> {
    check(settings)?;
    if !encoder.model_type.is_trainable() {
        let message = format!(
            "levitated markers are rows of the embeddings of biorel's own encoder, and `{}` is computed by \
             candle-transformers; choose another marking, such as typed",
            encoder.model_type
        );
        return Err(Error::config("marking", message));
    }
    let longest = encoder.attention_stride() - MARKERS;
    if settings.max_length > longest {
        let message = format!("levitated markers leave room for {longest} word pieces, not {}", settings.max_length);
        return Err(Error::config("max_length", message));
    }
    Ok(task.type_tags().len().max(1) as u32)
}

/// The embeddings in a saved model, `(roles x types, E)`.
pub(super) fn spec(markers: MarkerIds, width: usize) -> ParamSpec {
    ParamSpec::new("head.markers.weight", &[markers.len(), width], Init::TruncatedNormal(NOISE))
}

/// Initial embeddings, in the order of [`MarkerIds`]: those of the words `subject` and `object`
/// (the mean of their pieces where the vocabulary divides them), and a little noise, a function of
/// the seed.
pub(super) fn initial(weights: &Weights, tokenizer: &Tokenizer, markers: MarkerIds, seed: u64) -> Result<Vec<f32>> {
    let table = Layout::WORDS;
    let width = weights.specs[table].shape[1];
    let words = &weights.values[table]; // (V, E)
    let mut values = spec(markers, width).initial(seed);
    let rows_of_argument = markers.len() / WORDS.len() * width;
    for (word, rows) in WORDS.iter().zip(values.chunks_exact_mut(rows_of_argument)) {
        let pieces = tokenizer.pieces(word)?;
        for row in rows.chunks_exact_mut(width) {
            for piece in &pieces {
                let embedding = &words[piece.id as usize * width..][..width];
                row.iter_mut().zip(embedding).for_each(|(x, e)| *x += e / pieces.len() as f32);
            }
        }
    }
    Ok(values)
}

/// Append the embeddings to the word embedding.
pub(super) fn join(weights: &mut Weights, values: Vec<f32>) {
    let shape = &mut weights.specs[Layout::WORDS].shape;
    shape[0] += values.len() / shape[1];
    weights.values[Layout::WORDS].extend(values);
}

/// The parameters as they are saved: the embeddings of the markers last, as a tensor of their own.
pub(super) fn split(weights: &Weights, markers: MarkerIds) -> Weights {
    let mut weights = weights.clone();
    let shape = &mut weights.specs[Layout::WORDS].shape;
    shape[0] -= markers.len();
    let (words, width) = (shape[0], shape[1]);
    let values = weights.values[Layout::WORDS].split_off(words * width);
    weights.specs.push(spec(markers, width));
    weights.values.push(values);
    weights
}

/// The reverse of [`split`].
pub(super) fn rejoin(weights: &mut Weights) {
    weights.specs.pop();
    if let Some(values) = weights.values.pop() {
        join(weights, values);
    }
}
