//! Element-wise operations: bias and GELU, GELU with a gate, rotation, forward and backward; sums.

use super::buffer::Buffer;
use super::device::{Device, argument};
use super::engine::Cuda;
use super::parameters::{blocks, by_width, bytes_of};
use super::reductions::SUM_ROWS;
use super::shapes::{expect, matrix};
use crate::Result;
use crate::ops::Rotation;

pub(super) fn bias_gelu<D: Device>(cuda: &Cuda<D>, x: &Buffer<D>, bias: &Buffer<D>) -> Result<Buffer<D>> {
    let (rows, width) = matrix(x)?;
    expect("the bias", bias, &[width])?;
    let (out, to) = cuda.make(x.shape(), cuda.between())?;
    let (kernel, vector) = by_width(width, ["bias_gelu_4", "bias_gelu_1"]);
    let (width32, x, bias) = (width as i32, cuda.input(x)?, cuda.f32(bias)?);
    let mut arguments = [argument(&width32), argument(&x), argument(&bias), argument(&to)];
    // SAFETY: (int, In, const float*, Out).
    unsafe { cuda.launch(kernel, [rows as u32, blocks(width, 128 * vector), 1], 128, 0, &mut arguments)? };
    Ok(out)
}

pub(super) fn bias_gelu_backward<D: Device>(
    cuda: &Cuda<D>,
    x: &Buffer<D>,
    bias: &Buffer<D>,
    dy: Buffer<D>,
) -> Result<(Buffer<D>, Buffer<D>)> {
    let (rows, width) = matrix(x)?;
    expect("the bias", bias, &[width])?;
    expect("the gradient", &dy, x.shape())?;
    let parts = rows.div_ceil(SUM_ROWS);
    let (dx, to) = cuda.make(x.shape(), cuda.between())?;
    let partial = cuda.pool.block(4 * parts * width)?;
    let (kernel, vector) = by_width(width, ["bias_gelu_backward_4", "bias_gelu_backward_1"]);
    let (rows, width32, partial_at) = (rows as i32, width as i32, partial.address());
    let (x, bias, dy) = (cuda.input(x)?, cuda.f32(bias)?, cuda.input(&dy)?);
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
    unsafe { cuda.launch(kernel, [blocks(width, 128 * vector), parts as u32, 1], 128, 0, &mut arguments)? };
    let [sums] = cuda.reduce(partial, parts, width)?;
    Ok((dx, sums))
}

/// Half of the columns of a matrix.
fn half_width<D: Device>(x: &Buffer<D>) -> Result<(usize, usize)> {
    let (rows, width) = matrix(x)?;
    expect("the input with its gate", x, &[rows, width / 2 * 2])?;
    Ok((rows, width / 2))
}

pub(super) fn geglu<D: Device>(cuda: &Cuda<D>, x: &Buffer<D>) -> Result<Buffer<D>> {
    let (rows, width) = half_width(x)?;
    let (out, to) = cuda.make(&[rows, width], cuda.between())?;
    let (kernel, vector) = by_width(width, ["geglu_4", "geglu_1"]);
    let (width32, x) = (width as i32, cuda.input(x)?);
    let mut arguments = [argument(&width32), argument(&x), argument(&to)];
    // SAFETY: (int, In, Out).
    unsafe { cuda.launch(kernel, [rows as u32, blocks(width, 128 * vector), 1], 128, 0, &mut arguments)? };
    Ok(out)
}

pub(super) fn geglu_backward<D: Device>(cuda: &Cuda<D>, x: &Buffer<D>, dy: &Buffer<D>) -> Result<Buffer<D>> {
    let (rows, width) = half_width(x)?;
    expect("the gradient", dy, &[rows, width])?;
    let (dx, to) = cuda.make(x.shape(), cuda.between())?;
    let (kernel, vector) = by_width(width, ["geglu_backward_4", "geglu_backward_1"]);
    let (width32, x, dy) = (width as i32, cuda.input(x)?, cuda.input(dy)?);
    let mut arguments = [argument(&width32), argument(&x), argument(&dy), argument(&to)];
    // SAFETY: (int, In, In, Out).
    unsafe { cuda.launch(kernel, [rows as u32, blocks(width, 128 * vector), 1], 128, 0, &mut arguments)? };
    Ok(dx)
}

pub(super) fn rotary<D: Device>(cuda: &Cuda<D>, qkv: &Buffer<D>, rotation: &Rotation<'_>) -> Result<Buffer<D>> {
    let half = rotation.head_size(qkv.shape())? / 2;
    let (out, to) = cuda.make(qkv.shape(), cuda.between())?;
    let [cosines, sines] = rotation.table(2 * half);
    let lists = [bytes_of(rotation.positions), bytes_of(&cosines), bytes_of(&sines)];
    let [positions, cosines, sines] = cuda.send_all(lists)?;
    let (heads, half, x) = (rotation.heads as i32, half as i32, cuda.input(qkv)?);
    let (positions, cosines, sines) = (positions.address(), cosines.address(), sines.address());
    let mut arguments = [
        argument(&heads),
        argument(&half),
        argument(&positions),
        argument(&cosines),
        argument(&sines),
        argument(&x),
        argument(&to),
    ];
    // SAFETY: (int, int, const uint32_t*, 2 x const float*, In, Out).
    unsafe { cuda.launch("rotary", [rotation.positions.len() as u32, 1, 1], 128, 0, &mut arguments)? };
    Ok(out)
}

pub(super) fn add<D: Device>(cuda: &Cuda<D>, a: Buffer<D>, b: &Buffer<D>) -> Result<Buffer<D>> {
    expect("the second term", b, a.shape())?;
    let (out, to) = cuda.floats(a.shape())?;
    let (n, left, right) = (a.elements() as u64, cuda.f32(&a)?, cuda.f32(b)?);
    let mut arguments = [argument(&n), argument(&left), argument(&right), argument(&to)];
    // SAFETY: (size_t, const float*, const float*, float*).
    unsafe { cuda.launch("add", [blocks(a.elements(), 256), 1, 1], 256, 0, &mut arguments)? };
    Ok(out)
}
