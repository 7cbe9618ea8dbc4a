//! Refusals of what does not fit, the same in every engine that computes with indices of its own.

use super::attention::AttentionShape;
use crate::{Error, Result};

/// An error that a caller inside of the crate has made.
pub(super) fn defect(message: String) -> Error {
    Error::Tensor(candle_core::Error::Msg(message))
}

/// Rows and columns of a matrix.
pub(super) fn matrix(shape: &[usize]) -> Result<(usize, usize)> {
    match shape {
        [rows, columns] => Ok((*rows, *columns)),
        shape => Err(defect(format!("expected a matrix, got the shape {shape:?}"))),
    }
}

/// Refuse another shape.
pub(super) fn expect(what: &str, found: &[usize], shape: &[usize]) -> Result<()> {
    if found == shape {
        return Ok(());
    }
    Err(defect(format!("{what} has the shape {found:?}, expected {shape:?}")))
}

/// Refuse an index that is outside of its table.
pub(super) fn expect_inside(what: &str, indices: impl IntoIterator<Item = usize>, rows: usize) -> Result<()> {
    match indices.into_iter().find(|index| *index >= rows) {
        Some(index) => Err(defect(format!("{what} {index} is outside of 0..{rows}"))),
        None => Ok(()),
    }
}

/// Refuse sentences that do not cover the tokens, or heads that do not divide the hidden size.
pub(super) fn expect_attention(shape: AttentionShape<'_>, tokens: usize, hidden: usize) -> Result<()> {
    let starts = shape.starts;
    let covers = starts.first().is_none_or(|first| *first == 0) && starts.last().copied().unwrap_or(0) == tokens;
    if !covers || starts.windows(2).any(|bounds| bounds[0] > bounds[1]) {
        return Err(defect(format!("sentence starts {starts:?} do not cover {tokens} tokens in order")));
    }
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
