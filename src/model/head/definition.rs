//! The parts of a head: its [`Definition`], the module that this builds, and the module's input,
//! operations and output.

use std::ops::Range;

use candle_core::Tensor;
use candle_nn::{Linear, Module};

use super::parameters::VarBuilder;
use crate::model::encoder::OutputSpec;
use crate::ops::Ops;
use crate::{Error, Result};

/// What distinguishes one head from another.
pub struct Definition {
    /// The outputs of the encoder that it reads.
    pub reads: OutputSpec,
    /// What its attention weights are distributed over.
    pub weighs: Weighs,
    /// Whether training computes it with the engine's operations for heads (`training.rs`), from what
    /// it reads. candle differentiates the others.
    pub by_engine: bool,
    /// Length of the classifier's input vectors, for hidden size H.
    pub(super) width: fn(usize) -> usize,
    /// The module, for hidden size H, its parameters declared below the builder's prefix.
    pub(super) build: fn(VarBuilder<'_>, usize) -> candle_core::Result<Box<dyn Pooling>>,
}

/// What a head distributes attention over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weighs {
    /// It has no attention weights.
    Nothing,
    /// The words of a sentence.
    Words,
    /// The layers of the encoder.
    Layers,
}

/// The module of a head below its classifier: from the encoder's output to one vector for each
/// sentence.
pub(super) trait Pooling: Send + Sync {
    /// With `alone`, the bits of a sentence must not depend on the other sentences of its batch.
    /// The order of additions in a matrix product depends on its number of rows.
    fn forward(&self, ops: &dyn HeadOps, input: &HeadInput, alone: bool) -> Result<Pooled>;
}

/// The output of a [`Pooling`].
pub(super) struct Pooled {
    /// What the classifier reads, `(n, width)`.
    pub(super) vectors: Tensor,
    /// Attention weights; see [`super::HeadOutput::weights`].
    pub(super) weights: Option<Tensor>,
}

/// The engine's own operations for heads, on candle tensors that have a gradient. All other
/// operations are candle's.
pub(super) trait HeadOps {
    /// See [`Ops::lstm`].
    fn lstm(&self, inputs: &Tensor, recurrent: &Tensor, sequences: &[Range<usize>]) -> Result<Tensor>;
    /// See [`Ops::attention_pooling`].
    fn attention_pooling(&self, last: &Tensor, key: &Tensor, words: &[Range<usize>]) -> Result<(Tensor, Tensor)>;
    /// See [`Ops::pair_scores`].
    fn pair_scores(&self, keys: &Tensor, queries: &Tensor, score: &Tensor, words: &[Range<usize>]) -> Result<Tensor>;
    /// See [`Ops::softmax_pooling`].
    fn softmax_pooling(&self, last: &Tensor, scores: &Tensor, words: &[Range<usize>]) -> Result<(Tensor, Tensor)>;
    /// See [`Ops::linear_rows`].
    fn linear_rows(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor>;
}

impl<O: Ops> HeadOps for O {
    fn lstm(&self, inputs: &Tensor, recurrent: &Tensor, sequences: &[Range<usize>]) -> Result<Tensor> {
        Ops::lstm(self, inputs, recurrent, sequences)
    }

    fn attention_pooling(&self, last: &Tensor, key: &Tensor, words: &[Range<usize>]) -> Result<(Tensor, Tensor)> {
        Ops::attention_pooling(self, last, key, words)
    }

    fn pair_scores(&self, keys: &Tensor, queries: &Tensor, score: &Tensor, words: &[Range<usize>]) -> Result<Tensor> {
        Ops::pair_scores(self, keys, queries, score, words)
    }

    fn softmax_pooling(&self, last: &Tensor, scores: &Tensor, words: &[Range<usize>]) -> Result<(Tensor, Tensor)> {
        Ops::softmax_pooling(self, last, scores, words)
    }

    fn linear_rows(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        Ops::linear_rows(self, x, weight, bias)
    }
}

/// The input of a head. Parts that its [`OutputSpec`] does not name are `None` or empty.
#[derive(Debug, Clone)]
pub struct HeadInput {
    /// The last layer's `[CLS]` vectors, `(n, H)`.
    pub cls: Option<Tensor>,
    /// The whole last layer, `(T, H)`.
    pub tokens: Option<Tensor>,
    /// The `[CLS]` vector of every layer, each `(n, H)`.
    pub cls_of_layers: Vec<Tensor>,
    /// The linear map of the last layer, `(T, width)`.
    pub projection: Option<Tensor>,
    /// The last layer's vectors of the two entities, `(m, 2H)`: one row for each of the m pairs of
    /// mentions of the instances, in order.
    pub entities: Option<Tensor>,
    /// How many pairs of mentions each instance has, `(n)`; their sum is m.
    pub mentions: Vec<usize>,
    /// The words of each instance among the tokens: what is between `[CLS]` and `[SEP]`, `(n)`.
    pub words: Vec<Range<usize>>,
}

impl HeadInput {
    /// A part of the input that the head requires.
    pub(super) fn part(part: &Option<Tensor>) -> Result<&Tensor> {
        let missing = "the input lacks a part that the head's definition names";
        part.as_ref().ok_or_else(|| Error::Tensor(candle_core::Error::Msg(missing.into())))
    }

    /// The vectors of the two entities of each instance, `(n, 2H)`: the mean over its pairs of
    /// mentions. `alone` is that of [`Pooling::forward`].
    pub(super) fn entity_vectors(&self, alone: bool) -> Result<Tensor> {
        let entities = Self::part(&self.entities)?; // (m, 2H)
        if self.mentions.iter().all(|count| *count == 1) {
            return Ok(entities.clone());
        }
        let mut start = 0;
        if alone {
            let mean = |count: &usize| {
                let own = entities.narrow(0, start, *count)?; // (c, 2H)
                start += count;
                own.mean_keepdim(0)
            };
            let means = self.mentions.iter().map(mean).collect::<candle_core::Result<Vec<_>>>()?;
            return Ok(Tensor::cat(&means, 0)?);
        }
        // One product instead of n means, each of which has a gradient of the size of all vectors.
        let (n, m) = (self.mentions.len(), entities.dim(0)?);
        let mut shares = vec![0.0_f32; n * m];
        for (instance, count) in self.mentions.iter().enumerate() {
            shares[instance * m + start..][..*count].fill(1.0 / *count as f32);
            start += count;
        }
        let shares = Tensor::from_vec(shares, (n, m), entities.device())?.to_dtype(entities.dtype())?;
        Ok(shares.matmul(entities)?)
    }

    /// `[h_CLS ; summary]` for heads that read `[CLS]`, `summary` for others.
    pub(super) fn behind_cls(&self, summary: Tensor) -> Result<Tensor> {
        match &self.cls {
            Some(cls) => Ok(Tensor::cat(&[cls, &summary], 1)?),
            None => Ok(summary),
        }
    }
}

/// A linear layer. With `alone`, the bits of a row do not depend on the others (see
/// [`Pooling::forward`]).
pub(super) fn linear(ops: &dyn HeadOps, linear: &Linear, x: &Tensor, alone: bool) -> Result<Tensor> {
    match alone {
        true => ops.linear_rows(x, linear.weight(), linear.bias()),
        false => Ok(linear.forward(x)?),
    }
}
