//! The weight of every word of many instances, by the head's attention, the encoder's, or the
//! gradient.

use strum::{IntoStaticStr, VariantArray};

use super::explain::{Explain, Explained};
use super::words::{WordWeight, word_weights};
use crate::encode::Instance;
use crate::model::RelationModel;
use crate::model::head::Weighs;
use crate::ops::compute::Compute;
use crate::predict::{OnBatch, Prediction, classify_instances};
use crate::text::stem;
use crate::{Error, Result};

/// Whose weights a word has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum WeightSource {
    /// The head's attention over the last layer; only some heads have one.
    Head,
    /// The attention of `[CLS]` in the encoder's last layer.
    Encoder,
    /// `|gradient x input|`.
    Gradient,
}

named!(WeightSource, "kind");

/// A word of an instance with its weight.
#[derive(Debug, Clone, PartialEq)]
pub struct WordRow {
    /// Index of the instance among those given.
    pub instance: usize,
    /// Index of the label that the instance is predicted to have.
    pub predicted: usize,
    /// The word.
    pub word: WordWeight,
    /// Number of words of the instance.
    pub words: usize,
    /// Its Porter stem.
    pub stem: String,
}

impl WordRow {
    /// The weight divided by the uniform weight, 1 / `words`.
    pub fn relative(&self) -> f64 {
        self.word.weight * self.words as f64
    }
}

/// One row per word of every instance, in order. Instances that do not fit into the model's length
/// have none.
///
/// # Errors
/// [`Error::Config`] for the head's weights of a head that does not weigh words, and whatever
/// `on_batch` returns.
pub fn word_table(
    model: &RelationModel,
    instances: &[Instance],
    source: WeightSource,
    compute: Compute,
    on_batch: OnBatch<'_>,
) -> Result<Vec<WordRow>> {
    let head = model.card.training.head;
    if source == WeightSource::Head && head.weighs() != Weighs::Words {
        let message = format!(
            "`{head}` does not weigh words; choose one that does ({}). For any head, kind=\"encoder\" gives the \
             encoder's own attention and kind=\"gradient\" the gradient's",
            Weighs::Words.heads()
        );
        return Err(Error::config("head", message));
    }
    // For each instance that fits: the predicted label, and the weights of its pieces.
    let (encoded, pieces): (_, Vec<(usize, Vec<f32>)>) = match source {
        WeightSource::Head => {
            let (encoded, predictions) = classify_instances(model, instances, compute, on_batch)?;
            let of = |one: Prediction| (one.label(), one.pieces.unwrap_or_default());
            (encoded, predictions.into_iter().map(of).collect())
        }
        WeightSource::Encoder | WeightSource::Gradient => {
            let encoded = compute.within(|| model.encode(instances))?;
            let RelationModel { network, weights, kept, .. } = model;
            let job = Explain { network, weights, features: &encoded.features, on_batch };
            let explained = compute.execute_kept(kept, weights.clone(), job)?;
            let shares = match source {
                WeightSource::Encoder => Explained::encoder_shares,
                _ => Explained::gradient_shares,
            };
            let of = |one: &Explained| (one.prediction.label(), shares(one));
            (encoded, explained.iter().map(of).collect())
        }
    };
    let mut rows = Vec::new();
    for ((features, instance), (predicted, pieces)) in encoded.features.iter().zip(&encoded.kept).zip(&pieces) {
        let weights = word_weights(features, &instances[*instance], pieces)?;
        let words = weights.len();
        rows.extend(weights.into_iter().map(|word| {
            let stem = stem(&word.text);
            WordRow { instance: *instance, predicted: *predicted, word, words, stem }
        }));
    }
    Ok(rows)
}
