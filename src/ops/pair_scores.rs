//! Scores of the words for each pair: `v . tanh(K h_i + Q [h_E1 ; h_E2])`, the additive attention
//! of the head `entity-attention` before its softmax.

use std::ops::Range;

use candle_core::Tensor;

use crate::Result;

/// The scores in candle's operations; see [`super::Ops::pair_scores`].
pub(super) fn pair_scores(keys: &Tensor, queries: &Tensor, score: &Tensor, words: &[Range<usize>]) -> Result<Tensor> {
    let score = score.t()?;
    let mut scores = Vec::new();
    for pairs in runs(words) {
        let words = words[pairs.start].clone();
        let k = keys.narrow(0, words.start, words.len())?.unsqueeze(0)?; // (1, N, H)
        let q = queries.narrow(0, pairs.start, pairs.len())?.unsqueeze(1)?; // (p, 1, H)
        let joined = k.broadcast_add(&q)?.tanh()?.reshape((pairs.len() * words.len(), ()))?;
        scores.push(joined.matmul(&score)?.flatten_all()?);
    }
    Ok(Tensor::cat(&scores, 0)?)
}

/// Neighbours that read the same words.
pub fn runs(words: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (index, own) in words.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if words[run.start] == *own => run.end = index + 1,
            _ => runs.push(index..index + 1),
        }
    }
    runs
}
