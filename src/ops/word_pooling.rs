//! Attention of a head over words, with a backward of its own: the specification, which engines
//! without a faster implementation also call. candle differentiates it.

use std::ops::Range;

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};

use super::shapes::{expect, internal_error, matrix};
use super::{Ops, WordScoreGradients, WordScores};
use crate::{Error, Result};

/// What candle needs to differentiate [`Ops::pool_words`].
pub struct PooledByCandle {
    summaries: Tensor,
    last: Var,
    /// The arguments of the scores, in order.
    scores: Vec<Var>,
}

/// See [`Ops::pool_words`].
pub(super) fn pool_words<O: Ops + ?Sized>(
    ops: &O,
    last: &O::Buffer,
    scores: &WordScores<'_, O::Buffer>,
    words: &[Range<usize>],
) -> Result<(O::Buffer, PooledByCandle)> {
    let leaf = |x: &O::Buffer| Ok::<_, Error>(Var::from_tensor(&ops.to_candle(x)?)?);
    let last = leaf(last)?;
    let (tokens, width) = matrix(last.dims())?;
    if let Some(range) = words.iter().find(|range| range.start > range.end || range.end > tokens) {
        return Err(internal_error(format!("words {range:?} are outside of {tokens} tokens")));
    }
    let (summaries, scores) = match scores {
        WordScores::Key(key) => {
            let key = leaf(key)?;
            expect("the vector of the attention", key.dims(), &[1, width])?;
            (ops.attention_pooling(&last, &key, words)?.0, vec![key])
        }
        WordScores::Pairs { keys, entities, query, score } => {
            let [keys, entities, query, score] = [leaf(keys)?, leaf(entities)?, leaf(query)?, leaf(score)?];
            expect("the keys of the attention", keys.dims(), &[tokens, width])?;
            expect("the vectors of the entities", entities.dims(), &[words.len(), 2 * width])?;
            expect("the query of the attention", query.dims(), &[width, 2 * width])?;
            expect("the score of the attention", score.dims(), &[1, width])?;
            let queries = entities.matmul(&query.t()?)?; // (n, H)
            let scores = ops.pair_scores(&keys, &queries, &score, words)?;
            (ops.softmax_pooling(&last, &scores, words)?.0, vec![keys, entities, query, score])
        }
    };
    Ok((ops.upload_candle(&summaries.detach())?, PooledByCandle { summaries, last, scores }))
}

/// See [`Ops::pool_words_backward`].
pub(super) fn pool_words_backward<O: Ops + ?Sized>(
    ops: &O,
    pooled: &PooledByCandle,
    dy: &O::Buffer,
    onto: Option<O::Buffer>,
) -> Result<(O::Buffer, WordScoreGradients<O::Buffer>)> {
    let gradients = (&pooled.summaries * ops.to_candle(dy)?)?.sum_all()?.backward()?;
    let of = |var: &Var| gradient_of(ops, &gradients, var);
    let scores = match pooled.scores.as_slice() {
        [keys, entities, query, score] => {
            let keys = of(keys)?;
            let entities = match onto {
                Some(onto) => ops.add(onto, &of(entities)?)?,
                None => of(entities)?,
            };
            let bias = ops.column_sum(&keys)?;
            WordScoreGradients::Pairs { keys, bias, entities, query: of(query)?, score: of(score)? }
        }
        scores => WordScoreGradients::Key(of(&scores[0])?),
    };
    Ok((of(&pooled.last)?, scores))
}

/// The gradient of a leaf on the engine; zeros if it has none.
pub(super) fn gradient_of<O: Ops + ?Sized>(ops: &O, gradients: &GradStore, leaf: &Var) -> Result<O::Buffer> {
    match gradients.get(leaf) {
        Some(gradient) => ops.upload_candle(gradient),
        None => ops.upload_candle(&leaf.zeros_like()?),
    }
}
