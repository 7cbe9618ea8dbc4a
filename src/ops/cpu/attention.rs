//! Attention: one task per sentence and head, whose scores stay in its core's cache.
//!
//! A row of scores has a column for each valid token. Where the other tokens form groups, the
//! columns of the row's own group follow ([`AttentionShape::column`]): its keys and values are
//! copied behind those of the valid tokens. A group is computed alone, so its bits do not depend on
//! which other groups the sentence has.
//!
//! With a window, products are restricted to the columns around the rows of a tile, and scores outside
//! of a row's window are as small as can be before the softmax.
//!
//! The forward saves the probabilities before dropout, with the sign bit set where dropout zeroed
//! one. So the backward recomputes neither scores nor exponentials nor masks.

use std::ops::Range;

use rayon::prelude::*;

use super::buffer::{Buffer, Pool};
use super::dropout::Mask;
use super::engine::{Cpu, expect, matrix};
use super::math::{LANES, softmax, sum_of};
use super::matmul::{Matrix, MatrixMut};
use super::simd::{Simd, kernel};
use super::small_matmul;
use crate::Result;
use crate::ops::AttentionShape;
use crate::ops::shapes::expect_attention;
use crate::rng::Dropout;

/// Probabilities of every sentence and head, one `(L, stride(columns))` block after the other.
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
    all(shape).map(Task::elements).sum()
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
    /// How many of its tokens are attended to by all, from the first.
    valid: usize,
    /// The size of the groups of the others; 0 without.
    group: usize,
    head: usize,
}

impl Task {
    /// Elements between two rows of its block of the probabilities.
    fn stride(self) -> usize {
        stride(self.valid + self.group)
    }

    /// Elements of its block.
    fn elements(self) -> usize {
        self.length * self.stride()
    }

    /// Ranges of rows that are computed together, and whether they are a group.
    fn tiles(self) -> impl Iterator<Item = (Range<usize>, bool)> {
        let ungrouped = if self.group > 0 { self.valid } else { self.length };
        let tiles = |rows: Range<usize>, height: usize| {
            rows.clone().step_by(height.max(1)).map(move |first| first..rows.end.min(first + height))
        };
        let groups = tiles(ungrouped..self.length, self.group).map(|rows| (rows, true));
        tiles(0..ungrouped, QUERIES).map(|rows| (rows, false)).chain(groups)
    }
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

/// The tasks of each sentence that has tokens, and how many tokens it has.
fn sentences<'a>(shape: AttentionShape<'a>) -> impl Iterator<Item = (usize, impl Iterator<Item = Task>)> + 'a {
    let sentences = shape.cu_seqlens.windows(2).enumerate().map(move |(sentence, bounds)| {
        let (start, length) = (bounds[0], bounds[1] - bounds[0]);
        let (valid, group) = (shape.valid_length(sentence, length), shape.group);
        (length, (0..shape.heads).map(move |head| Task { start, length, valid, group, head }))
    });
    sentences.filter(|(length, _)| *length > 0)
}

/// Every task with its block of the probabilities.
fn tasks<'a>(shape: AttentionShape<'a>, blocks: &'a [f32]) -> impl Iterator<Item = (Task, &'a [f32])> {
    let mut rest = blocks;
    all(shape).map(move |task| {
        let (block, others) = rest.split_at(task.elements());
        rest = others;
        (task, block)
    })
}

fn all<'a>(shape: AttentionShape<'a>) -> impl Iterator<Item = Task> + 'a {
    sentences(shape).flat_map(|(_, tasks)| tasks)
}

/// The keys or values that rows of a task meet: those of the valid tokens, and behind a copy of
/// them those of one group at a time.
struct Joined<'a> {
    /// Of all tokens, `(L, D)`.
    all: Matrix<'a, f32>,
    valid: usize,
    /// `(valid + group, D)`.
    copies: &'a mut [f32],
}

impl<'a> Joined<'a> {
    fn new(all: Matrix<'a, f32>, task: Task, memory: &'a mut [f32]) -> Self {
        let copies = &mut memory[..(task.valid + task.group) * all.columns()];
        let mut joined = Self { all, valid: task.valid, copies };
        if task.group > 0 && task.length > task.valid {
            joined.copy(0..task.valid, 0);
        }
        joined
    }

    fn copy(&mut self, rows: Range<usize>, to: usize) {
        let size = self.all.columns();
        for (row, copy) in rows.zip(self.copies[to * size..].chunks_exact_mut(size)) {
            copy.copy_from_slice(self.all.row(row));
        }
    }

    /// What the rows of a tile meet.
    fn met_by(&mut self, tile: &Range<usize>, grouped: bool) -> Matrix<'_, f32> {
        if !grouped {
            return self.all.some_rows(0..self.valid);
        }
        self.copy(tile.clone(), self.valid);
        Matrix::new(self.copies, self.valid + tile.len(), self.all.columns())
    }
}

/// The columns that a tile's rows may attend to, from the start of a vector, and the same in whole
/// vectors: all of them without a window.
fn near(shape: AttentionShape<'_>, task: Task, tile: &Range<usize>, columns: usize) -> [Range<usize>; 2] {
    let keys = tile.clone().map(|row| shape.keys(task.start, task.valid, row));
    let (first, last) = keys.fold((columns, 0), |(first, last), keys| (first.min(keys.start), last.max(keys.end)));
    let near = first / LANES * LANES..last;
    // A group has columns behind those of the valid tokens.
    if shape.window.is_none() || columns > task.valid || near.len() == columns {
        return [0..columns, 0..task.stride()];
    }
    [near.clone(), near.start..near.end.next_multiple_of(LANES)]
}

/// Ranges of keys with the rows that may attend to them: all at once without a window.
fn met(shape: AttentionShape<'_>, task: Task) -> Vec<(Range<usize>, Range<usize>)> {
    /// Keys of a range.
    const KEYS: usize = 64;
    match shape.window {
        // Where all tokens are valid, their positions are their indices.
        Some(window) if task.valid == task.length => {
            let keys = (0..task.valid).step_by(KEYS).map(|first| first..task.valid.min(first + KEYS));
            let rows = |keys: Range<usize>| {
                let rows = keys.start.saturating_sub(window.distance)..task.length.min(keys.end + window.distance);
                (keys, rows)
            };
            keys.map(rows).collect()
        }
        _ => vec![(0..task.valid, 0..task.length)],
    }
}

/// Scores of valid tokens outside of a row's window become as small as can be.
fn cut_to_window(shape: AttentionShape<'_>, task: Task, tile: &Range<usize>, scores: &mut [f32]) {
    if shape.window.is_none() {
        return;
    }
    for (row, scores) in tile.clone().zip(scores.chunks_exact_mut(task.stride())) {
        let keys = shape.keys(task.start, task.valid, row);
        scores[..keys.start].fill(f32::NEG_INFINITY);
        scores[keys.end..task.valid].fill(f32::NEG_INFINITY);
    }
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
        for (length, tasks) in sentences(shape) {
            let (rows, others) = std::mem::take(&mut out).split_at_mut(length * hidden);
            out = others;
            for (task, columns) in tasks.zip(MatrixMut::new(rows, length, hidden).split_columns(sizes.size)) {
                let (block, others) = std::mem::take(&mut blocks).split_at_mut(task.elements());
                blocks = others;
                jobs.push((task, columns, block));
            }
        }
        jobs.into_par_iter().for_each(|(task, mut out, block)| {
            let (valid, size, stride) = (task.valid, sizes.size, task.stride());
            let [q, k, v] = [0, 1, 2].map(|part| sizes.part(qkv, task, part));
            [k, q, v].into_iter().for_each(small_matmul::prefetch);
            let mut scratch = pool.uninit(&[2 * size + QUERIES.max(task.group), stride]);
            scratch.fill(|scratch| {
                let (keys, rest) = scratch.split_at_mut(size * stride);
                let (values, dropped) = rest.split_at_mut(size * stride);
                small_matmul::transpose(simd, k.some_rows(0..valid), stride, keys);
                let mut values = Joined::new(v, task, values);
                for (tile, grouped) in task.tiles() {
                    let p = &mut block[tile.start * stride..tile.end * stride];
                    let dropped = &mut dropped[..p.len()];
                    let rows = tile.len();
                    let columns = if grouped { valid + task.group } else { valid };
                    if grouped {
                        small_matmul::transpose_to(simd, k.some_rows(tile.clone()), valid..columns, stride, keys);
                    }
                    let [near, wide] = near(shape, task, &tile, columns);
                    if near.len() < columns {
                        p.fill(f32::NEG_INFINITY);
                    }
                    let (q, by_key) =
                        (q.some_rows(tile.clone()), Matrix::strided(&keys[wide.start..], size, wide.len(), stride));
                    let scores = &mut MatrixMut::strided(&mut p[wide.start..], rows, wide.len(), stride);
                    small_matmul::small_matmul(simd, scores, q, by_key, scale);
                    cut_to_window(shape, task, &tile, p);
                    let weights = match &mask {
                        None => {
                            softmax_rows(simd, p, columns, stride);
                            &*p
                        }
                        Some(mask) => {
                            let row = ((task.start + tile.start) * sizes.heads + task.head) * shape.stride;
                            let step = sizes.heads * shape.stride;
                            softmax_dropout(simd, p, dropped, columns, stride, mask, row as u64, step as u64);
                            &*dropped
                        }
                    };
                    let weights = Matrix::strided(&weights[near.start..], rows, near.len(), stride);
                    let v = values.met_by(&tile, grouped).some_rows(near);
                    small_matmul::small_matmul(simd, &mut out.some_rows(tile), weights, v, 1.0);
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
    let (keep, scale) = (dropout.map_or(1.0, Dropout::scale), sizes.scale());
    let mut blocks = tasks(shape, probabilities.blocks.values());
    let mut jobs = Vec::new();
    let mut out = out;
    for (length, _) in sentences(shape) {
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
        let (length, valid, size, stride) = (task.length, task.valid, sizes.size, task.stride());
        let [q, k, v] = [0, 1, 2].map(|part| sizes.part(qkv, task, part));
        let dout = sizes.columns(dy, task);
        [v, dout, k, q].into_iter().for_each(small_matmul::prefetch);
        let mut scratch = pool.uninit(&[2 * size + 2 * length, stride]);
        scratch.fill(|scratch| {
            let (values, rest) = scratch.split_at_mut(size * stride);
            let (keys, rest) = rest.split_at_mut(size * stride);
            let (dropped, ds) = rest.split_at_mut(length * stride);
            small_matmul::transpose(simd, v.some_rows(0..valid), stride, values);
            let mut keys = Joined::new(k, task, keys);
            for (tile, grouped) in task.tiles() {
                let range = tile.start * stride..tile.end * stride;
                let (p, dropped, ds) = (&marked[range.clone()], &mut dropped[range.clone()], &mut ds[range]);
                let rows = tile.len();
                let columns = if grouped { valid + task.group } else { valid };
                if grouped {
                    small_matmul::transpose_to(simd, v.some_rows(tile.clone()), valid..columns, stride, values);
                }
                let [near, wide] = near(shape, task, &tile, columns);
                if near.len() < columns {
                    ds.fill(0.0);
                }
                let own_dout = dout.some_rows(tile.clone());
                let by_value = Matrix::strided(&values[wide.start..], size, wide.len(), stride);
                let gradient = &mut MatrixMut::strided(&mut ds[wide.start..], rows, wide.len(), stride);
                small_matmul::small_matmul(simd, gradient, own_dout, by_value, 1.0);
                scores_gradient(simd, p, keep, dropped, ds, stride);
                let scores = Matrix::strided(&ds[near.start..], rows, near.len(), stride);
                let k = keys.met_by(&tile, grouped).some_rows(near);
                small_matmul::small_matmul(simd, &mut dq.some_rows(tile.clone()), scores, k, scale);
                if grouped {
                    // The keys of a group meet the queries of the group alone.
                    let own = [&*dropped, &*ds].map(|x| Matrix::strided(&x[valid..], rows, rows, stride).t());
                    let (mut dv, mut dk) = (dv.some_rows(tile.clone()), dk.some_rows(tile.clone()));
                    small_matmul::small_matmul(simd, &mut dv, own[0], own_dout, 1.0);
                    small_matmul::small_matmul(simd, &mut dk, own[1], q.some_rows(tile), scale);
                }
            }
            for (keys, queries) in met(shape, task) {
                let block = |x| Matrix::strided(x, queries.len(), keys.len(), stride).t();
                let from = queries.start * stride + keys.start;
                let (dout, q) = (dout.some_rows(queries.clone()), q.some_rows(queries.clone()));
                let (mut dv, mut dk) = (dv.some_rows(keys.clone()), dk.some_rows(keys.clone()));
                small_matmul::small_matmul(simd, &mut dv, block(&dropped[from..]), dout, 1.0);
                small_matmul::small_matmul(simd, &mut dk, block(&ds[from..]), q, scale);
            }
            if task.group == 0 {
                for row in valid..length {
                    [&mut dv, &mut dk].into_iter().for_each(|x| x.row_mut(row).fill(0.0));
                }
            }
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
