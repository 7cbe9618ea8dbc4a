//! Checks of shapes and indices, before any address is computed from them.

use super::buffer::Buffer;
use super::device::Device;
use crate::Result;
use crate::ops::shapes;

pub(super) use crate::ops::shapes::{expect_attention, expect_inside, internal_error};

/// Rows and columns of a matrix. Kernels count both in 32 bits.
pub(super) fn matrix<D: Device>(x: &Buffer<D>) -> Result<(usize, usize)> {
    let (rows, columns) = shapes::matrix(x.shape())?;
    if rows.max(columns) > i32::MAX as usize {
        return Err(internal_error(format!("a matrix of {rows} x {columns} is too large")));
    }
    Ok((rows, columns))
}

/// Refuse a buffer of another shape.
pub(super) fn expect<D: Device>(what: &str, x: &Buffer<D>, shape: &[usize]) -> Result<()> {
    shapes::expect(what, x.shape(), shape)
}
