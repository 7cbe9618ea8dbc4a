//! The classifier of a head with its loss and its backward: two kernels.

use super::buffer::Buffer;
use super::cross_entropy::weights;
use super::device::{Device, argument};
use super::dropout::Mask;
use super::engine::Cuda;
use super::parameters::{Plain, blocks, bytes_of};
use super::shapes::{expect, internal_error, matrix};
use crate::Result;
use crate::ops::{Classified, Classifier, Targets};

/// Most floats of a block's shared memory, of which every GPU that is supported has 99 KB.
const MOST_FLOATS: usize = 24_000;

/// `Sides` of the kernels.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Sides {
    arrays: [u64; 2],
    widths: [i32; 2],
}

/// `Target` of the kernels.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Target {
    label: u32,
    range: [u32; 2],
}
// SAFETY: numbers of four bytes: no padding.
unsafe impl Plain for Target {}

/// What the kernel reads of each row, and the weights of the labels if they have any.
pub(super) fn lists(targets: &Targets<'_>, classes: usize) -> Result<(Vec<Target>, Vec<f32>)> {
    let ranges = targets.ranges(classes)?;
    let rows = targets.labels.iter().zip(ranges).map(|(label, range)| Target { label: *label, range });
    Ok((rows.collect(), weights(targets.loss)))
}

/// See [`crate::ops::Ops::classify`].
pub(super) fn classify<D: Device>(
    cuda: &Cuda<D>,
    of: &Classifier<'_, Buffer<D>>,
    targets: &Targets<'_>,
) -> Result<Classified<Buffer<D>>> {
    let (classes, width) = matrix(of.weight)?;
    let rows = targets.labels.len();
    let loss = targets.loss;
    loss.expect(&[rows, classes], targets.labels)?;
    expect("the bias of the classifier", of.bias, &[classes])?;
    let mut gradients = Vec::new();
    let mut sides = [Sides { arrays: [0; 2], widths: [0; 2] }; 2];
    if of.parts.len() > 2 || 2 * classes + width > MOST_FLOATS {
        let message =
            format!("{} arrays and {classes} labels are too many for the classifier's kernel", of.parts.len());
        return Err(internal_error(message));
    }
    for (side, part) in of.parts.iter().enumerate() {
        let own = matrix(part)?.1;
        expect("the vectors of the classifier", part, &[rows, own])?;
        let (gradient, to) = cuda.floats(&[rows, own])?;
        for (sides, address) in sides.iter_mut().zip([cuda.f32(part)?, to]) {
            (sides.arrays[side], sides.widths[side]) = (address, own as i32);
        }
        gradients.push(gradient);
    }
    let parts: i32 = sides[0].widths.iter().sum();
    expect("the weight of the classifier", of.weight, &[classes, parts as usize])?;
    let (of_rows, weights) = lists(targets, classes)?;
    let [of_rows, sent] = cuda.send_all([bytes_of(&of_rows), bytes_of(&weights)])?;
    let (dropped, losses) = (cuda.pool.block(4 * rows * width)?, cuda.pool.block(4 * rows)?);
    let dlogits = cuda.pool.block(4 * rows * classes)?;
    let (value, value_to) = cuda.floats(&[1])?;
    let (dweight, dweight_to) = cuda.floats(&[classes, width])?;
    let (dbias, dbias_to) = cuda.floats(&[classes])?;
    let (rows32, classes32, width32, mask) = (rows as i32, classes as i32, width as i32, Mask::from(of.dropout));
    let (weight, bias, targets) = (cuda.f32(of.weight)?, cuda.f32(of.bias)?, of_rows.address());
    let weights_at = if loss.weights.is_some() { sent.address() } else { 0 };
    let (gamma, total) = (loss.focal_gamma as f32, loss.total as f32);
    let (dropped, losses, dlogits) = (&dropped, &losses, &dlogits);
    let [dropped, losses, dlogits] = [dropped, losses, dlogits].map(|block| block.address());
    let mut arguments = [
        argument(&classes32),
        argument(&sides[0]),
        argument(&weight),
        argument(&bias),
        argument(&mask),
        argument(&targets),
        argument(&weights_at),
        argument(&gamma),
        argument(&total),
        argument(&dropped),
        argument(&losses),
        argument(&dlogits),
        argument(&sides[1]),
    ];
    let shared = 4 * (width + 2 * classes);
    // SAFETY: (int, Sides, const float*, const float*, Mask, const Target*, const float*, float, float, float*, float*, float*,
    // Sides); the labels and their groups were checked to be inside of the classes, and there are as many weights.
    unsafe { cuda.launch("classify", [rows as u32, 1, 1], 256, shared, &mut arguments)? };
    let mut arguments = [
        argument(&rows32),
        argument(&classes32),
        argument(&width32),
        argument(&dropped),
        argument(&losses),
        argument(&dlogits),
        argument(&value_to),
        argument(&dweight_to),
        argument(&dbias_to),
    ];
    // SAFETY: (int, int, int, const float* x 3, float* x 3).
    unsafe { cuda.launch("classify_sums", [blocks(width, 128), classes as u32, 1], 128, 0, &mut arguments)? };
    Ok(Classified { loss: value, parts: gradients, weight: dweight, bias: dbias })
}
