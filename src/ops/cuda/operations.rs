//! `impl Ops`: what the engine does itself, and where the rest is.
//!
//! The safety of every launch is the same argument: the argument list is the kernel's parameter list (named in the comment
//! beside it), arrays have the shapes that were checked or made just before, indices were checked against their tables,
//! and the grid is the one that the kernel's comment asks for.

use std::ops::Range;

use candle_core::{DType, Tensor};

use super::attention::Probabilities;
use super::buffer::Buffer;
use super::device::{Device, Element};
use super::engine::{AHEAD, Cuda, bytes_of};
use super::shapes::defect;
use crate::Result;
use crate::ops::{AdamWStep, AttentionShape, Late, Loss, Moments, Norm, NormGradients, Normed, Ops, StepSums, Update};
use crate::rng::Dropout;

impl<D: Device> Ops for Cuda<D> {
    type Buffer = Buffer<D>;
    type Probabilities = Probabilities<D>;

    fn name(&self) -> &'static str {
        match self.products {
            Element::F32 => "cuda",
            Element::Bf16 => "cuda-bf16",
        }
    }

    fn upload(&self, values: &[f32], shape: &[usize]) -> Result<Buffer<D>> {
        if values.len() != shape.iter().product::<usize>() {
            return Err(defect(format!("{} values do not fill the shape {shape:?}", values.len())));
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
        // SAFETY: the form holds that many.
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

    fn embed(&self, ids: &[u32], positions: &[u32], tables: [&Buffer<D>; 3]) -> Result<Buffer<D>> {
        self.embedded(ids, positions, tables)
    }

    fn embed_backward(
        &self,
        ids: &[u32],
        positions: &[u32],
        gradient: &Buffer<D>,
        tables: [&Buffer<D>; 3],
    ) -> Result<[Buffer<D>; 3]> {
        self.embedded_backward(ids, positions, gradient, tables)
    }

    fn linear(&self, x: &Buffer<D>, weight: &Buffer<D>, bias: Option<&Buffer<D>>) -> Result<Buffer<D>> {
        self.dense(x, weight, bias)
    }

    fn linear_backward(
        &self,
        x: &Buffer<D>,
        weight: &Buffer<D>,
        dy: &Buffer<D>,
        onto: Option<Buffer<D>>,
    ) -> Result<(Buffer<D>, Buffer<D>)> {
        self.dense_backward(x, weight, dy, onto)
    }

    fn column_sum(&self, dy: &Buffer<D>) -> Result<Buffer<D>> {
        self.sum_columns(dy)
    }

    fn bias_gelu(&self, x: &Buffer<D>, bias: &Buffer<D>) -> Result<Buffer<D>> {
        self.activated(x, bias)
    }

    fn bias_gelu_backward(&self, x: &Buffer<D>, bias: &Buffer<D>, dy: Buffer<D>) -> Result<(Buffer<D>, Buffer<D>)> {
        self.activated_backward(x, bias, dy)
    }

    fn add_norm(
        &self,
        branch: Buffer<D>,
        bias: Option<&Buffer<D>>,
        residual: Option<&Buffer<D>>,
        norm: Norm<'_, Buffer<D>>,
        dropout: Option<&Dropout>,
    ) -> Result<Normed<Buffer<D>>> {
        self.normed(branch, bias, residual, norm, dropout)
    }

    fn add_norm_backward(
        &self,
        dy: Buffer<D>,
        normed: &Normed<Buffer<D>>,
        gamma: &Buffer<D>,
        dropout: Option<&Dropout>,
    ) -> Result<NormGradients<Buffer<D>>> {
        self.normed_backward(dy, normed, gamma, dropout)
    }

    fn dropout(&self, x: Buffer<D>, dropout: &Dropout) -> Result<Buffer<D>> {
        self.masked(x, dropout)
    }

    fn attention(
        &self,
        qkv: &Buffer<D>,
        shape: AttentionShape<'_>,
        dropout: Option<&Dropout>,
    ) -> Result<(Buffer<D>, Probabilities<D>)> {
        self.attend(qkv, shape, dropout)
    }

    fn attention_backward(
        &self,
        qkv: &Buffer<D>,
        probabilities: Probabilities<D>,
        dy: &Buffer<D>,
        shape: AttentionShape<'_>,
        dropout: Option<&Dropout>,
    ) -> Result<Buffer<D>> {
        self.attend_backward(qkv, &probabilities, dy, shape, dropout)
    }

    fn last_states(&self, inputs: &Tensor, recurrent: &Tensor, sequences: &[Range<usize>]) -> Result<Tensor> {
        self.last_states_in_candle(inputs, recurrent, sequences)
    }

    fn attend_words(&self, last: &Tensor, key: &Tensor, words: &[Range<usize>]) -> Result<(Tensor, Tensor)> {
        self.attend_words_in_candle(last, key, words)
    }

    fn rows(&self, x: &Buffer<D>, rows: &[usize]) -> Result<Buffer<D>> {
        self.rows_of(x, rows)
    }

    fn add_rows(&self, x: Buffer<D>, rows: &[usize], values: &Buffer<D>) -> Result<Buffer<D>> {
        self.added_to_rows(x, rows, values)
    }

    fn add(&self, a: Buffer<D>, b: &Buffer<D>) -> Result<Buffer<D>> {
        self.sum_of(a, b)
    }

    fn mask(&self, dropout: &Dropout, rows: usize, columns: usize) -> Result<Tensor> {
        self.to_candle(&self.mask_of(dropout, rows, columns)?)
    }

    fn cross_entropy(&self, logits: &Buffer<D>, labels: &[u32], loss: &Loss<'_>) -> Result<(Buffer<D>, Buffer<D>)> {
        self.entropy(logits, labels, loss)
    }

    fn sum_squares(&self, x: &Buffer<D>) -> Result<f64> {
        self.squares(x)
    }

    fn adamw(
        &self,
        value: &mut Buffer<D>,
        moments: &mut Moments<Buffer<D>>,
        gradient: &Buffer<D>,
        step: &AdamWStep,
    ) -> Result<()> {
        self.update(&mut [Update { value, moments, gradient, step: *step }], None)
    }

    fn step(&self, loss: &Buffer<D>, updates: &mut [Update<'_, Buffer<D>>], max_norm: f64) -> Result<Late<StepSums>> {
        self.clipped(loss, updates, max_norm)
    }

    fn ahead(&self) -> usize {
        AHEAD
    }
}
