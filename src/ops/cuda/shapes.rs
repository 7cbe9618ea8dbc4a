//! Refusals of what does not fit, before any address is computed from it.

use super::buffer::Buffer;
use super::device::Device;
use crate::ops::AttentionShape;
use crate::{Error, Result};

pub(super) fn defect(message: String) -> Error {
    Error::Tensor(candle_core::Error::Msg(message))
}

/// Rows and columns of a matrix. Kernels count both in 32 bits.
pub(super) fn matrix<D: Device>(x: &Buffer<D>) -> Result<(usize, usize)> {
    match x.shape() {
        [rows, columns] if rows.max(columns) <= &(i32::MAX as usize) => Ok((*rows, *columns)),
        shape => Err(defect(format!("expected a matrix, got the shape {shape:?}"))),
    }
}

/// Refuse a buffer of another shape.
pub(super) fn expect<D: Device>(what: &str, x: &Buffer<D>, shape: &[usize]) -> Result<()> {
    if x.shape() == shape {
        return Ok(());
    }
    Err(defect(format!("{what} has the shape {:?}, expected {shape:?}", x.shape())))
}

/// Refuse an index that is outside of its table.
pub(super) fn expect_inside(what: &str, indices: impl IntoIterator<Item = usize>, rows: usize) -> Result<()> {
    match indices.into_iter().find(|index| *index >= rows) {
        Some(index) => Err(defect(format!("{what} {index} is outside of 0..{rows}"))),
        None => Ok(()),
    }
}

/// Refuse sequences that do not cover the rows in order.
pub(super) fn expect_starts(what: &str, starts: &[usize], rows: usize) -> Result<()> {
    let covers = starts.first().is_none_or(|first| *first == 0) && starts.last().copied().unwrap_or(0) == rows;
    if !covers || starts.windows(2).any(|bounds| bounds[0] > bounds[1]) {
        return Err(defect(format!("{what} starts {starts:?} do not cover {rows} rows in order")));
    }
    Ok(())
}

/// Refuse sentences that do not cover the tokens, or heads that do not divide the hidden size.
pub(super) fn expect_attention(shape: AttentionShape<'_>, tokens: usize, hidden: usize) -> Result<()> {
    let starts = shape.starts;
    expect_starts("sentence", starts, tokens)?;
    let fits = |(keys, bounds): (&usize, &[usize])| (1..=(bounds[1] - bounds[0]).max(1)).contains(keys);
    let sentences = starts.len().saturating_sub(1);
    if shape.keys.is_some_and(|keys| keys.len() != sentences || !keys.iter().zip(starts.windows(2)).all(fits)) {
        return Err(defect(format!("keys {:?} do not fit the sentence starts {starts:?}", shape.keys)));
    }
    if shape.heads == 0 || !hidden.is_multiple_of(shape.heads) {
        return Err(defect(format!("{} heads do not divide a hidden size of {hidden}", shape.heads)));
    }
    Ok(())
}
