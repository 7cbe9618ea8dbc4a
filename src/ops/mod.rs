//! The operations that an encoder needs, forward and backward. All numerics go through them.
//!
//! [`Ops`] is the contract. [`Reference`] implements it with plain candle tensors and is the
//! specification; [`Cpu`] is what users run. The same tests compare every engine with the reference
//! (`tests/ops.rs`), and the reference with finite differences and with PyTorch. The encoder and
//! its backward are written once over the trait.
//!
//! Conventions: T is the number of tokens of all sentences of a batch, packed in one row without
//! padding; H is the hidden size, N the number of attention heads, D = H/N. Weights are
//! `(out, in)`. An argument taken by value may be overwritten and reused by the engine.

mod adamw;
mod additive_attention;
mod attention;
pub(crate) mod classifier;
mod cls_attention;
pub mod compute;
pub mod cpu;
pub mod cuda;
mod heads;
pub mod kept;
mod loss;
pub mod lstm;
pub(crate) mod pair_scores;
mod pending;
pub mod reference;
mod resolved;
mod rotary;
mod row_groups;
mod shapes;
mod softmax_pooling;
mod step_lists;
mod word_pooling;

use std::ops::Range;

use candle_core::Tensor;

use crate::Result;
use crate::rng::Dropout;

pub use adamw::AdamWStep;
pub use attention::{AttentionShape, ClsAttention, SHORTEST_STRIDE, SavedAttention, Window};
pub use cpu::Cpu;
pub use heads::{Classified, Classifier, RowGroups, Targets, WordScoreGradients, WordScores};
pub use loss::Loss;
pub use pending::{Pending, StepResult};
pub use reference::Reference;
pub use rotary::Rotation;
pub use step_lists::StepList;

/// Adam's two moments of a parameter, each of the parameter's shape.
#[derive(Debug, Clone)]
pub struct Moments<B> {
    /// First moment.
    pub m: B,
    /// Second moment.
    pub v: B,
}

/// One parameter in a step of the optimizer.
#[derive(Debug)]
pub struct Update<'a, B> {
    /// The parameter.
    pub value: &'a mut B,
    /// Its moments.
    pub moments: &'a mut Moments<B>,
    /// Its gradient.
    pub gradient: &'a B,
    /// Learning rate, decay and the other scalars of the step.
    pub step: AdamWStep,
}

/// The output of [`Ops::add_norm`] and the activations that its backward needs.
#[derive(Debug, Clone)]
pub struct Normed<B> {
    /// `gamma * normalized + beta`, `(T, H)`.
    pub out: B,
    /// `(x - mean) / sd`, `(T, H)`.
    pub normalized: B,
    /// `1 / sd`, `(T)`.
    pub rstd: B,
}

/// Gradients of [`Ops::add_norm`].
#[derive(Debug, Clone)]
pub struct NormGradients<B> {
    /// For the branch, dropout applied, `(T, H)`.
    pub branch: B,
    /// For the residual, `(T, H)`.
    pub residual: B,
    /// For gamma, `(H)`.
    pub gamma: B,
    /// For beta, `(H)`.
    pub beta: B,
    /// For the bias that was added to the branch, `(H)`.
    pub bias: B,
}

/// The affine part of a LayerNorm.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a, B> {
    /// Scale, `(H)`.
    pub gamma: &'a B,
    /// Shift, `(H)`.
    pub beta: &'a B,
    /// Added to the variance.
    pub eps: f64,
}

/// An engine: a buffer type and the operations on it.
pub trait Ops: Send + Sync {
    /// A dense array of known shape on the engine's device. Cloning shares it.
    type Buffer: Clone + Send + Sync;
    /// The activations that [`Ops::attention`] saves for its backward.
    type Probabilities: Send + Sync;
    /// The activations that [`Ops::pool_words`] saves for its backward.
    type Pooled: Send + Sync;

    /// The engine's name, for records of a run.
    fn name(&self) -> &'static str;

    /// A buffer of the given shape from host values.
    fn upload(&self, values: &[f32], shape: &[usize]) -> Result<Self::Buffer>;
    /// The values of a buffer, in row-major order.
    fn download(&self, buffer: &Self::Buffer) -> Result<Vec<f32>>;
    /// A buffer of zeros.
    fn zeros(&self, shape: &[usize]) -> Result<Self::Buffer>;
    /// The buffer as a candle tensor, for the heads.
    fn to_candle(&self, buffer: &Self::Buffer) -> Result<Tensor>;
    /// A buffer with the values of a candle tensor.
    fn upload_candle(&self, tensor: &Tensor) -> Result<Self::Buffer>;

    /// A step of training begins, whose operations will read these lists. An engine with its own device
    /// copies them there at once instead of one by one.
    fn prepare(&self, _: &[StepList<'_>]) -> Result<()> {
        Ok(())
    }

    /// Sum of word, position and type-0 embeddings: `(T, H)`. Tables: `(vocabulary, H)`,
    /// `(positions, H)`, `(types, H)`.
    fn embed(&self, ids: &[u32], positions: &[u32], tables: [&Self::Buffer; 3]) -> Result<Self::Buffer>;
    /// Gradients of the three tables, each of its table's shape; rows of equal ids are summed.
    fn embed_backward(
        &self,
        ids: &[u32],
        positions: &[u32],
        gradient: &Self::Buffer,
        tables: [&Self::Buffer; 3],
    ) -> Result<[Self::Buffer; 3]>;

    /// `y = x Wᵀ (+ b)`: `(T, in)`, `(out, in)`, `(out)` to `(T, out)`. On the CPU the bits of a
    /// row do not depend on the other rows.
    fn linear(&self, x: &Self::Buffer, weight: &Self::Buffer, bias: Option<&Self::Buffer>) -> Result<Self::Buffer>;
    /// `dx = onto + dy W` and `dW = dyᵀ x`.
    fn linear_backward(
        &self,
        x: &Self::Buffer,
        weight: &Self::Buffer,
        dy: &Self::Buffer,
        onto: Option<Self::Buffer>,
    ) -> Result<(Self::Buffer, Self::Buffer)>;
    /// Sum over the rows, `(T, n)` to `(n)`: the gradient of a bias.
    fn column_sum(&self, dy: &Self::Buffer) -> Result<Self::Buffer>;

    /// `gelu(x + b)` with the error function, not its tanh approximation: `(T, F)`, `(F)` to
    /// `(T, F)`.
    fn bias_gelu(&self, x: &Self::Buffer, bias: &Self::Buffer) -> Result<Self::Buffer>;
    /// Gradients of `x` and of `b`.
    fn bias_gelu_backward(
        &self,
        x: &Self::Buffer,
        bias: &Self::Buffer,
        dy: Self::Buffer,
    ) -> Result<(Self::Buffer, Self::Buffer)>;

    /// `gelu(a) * g` with the error function (Shazeer 2020), where `a` is the first half of the columns
    /// and the gate `g` the second: `(T, 2F)` to `(T, F)`.
    fn geglu(&self, x: &Self::Buffer) -> Result<Self::Buffer>;
    /// Gradient of `x`, `(T, 2F)`.
    fn geglu_backward(&self, x: &Self::Buffer, dy: &Self::Buffer) -> Result<Self::Buffer>;

    /// Rotary position embedding (Su et al. 2021) of the queries and keys in `(T, 3H)`; the values do not
    /// change. Its backward is the rotation by the opposite angles. See [`Rotation`].
    fn rotary(&self, qkv: Self::Buffer, rotation: &Rotation<'_>) -> Result<Self::Buffer>;

    /// `LayerNorm(dropout(branch + bias) + residual)`.
    fn add_norm(
        &self,
        branch: Self::Buffer,
        bias: Option<&Self::Buffer>,
        residual: Option<&Self::Buffer>,
        norm: Norm<'_, Self::Buffer>,
        dropout: Option<&Dropout>,
    ) -> Result<Normed<Self::Buffer>>;
    /// Backward of [`Ops::add_norm`].
    fn add_norm_backward(
        &self,
        dy: Self::Buffer,
        normed: &Normed<Self::Buffer>,
        gamma: &Self::Buffer,
        dropout: Option<&Dropout>,
    ) -> Result<NormGradients<Self::Buffer>>;

    /// Multiply by the mask of `dropout`. The operation is its own backward. The mask's element is
    /// `row * H + column`.
    fn dropout(&self, x: Self::Buffer, dropout: &Dropout) -> Result<Self::Buffer>;
    /// The same mask as a candle tensor, `(rows, columns)`, for a head.
    fn mask(&self, dropout: &Dropout, rows: usize, columns: usize) -> Result<Tensor> {
        let mut factors = vec![0.0; rows * columns];
        dropout.fill(0, &mut factors);
        self.to_candle(&self.upload(&factors, &[rows, columns])?)
    }

    /// Scaled dot-product attention inside each sentence: `(T, 3H)` (queries, keys, values; each
    /// head by head) to `(T, H)`. Dropout acts on the probabilities.
    fn attention(
        &self,
        qkv: &Self::Buffer,
        shape: AttentionShape<'_>,
        dropout: Option<&Dropout>,
    ) -> Result<(Self::Buffer, Self::Probabilities)>;
    /// Gradient of the queries, keys and values, `(T, 3H)`.
    fn attention_backward(
        &self,
        qkv: &Self::Buffer,
        probabilities: Self::Probabilities,
        dy: &Self::Buffer,
        shape: AttentionShape<'_>,
        dropout: Option<&Dropout>,
    ) -> Result<Self::Buffer>;

    /// Attention of the first token of each sentence, with the projection to queries, keys and
    /// values: `(T, H)` to `(sentences, H)`.
    fn cls_attention(&self, of: &ClsAttention<'_, Self::Buffer>) -> Result<(Self::Buffer, SavedAttentionOf<Self>)>;
    /// Gradients of the input, `(T, H)`, the weight and the bias.
    fn cls_attention_backward(
        &self,
        of: &ClsAttention<'_, Self::Buffer>,
        tape: SavedAttentionOf<Self>,
        dy: &Self::Buffer,
    ) -> Result<[Self::Buffer; 3]>;

    /// The last hidden state of each sequence of a head's LSTM, 0 for one without rows,
    /// differentiable by candle.
    ///
    /// `inputs`: `(T, 4H)`, the input product with its bias; `recurrent`: `W_hh`, `(4H, H)`;
    /// `sequences`: the rows of each sequence, which may skip rows. Returns `(sequences, H)`. See
    /// [`lstm::lstm_reference`].
    fn lstm(&self, inputs: &Tensor, recurrent: &Tensor, sequences: &[Range<usize>]) -> Result<Tensor>;

    /// Attention pooling over the words of each sentence, for a head, differentiable by candle:
    /// `softmax(h K) h` of the last layer's rows, `(T, H)`, with a vector K, `(1, H)`. Each range
    /// holds the words of a sentence, at least one. Returns the summaries, `(n, H)`, and the
    /// weights, `(n, T)`.
    fn attention_pooling(&self, last: &Tensor, key: &Tensor, words: &[Range<usize>]) -> Result<(Tensor, Tensor)>;

    /// The scores of the words of each pair, for a head, differentiable by candle:
    /// `score . tanh(keys_i + queries_p)` with `(T, H)`, `(n, H)` and `(1, H)`, where each range
    /// holds the words of a pair, at least one. Returns the scores of all pairs one after the other,
    /// `(sum of the ranges)`. In candle's operations unless an engine has its own; only the CPU's
    /// engine has.
    fn pair_scores(&self, keys: &Tensor, queries: &Tensor, score: &Tensor, words: &[Range<usize>]) -> Result<Tensor> {
        pair_scores::pair_scores(keys, queries, score, words)
    }

    /// Attention pooling from scores, for a head, differentiable by candle: the softmax of the
    /// scores of each instance's words, `(sum of the ranges)`, weighs the words' rows of the last
    /// layer, `(T, H)`. Returns the summaries, `(n, H)`, and the weights, `(n, T)`. In candle's
    /// operations unless an engine has its own. With the CPU engine's, the bits of an instance do
    /// not depend on the others, and the weights have no gradient.
    fn softmax_pooling(&self, last: &Tensor, scores: &Tensor, words: &[Range<usize>]) -> Result<(Tensor, Tensor)> {
        softmax_pooling::softmax_pooling(last, scores, words)
    }

    /// `x Wᵀ (+ b)` of a head, in f32, differentiable by candle: `(n, in)`, `(out, in)`, `(out)` to
    /// `(n, out)`. The bits of a row do not depend on the other rows.
    ///
    /// candle's product does: how it adds depends on the number of rows. So it takes one row at a
    /// time here, unless an engine has its own product.
    fn linear_rows(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let weight = weight.t()?;
        let rows = (0..x.dim(0)?).map(|row| x.narrow(0, row, 1)?.matmul(&weight));
        let y = Tensor::cat(&rows.collect::<candle_core::Result<Vec<_>>>()?, 0)?;
        Ok(match bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        })
    }

    /// The vectors that a head reads: means of groups of rows, `(T, H)` to `(groups / parts, parts H)`.
    fn mean_rows(&self, x: &Self::Buffer, groups: &RowGroups) -> Result<Self::Buffer>;

    /// The gradient of the `rows` rows that [`Ops::mean_rows`] read, added onto `onto`.
    fn mean_rows_backward(
        &self,
        dy: &Self::Buffer,
        groups: &RowGroups,
        rows: usize,
        onto: Option<Self::Buffer>,
    ) -> Result<Self::Buffer>;

    /// Attention pooling of a head: the softmax of the scores of each instance's words weighs the
    /// words' rows of the last layer, `(T, H)` to `(n, H)`. Each range holds the words of an instance,
    /// at least one. Instances of the same words are neighbours; the words of others do not overlap.
    fn pool_words(
        &self,
        last: &Self::Buffer,
        scores: &WordScores<'_, Self::Buffer>,
        words: &[Range<usize>],
    ) -> Result<(Self::Buffer, Self::Pooled)>;
    /// Gradients of [`Ops::pool_words`]: of the last layer and of what its scores are computed from;
    /// that of the entities is added onto `onto`.
    fn pool_words_backward(
        &self,
        pooled: Self::Pooled,
        dy: &Self::Buffer,
        onto: Option<Self::Buffer>,
    ) -> Result<(Self::Buffer, WordScoreGradients<Self::Buffer>)>;

    /// The loss of a classifier, and its gradients.
    fn classify(&self, of: &Classifier<'_, Self::Buffer>, targets: &Targets<'_>) -> Result<Classified<Self::Buffer>>;

    /// The given rows, `(T, H)` to `(rows, H)`.
    fn rows(&self, x: &Self::Buffer, rows: &[usize]) -> Result<Self::Buffer>;
    /// Add `(rows, H)` onto the given, distinct rows of `(T, H)`.
    fn add_rows(&self, x: Self::Buffer, rows: &[usize], values: &Self::Buffer) -> Result<Self::Buffer>;
    /// `a + b`.
    fn add(&self, a: Self::Buffer, b: &Self::Buffer) -> Result<Self::Buffer>;

    /// The loss of logits, `(1)`, and its gradient: `(n, labels)`, `(n)` to `(n, labels)`. See
    /// [`Loss`].
    fn cross_entropy(
        &self,
        logits: &Self::Buffer,
        labels: &[u32],
        loss: &Loss<'_>,
    ) -> Result<(Self::Buffer, Self::Buffer)>;

    /// Sum of squares, accumulated in f64.
    fn sum_squares(&self, x: &Self::Buffer) -> Result<f64>;
    /// One step of AdamW on one parameter.
    fn adamw(
        &self,
        value: &mut Self::Buffer,
        moments: &mut Moments<Self::Buffer>,
        gradient: &Self::Buffer,
        step: &AdamWStep,
    ) -> Result<()>;

    /// One step of AdamW on all parameters of a network. Their gradients are clipped together to a
    /// global norm of `max_norm` (0: no clipping); the `clip` of each update is ignored. If the
    /// `loss`, `(1)`, or the norm is not finite, the parameters do not change; the result reports
    /// it.
    ///
    /// An engine with its own device enqueues the step without waiting for it.
    fn step(
        &self,
        loss: &Self::Buffer,
        updates: &mut [Update<'_, Self::Buffer>],
        max_norm: f64,
    ) -> Result<Pending<StepResult>> {
        let squares = updates.iter().map(|update| self.sum_squares(update.gradient)).sum::<Result<f64>>()?;
        let loss = self.download(loss)?.first().copied().map_or(f64::NAN, f64::from);
        let sums = StepResult { loss, norm: squares.sqrt() };
        if let Some(clip) = sums.clip(max_norm) {
            for Update { value, moments, gradient, step } in updates {
                self.adamw(value, moments, gradient, &AdamWStep { clip, ..*step })?;
            }
        }
        Ok(Pending::ready(sums))
    }

    /// How many later steps the host should enqueue before it waits for the result of one.
    fn max_in_flight(&self) -> usize {
        0
    }

    /// Tokens of a batch of inference: enough to keep all of the device busy, few enough to stay in
    /// its caches and its memory.
    fn inference_tokens(&self) -> usize {
        2048
    }

    /// The values of an array as it is now, in row-major order, for which the host need not wait yet.
    ///
    /// # Errors
    /// When the device fails.
    fn download_later(&self, buffer: &Self::Buffer) -> Result<Pending<Vec<f32>>> {
        Ok(Pending::ready(self.download(buffer)?))
    }

    /// Give back memory that no array has.
    fn trim(&self) {}
}

/// The [`SavedAttention`] of an engine.
pub type SavedAttentionOf<O> = SavedAttention<<O as Ops>::Buffer, <O as Ops>::Probabilities>;
