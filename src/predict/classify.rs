//! Classification: the probabilities of the labels, and the head's attention weights, for every
//! instance.

use candle_core::{D, DType};
use candle_nn::ops::softmax;

use super::batches::{OnBatch, Pack, in_batches};
use crate::Result;
use crate::config::HeadKind;
use crate::encode::{Batch, Encoded, Features, Instance, InstanceTokens};
use crate::model::head::{HeadOutput, Weighs};
use crate::model::{Network, RelationModel, Weights};
use crate::ops::Ops;
use crate::ops::compute::{Compute, Job};

/// The model's output for one instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Probability of every label, `(labels)`.
    pub probabilities: Vec<f32>,
    /// Attention weight of every word piece, `(pieces)`, 0 at `[CLS]` and `[SEP]`, for heads that
    /// weigh words.
    pub pieces: Option<Vec<f32>>,
    /// Attention weight of every layer's `[CLS]` vector, `(layers)`, for heads that weigh layers.
    pub layers: Option<Vec<f32>>,
}

impl Prediction {
    /// Index of the most probable label; the first one of several.
    pub fn label(&self) -> usize {
        most_probable(&self.probabilities)
    }
}

/// Index of the largest probability; the first one of several.
pub fn most_probable(probabilities: &[f32]) -> usize {
    let larger = |best, label| if probabilities[label] > probabilities[best] { label } else { best };
    (1..probabilities.len()).fold(0, larger)
}

/// A prediction of instances, for [`crate::ops::compute::Compute::execute`].
pub struct Predict<'a> {
    /// Architecture.
    pub network: &'a Network,
    /// Parameters of encoder and head, in the order of [`Network::specs`].
    pub weights: &'a Weights,
    /// The instances.
    pub features: &'a [Features],
    /// Progress.
    pub on_batch: OnBatch<'a>,
}

impl Job for Predict<'_> {
    type Output = Vec<Prediction>;

    fn run<O: Ops>(self, ops: &O) -> Result<Vec<Prediction>> {
        let params = self.weights.upload(ops)?;
        predict(ops, self.network, &params, self.features, self.on_batch)
    }
}

/// Predict all instances, in their order.
///
/// # Errors
/// As [`Network::predict`], and whatever `on_batch` returns.
pub fn predict<O: Ops>(
    ops: &O,
    network: &Network,
    params: &[O::Buffer],
    features: &[Features],
    on_batch: OnBatch<'_>,
) -> Result<Vec<Prediction>> {
    in_batches(features, Pack::Shared(network), on_batch, |batch| {
        read(network.head, batch, &network.predict(ops, params, batch)?)
    })
}

/// Encode and classify instances: their word pieces, and a prediction for each instance that fits
/// into the model's length.
///
/// # Errors
/// As [`RelationModel::encode`] and [`predict`].
pub fn classify_instances(
    model: &RelationModel,
    instances: &[Instance],
    compute: Compute,
    on_batch: OnBatch<'_>,
) -> Result<(Encoded, Vec<Prediction>)> {
    let RelationModel { network, weights, .. } = model;
    let encoded = compute.within(|| model.encode(instances))?;
    let predictions = compute.execute(Predict { network, weights, features: &encoded.features, on_batch })?;
    Ok((encoded, predictions))
}

/// The predictions of a batch, from the head's output.
pub(crate) fn read(head: HeadKind, batch: &Batch, output: &HeadOutput) -> Result<Vec<Prediction>> {
    let probabilities = softmax(&output.logits, D::Minus1)?.to_dtype(DType::F32)?.to_vec2::<f32>()?;
    let weights = match &output.weights {
        Some(weights) => weights.to_dtype(DType::F32)?.to_vec2::<f32>()?,
        None => Vec::new(),
    };
    let prediction = |(row, probabilities): (usize, Vec<f32>)| {
        let own: Option<&Vec<f32>> = weights.get(row);
        let (pieces, layers) = match head.weighs() {
            Weighs::Nothing => (None, None),
            Weighs::Words => (own.map(|weights| of_words(weights, &batch.instances[row])), None),
            Weighs::Layers => (None, own.cloned()),
        };
        Prediction { probabilities, pieces, layers }
    };
    Ok(probabilities.into_iter().enumerate().map(prediction).collect())
}

/// The weights of an instance's pieces, 0 at `[CLS]` and `[SEP]`. If the head also reads `[SEP]`
/// and padding, the weights of the words are normalised to sum to 1.
fn of_words(weights: &[f32], instance: &InstanceTokens) -> Vec<f32> {
    let mut weights = weights[instance.pieces.clone()].to_vec();
    if instance.words.end >= instance.pieces.end {
        if let Some(sep) = weights.last_mut() {
            *sep = 0.0;
        }
        let total: f32 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= total);
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::most_probable;

    #[test]
    fn the_first_of_equal_probabilities_wins() {
        assert_eq!(most_probable(&[0.2, 0.4, 0.4]), 1);
        assert_eq!(most_probable(&[1.0]), 0);
    }
}
