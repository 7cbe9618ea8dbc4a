//! Attention: one task per sentence and head, whose scores stay in its core's cache.
//!
//! The forward saves the probabilities before dropout, with the sign bit set where dropout zeroed
//! one. So the backward recomputes neither scores nor exponentials nor masks.

use rayon::prelude::*;

use super::buffer::{Buffer, Pool};
use super::dropout::Mask;
use super::engine::{Cpu, expect, matrix};
use super::math::{LANES, softmax, sum_of};
use super::matmul::{Matrix, MatrixMut};
use super::simd::{Simd, kernel};
use super::small_matmul;
use crate::Result;
use crate::ops::shapes::{expect_attention, internal_error};
use crate::ops::{ATTENTION_STRIDE, AttentionShape};
use crate::rng::Dropout;

/// Probabilities of every sentence and head, one `(L, stride(L))` block after the other.
#[derive(Debug)]
pub struct Probabilities {
    blocks: Buffer,
}

impl Probabilities {
    /// Refuse probabilities of other sentences.
    pub(super) fn expect(&self, shape: AttentionShape<'_>) -> Result<()> {
        expect("the probabilities", &self.blocks, &[total(shape)])
    }
}

/// Elements of all blocks.
fn total(shape: AttentionShape<'_>) -> usize {
    sentences(shape).map(|(_, length, _)| shape.heads * length * stride(length)).sum()
}

/// Elements between two rows of a block: whole vectors, so that products need no special last
/// columns.
pub(super) fn stride(length: usize) -> usize {
    length.next_multiple_of(LANES)
}

/// Rows of scores that are computed, turned into probabilities and used while they are in the
/// nearest cache.
const QUERIES: usize = 8;

/// One sentence and head.
#[derive(Debug, Clone, Copy)]
struct Task {
    start: usize,
    length: usize,
    /// How many of its tokens are attended to, from the first.
    keys: usize,
    head: usize,
}

/// Sizes that all tasks share.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    heads: usize,
    /// D.
    size: usize,
}

impl Sizes {
    fn new(shape: AttentionShape<'_>, hidden: usize) -> Self {
        Self { heads: shape.heads, size: hidden / shape.heads.max(1) }
    }

    fn hidden(self) -> usize {
        self.heads * self.size
    }

    fn scale(self) -> f32 {
        1.0 / (self.size as f32).sqrt()
    }

    /// The queries (0), keys (1) or values (2) of a task, `(L, D)`.
    fn part(self, qkv: &[f32], task: Task, part: usize) -> Matrix<'_, f32> {
        let width = 3 * self.hidden();
        let from = task.start * width + part * self.hidden() + task.head * self.size;
        Matrix::strided(&qkv[from..], task.length, self.size, width)
    }

    /// A task's columns of a `(T, H)` matrix, `(L, D)`.
    fn columns(self, x: &[f32], task: Task) -> Matrix<'_, f32> {
        let from = task.start * self.hidden() + task.head * self.size;
        Matrix::strided(&x[from..], task.length, self.size, self.hidden())
    }
}

/// Sentences that have tokens: (start, length, keys).
fn sentences<'a>(shape: AttentionShape<'a>) -> impl Iterator<Item = (usize, usize, usize)> + 'a {
    let sizes = shape.cu_seqlens.windows(2).enumerate().map(move |(sentence, bounds)| {
        let length = bounds[1] - bounds[0];
        (bounds[0], length, shape.valid_length(sentence, length))
    });
    sizes.filter(|(_, length, _)| *length > 0)
}

/// Every task with its block of the probabilities.
fn tasks<'a>(shape: AttentionShape<'a>, blocks: &'a [f32]) -> impl Iterator<Item = (Task, &'a [f32])> {
    let mut rest = blocks;
    all(shape).map(move |task| {
        let (block, others) = rest.split_at(task.length * stride(task.length));
        rest = others;
        (task, block)
    })
}

fn all<'a>(shape: AttentionShape<'a>) -> impl Iterator<Item = Task> + 'a {
    let of = move |(start, length, keys)| (0..shape.heads).map(move |head| Task { start, length, keys, head });
    sentences(shape).flat_map(of)
}

/// `(T, 3H)` to `(T, H)`.
fn forward(
    simd: Simd,
    pool: &Pool,
    qkv: &[f32],
    hidden: usize,
    shape: AttentionShape<'_>,
    dropout: Option<&Dropout>,
    out: &mut [f32],
) -> Probabilities {
    let sizes = Sizes::new(shape, hidden);
    let (mask, scale) = (dropout.map(Mask::from), sizes.scale());
    let mut blocks = pool.uninit(&[total(shape)]);
    blocks.fill(|mut blocks| {
        let mut jobs = Vec::new();
        let mut out = out;
        for (start, length, keys) in sentences(shape) {
            let (rows, others) = std::mem::take(&mut out).split_at_mut(length * hidden);
            out = others;
            for (head, columns) in MatrixMut::new(rows, length, hidden).split_columns(sizes.size).enumerate() {
                let (block, others) = std::mem::take(&mut blocks).split_at_mut(length * stride(length));
                blocks = others;
                jobs.push((Task { start, length, keys, head }, columns, block));
            }
        }
        jobs.into_par_iter().for_each(|(task, mut out, block)| {
            let (length, stride) = (task.length, stride(task.length));
            let [q, k, v] = [0, 1, 2].map(|part| sizes.part(qkv, task, part));
            [k, q, v].into_iter().for_each(small_matmul::prefetch);
            let mut scratch = pool.uninit(&[sizes.size + QUERIES, stride]);
            scratch.fill(|scratch| {
                let (keys, dropped) = scratch.split_at_mut(sizes.size * stride);
                small_matmul::transpose(simd, k, stride, keys);
                let keys = Matrix::new(keys, sizes.size, stride);
                for first in (0..length).step_by(QUERIES) {
                    let queries = first..length.min(first + QUERIES);
                    let p = &mut block[first * stride..queries.end * stride];
                    let rows = queries.len();
                    small_matmul::small_matmul(
                        simd,
                        &mut MatrixMut::new(p, rows, stride),
                        q.some_rows(queries.clone()),
                        keys,
                        scale,
                    );
                    let weights = match &mask {
                        None => {
                            softmax_rows(simd, p, task.keys, stride);
                            &*p
                        }
                        Some(mask) => {
                            let row = ((task.start + first) * sizes.heads + task.head) * ATTENTION_STRIDE;
                            let step = sizes.heads * ATTENTION_STRIDE;
                            softmax_dropout(simd, p, dropped, task.keys, stride, mask, row as u64, step as u64);
                            &*dropped
                        }
                    };
                    let weights = Matrix::strided(weights, rows, length, stride);
                    small_matmul::small_matmul(simd, &mut out.some_rows(queries), weights, v, 1.0);
                }
            });
        });
    });
    Probabilities { blocks }
}

kernel! {
    /// Rows of `length` scores become probabilities; the elements between `length` and `stride`
    /// become 0.
    pub(super) fn softmax_rows<A>(scores: &mut [f32], length: usize, stride: usize) {
        for row in scores.chunks_exact_mut(stride) {
            softmax::<A>(row, length);
        }
    }
}

kernel! {
    /// Rows of `length` scores become probabilities, marked by their sign where dropout zeroes
    /// them; `dropped` those after dropout. The first row's mask starts at element `start`, the
    /// next row's `step` further.
    pub(super) fn softmax_dropout<A>(
        scores: &mut [f32],
        dropped: &mut [f32],
        length: usize,
        stride: usize,
        mask: &Mask,
        start: u64,
        step: u64,
    ) {
        for (row, (p, dropped)) in scores.chunks_exact_mut(stride).zip(dropped.chunks_exact_mut(stride)).enumerate() {
            softmax::<A>(p, length);
            mask.fill_inline(start + row as u64 * step, dropped);
        }
        for (p, dropped) in scores.iter_mut().zip(dropped) {
            let zeroed = *dropped == 0.0;
            *dropped *= *p;
            *p = if zeroed { -*p } else { *p };
        }
    }
}

kernel! {
    /// From marked probabilities and the gradient of those after dropout: `dropped`, the
    /// probabilities after dropout, and in place of `gradient` that of the scores. With M the mask,
    /// `dP = gradient M` and `dS = P (dP - rowsum(P dP))`.
    pub(super) fn scores_gradient<A>(marked: &[f32], scale: f32, dropped: &mut [f32], gradient: &mut [f32], stride: usize) {
        let rows = marked.chunks_exact(stride).zip(dropped.chunks_exact_mut(stride));
        for ((p, dropped), gradient) in rows.zip(gradient.chunks_exact_mut(stride)) {
            let (p, _) = p.as_chunks::<LANES>();
            let (dropped, _) = dropped.as_chunks_mut::<LANES>();
            let (gradient, _) = gradient.as_chunks_mut::<LANES>();
            let mut sums = [0.0; LANES];
            for ((p, dropped), gradient) in p.iter().zip(dropped).zip(gradient.iter_mut()) {
                for i in 0..LANES {
                    let zeroed = p[i].is_sign_negative();
                    dropped[i] = if zeroed { 0.0 } else { p[i] * scale };
                    gradient[i] = if zeroed { 0.0 } else { gradient[i] * scale };
                    // A zeroed probability has a negative sign and a gradient of 0: it adds nothing.
                    sums[i] = A::madd(p[i], gradient[i], sums[i]);
                }
            }
            let inner = sum_of([&sums], |[sum]| sum);
            // Flat: nested loops without a sum make the compiler gather one lane of every piece.
            for (p, gradient) in p.as_flattened().iter().zip(gradient.as_flattened_mut()) {
                *gradient = p.abs() * (*gradient - inner);
            }
        }
    }
}

/// The gradient of `qkv`, `(T, 3H)`.
#[allow(clippy::too_many_arguments)]
fn backward(
    simd: Simd,
    pool: &Pool,
    qkv: &[f32],
    hidden: usize,
    probabilities: &Probabilities,
    dy: &[f32],
    shape: AttentionShape<'_>,
    dropout: Option<&Dropout>,
    out: &mut [f32],
) {
    let sizes = Sizes::new(shape, hidden);
    let keep = dropout.map_or(1.0, Dropout::scale);
    let mut blocks = tasks(shape, probabilities.blocks.values());
    let mut jobs = Vec::new();
    let mut out = out;
    for (_, length, _) in sentences(shape) {
        let (rows, others) = std::mem::take(&mut out).split_at_mut(length * 3 * hidden);
        out = others;
        // N blocks of queries, N of keys, N of values.
        let mut columns: Vec<_> = MatrixMut::new(rows, length, 3 * hidden).split_columns(sizes.size).collect();
        let values = columns.split_off(2 * sizes.heads);
        let keys = columns.split_off(sizes.heads);
        for (((dq, dk), dv), (task, block)) in columns.into_iter().zip(keys).zip(values).zip(&mut blocks) {
            jobs.push((task, block, [dq, dk, dv]));
        }
    }
    jobs.into_par_iter().for_each(|(task, marked, [mut dq, mut dk, mut dv])| {
        let (length, stride) = (task.length, stride(task.length));
        let [q, k, v] = [0, 1, 2].map(|part| sizes.part(qkv, task, part));
        let dout = sizes.columns(dy, task);
        [v, dout, k, q].into_iter().for_each(small_matmul::prefetch);
        let mut scratch = pool.uninit(&[sizes.size + 2 * length, stride]);
        scratch.fill(|scratch| {
            let (values, rest) = scratch.split_at_mut(sizes.size * stride);
            let (dropped, ds) = rest.split_at_mut(length * stride);
            small_matmul::transpose(simd, v, stride, values);
            let values = Matrix::new(values, sizes.size, stride);
            for first in (0..length).step_by(QUERIES) {
                let queries = first..length.min(first + QUERIES);
                let range = first * stride..queries.end * stride;
                let (p, dropped, ds) = (&marked[range.clone()], &mut dropped[range.clone()], &mut ds[range]);
                let rows = queries.len();
                let dout = dout.some_rows(queries.clone());
                small_matmul::small_matmul(simd, &mut MatrixMut::new(ds, rows, stride), dout, values, 1.0);
                scores_gradient(simd, p, keep, dropped, ds, stride);
                let ds = Matrix::strided(ds, rows, length, stride);
                small_matmul::small_matmul(simd, &mut dq.some_rows(queries), ds, k, sizes.scale());
            }
            let dropped = Matrix::strided(dropped, length, length, stride);
            small_matmul::small_matmul(simd, &mut dv, dropped.t(), dout, 1.0);
            let ds = Matrix::strided(ds, length, length, stride);
            small_matmul::small_matmul(simd, &mut dk, ds.t(), q, sizes.scale());
        });
    });
}

pub(super) fn attention(
    cpu: &Cpu,
    qkv: &Buffer,
    shape: AttentionShape<'_>,
    dropout: Option<&Dropout>,
) -> Result<(Buffer, Probabilities)> {
    let (tokens, width) = matrix(qkv)?;
    let hidden = width / 3;
    expect("queries, keys and values", qkv, &[tokens, 3 * hidden])?;
    expect_attention(shape, tokens, hidden)?;
    if shape.group > 0 {
        return Err(internal_error("the CPU engine has no groups of tokens yet".into()));
    }
    let mut out = cpu.pool.uninit(&[tokens, hidden]);
    let probabilities = out.fill(|out| forward(cpu.simd, &cpu.pool, qkv.values(), hidden, shape, dropout, out));
    Ok((out, probabilities))
}

pub(super) fn attention_backward(
    cpu: &Cpu,
    qkv: &Buffer,
    probabilities: Probabilities,
    dy: &Buffer,
    shape: AttentionShape<'_>,
    dropout: Option<&Dropout>,
) -> Result<Buffer> {
    let (tokens, hidden) = matrix(dy)?;
    expect("queries, keys and values", qkv, &[tokens, 3 * hidden])?;
    expect_attention(shape, tokens, hidden)?;
    probabilities.expect(shape)?;
    let mut out = cpu.pool.uninit(&[tokens, 3 * hidden]);
    out.fill(|out| {
        let (qkv, dy) = (qkv.values(), dy.values());
        backward(cpu.simd, &cpu.pool, qkv, hidden, &probabilities, dy, shape, dropout, out);
    });
    Ok(out)
}
