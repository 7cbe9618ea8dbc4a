//! The cross-entropy of a batch and its gradient.

use super::buffer::Buffer;
use super::device::{Device, argument};
use super::engine::Cuda;
use super::parameters::bytes_of;
use crate::Result;
use crate::ops::Loss;

/// The weights of the labels, if they have any.
pub(super) fn weights(loss: &Loss<'_>) -> Vec<f32> {
    loss.weights.unwrap_or_default().iter().map(|weight| *weight as f32).collect()
}

/// See [`Loss`].
pub(super) fn cross_entropy<D: Device>(
    cuda: &Cuda<D>,
    logits: &Buffer<D>,
    labels: &[u32],
    loss: &Loss<'_>,
) -> Result<(Buffer<D>, Buffer<D>)> {
    let (rows, classes) = loss.expect(logits.shape(), labels)?;
    let weights = weights(loss);
    let (out, to) = cuda.floats(&[1])?;
    let (gradient, gradient_to) = cuda.floats(logits.shape())?;
    let [labels, sent] = cuda.send_all([bytes_of(labels), bytes_of(&weights)])?;
    let (rows, classes, logits) = (rows as i32, classes as i32, cuda.f32(logits)?);
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
    unsafe { cuda.launch("cross_entropy", [1, 1, 1], 256, 4 * 8, &mut arguments)? };
    Ok((out, gradient))
}
