//! The contribution of each word piece to a prediction: the head's attention, the encoder's
//! attention, and gradient x input.

use crate::Result;
use crate::encode::Features;
use crate::model::{Network, Weights};
use crate::ops::compute::KeptJob;
use crate::ops::{Ops, Pending};
use crate::predict::batches::{Pack, Sizes, in_batches};
use crate::predict::classify::read;
use crate::predict::{OnBatch, Prediction};

/// A prediction, and the contribution of each piece to it. Every list is `(pieces)` long,
/// including `[CLS]` and `[SEP]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Explained {
    /// Probabilities, and the head's attention weights if it has any.
    pub prediction: Prediction,
    /// Gradient of the predicted label's logit times the piece's word embedding; signed.
    pub gradient: Vec<f32>,
    /// Attention of `[CLS]` to the piece in the encoder's last layer, mean of the attention heads;
    /// sums to 1.
    pub encoder: Vec<f32>,
}

impl Explained {
    /// Shares of the encoder's attention between `[CLS]` and `[SEP]`, `(pieces - 2)`: not negative,
    /// sum 1.
    pub fn encoder_shares(&self) -> Vec<f32> {
        shares(&self.encoder)
    }

    /// Shares of `|gradient x input|` between `[CLS]` and `[SEP]`, `(pieces - 2)`: not negative,
    /// sum 1.
    pub fn gradient_shares(&self) -> Vec<f32> {
        shares(&self.gradient)
    }
}

/// Absolute values between `[CLS]` and `[SEP]`, divided by their sum; equal shares where the sum is
/// 0.
fn shares(values: &[f32]) -> Vec<f32> {
    let inner = &values[1..values.len() - 1];
    let total: f64 = inner.iter().map(|value| f64::from(value.abs())).sum();
    if total > 0.0 {
        inner.iter().map(|value| (f64::from(value.abs()) / total) as f32).collect()
    } else {
        vec![1.0 / inner.len() as f32; inner.len()]
    }
}

/// Instances to explain.
pub struct Explain<'a> {
    /// Architecture.
    pub network: &'a Network,
    /// Parameters of encoder and head, in the order of [`Network::specs`].
    pub weights: &'a Weights,
    /// The instances.
    pub features: &'a [Features],
    /// Progress.
    pub on_batch: OnBatch<'a>,
}

impl KeptJob for Explain<'_> {
    type Output = Vec<Explained>;

    fn load<O: Ops>(&self, ops: &O) -> Result<Vec<O::Buffer>> {
        self.weights.upload(ops)
    }

    fn bytes(&self) -> usize {
        self.weights.bytes()
    }

    fn run_with<O: Ops>(self, ops: &O, params: &[O::Buffer]) -> Result<Vec<Explained>> {
        explain(ops, self.network, params, self.features, self.on_batch)
    }
}

/// Explain all instances, in order.
///
/// # Errors
/// As [`Network::explain`], and whatever `on_batch` returns.
pub fn explain<O: Ops>(
    ops: &O,
    network: &Network,
    params: &[O::Buffer],
    features: &[Features],
    on_batch: OnBatch<'_>,
) -> Result<Vec<Explained>> {
    in_batches(features, Pack::Apart(network), Sizes::SMALL, on_batch, |batch| {
        let explanation = network.explain(ops, params, &batch)?;
        let predictions = read(ops, network.head, batch.instances.clone(), &explanation.output)?.get()?;
        let explained = |(row, prediction): (usize, Prediction)| {
            let tokens = batch.instances[row].pieces.clone();
            let gradient = explanation.gradient_times_input[tokens.clone()].to_vec();
            let encoder = explanation.attention_of_cls[tokens].to_vec();
            Explained { prediction, gradient, encoder }
        };
        Ok(Pending::ready(predictions.into_iter().enumerate().map(explained).collect()))
    })
}
