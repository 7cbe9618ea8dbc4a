//! Classification: the probabilities of the labels, and the head's attention weights, for every
//! instance.

use candle_core::{D, Tensor};
use candle_nn::ops::softmax;

use super::batches::{OnBatch, Pack, Sizes, in_batches};
use crate::Result;
use crate::config::HeadKind;
use crate::encode::{Encoded, Features, Instance, InstanceTokens};
use crate::model::head::{HeadOutput, Weighs};
use crate::model::{Network, RelationModel, Weights};
use crate::ops::compute::{Compute, KeptJob};
use crate::ops::{Ops, Pending};

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

impl KeptJob for Predict<'_> {
    type Output = Vec<Prediction>;

    fn load<O: Ops>(&self, ops: &O) -> Result<Vec<O::Buffer>> {
        self.weights.upload(ops)
    }

    fn bytes(&self) -> usize {
        self.weights.bytes()
    }

    fn run_with<O: Ops>(self, ops: &O, params: &[O::Buffer]) -> Result<Vec<Prediction>> {
        predict(ops, self.network, params, self.features, self.on_batch)
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
    in_batches(features, Pack::Shared(network), Sizes::of(ops), on_batch, |batch| {
        let output = network.predict(ops, params, &batch)?;
        read(ops, network.head, batch.instances, &output)
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
    let RelationModel { network, weights, kept, .. } = model;
    let encoded = compute.within(|| model.encode(instances))?;
    let job = Predict { network, weights, features: &encoded.features, on_batch };
    let predictions = compute.execute_kept(kept, weights.clone(), job)?;
    Ok((encoded, predictions))
}

/// The predictions of a batch's instances, from the head's output.
pub(crate) fn read<O: Ops>(
    ops: &O,
    head: HeadKind,
    instances: Vec<InstanceTokens>,
    output: &HeadOutput,
) -> Result<Pending<Vec<Prediction>>> {
    let download = |tensor: &Tensor| ops.download_later(&ops.upload_candle(tensor)?);
    let labels = output.logits.dim(D::Minus1)?;
    let probabilities = download(&softmax(&output.logits, D::Minus1)?)?; // (n, labels)
    let columns = output.weights.as_ref().map(|weights| weights.dim(D::Minus1)).transpose()?.unwrap_or(1);
    let weights = output.weights.as_ref().map(download).transpose()?; // (n, T), or (n, layers)
    Ok(Pending::new(move || {
        let probabilities = probabilities.get()?;
        let weights = weights.map(Pending::get).transpose()?.unwrap_or_default();
        let prediction = |(row, instance): (usize, &InstanceTokens)| {
            let own = weights.get(row * columns..(row + 1) * columns);
            let (pieces, layers) = match head.weighs() {
                Weighs::Nothing => (None, None),
                Weighs::Words => (own.map(|weights| of_words(weights, instance)), None),
                Weighs::Layers => (None, own.map(<[f32]>::to_vec)),
            };
            Prediction { probabilities: probabilities[row * labels..][..labels].to_vec(), pieces, layers }
        };
        Ok(instances.iter().enumerate().map(prediction).collect())
    }))
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
