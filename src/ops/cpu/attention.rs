//! Attention: one task per sentence and head, whose scores stay in its core's cache.
//!
//! Kept for the backward: the probabilities before dropout, with the sign bit set where dropout zeroed one. So the
//! backward neither recomputes scores and exponentials nor draws the masks again.

use gemm::Parallelism;
use rayon::prelude::*;

use super::buffer::{Buffer, Pool};
use super::expect;
use super::mask::{Mask, fill_rows};
use super::math::{exp, largest, sum_of};
use super::simd::{Simd, kernel};
use crate::Result;
use crate::ops::product::{Matrix, MatrixMut, multiply, multiply_into};
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
    sentences(shape).map(|(_, length)| shape.heads * length * stride(length)).sum()
}

/// Elements between two rows of a block: whole blocks of random numbers.
fn stride(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// One sentence and head.
#[derive(Debug, Clone, Copy)]
struct Task {
    start: usize,
    length: usize,
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

/// Sentences that have tokens: (start, length).
fn sentences<'a>(shape: AttentionShape<'a>) -> impl Iterator<Item = (usize, usize)> + 'a {
    shape.starts.windows(2).map(|bounds| (bounds[0], bounds[1] - bounds[0])).filter(|(_, length)| *length > 0)
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
    sentences(shape).flat_map(move |(start, length)| (0..shape.heads).map(move |head| Task { start, length, head }))
}

/// `(T, 3H)` to `(T, H)`.
pub fn forward(
    simd: Simd,
    pool: &Pool,
    qkv: &[f32],
    hidden: usize,
    shape: AttentionShape<'_>,
    dropout: Option<&Dropout>,
    out: &mut [f32],
) -> Probabilities {
    let sizes = Sizes::new(shape, hidden);
    let mask = dropout.map(Mask::from);
    let mut blocks = pool.dirty(&[total(shape)]);
    blocks.fill(|mut blocks| {
        let mut jobs = Vec::new();
        let mut out = out;
        for (start, length) in sentences(shape) {
            let (rows, others) = std::mem::take(&mut out).split_at_mut(length * hidden);
            out = others;
            for (head, columns) in MatrixMut::new(rows, length, hidden).split_columns(sizes.size).enumerate() {
                let (block, others) = std::mem::take(&mut blocks).split_at_mut(length * stride(length));
                blocks = others;
                jobs.push((Task { start, length, head }, columns, block));
            }
        }
        jobs.into_par_iter().for_each(|(task, mut out, block)| {
            let (length, stride) = (task.length, stride(task.length));
            let [q, k, v] = [0, 1, 2].map(|part| sizes.part(qkv, task, part));
            multiply(block, stride, q, k.t(), sizes.scale(), 0.0, Parallelism::None);
            softmax(simd, block, length, stride);
            let dropped = mask.map(|mask| {
                let mut dropped = pool.dirty(&[length, stride]);
                dropped.fill(|dropped| {
                    draw(simd, &mask, task, sizes.heads, dropped);
                    drop_marking(simd, block, dropped);
                });
                dropped
            });
            let weights = dropped.as_ref().map_or(&*block, |dropped| dropped.values());
            let weights = Matrix::strided(weights, length, length, stride);
            multiply_into(&mut out, weights, v, 1.0, 0.0, Parallelism::None);
        });
    });
    Probabilities { blocks }
}

/// The mask of a task, `(L, stride)`.
fn draw(simd: Simd, mask: &Mask, task: Task, heads: usize, out: &mut [f32]) {
    let block = |token: usize| ((token * heads + task.head) * ATTENTION_STRIDE / 4) as u32;
    let step = (heads * ATTENTION_STRIDE / 4) as u32;
    fill_rows(simd, mask, block(task.start), step, stride(task.length) / 4, out);
}

kernel! {
    /// Rows of `length` scores become probabilities; what lies between `length` and `stride` becomes 0.
    fn softmax<A>(scores: &mut [f32], length: usize, stride: usize) {
        for row in scores.chunks_exact_mut(stride) {
            let (row, padding) = row.split_at_mut(length);
            let top = largest(row);
            for x in row.iter_mut() {
                *x = exp::<A>(*x - top);
            }
            let factor = 1.0 / sum_of(length, |i| row[i]);
            for x in row.iter_mut() {
                *x *= factor;
            }
            padding.fill(0.0);
        }
    }
}

kernel! {
    /// `factors` become `p * factors`; where they are 0, the sign of `p` is set.
    fn drop_marking<A>(p: &mut [f32], factors: &mut [f32]) {
        for (p, factor) in p.iter_mut().zip(factors) {
            let dropped = *factor == 0.0;
            *factor *= *p;
            *p = if dropped { -*p } else { *p };
        }
    }
}

kernel! {
    /// From marked probabilities: those after dropout.
    fn kept<A>(marked: &[f32], scale: f32, out: &mut [f32]) {
        for (out, p) in out.iter_mut().zip(marked) {
            *out = if p.is_sign_negative() { 0.0 } else { p * scale };
        }
    }
}

kernel! {
    /// `gradient`, of the probabilities after dropout, becomes that of the scores: with M the mask,
    /// `dP = gradient M` and `dS = P (dP - rowsum(P dP))`.
    fn scores_gradient<A>(marked: &[f32], scale: f32, gradient: &mut [f32], length: usize, stride: usize) {
        for (p, gradient) in marked.chunks_exact(stride).zip(gradient.chunks_exact_mut(stride)) {
            let (p, gradient) = (&p[..length], &mut gradient[..length]);
            for (gradient, p) in gradient.iter_mut().zip(p) {
                *gradient = if p.is_sign_negative() { 0.0 } else { *gradient * scale };
            }
            // A dropped probability has a negative sign and a gradient of 0: it adds nothing.
            let inner = sum_of(length, |i| p[i] * gradient[i]);
            for (gradient, p) in gradient.iter_mut().zip(p) {
                *gradient = p.abs() * (*gradient - inner);
            }
        }
    }
}

/// The gradient of `qkv`, `(T, 3H)`.
#[allow(clippy::too_many_arguments)]
pub fn backward(
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
    for (_, length) in sentences(shape) {
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
        let mut scratch = pool.dirty(&[length, stride]);
        scratch.fill(|scratch| {
            kept(simd, marked, keep, scratch);
            let dropped = Matrix::strided(scratch, length, length, stride);
            multiply_into(&mut dv, dropped.t(), dout, 1.0, 0.0, Parallelism::None);
            multiply(scratch, stride, dout, v.t(), 1.0, 0.0, Parallelism::None);
            scores_gradient(simd, marked, keep, scratch, length, stride);
            let ds = Matrix::strided(scratch, length, length, stride);
            multiply_into(&mut dq, ds, k, sizes.scale(), 0.0, Parallelism::None);
            multiply_into(&mut dk, ds.t(), q, sizes.scale(), 0.0, Parallelism::None);
        });
    });
}
