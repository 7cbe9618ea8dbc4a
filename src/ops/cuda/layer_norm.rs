//! `LayerNorm(dropout(branch + bias) + residual)` and its backward.

use super::buffer::Buffer;
use super::device::{Device, argument};
use super::dropout::Mask;
use super::engine::Cuda;
use super::parameters::{Form, Forms, blocks, by_width};
use super::shapes::{expect, internal_error, matrix};
use crate::Result;
use crate::ops::{Norm, NormGradients, Normed};
use crate::rng::Dropout;

/// Most blocks, and so partial sums, of the backward of a LayerNorm. A constant: the order of the
/// sum depends on it.
const NORM_BLOCKS: usize = 256;
/// The longest row that the lanes of a warp keep between the passes over it.
const KEPT: usize = 1024;
/// Shared memory that every device provides by default.
const SHARED: usize = 48 << 10;

/// Warps of a block that keeps `row` bytes of shared memory per warp.
fn warps(row: usize, width: usize) -> Result<usize> {
    match SHARED / row.max(1) {
        0 => Err(internal_error(format!("a hidden size of {width} is more than the LayerNorm kernels support"))),
        warps => Ok(warps.min(4)),
    }
}

pub(super) fn add_norm<D: Device>(
    cuda: &Cuda<D>,
    branch: Buffer<D>,
    bias: Option<&Buffer<D>>,
    residual: Option<&Buffer<D>>,
    norm: Norm<'_, Buffer<D>>,
    dropout: Option<&Dropout>,
) -> Result<Normed<Buffer<D>>> {
    let (rows, width) = matrix(&branch)?;
    for (what, vector) in [("the bias", bias), ("gamma", Some(norm.gamma)), ("beta", Some(norm.beta))] {
        vector.map_or(Ok(()), |vector| expect(what, vector, &[width]))?;
    }
    residual.map_or(Ok(()), |residual| expect("the residual", residual, &[rows, width]))?;
    let warps = warps(4 * width, width)?;
    let (out, to) = cuda.make(&[rows, width], cuda.both())?;
    let (normalized, normalized_to) = cuda.make(&[rows, width], cuda.between())?;
    let (rstd, rstd_to) = cuda.floats(&[rows])?;
    let (kernel, _) = by_width(width, ["add_norm_4", "add_norm_1"]);
    let optional = |x: Option<&Buffer<D>>| x.map_or(Ok(0), |x| cuda.f32(x));
    let (bias, residual) = (optional(bias)?, optional(residual)?);
    let (gamma, beta, eps) = (cuda.f32(norm.gamma)?, cuda.f32(norm.beta)?, norm.eps as f32);
    let (branch, mask) = (cuda.input(&branch)?, Mask::from(dropout));
    let (rows32, width32) = (rows as i32, width as i32);
    let mut arguments = [
        argument(&rows32),
        argument(&width32),
        argument(&branch),
        argument(&bias),
        argument(&residual),
        argument(&gamma),
        argument(&beta),
        argument(&eps),
        argument(&mask),
        argument(&to),
        argument(&normalized_to),
        argument(&rstd_to),
    ];
    let grid = [blocks(rows, warps), 1, 1];
    // SAFETY: (int, int, In, const float* x 4, float, Mask, Out, Out, float*).
    unsafe { cuda.launch(kernel, grid, 32 * warps as u32, 4 * width * warps, &mut arguments)? };
    Ok(Normed { out, normalized, rstd })
}

pub(super) fn add_norm_backward<D: Device>(
    cuda: &Cuda<D>,
    dy: Buffer<D>,
    normed: &Normed<Buffer<D>>,
    gamma: &Buffer<D>,
    dropout: Option<&Dropout>,
) -> Result<NormGradients<Buffer<D>>> {
    let (rows, width) = matrix(&dy)?;
    expect("the normalized rows", &normed.normalized, &[rows, width])?;
    expect("rstd", &normed.rstd, &[rows])?;
    expect("gamma", gamma, &[width])?;
    let warps = warps(12 * width, width)?;
    let parts = rows.div_ceil(warps).min(NORM_BLOCKS);
    // Without dropout the two gradients are one array, in the forms of both.
    let (residual, branch, residual_to, branch_to) = match dropout {
        Some(_) => {
            let (residual, to) = cuda.make(&[rows, width], Forms::F32)?;
            let (branch, branch_to) = cuda.make(&[rows, width], cuda.between())?;
            (residual, branch, to, branch_to)
        }
        None => {
            let (residual, to) = cuda.make(&[rows, width], cuda.both())?;
            (residual.clone(), residual, to, Form::NONE)
        }
    };
    let partial = cuda.pool.block(4 * parts * 3 * width)?;
    let vectors = if width <= KEPT { "add_norm_backward_kept" } else { "add_norm_backward_4" };
    let (kernel, _) = by_width(width, [vectors, "add_norm_backward_1"]);
    let (rows32, width32, partial_at) = (rows as i32, width as i32, partial.address());
    let (dy, normalized, rstd) = (cuda.f32(&dy)?, cuda.input(&normed.normalized)?, cuda.f32(&normed.rstd)?);
    let (gamma, mask) = (cuda.f32(gamma)?, Mask::from(dropout));
    let mut arguments = [
        argument(&rows32),
        argument(&width32),
        argument(&dy),
        argument(&normalized),
        argument(&rstd),
        argument(&gamma),
        argument(&mask),
        argument(&branch_to),
        argument(&residual_to),
        argument(&partial_at),
    ];
    let grid = [parts as u32, 1, 1];
    // SAFETY: (int, int, const float*, In, const float*, const float*, Mask, Out, Out, float*).
    unsafe { cuda.launch(kernel, grid, 32 * warps as u32, 12 * width * warps, &mut arguments)? };
    let [gamma, beta, bias] = cuda.reduce(partial, parts, width)?;
    Ok(NormGradients { branch, residual, gamma, beta, bias })
}
