//! What happens to every element alone: GELU, dropout, sums; and the cross-entropy of a batch.

use super::buffer::Buffer;
use super::device::{Device, Element, argument};
use super::engine::{Cuda, Mask, blocks, by_width};
use super::shapes::{expect, matrix};
use super::sums::SUM_ROWS;
use crate::Result;
use crate::ops::Loss;
use crate::rng::Dropout;

impl<D: Device> Cuda<D> {
    pub(super) fn activated(&self, x: &Buffer<D>, bias: &Buffer<D>) -> Result<Buffer<D>> {
        let (rows, width) = matrix(x)?;
        expect("the bias", bias, &[width])?;
        let (out, to) = self.make(x.shape(), self.between())?;
        let (kernel, vector) = by_width(width, ["bias_gelu_4", "bias_gelu_1"]);
        let (width32, x, bias) = (width as i32, self.input(x)?, self.f32(bias)?);
        let mut arguments = [argument(&width32), argument(&x), argument(&bias), argument(&to)];
        // SAFETY: (int, In, const float*, Out).
        unsafe { self.launch(kernel, [rows as u32, blocks(width, 128 * vector), 1], 128, 0, &mut arguments)? };
        Ok(out)
    }

    pub(super) fn activated_backward(
        &self,
        x: &Buffer<D>,
        bias: &Buffer<D>,
        dy: Buffer<D>,
    ) -> Result<(Buffer<D>, Buffer<D>)> {
        let (rows, width) = matrix(x)?;
        expect("the bias", bias, &[width])?;
        expect("the gradient", &dy, x.shape())?;
        let parts = rows.div_ceil(SUM_ROWS);
        let (dx, to) = self.make(x.shape(), self.between())?;
        let partial = self.pool.block(4 * parts * width)?;
        let (kernel, vector) = by_width(width, ["bias_gelu_backward_4", "bias_gelu_backward_1"]);
        let (rows, width32, partial_at) = (rows as i32, width as i32, partial.address());
        let (x, bias, dy) = (self.input(x)?, self.f32(bias)?, self.input(&dy)?);
        let mut arguments = [
            argument(&rows),
            argument(&width32),
            argument(&x),
            argument(&bias),
            argument(&dy),
            argument(&to),
            argument(&partial_at),
        ];
        // SAFETY: (int, int, In, const float*, In, Out, float*).
        unsafe { self.launch(kernel, [blocks(width, 128 * vector), parts as u32, 1], 128, 0, &mut arguments)? };
        let [sums] = self.reduced(partial, parts, width)?;
        Ok((dx, sums))
    }

    pub(super) fn masked(&self, x: Buffer<D>, dropout: &Dropout) -> Result<Buffer<D>> {
        let (out, to) = self.floats(x.shape())?;
        let (n, from, mask) = (x.elements() as u64, self.f32(&x)?, Mask::from(Some(dropout)));
        let mut arguments = [argument(&n), argument(&from), argument(&mask), argument(&to)];
        // SAFETY: (size_t, const float*, Mask, float*).
        unsafe { self.launch("dropout", [blocks(x.elements(), 1024), 1, 1], 256, 0, &mut arguments)? };
        Ok(out)
    }

    /// A mask as an array, `(rows, columns)`.
    pub(super) fn mask_of(&self, dropout: &Dropout, rows: usize, columns: usize) -> Result<Buffer<D>> {
        let (out, to) = self.floats(&[rows, columns])?;
        let (n, nothing, mask) = (out.elements() as u64, 0_u64, Mask::from(Some(dropout)));
        let mut arguments = [argument(&n), argument(&nothing), argument(&mask), argument(&to)];
        // SAFETY: (size_t, const float*, Mask, float*); without a first array the mask itself comes out.
        unsafe { self.launch("dropout", [blocks(out.elements(), 1024), 1, 1], 256, 0, &mut arguments)? };
        Ok(out)
    }

    pub(super) fn sum_of(&self, a: Buffer<D>, b: &Buffer<D>) -> Result<Buffer<D>> {
        expect("the second term", b, a.shape())?;
        let (out, to) = self.floats(a.shape())?;
        let (n, left, right) = (a.elements() as u64, self.f32(&a)?, self.f32(b)?);
        let mut arguments = [argument(&n), argument(&left), argument(&right), argument(&to)];
        // SAFETY: (size_t, const float*, const float*, float*).
        unsafe { self.launch("add", [blocks(a.elements(), 256), 1, 1], 256, 0, &mut arguments)? };
        Ok(out)
    }

    /// An array of the same f32 values that nothing shares: itself, or a copy.
    pub(super) fn owned(&self, x: Buffer<D>) -> Result<(Buffer<D>, u64)> {
        if x.is_unshared() && x.address(Element::Bf16).is_none() {
            let address = self.f32(&x)?;
            return Ok((x, address));
        }
        let from = self.f32(&x)?;
        let (out, to) = self.floats(x.shape())?;
        if out.elements() > 0 {
            // SAFETY: both have as many elements.
            unsafe { self.device.copy(from, to, 4 * out.elements())? };
        }
        Ok((out, to))
    }

    /// See [`Loss`].
    pub(super) fn entropy(
        &self,
        logits: &Buffer<D>,
        labels: &[u32],
        loss: &Loss<'_>,
    ) -> Result<(Buffer<D>, Buffer<D>)> {
        let (rows, classes) = loss.expect(logits.shape(), labels)?;
        let weights: Vec<f32> = loss.weights.unwrap_or_default().iter().map(|weight| *weight as f32).collect();
        let (out, to) = self.floats(&[1])?;
        let (gradient, gradient_to) = self.floats(logits.shape())?;
        let (labels, sent) = (self.send(labels)?, self.send(&weights)?);
        let (rows, classes, logits) = (rows as i32, classes as i32, self.f32(logits)?);
        let (labels, weights) = (labels.address(), if loss.weights.is_some() { sent.address() } else { 0 });
        let (gamma, total) = (loss.focal_gamma as f32, loss.total as f32);
        let mut arguments = [
            argument(&rows),
            argument(&classes),
            argument(&logits),
            argument(&labels),
            argument(&weights),
            argument(&gamma),
            argument(&total),
            argument(&to),
            argument(&gradient_to),
        ];
        // SAFETY: (int, int, const float*, const uint32_t*, const float*, float, float, float*, float*), one block; the
        // labels were checked to be below the classes, and there are as many weights.
        unsafe { self.launch("cross_entropy", [1, 1, 1], 256, 4 * 8, &mut arguments)? };
        Ok((out, gradient))
    }
}
