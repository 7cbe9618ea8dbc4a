//! Rows that are picked from a matrix or added to it.

use super::buffer::Buffer;
use super::device::{Device, argument};
use super::engine::Cuda;
use super::parameters::Forms;
use super::shapes::{expect, expect_inside, matrix};
use crate::Result;

pub(super) fn rows<D: Device>(cuda: &Cuda<D>, x: &Buffer<D>, rows: &[usize]) -> Result<Buffer<D>> {
    let (total, width) = matrix(x)?;
    expect_inside("row", rows.iter().copied(), total)?;
    gather(cuda, x, rows, width, Forms::F32)
}

/// The given rows in a form; the indices were checked.
pub(super) fn gather<D: Device>(
    cuda: &Cuda<D>,
    x: &Buffer<D>,
    rows: &[usize],
    width: usize,
    forms: Forms,
) -> Result<Buffer<D>> {
    let (out, to) = cuda.make(&[rows.len(), width], forms)?;
    let indices = cuda.send_rows(rows)?;
    let (width, indices, from) = (width as i32, indices.address(), cuda.input(x)?);
    let mut arguments = [argument(&width), argument(&indices), argument(&from), argument(&to)];
    // SAFETY: (int, const uint32_t*, In, Out).
    unsafe { cuda.launch("gather_rows", [rows.len() as u32, 1, 1], 128, 0, &mut arguments)? };
    Ok(out)
}

pub(super) fn add_rows<D: Device>(
    cuda: &Cuda<D>,
    x: Buffer<D>,
    rows: &[usize],
    values: &Buffer<D>,
) -> Result<Buffer<D>> {
    let (total, width) = matrix(&x)?;
    expect("what to add to rows", values, &[rows.len(), width])?;
    expect_inside("row", rows.iter().copied(), total)?;
    let (x, to) = cuda.unique(x)?;
    let indices = cuda.send_rows(rows)?;
    let (width, indices, values) = (width as i32, indices.address(), cuda.f32(values)?);
    let mut arguments = [argument(&width), argument(&indices), argument(&values), argument(&to)];
    // SAFETY: (int, const uint32_t*, const float*, float*); the rows are distinct, so no two blocks write one.
    unsafe { cuda.launch("add_rows", [rows.len() as u32, 1, 1], 128, 0, &mut arguments)? };
    Ok(x)
}
