//! Attention pooling of a head from scores: `a = softmax(s)` over the words of each instance, and
//! `sum_i a_i h_i`.

use std::ops::Range;

use candle_core::{D, Tensor};
use candle_nn::ops::softmax;

use super::pair_scores::runs;
use crate::Result;

/// Summaries and weights in candle's operations; see [`super::Ops::softmax_pooling`].
pub(super) fn softmax_pooling(last: &Tensor, scores: &Tensor, words: &[Range<usize>]) -> Result<(Tensor, Tensor)> {
    let tokens = last.dim(0)?;
    let (mut summaries, mut weights, mut start) = (Vec::new(), Vec::new(), 0);
    for instances in runs(words) {
        let words = words[instances.start].clone();
        let size = instances.len() * words.len();
        let scores = scores.narrow(0, start, size)?.reshape((instances.len(), words.len()))?;
        start += size;
        let a = softmax(&scores, D::Minus1)?; // (p, N)
        let h = last.narrow(0, words.start, words.len())?; // (N, H)
        summaries.push(a.matmul(&h)?);
        weights.push(a.pad_with_zeros(1, words.start, tokens - words.end)?);
    }
    Ok((Tensor::cat(&summaries, 0)?, Tensor::cat(&weights, 0)?))
}
