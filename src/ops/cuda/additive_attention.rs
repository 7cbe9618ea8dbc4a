//! A head's attention over the words of each sentence: a kernel or two each for forward and
//! backward instead of about fifty launches by candle.

use std::ops::Range;

use candle_core::Tensor;

use super::buffer::Buffer;
use super::candle_op::Precomputed;
use super::device::{Device, argument};
use super::engine::Cuda;
use super::linear::{linear, linear_backward};
use super::lists::List;
use super::parameters::{blocks, bytes_of};
use super::shapes::{expect, internal_error, matrix};
use crate::Result;
use crate::ops::pair_scores::runs;
use crate::ops::{Ops, WordScoreGradients, WordScores};

/// Most words of a sentence, limited by the kernels' shared memory.
const MOST_WORDS: usize = 6144;

/// The activations that the forward saves for the backward.
pub struct PooledWords<D: Device> {
    last: Buffer<D>,    // (T, H)
    weights: Buffer<D>, // (n, T)
    spans: List<D>,
    longest: usize,
    scores: Scores<D>,
}

/// [`WordScores`], and what is computed from them.
enum Scores<D: Device> {
    Key(Buffer<D>), // (1, H)
    Pairs(Box<Pairs<D>>),
}

struct Pairs<D: Device> {
    keys: Buffer<D>,     // (T, H)
    entities: Buffer<D>, // (n, 2H)
    query: Buffer<D>,    // (H, 2H)
    queries: Buffer<D>,  // (n, H)
    score: Buffer<D>,    // (1, H)
    /// For each row of the last layer, the first pair that reads it and their number.
    readers: List<D>,
}

/// A block for each sentence and 128 columns: a batch of 32 sentences alone would leave most
/// multiprocessors of a large GPU without work.
fn grid(sentences: usize, width: usize) -> [u32; 3] {
    [sentences as u32, blocks(width, 128), 1]
}

/// The words as the kernels read them, and the number of the longest; refuses those outside of the tokens.
pub(super) fn spans(words: &[Range<usize>], tokens: usize) -> Result<(Vec<i32>, usize)> {
    let longest = words.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
    if longest > MOST_WORDS || words.iter().any(|words| words.start >= words.end || words.end > tokens) {
        return Err(internal_error(format!("the words {words:?} are not inside of 0..{tokens}")));
    }
    let spans = words.iter().flat_map(|words| [words.start as i32, words.len() as i32]).collect();
    Ok((spans, longest))
}

/// See [`Pairs::readers`]; refuses words that overlap, unless they are the same for neighbours.
pub(super) fn readers(words: &[Range<usize>], tokens: usize) -> Result<Vec<i32>> {
    let mut readers = vec![0; 2 * tokens];
    for pairs in runs(words) {
        for row in words[pairs.start].clone() {
            if readers[2 * row + 1] > 0 {
                return Err(internal_error(format!("the words {words:?} overlap")));
            }
            (readers[2 * row], readers[2 * row + 1]) = (pairs.start as i32, pairs.len() as i32);
        }
    }
    Ok(readers)
}

/// Summaries and weights. Weights outside of a sentence's words are 0 if `shown`, else undefined.
fn attend<D: Device>(
    cuda: &Cuda<D>,
    last: &Buffer<D>,
    key: &Buffer<D>,
    words: &[Range<usize>],
    shown: bool,
) -> Result<(Buffer<D>, PooledWords<D>)> {
    let (tokens, width) = matrix(last)?;
    expect("the vector of the attention", key, &[1, width])?;
    let (spans, longest) = spans(words, tokens)?;
    let spans = cuda.send(&spans)?;
    let (out, to) = cuda.floats(&[words.len(), width])?;
    let weights = match shown {
        true => cuda.zeros(&[words.len(), tokens])?,
        false => cuda.floats(&[words.len(), tokens])?.0,
    };
    let (width32, tokens32, spans_at) = (width as i32, tokens as i32, spans.address());
    let (x, vector, weights_to) = (cuda.f32(last)?, cuda.f32(key)?, cuda.f32(&weights)?);
    let mut arguments = [
        argument(&width32),
        argument(&tokens32),
        argument(&spans_at),
        argument(&x),
        argument(&vector),
        argument(&to),
        argument(&weights_to),
    ];
    // SAFETY: (int, int, const Span*, const float*, const float*, float*, float*); the spans were checked.
    unsafe { cuda.launch("attention_pooling", grid(words.len(), width), 128, 4 * longest, &mut arguments)? };
    Ok((out, PooledWords { last: last.clone(), weights, spans, longest, scores: Scores::Key(key.clone()) }))
}

/// Gradients of the rows and of the vector.
fn attend_backward<D: Device>(
    cuda: &Cuda<D>,
    pooled: &PooledWords<D>,
    key: &Buffer<D>,
    dout: &Buffer<D>,
) -> Result<(Buffer<D>, Buffer<D>)> {
    let PooledWords { last, weights, spans, longest, .. } = pooled;
    let ((tokens, width), (sentences, _)) = (matrix(last)?, matrix(weights)?);
    expect("the gradient of the summaries", dout, &[sentences, width])?;
    let dx = cuda.zeros(&[tokens, width])?;
    let partial = cuda.pool.block(4 * sentences * width)?;
    let (width32, tokens32, longest32) = (width as i32, tokens as i32, *longest as i32);
    let (spans, x, vector, a) = (spans.address(), cuda.f32(last)?, cuda.f32(key)?, cuda.f32(weights)?);
    let (dout, to, partial_at) = (cuda.f32(dout)?, cuda.f32(&dx)?, partial.address());
    let mut arguments = [
        argument(&width32),
        argument(&tokens32),
        argument(&longest32),
        argument(&spans),
        argument(&x),
        argument(&vector),
        argument(&a),
        argument(&dout),
        argument(&to),
        argument(&partial_at),
    ];
    // SAFETY: (int, int, int, const Span*, const float* x 4, float*, float*).
    unsafe {
        cuda.launch("attention_pooling_backward", grid(sentences, width), 128, 8 * longest, &mut arguments)?;
    }
    let [dkey] = cuda.reduce(partial, sentences, width)?;
    Ok((dx, dkey))
}

/// Summaries of each pair; see [`WordScores::Pairs`].
fn attend_to_pairs<D: Device>(
    cuda: &Cuda<D>,
    last: &Buffer<D>,
    [keys, entities, query, score]: [&Buffer<D>; 4],
    words: &[Range<usize>],
) -> Result<(Buffer<D>, PooledWords<D>)> {
    let ((tokens, width), pairs) = (matrix(last)?, words.len());
    expect("the keys of the attention", keys, &[tokens, width])?;
    expect("the vectors of the entities", entities, &[pairs, 2 * width])?;
    expect("the score of the attention", score, &[1, width])?;
    let queries = linear(&cuda.in_f32(), entities, query, None)?;
    expect("the queries", &queries, &[pairs, width])?;
    let (spans, longest) = spans(words, tokens)?;
    let [spans, readers] = cuda.send_all([bytes_of(&spans), bytes_of(&readers(words, tokens)?)])?;
    let (out, to) = cuda.floats(&[pairs, width])?;
    let (weights, weights_to) = cuda.floats(&[pairs, tokens])?;
    let (width32, tokens32, spans_at) = (width as i32, tokens as i32, spans.address());
    let (x, keys_at, queries_at, score_at) =
        (cuda.f32(last)?, cuda.input(keys)?, cuda.f32(&queries)?, cuda.f32(score)?);
    let mut arguments = [
        argument(&width32),
        argument(&tokens32),
        argument(&spans_at),
        argument(&x),
        argument(&keys_at),
        argument(&queries_at),
        argument(&score_at),
        argument(&to),
        argument(&weights_to),
    ];
    // SAFETY: (int, int, const Span*, const float*, In, const float*, const float*, float*, float*); the spans were checked.
    unsafe { cuda.launch("pair_pooling", grid(pairs, width), 128, 4 * longest, &mut arguments)? };
    let [keys, entities, query, score] = [keys, entities, query, score].map(Clone::clone);
    let scores = Scores::Pairs(Box::new(Pairs { keys, entities, query, queries, score, readers }));
    Ok((out, PooledWords { last: last.clone(), weights, spans, longest, scores }))
}

/// Gradients of the rows and of the arguments of the scores.
fn attend_to_pairs_backward<D: Device>(
    cuda: &Cuda<D>,
    pooled: &PooledWords<D>,
    of: &Pairs<D>,
    dout: &Buffer<D>,
    onto: Option<Buffer<D>>,
) -> Result<(Buffer<D>, WordScoreGradients<Buffer<D>>)> {
    let PooledWords { last, weights, spans, longest, .. } = pooled;
    let ((tokens, width), (pairs, _)) = (matrix(last)?, matrix(weights)?);
    expect("the gradient of the summaries", dout, &[pairs, width])?;
    let dscores = cuda.pool.block(4 * pairs * tokens)?;
    let (dqueries, dqueries_to) = cuda.floats(&[pairs, width])?;
    let partial = cuda.pool.block(8 * pairs * width)?;
    let (width32, tokens32, longest32) = (width as i32, tokens as i32, *longest as i32);
    let (spans, x, keys, queries) = (spans.address(), cuda.f32(last)?, cuda.input(&of.keys)?, cuda.f32(&of.queries)?);
    let (score, a, dout) = (cuda.f32(&of.score)?, cuda.f32(weights)?, cuda.f32(dout)?);
    let (dscores_at, partial_at) = (dscores.address(), partial.address());
    let mut arguments = [
        argument(&width32),
        argument(&tokens32),
        argument(&longest32),
        argument(&spans),
        argument(&x),
        argument(&keys),
        argument(&queries),
        argument(&score),
        argument(&a),
        argument(&dout),
        argument(&dscores_at),
        argument(&dqueries_to),
        argument(&partial_at),
    ];
    // SAFETY: (int, int, int, const Span*, const float*, In, const float* x 4, float*, float*, float*).
    unsafe { cuda.launch("pair_pooling_backward", grid(pairs, width), 128, 8 * longest, &mut arguments)? };
    // Only products read the gradient of the keys.
    let (dx, dx_to) = cuda.floats(&[tokens, width])?;
    let (dkeys, dkeys_to) = cuda.make(&[tokens, width], cuda.between())?;
    let readers = of.readers.address();
    let mut arguments = [
        argument(&width32),
        argument(&tokens32),
        argument(&readers),
        argument(&keys),
        argument(&queries),
        argument(&score),
        argument(&a),
        argument(&dscores_at),
        argument(&dout),
        argument(&dx_to),
        argument(&dkeys_to),
    ];
    // SAFETY: (int, int, const Span*, In, const float* x 5, float*, Out); a row's readers were made from the spans.
    unsafe { cuda.launch("pair_pooling_rows", grid(tokens, width), 128, 0, &mut arguments)? };
    let (dentities, dquery) = linear_backward(&cuda.in_f32(), &of.entities, &of.query, &dqueries, onto)?;
    let [dscore, bias] = cuda.reduce(partial, pairs, width)?;
    let dscore = dscore.reshaped(&[1, width]);
    Ok((dx, WordScoreGradients::Pairs { keys: dkeys, bias, entities: dentities, query: dquery, score: dscore }))
}

/// See [`Ops::pool_words`].
pub(super) fn pool_words<D: Device>(
    cuda: &Cuda<D>,
    last: &Buffer<D>,
    scores: &WordScores<'_, Buffer<D>>,
    words: &[Range<usize>],
) -> Result<(Buffer<D>, PooledWords<D>)> {
    match scores {
        WordScores::Key(key) => attend(cuda, last, key, words, false),
        WordScores::Pairs { keys, entities, query, score } => {
            attend_to_pairs(cuda, last, [keys, entities, query, score], words)
        }
    }
}

/// See [`Ops::pool_words_backward`].
pub(super) fn pool_words_backward<D: Device>(
    cuda: &Cuda<D>,
    pooled: &PooledWords<D>,
    dy: &Buffer<D>,
    onto: Option<Buffer<D>>,
) -> Result<(Buffer<D>, WordScoreGradients<Buffer<D>>)> {
    match &pooled.scores {
        Scores::Key(key) => {
            let (dx, dkey) = attend_backward(cuda, pooled, key, dy)?;
            Ok((dx, WordScoreGradients::Key(dkey.reshaped(key.shape()))))
        }
        Scores::Pairs(of) => attend_to_pairs_backward(cuda, pooled, of, dy, onto),
    }
}

/// Attention pooling as an operation that candle differentiates.
pub(super) fn attention_pooling<D: Device>(
    cuda: &Cuda<D>,
    last: &Tensor,
    key: &Tensor,
    words: &[Range<usize>],
) -> Result<(Tensor, Tensor)> {
    let vector = cuda.upload_candle(key)?;
    let (out, pooled) = attend(cuda, &cuda.upload_candle(last)?, &vector, words, true)?;
    let (value, weights) = (cuda.to_candle(&out)?, cuda.to_candle(&pooled.weights)?);
    let (engine, shape) = (cuda.clone(), key.shape().clone());
    let backward = move |dout: &Tensor| {
        let (dx, dkey) = attend_backward(&engine, &pooled, &vector, &engine.upload_candle(dout)?)?;
        Ok((engine.to_candle(&dx)?, engine.to_candle(&dkey)?.reshape(&shape)?))
    };
    Ok((Precomputed::apply("attention-pooling-cuda", value, [last, key], backward)?, weights))
}
