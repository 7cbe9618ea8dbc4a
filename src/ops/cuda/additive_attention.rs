//! Attention pooling over the words of each sentence: two kernels instead of about fifty launches
//! by candle.

use std::ops::Range;

use candle_core::Tensor;

use super::buffer::Buffer;
use super::candle_op::Precomputed;
use super::device::{Device, argument};
use super::engine::Cuda;
use super::lists::List;
use super::parameters::blocks;
use super::shapes::{expect, internal_error, matrix};
use crate::Result;
use crate::ops::Ops;

/// Most words of a sentence, limited by the kernels' shared memory.
const MOST_WORDS: usize = 6144;

/// The activations that the forward saves for the backward.
struct Saved<D: Device> {
    last: Buffer<D>,    // (T, H)
    key: Buffer<D>,     // (1, H)
    weights: Buffer<D>, // (n, T)
    spans: List<D>,
    longest: usize,
}

/// A block for each sentence and 128 columns: a batch of 32 sentences alone would leave most
/// multiprocessors of a large GPU without work.
fn grid(sentences: usize, width: usize) -> [u32; 3] {
    [sentences as u32, blocks(width, 128), 1]
}

fn forward<D: Device>(
    cuda: &Cuda<D>,
    last: Buffer<D>,
    key: Buffer<D>,
    words: &[Range<usize>],
) -> Result<(Buffer<D>, Saved<D>)> {
    let (tokens, width) = matrix(&last)?;
    expect("the vector of the attention", &key, &[1, width])?;
    let longest = words.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
    if longest > MOST_WORDS || words.iter().any(|words| words.start >= words.end || words.end > tokens) {
        return Err(internal_error(format!("the words {words:?} are not inside of 0..{tokens}")));
    }
    let spans: Vec<i32> = words.iter().flat_map(|words| [words.start as i32, words.len() as i32]).collect();
    let spans = cuda.send(&spans)?;
    let (out, to) = cuda.floats(&[words.len(), width])?;
    let weights = cuda.zeros(&[words.len(), tokens])?;
    let (width32, tokens32, spans_at) = (width as i32, tokens as i32, spans.address());
    let (x, vector, weights_to) = (cuda.f32(&last)?, cuda.f32(&key)?, cuda.f32(&weights)?);
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
    Ok((out, Saved { last, key, weights, spans, longest }))
}

/// Gradients of the rows and of the vector.
fn backward<D: Device>(cuda: &Cuda<D>, saved: &Saved<D>, dout: &Buffer<D>) -> Result<(Buffer<D>, Buffer<D>)> {
    let Saved { last, key, weights, spans, longest } = saved;
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

/// Attention pooling as an operation that candle differentiates.
pub(super) fn attention_pooling<D: Device>(
    cuda: &Cuda<D>,
    last: &Tensor,
    key: &Tensor,
    words: &[Range<usize>],
) -> Result<(Tensor, Tensor)> {
    let (out, saved) = forward(cuda, cuda.upload_candle(last)?, cuda.upload_candle(key)?, words)?;
    let (value, weights) = (cuda.to_candle(&out)?, cuda.to_candle(&saved.weights)?);
    let (engine, shape) = (cuda.clone(), key.shape().clone());
    let backward = move |dout: &Tensor| {
        let (dx, dkey) = backward(&engine, &saved, &engine.upload_candle(dout)?)?;
        Ok((engine.to_candle(&dx)?, engine.to_candle(&dkey)?.reshape(&shape)?))
    };
    Ok((Precomputed::apply("attention-pooling-cuda", value, [last, key], backward)?, weights))
}
