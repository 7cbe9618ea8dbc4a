//! The engine for the CPU, on all cores of the current rayon pool.
//!
//! Matrix products in f32 go to the `gemm` crate, which reaches the machine's peak in every
//! orientation needed; those in bf16 go to [`bf16`]. Everything else is in f32, fused into as few
//! passes over memory as possible, vectorised ([`simd`]), and cut into fixed pieces that do not
//! depend on the number of threads; partial sums are added in a fixed order. So the same input
//! gives the same bits with any number of threads.
//!
//! Tried without gain: to cut the rows of a product into our own tasks instead of the crate's
//! threads (2 % slower with one task a thread, 12 % with four: each packs the weights again); to
//! copy queries, keys and values of a head together before its products. `benchmarks/speed/step.rs`
//! shows where the time of a step goes.

// Loops over an index are what the compiler turns into vector code when several slices are read together.
#![allow(clippy::needless_range_loop)]

pub mod bf16;
pub mod buffer;
pub mod lstm;
pub mod matmul;
pub mod simd;

mod attention;
mod cls_attention;
mod dropout;
mod elementwise;
mod embedding;
mod engine;
mod layer_norm;
mod linear;
mod math;
mod optimizer;
mod pair_scores;
mod rows;
mod small_matmul;
mod softmax_pooling;

use std::ops::Range;

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::shapes::internal_error;
use super::{
    AdamWStep, AttentionShape, Classified, Classifier, ClsAttention, Loss, Moments, Norm, NormGradients, Normed, Ops,
    Rotation, RowGroups, SavedAttentionOf, Targets, WordScoreGradients, WordScores, additive_attention, classifier,
    row_groups, word_pooling,
};
use crate::Result;
use crate::rng::Dropout;

pub use attention::Probabilities;
pub use buffer::{Buffer, Pool};
pub use engine::Cpu;
pub use simd::SimdLevel;

impl Ops for Cpu {
    type Buffer = Buffer;
    type Probabilities = Probabilities;
    type Pooled = word_pooling::PooledByCandle;

    fn name(&self) -> &'static str {
        "cpu"
    }

    fn trim(&self) {
        self.pool.trim();
    }

    fn upload(&self, values: &[f32], shape: &[usize]) -> Result<Buffer> {
        if values.len() != shape.iter().product::<usize>() {
            return Err(internal_error(format!("{} values do not fill the shape {shape:?}", values.len())));
        }
        Ok(self.pool.copy(values, shape))
    }

    fn download(&self, buffer: &Buffer) -> Result<Vec<f32>> {
        Ok(buffer.values().to_vec())
    }

    fn zeros(&self, shape: &[usize]) -> Result<Buffer> {
        Ok(self.pool.zeros(shape))
    }

    fn to_candle(&self, buffer: &Buffer) -> Result<Tensor> {
        Ok(Tensor::from_slice(buffer.values(), buffer.shape(), &candle_core::Device::Cpu)?)
    }

    fn upload_candle(&self, tensor: &Tensor) -> Result<Buffer> {
        let tensor = tensor.to_device(&candle_core::Device::Cpu)?.to_dtype(DType::F32)?.contiguous()?;
        let (storage, layout) = tensor.storage_and_layout();
        match (&*storage, layout.contiguous_offsets()) {
            (candle_core::Storage::Cpu(storage), Some((from, to))) => {
                self.upload(&storage.as_slice::<f32>()?[from..to], tensor.dims())
            }
            _ => Err(internal_error("the tensor is not contiguous on the CPU".into())),
        }
    }

    fn embed(&self, ids: &[u32], positions: &[u32], tables: [&Buffer; 3]) -> Result<Buffer> {
        embedding::embed(self, ids, positions, tables)
    }

    fn embed_backward(
        &self,
        ids: &[u32],
        positions: &[u32],
        gradient: &Buffer,
        tables: [&Buffer; 3],
    ) -> Result<[Buffer; 3]> {
        embedding::embed_backward(self, ids, positions, gradient, tables)
    }

    fn linear(&self, x: &Buffer, weight: &Buffer, bias: Option<&Buffer>) -> Result<Buffer> {
        linear::linear(self, x, weight, bias)
    }

    fn linear_backward(
        &self,
        x: &Buffer,
        weight: &Buffer,
        dy: &Buffer,
        onto: Option<Buffer>,
    ) -> Result<(Buffer, Buffer)> {
        linear::linear_backward(self, x, weight, dy, onto)
    }

    fn column_sum(&self, dy: &Buffer) -> Result<Buffer> {
        linear::column_sum(self, dy)
    }

    fn bias_gelu(&self, x: &Buffer, bias: &Buffer) -> Result<Buffer> {
        elementwise::bias_gelu(self, x, bias)
    }

    fn bias_gelu_backward(&self, x: &Buffer, bias: &Buffer, dy: Buffer) -> Result<(Buffer, Buffer)> {
        elementwise::bias_gelu_backward(self, x, bias, dy)
    }

    fn geglu(&self, x: &Buffer) -> Result<Buffer> {
        elementwise::geglu(self, x)
    }

    fn geglu_backward(&self, x: &Buffer, dy: &Buffer) -> Result<Buffer> {
        elementwise::geglu_backward(self, x, dy)
    }

    fn rotary(&self, qkv: Buffer, rotation: &Rotation<'_>) -> Result<Buffer> {
        elementwise::rotary(self, qkv, rotation)
    }

    fn add_norm(
        &self,
        branch: Buffer,
        bias: Option<&Buffer>,
        residual: Option<&Buffer>,
        norm: Norm<'_, Buffer>,
        dropout: Option<&Dropout>,
    ) -> Result<Normed<Buffer>> {
        layer_norm::add_norm(self, branch, bias, residual, norm, dropout)
    }

    fn add_norm_backward(
        &self,
        dy: Buffer,
        normed: &Normed<Buffer>,
        gamma: &Buffer,
        dropout: Option<&Dropout>,
    ) -> Result<NormGradients<Buffer>> {
        layer_norm::add_norm_backward(self, dy, normed, gamma, dropout)
    }

    fn dropout(&self, x: Buffer, dropout: &Dropout) -> Result<Buffer> {
        Ok(dropout::dropout(self, x, dropout))
    }

    fn attention(
        &self,
        qkv: &Buffer,
        shape: AttentionShape<'_>,
        dropout: Option<&Dropout>,
    ) -> Result<(Buffer, Probabilities)> {
        attention::attention(self, qkv, shape, dropout)
    }

    fn attention_backward(
        &self,
        qkv: &Buffer,
        probabilities: Probabilities,
        dy: &Buffer,
        shape: AttentionShape<'_>,
        dropout: Option<&Dropout>,
    ) -> Result<Buffer> {
        attention::attention_backward(self, qkv, probabilities, dy, shape, dropout)
    }

    fn cls_attention(&self, of: &ClsAttention<'_, Buffer>) -> Result<(Buffer, SavedAttentionOf<Self>)> {
        cls_attention::cls_attention(self, of)
    }

    fn cls_attention_backward(
        &self,
        of: &ClsAttention<'_, Buffer>,
        tape: SavedAttentionOf<Self>,
        dy: &Buffer,
    ) -> Result<[Buffer; 3]> {
        cls_attention::cls_attention_backward(self, of, tape, dy)
    }

    fn lstm(&self, inputs: &Tensor, recurrent: &Tensor, sequences: &[Range<usize>]) -> Result<Tensor> {
        lstm::lstm(inputs, recurrent, sequences)
    }

    fn attention_pooling(&self, last: &Tensor, key: &Tensor, words: &[Range<usize>]) -> Result<(Tensor, Tensor)> {
        additive_attention::attention_pooling(self, last, key, words)
    }

    fn pair_scores(&self, keys: &Tensor, queries: &Tensor, score: &Tensor, words: &[Range<usize>]) -> Result<Tensor> {
        pair_scores::scores(self.simd, keys, queries, score, words)
    }

    fn softmax_pooling(&self, last: &Tensor, scores: &Tensor, words: &[Range<usize>]) -> Result<(Tensor, Tensor)> {
        softmax_pooling::pool(self.simd, last, scores, words)
    }

    fn linear_rows(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        linear::linear_rows(x, weight, bias)
    }

    fn mean_rows(&self, x: &Buffer, groups: &RowGroups) -> Result<Buffer> {
        row_groups::mean_rows(self, x, groups)
    }

    fn mean_rows_backward(&self, dy: &Buffer, groups: &RowGroups, rows: usize, onto: Option<Buffer>) -> Result<Buffer> {
        row_groups::mean_rows_backward(self, dy, groups, rows, onto)
    }

    fn classify(&self, of: &Classifier<'_, Buffer>, targets: &Targets<'_>) -> Result<Classified<Buffer>> {
        classifier::classify(self, of, targets)
    }

    fn pool_words(
        &self,
        last: &Buffer,
        scores: &WordScores<'_, Buffer>,
        words: &[Range<usize>],
    ) -> Result<(Buffer, word_pooling::PooledByCandle)> {
        word_pooling::pool_words(self, last, scores, words)
    }

    fn pool_words_backward(
        &self,
        pooled: word_pooling::PooledByCandle,
        dy: &Buffer,
        onto: Option<Buffer>,
    ) -> Result<(Buffer, WordScoreGradients<Buffer>)> {
        word_pooling::pool_words_backward(self, &pooled, dy, onto)
    }

    fn rows(&self, x: &Buffer, rows: &[usize]) -> Result<Buffer> {
        rows::rows(self, x, rows)
    }

    fn add_rows(&self, x: Buffer, rows: &[usize], values: &Buffer) -> Result<Buffer> {
        rows::add_rows(self, x, rows, values)
    }

    fn add(&self, a: Buffer, b: &Buffer) -> Result<Buffer> {
        elementwise::add(self, a, b)
    }

    fn cross_entropy(&self, logits: &Buffer, labels: &[u32], loss: &Loss<'_>) -> Result<(Buffer, Buffer)> {
        /// Logits of a task: fewer are not worth a thread.
        const LOGITS: usize = 16384;
        let (_, classes) = loss.expect(logits.shape(), labels)?;
        let classes = classes.max(1);
        let mut gradient = self.pool.uninit(logits.shape());
        let mut losses = vec![0.0; labels.len()];
        gradient.fill(|gradient| {
            let rows = gradient.par_chunks_mut(classes).zip(logits.values().par_chunks(classes));
            let rows = rows.zip(labels).zip(&mut losses).with_min_len(LOGITS / classes + 1);
            rows.for_each(|(((gradient, row), label), own)| *own = loss.of_row(row, *label, gradient));
        });
        let sum: f64 = losses.iter().sum();
        Ok((self.upload(&[sum as f32], &[1])?, gradient))
    }

    fn sum_squares(&self, x: &Buffer) -> Result<f64> {
        Ok(optimizer::sum_squares(self, x))
    }

    fn adamw(
        &self,
        value: &mut Buffer,
        moments: &mut Moments<Buffer>,
        gradient: &Buffer,
        step: &AdamWStep,
    ) -> Result<()> {
        optimizer::adamw(self, value, moments, gradient, step)
    }
}
