//! Probabilities and attention weights for instances.

use candle_core::{D, DType};
use candle_nn::ops::softmax;

use crate::Result;
use crate::config::HeadKind;
use crate::encode::{Batch, Features};
use crate::model::encoder::{self, OutputSpec};
use crate::model::head::{HeadOutput, Weighs};
use crate::model::{EncoderConfig, Network, Weights};
use crate::ops::Ops;
use crate::ops::compute::Job;

/// Word pieces in one batch of inference: enough to keep all cores busy, little enough to stay in cache.
const BATCH_TOKENS: usize = 2048;

/// What the model says of one instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Probability of every label, `(labels)`.
    pub probabilities: Vec<f32>,
    /// Attention weight of every word piece, `(pieces)`, 0 at `[CLS]` and `[SEP]`; for heads that weigh words.
    pub pieces: Option<Vec<f32>>,
    /// Attention weight of every layer's `[CLS]` vector, `(layers)`; for heads that weigh layers.
    pub layers: Option<Vec<f32>>,
}

impl Prediction {
    /// Index of the most probable label; the first of equals.
    pub fn label(&self) -> usize {
        let p = &self.probabilities;
        (1..p.len()).fold(0, |best, label| if p[label] > p[best] { label } else { best })
    }
}

/// Called with the number of instances done after every batch; an error stops the run.
pub type OnBatch<'a> = &'a mut (dyn FnMut(usize) -> Result<()> + Send);

/// Instances to be predicted: [`crate::ops::compute::Compute::execute`] runs it on the engine of the caller's choice.
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
        let params = self.network.upload(ops, self.weights)?;
        predict(ops, self.network, &params, self.features, self.on_batch)
    }
}

/// Predict all instances, in their order. Sentences of similar length share a batch.
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
    let mut predictions: Vec<Option<Prediction>> = vec![None; features.len()];
    let mut done = 0;
    for chunk in &chunks_by_length(features) {
        let batch = network.pack(chunk.iter().map(|i| &features[*i]));
        let output = network.predict(ops, params, &batch)?;
        for (index, prediction) in chunk.iter().zip(read(network.head, &batch, &output)?) {
            predictions[*index] = Some(prediction);
        }
        done += chunk.len();
        on_batch(done)?;
    }
    Ok(predictions.into_iter().flatten().collect())
}

/// What a head says of each instance of a batch.
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
            Weighs::Words => (own.map(|weights| of_words(&weights[batch.cu_seqlens[row]..], batch, row)), None),
            Weighs::Layers => (None, own.cloned()),
        };
        Prediction { probabilities, pieces, layers }
    };
    Ok(probabilities.into_iter().enumerate().map(prediction).collect())
}

/// The weights of a sentence's pieces, 0 at `[CLS]` and `[SEP]`. Where the head read `[SEP]` and padding too, what it gave
/// to the words, as shares of that.
fn of_words(weights: &[f32], batch: &Batch, row: usize) -> Vec<f32> {
    let mut weights = weights[..batch.pieces(row)].to_vec();
    if batch.valid_lengths.is_some() {
        if let Some(sep) = weights.last_mut() {
            *sep = 0.0;
        }
        let total: f32 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= total);
    }
    weights
}

/// Indices of all instances, shortest first, in chunks of at most [`BATCH_TOKENS`] word pieces (at least one instance).
pub(crate) fn chunks_by_length(features: &[Features]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..features.len()).collect();
    order.sort_by_key(|i| features[*i].ids.len());
    let mut chunks: Vec<Vec<usize>> = Vec::new();
    let mut tokens = 0;
    for index in order {
        let length = features[index].ids.len();
        match chunks.last_mut() {
            Some(chunk) if tokens + length <= BATCH_TOKENS => {
                chunk.push(index);
                tokens += length;
            }
            _ => {
                chunks.push(vec![index]);
                tokens = length;
            }
        }
    }
    chunks
}

/// Texts to be encoded, without a head: the last hidden states of every instance, each `(pieces, H)` in row-major order.
pub struct EncodeStates<'a> {
    /// The encoder's sizes.
    pub config: &'a EncoderConfig,
    /// Parameters of the encoder.
    pub weights: &'a Weights,
    /// The word pieces.
    pub features: &'a [Features],
    /// Progress.
    pub on_batch: OnBatch<'a>,
}

impl Job for EncodeStates<'_> {
    type Output = Vec<Vec<f32>>;

    fn run<O: Ops>(self, ops: &O) -> Result<Vec<Vec<f32>>> {
        let specs = self.weights.specs.iter().zip(&self.weights.values);
        let params = specs.map(|(spec, values)| ops.upload(values, &spec.shape)).collect::<Result<Vec<_>>>()?;
        let mut states = vec![Vec::new(); self.features.len()];
        let mut done = 0;
        for chunk in chunks_by_length(self.features) {
            let batch = Batch::pack(chunk.iter().map(|i| &self.features[*i]));
            let (encoded, _) = encoder::forward(ops, self.config, &params, &batch, None, OutputSpec::TOKENS)?;
            let values = ops.download(&encoded.last)?; // (T, H)
            for (row, index) in chunk.iter().enumerate() {
                let hidden = self.config.hidden_size;
                states[*index] = values[batch.cu_seqlens[row] * hidden..batch.cu_seqlens[row + 1] * hidden].to_vec();
            }
            done += chunk.len();
            (self.on_batch)(done)?;
        }
        Ok(states)
    }
}
