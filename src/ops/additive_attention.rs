//! Additive attention of a head over the words of each sentence (paper, equations 4-6):
//! `a = softmax(h K)`, `s = sum_i a_i h_i`, with one vector K of size H.

use std::ops::Range;

use candle_core::{D, Tensor};
use candle_nn::ops::softmax;

use super::Ops;
use crate::Result;

/// Score of a token outside the sentence: its weight becomes exactly 0.
const OUTSIDE: f32 = -1e30;

/// Summaries of the words of each sentence, `(n, H)`, and the weights, `(n, T)`, in candle's
/// operations.
///
/// Every sentence sees the scores of all T tokens of the batch with the scores of other sentences
/// masked: the weighted sum is then one `(n, T) x (T, H)` product instead of n ragged ones.
pub(super) fn attention_pooling<O: Ops + ?Sized>(
    ops: &O,
    last: &Tensor,
    key: &Tensor,
    words: &[Range<usize>],
) -> Result<(Tensor, Tensor)> {
    let (tokens, sentences) = (last.dim(0)?, words.len());
    let mut mask = vec![OUTSIDE; sentences * tokens];
    for (sentence, words) in words.iter().enumerate() {
        mask[sentence * tokens..][words.clone()].fill(0.0);
    }
    let mask = ops.to_candle(&ops.upload(&mask, &[sentences, tokens])?)?;
    let scores = last.matmul(&key.t()?)?.reshape((1, tokens))?; // (1, T)
    let a = softmax(&scores.broadcast_add(&mask)?, D::Minus1)?; // (n, T)
    Ok((a.matmul(last)?, a))
}
