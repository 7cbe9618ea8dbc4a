//! The encoder alone: the hidden states of texts, without a head, and those that a head is trained on.

use super::batches::{OnBatch, Pack, Sizes, in_batches};
use crate::encode::Features;
use crate::model::encoder::OutputSpec;
use crate::model::{EncoderConfig, Network, Pretrained, Source, Weights};
use crate::ops::compute::{Compute, KeptJob};
use crate::ops::{Ops, Pending};
use crate::{Error, Result};

/// The last layer's hidden states of every text, each `(pieces, H)` in row-major order, `[CLS]` and
/// `[SEP]` included.
///
/// # Errors
/// [`Error::Config`] for a text that is too long for the encoder, and whatever `on_batch` returns.
pub fn hidden_states(
    encoder: &Pretrained,
    texts: &[String],
    compute: Compute,
    on_batch: OnBatch<'_>,
) -> Result<Vec<Vec<f32>>> {
    let Pretrained { config, weights, source, tokenizer, kept, .. } = encoder;
    let longest = config.longest();
    let pieces = |(index, text): (usize, &String)| {
        let features = tokenizer.text_features(text)?;
        match features.ids.len() {
            pieces if pieces > longest => {
                let message =
                    format!("text {index} has {pieces} pieces, [CLS] and [SEP] included; this encoder takes {longest}");
                Err(Error::config("texts", message))
            }
            _ => Ok(features),
        }
    };
    let features = texts.iter().enumerate().map(pieces).collect::<Result<Vec<_>>>()?;
    let job = HiddenStates { config, weights, source, features: &features, on_batch };
    compute.execute_kept(kept, weights.clone(), job)
}

struct HiddenStates<'a> {
    config: &'a EncoderConfig,
    weights: &'a Weights,
    source: &'a Source,
    features: &'a [Features],
    on_batch: OnBatch<'a>,
}

impl KeptJob for HiddenStates<'_> {
    type Output = Vec<Vec<f32>>;

    fn load<O: Ops>(&self, ops: &O) -> Result<Vec<O::Buffer>> {
        self.weights.upload(ops)
    }

    fn bytes(&self) -> usize {
        self.weights.bytes()
    }

    fn run_with<O: Ops>(self, ops: &O, params: &[O::Buffer]) -> Result<Vec<Vec<f32>>> {
        let hidden = self.config.hidden_size;
        in_batches(self.features, Pack::Plain, Sizes::of(ops), self.on_batch, |batch| {
            let encoded = self.source.forward(ops, self.config, params, &batch, OutputSpec::TOKENS)?;
            let values = ops.download_later(&encoded.last)?; // (T, H)
            Ok(values.and_then(move |values| {
                Ok(batch.cu_seqlens.windows(2).map(|w| values[w[0] * hidden..w[1] * hidden].to_vec()).collect())
            }))
        })
    }
}

/// Compute the hidden states that the head of a frozen encoder reads, and keep them with the network.
///
/// # Errors
/// As [`Network::fill_cache`], and whatever `on_batch` returns.
pub(crate) fn fill_cache<O: Ops>(
    ops: &O,
    network: &Network,
    params: &[O::Buffer],
    features: &[Features],
    on_batch: OnBatch<'_>,
) -> Result<()> {
    in_batches(features, Pack::Shared(network), Sizes::of(ops), on_batch, |batch| {
        network.fill_cache(ops, params, &batch)?;
        Ok(Pending::ready(vec![(); batch.len()]))
    })?;
    Ok(())
}
