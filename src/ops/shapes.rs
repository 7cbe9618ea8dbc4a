//! Checks of shapes and indices, shared by the engines that compute addresses from them.

use super::attention::AttentionShape;
use crate::{Error, Result};

/// An error that only a mistake inside this crate can cause.
pub(super) fn internal_error(message: String) -> Error {
    Error::Tensor(candle_core::Error::Msg(message))
}

/// Rows and columns of a matrix.
pub(super) fn matrix(shape: &[usize]) -> Result<(usize, usize)> {
    match shape {
        [rows, columns] => Ok((*rows, *columns)),
        shape => Err(internal_error(format!("expected a matrix, got the shape {shape:?}"))),
    }
}

/// Refuse any other shape.
pub(super) fn expect(what: &str, found: &[usize], shape: &[usize]) -> Result<()> {
    if found == shape {
        return Ok(());
    }
    Err(internal_error(format!("{what} has the shape {found:?}, expected {shape:?}")))
}

/// Refuse an index outside its table.
pub(super) fn expect_inside(what: &str, indices: impl IntoIterator<Item = usize>, rows: usize) -> Result<()> {
    match indices.into_iter().find(|index| *index >= rows) {
        Some(index) => Err(internal_error(format!("{what} {index} is outside of 0..{rows}"))),
        None => Ok(()),
    }
}

/// Refuse sentences that do not cover the tokens, groups that do not divide the tokens behind the
/// valid ones, or heads that do not divide the hidden size.
pub(super) fn expect_attention(shape: AttentionShape<'_>, tokens: usize, hidden: usize) -> Result<()> {
    let AttentionShape { cu_seqlens, valid_lengths, group, stride, .. } = shape;
    let starts_at_0 = cu_seqlens.first().is_none_or(|first| *first == 0);
    let covers = starts_at_0 && cu_seqlens.last().copied().unwrap_or(0) == tokens;
    if !covers || cu_seqlens.windows(2).any(|bounds| bounds[0] > bounds[1]) {
        return Err(internal_error(format!("cu_seqlens {cu_seqlens:?} do not cover {tokens} tokens in order")));
    }
    let fits = |(valid, bounds): (&usize, &[usize])| (1..=(bounds[1] - bounds[0]).max(1)).contains(valid);
    let sentences = cu_seqlens.len().saturating_sub(1);
    if valid_lengths.is_some_and(|valid| valid.len() != sentences || !valid.iter().zip(cu_seqlens.windows(2)).all(fits))
    {
        return Err(internal_error(format!("valid_lengths {valid_lengths:?} do not fit cu_seqlens {cu_seqlens:?}")));
    }
    if group > 0 {
        let Some(valid_lengths) = valid_lengths else {
            return Err(internal_error(format!("groups of {group} tokens without valid lengths")));
        };
        for (sentence, (valid, bounds)) in valid_lengths.iter().zip(cu_seqlens.windows(2)).enumerate() {
            let others = (bounds[1] - bounds[0]).saturating_sub(*valid);
            if !others.is_multiple_of(group) {
                return Err(internal_error(format!(
                    "sentence {sentence} has {others} tokens behind its {valid} valid ones, not groups of {group}"
                )));
            }
            if valid + group > stride {
                return Err(internal_error(format!(
                    "sentence {sentence} has {valid} valid tokens and groups of {group}, \
                     together more than {stride}"
                )));
            }
        }
    }
    if shape.window.is_some_and(|window| window.positions.len() != tokens) {
        return Err(internal_error(format!("a window without a position for each of {tokens} tokens")));
    }
    let longest = cu_seqlens.windows(2).map(|bounds| bounds[1] - bounds[0]).max().unwrap_or(0);
    if !stride.is_multiple_of(4) || (group == 0 && longest > stride) {
        return Err(internal_error(format!("a stride of {stride} for a sentence of {longest} tokens")));
    }
    if shape.heads == 0 || !hidden.is_multiple_of(shape.heads) {
        return Err(internal_error(format!("{} heads do not divide a hidden size of {hidden}", shape.heads)));
    }
    Ok(())
}
