//! The engine for NVIDIA GPUs: our own kernels (`kernels/`) and the device's matrix products.
//!
//! [`Cuda`] implements [`Ops`] over the trait [`Device`], so the same engine runs on a GPU and, in
//! tests, on the CPU: `tests/cuda/` compiles the same kernels with a C++ compiler and compares the
//! engine with the reference.
//!
//! | file | content |
//! |---|---|
//! | `device.rs` | the interface of a device |
//! | `gpus.rs` | the GPUs of this machine, and whether one can be used |
//! | `buffer.rs` | arrays in f32, bf16 or both, and the pool of their memory |
//! | `engine.rs` | [`Cuda`] itself: launches, conversions, matrix products |
//! | `products.rs` | which algorithm computes a matrix product |
//! | `parameters.rs`, `shapes.rs` | parameters of kernels; checks of shapes |
//! | `embedding.rs` (with `index_groups.rs`), `rows.rs`, `linear.rs`, `elementwise.rs`, `layer_norm.rs`, `dropout.rs`, `attention.rs`, `cross_entropy.rs` | the operations of the encoder and the language model |
//! | `attention_tiles.rs` | the work list of the attention kernels |
//! | `lists.rs`, `prepare.rs` | lists that kernels read, and their uploads |
//! | `reductions.rs` | sums over rows, with one launch a step for their second stages |
//! | `lstm.rs`, `additive_attention.rs`, `classifier.rs` | for heads: the LSTM, attention pooling, the classifier with its loss, forward and backward |
//! | `candle_op.rs` | the adapter to candle's autograd |
//! | `optimizer.rs` | AdamW and norms over many arrays in one launch |
//! | `recent.rs` | what was enqueued last, for errors |
//! | `nvidia/` | with the feature `cuda`: the device on a GPU, its matrix products, its errors |
//! | `kernels/` | the kernels; `common.cuh` lists their rules, `all.cu` includes them all |
//!
//! The safety of every launch is the same argument: the argument list is the kernel's parameter
//! list (named in its comment), arrays have the shapes that were checked or made just before,
//! indices were checked against their tables, and the grid is the one that the kernel's comment
//! asks for.
//!
//! Precision. With f32 matrix products everything is f32. With bf16 products, their operands and
//! the tensors between them are bf16; sums, the residual stream and its gradient, statistics,
//! master weights, gradients of weights and the optimizer's state are f32.
//!
//! Deterministic. There are no atomics on floats, the order of sums depends only on shapes, and
//! dropout comes from the counter-based generator of `rng.rs`, so that its masks are those of the
//! other engines.
//!
//! Only [`Ops::download`] and [`Ops::sum_squares`] wait for the device. A step of training waits
//! for nothing: its result is read when [`MAX_IN_FLIGHT`] more are enqueued. So is a prediction's, when
//! the next batch is.

mod additive_attention;
mod attention;
mod attention_tiles;
mod buffer;
mod candle_op;
mod classifier;
mod cross_entropy;
pub mod device;
mod dropout;
mod elementwise;
mod embedding;
mod engine;
pub mod gpus;
mod index_groups;
mod layer_norm;
mod linear;
mod lists;
mod lstm;
#[cfg(feature = "cuda")]
pub mod nvidia;
mod optimizer;
mod parameters;
mod prepare;
#[cfg(any(test, feature = "cuda"))]
mod products;
#[cfg(any(test, feature = "cuda"))]
mod recent;
mod reductions;
mod rows;
mod shapes;

use std::ops::Range;

use candle_core::{DType, Tensor};

use super::cls_attention;
use super::{
    AdamWStep, AttentionShape, Classified, Classifier, ClsAttention, Loss, Moments, Norm, NormGradients, Normed, Ops,
    Pending, Rotation, RowGroups, SavedAttentionOf, StepList, StepResult, Targets, Update, WordScoreGradients,
    WordScores,
};
use crate::Result;
use crate::rng::Dropout;
use device::Dtype;
use parameters::{bytes_of, bytes_of_mut};
use shapes::internal_error;

pub use additive_attention::PooledWords;
pub use attention::Probabilities;
pub use buffer::Buffer;
pub use device::{Device, Gpu};
pub use engine::{Cuda, MAX_IN_FLIGHT};
#[cfg(feature = "cuda")]
pub use nvidia::Nvidia;

impl<D: Device> Ops for Cuda<D> {
    type Buffer = Buffer<D>;
    type Probabilities = Probabilities<D>;
    type Pooled = PooledWords<D>;

    fn name(&self) -> &'static str {
        match self.dtype {
            Dtype::F32 => "cuda",
            Dtype::Bf16 => "cuda-bf16",
        }
    }

    fn upload(&self, values: &[f32], shape: &[usize]) -> Result<Buffer<D>> {
        if values.len() != shape.iter().product::<usize>() {
            return Err(internal_error(format!("{} values do not fill the shape {shape:?}", values.len())));
        }
        let (out, to) = self.floats(shape)?;
        if !values.is_empty() {
            // SAFETY: the array has as many elements.
            unsafe { self.device.upload(bytes_of(values), to)? };
        }
        Ok(out)
    }

    fn download(&self, buffer: &Buffer<D>) -> Result<Vec<f32>> {
        let from = self.f32(buffer)?;
        // SAFETY: the form has that many.
        unsafe { self.fetch(from, buffer.elements()) }
    }

    fn zeros(&self, shape: &[usize]) -> Result<Buffer<D>> {
        let (out, to) = self.floats(shape)?;
        if out.elements() > 0 {
            // SAFETY: the array's own bytes.
            unsafe { self.device.zero(to, 4 * out.elements())? };
        }
        Ok(out)
    }

    fn to_candle(&self, buffer: &Buffer<D>) -> Result<Tensor> {
        if buffer.elements() == 0 {
            return Ok(Tensor::zeros(buffer.shape(), DType::F32, &self.device.candle())?);
        }
        let from = self.f32(buffer)?;
        // SAFETY: the form has that shape.
        unsafe { self.device.to_candle(from, buffer.shape()) }
    }

    fn upload_candle(&self, tensor: &Tensor) -> Result<Buffer<D>> {
        let tensor = tensor.to_device(&self.device.candle())?.to_dtype(DType::F32)?.contiguous()?;
        let (out, to) = self.floats(tensor.dims())?;
        if out.elements() > 0 {
            // SAFETY: the array has the tensor's shape.
            unsafe { self.device.from_candle(&tensor, to)? };
        }
        Ok(out)
    }

    fn prepare(&self, lists: &[StepList<'_>]) -> Result<()> {
        prepare::prepare(self, lists)
    }

    fn embed(&self, ids: &[u32], positions: &[u32], tables: [&Buffer<D>; 3]) -> Result<Buffer<D>> {
        embedding::embed(self, ids, positions, tables)
    }

    fn embed_backward(
        &self,
        ids: &[u32],
        positions: &[u32],
        gradient: &Buffer<D>,
        tables: [&Buffer<D>; 3],
    ) -> Result<[Buffer<D>; 3]> {
        embedding::embed_backward(self, ids, positions, gradient, tables)
    }

    fn linear(&self, x: &Buffer<D>, weight: &Buffer<D>, bias: Option<&Buffer<D>>) -> Result<Buffer<D>> {
        linear::linear(self, x, weight, bias)
    }

    fn linear_backward(
        &self,
        x: &Buffer<D>,
        weight: &Buffer<D>,
        dy: &Buffer<D>,
        onto: Option<Buffer<D>>,
    ) -> Result<(Buffer<D>, Buffer<D>)> {
        linear::linear_backward(self, x, weight, dy, onto)
    }

    fn column_sum(&self, dy: &Buffer<D>) -> Result<Buffer<D>> {
        linear::column_sum(self, dy)
    }

    fn bias_gelu(&self, x: &Buffer<D>, bias: &Buffer<D>) -> Result<Buffer<D>> {
        elementwise::bias_gelu(self, x, bias)
    }

    fn bias_gelu_backward(&self, x: &Buffer<D>, bias: &Buffer<D>, dy: Buffer<D>) -> Result<(Buffer<D>, Buffer<D>)> {
        elementwise::bias_gelu_backward(self, x, bias, dy)
    }

    fn add_norm(
        &self,
        branch: Buffer<D>,
        bias: Option<&Buffer<D>>,
        residual: Option<&Buffer<D>>,
        norm: Norm<'_, Buffer<D>>,
        dropout: Option<&Dropout>,
    ) -> Result<Normed<Buffer<D>>> {
        layer_norm::add_norm(self, branch, bias, residual, norm, dropout)
    }

    fn add_norm_backward(
        &self,
        dy: Buffer<D>,
        normed: &Normed<Buffer<D>>,
        gamma: &Buffer<D>,
        dropout: Option<&Dropout>,
    ) -> Result<NormGradients<Buffer<D>>> {
        layer_norm::add_norm_backward(self, dy, normed, gamma, dropout)
    }

    fn geglu(&self, x: &Buffer<D>) -> Result<Buffer<D>> {
        elementwise::geglu(self, x)
    }

    fn geglu_backward(&self, x: &Buffer<D>, dy: &Buffer<D>) -> Result<Buffer<D>> {
        elementwise::geglu_backward(self, x, dy)
    }

    fn rotary(&self, qkv: Buffer<D>, rotation: &Rotation<'_>) -> Result<Buffer<D>> {
        elementwise::rotary(self, &qkv, rotation)
    }

    fn dropout(&self, x: Buffer<D>, dropout: &Dropout) -> Result<Buffer<D>> {
        dropout::dropout(self, x, dropout)
    }

    fn attention(
        &self,
        qkv: &Buffer<D>,
        shape: AttentionShape<'_>,
        dropout: Option<&Dropout>,
    ) -> Result<(Buffer<D>, Probabilities<D>)> {
        attention::attention(self, qkv, shape, dropout)
    }

    fn attention_backward(
        &self,
        qkv: &Buffer<D>,
        probabilities: Probabilities<D>,
        dy: &Buffer<D>,
        shape: AttentionShape<'_>,
        dropout: Option<&Dropout>,
    ) -> Result<Buffer<D>> {
        attention::attention_backward(self, qkv, probabilities, dy, shape, dropout)
    }

    fn cls_attention(&self, of: &ClsAttention<'_, Buffer<D>>) -> Result<(Buffer<D>, SavedAttentionOf<Self>)> {
        cls_attention::cls_attention(self, of)
    }

    fn cls_attention_backward(
        &self,
        of: &ClsAttention<'_, Buffer<D>>,
        tape: SavedAttentionOf<Self>,
        dy: &Buffer<D>,
    ) -> Result<[Buffer<D>; 3]> {
        cls_attention::cls_attention_backward(self, of, tape, dy)
    }

    fn lstm(&self, inputs: &Tensor, recurrent: &Tensor, sequences: &[Range<usize>]) -> Result<Tensor> {
        lstm::lstm(self, inputs, recurrent, sequences)
    }

    fn attention_pooling(&self, last: &Tensor, key: &Tensor, words: &[Range<usize>]) -> Result<(Tensor, Tensor)> {
        additive_attention::attention_pooling(self, last, key, words)
    }

    fn mean_rows(&self, x: &Buffer<D>, groups: &RowGroups) -> Result<Buffer<D>> {
        rows::mean_rows(self, x, groups)
    }

    fn mean_rows_backward(
        &self,
        dy: &Buffer<D>,
        groups: &RowGroups,
        rows: usize,
        onto: Option<Buffer<D>>,
    ) -> Result<Buffer<D>> {
        rows::mean_rows_backward(self, dy, groups, rows, onto)
    }

    fn pool_words(
        &self,
        last: &Buffer<D>,
        scores: &WordScores<'_, Buffer<D>>,
        words: &[Range<usize>],
    ) -> Result<(Buffer<D>, PooledWords<D>)> {
        additive_attention::pool_words(self, last, scores, words)
    }

    fn pool_words_backward(
        &self,
        pooled: PooledWords<D>,
        dy: &Buffer<D>,
        onto: Option<Buffer<D>>,
    ) -> Result<(Buffer<D>, WordScoreGradients<Buffer<D>>)> {
        additive_attention::pool_words_backward(self, &pooled, dy, onto)
    }

    fn classify(&self, of: &Classifier<'_, Buffer<D>>, targets: &Targets<'_>) -> Result<Classified<Buffer<D>>> {
        classifier::classify(self, of, targets)
    }

    fn rows(&self, x: &Buffer<D>, rows: &[usize]) -> Result<Buffer<D>> {
        rows::rows(self, x, rows)
    }

    fn add_rows(&self, x: Buffer<D>, rows: &[usize], values: &Buffer<D>) -> Result<Buffer<D>> {
        rows::add_rows(self, x, rows, values)
    }

    fn add(&self, a: Buffer<D>, b: &Buffer<D>) -> Result<Buffer<D>> {
        elementwise::add(self, a, b)
    }

    fn mask(&self, dropout: &Dropout, rows: usize, columns: usize) -> Result<Tensor> {
        self.to_candle(&dropout::mask(self, dropout, rows, columns)?)
    }

    fn cross_entropy(&self, logits: &Buffer<D>, labels: &[u32], loss: &Loss<'_>) -> Result<(Buffer<D>, Buffer<D>)> {
        cross_entropy::cross_entropy(self, logits, labels, loss)
    }

    fn sum_squares(&self, x: &Buffer<D>) -> Result<f64> {
        optimizer::sum_squares(self, x)
    }

    fn adamw(
        &self,
        value: &mut Buffer<D>,
        moments: &mut Moments<Buffer<D>>,
        gradient: &Buffer<D>,
        step: &AdamWStep,
    ) -> Result<()> {
        optimizer::update(self, &mut [Update { value, moments, gradient, step: *step }])
    }

    fn step(
        &self,
        loss: &Buffer<D>,
        updates: &mut [Update<'_, Buffer<D>>],
        max_norm: f64,
    ) -> Result<Pending<StepResult>> {
        optimizer::step(self, loss, updates, max_norm)
    }

    fn max_in_flight(&self) -> usize {
        MAX_IN_FLIGHT
    }

    fn inference_tokens(&self) -> usize {
        self.inference_tokens
    }

    fn download_later(&self, buffer: &Buffer<D>) -> Result<Pending<Vec<f32>>> {
        let elements = buffer.elements();
        if elements == 0 {
            return Ok(Pending::ready(Vec::new()));
        }
        // SAFETY: the form has that many.
        let readback = unsafe { self.device.download_async(self.f32(buffer)?, 4 * elements)? };
        let device = self.device.clone();
        Ok(Pending::new(move || {
            let mut values = vec![0.0; elements];
            bytes_of_mut(&mut values).copy_from_slice(&device.wait_for(readback)?);
            Ok(values)
        }))
    }

    fn trim(&self) {
        self.pool.trim();
    }
}
