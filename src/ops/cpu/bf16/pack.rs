//! From f32 matrices to bf16 tiles, in all four orientations.
//!
//! The sum runs along the rows or along the columns of the matrix. Along the rows, the two numbers
//! of a pair are neighbours; along the columns, one is above the other. Either way a block comes
//! out as 16 x 16 words in one of the two orders that the operands need, and is transposed for the
//! other.

use rayon::prelude::*;

use super::super::buffer::{PackedOperand, Pool};
use super::super::matmul::Matrix;
use super::super::simd::{Simd, kernel};
use super::tile::{DEPTH, SIDE, TILE, TOGETHER};

/// Words of `[outer block][depth][TILE]`, written block by block in parallel:
/// `write(first block, words)`.
fn packed(
    pool: &Pool,
    outer: usize,
    inner: usize,
    together: usize,
    write: impl Fn(usize, &mut [f32]) + Sync,
) -> PackedOperand {
    let (blocks, depth) = (outer.div_ceil(SIDE), inner.div_ceil(DEPTH));
    let mut words = pool.uninit(&[blocks * depth * TILE]);
    let chunk = (together * depth * TILE).max(1);
    words.fill(|words| {
        words.par_chunks_mut(chunk).enumerate().for_each(|(index, words)| write(index * together, words));
    });
    PackedOperand { words, outer, inner }
}

/// How to pack: with `rounding` the processor's instruction packs the whole tiles, and plain code
/// the rest.
#[derive(Debug, Clone, Copy)]
pub struct Packer {
    pub simd: Simd,
    pub rounding: bool,
}

/// The sum runs along the rows of `x`, which become rows of a left operand or, `transposed`,
/// columns of a right one.
pub fn along_rows(packer: Packer, pool: &Pool, x: Matrix<'_, f32>, transposed: bool) -> PackedOperand {
    let transpose = transposed.then(|| transpose(packer.simd));
    packed(pool, x.rows(), x.columns(), 1, |block, words| {
        let rows = x.some_rows(block * SIDE..x.rows().min((block + 1) * SIDE));
        let done = match packer.rounding && rows.rows() == SIDE {
            #[cfg(target_arch = "x86_64")]
            true => super::avx512::whole_rows(rows, transposed, words),
            _ => 0,
        };
        rows_block(packer.simd, rows, transpose, done, words);
    })
}

/// The sum runs along the columns of `x`, which become columns of a right operand or, `transposed`,
/// rows of a left one.
pub fn along_columns(packer: Packer, pool: &Pool, x: Matrix<'_, f32>, transposed: bool) -> PackedOperand {
    let transpose = transposed.then(|| transpose(packer.simd));
    packed(pool, x.columns(), x.rows(), TOGETHER, |block, words| {
        let done = match packer.rounding && (block + TOGETHER) * SIDE <= x.columns() {
            #[cfg(target_arch = "x86_64")]
            true => super::avx512::whole_columns(x, block * SIDE, transposed, words),
            _ => 0,
        };
        columns_block(packer.simd, x, block, transpose, done, words);
    })
}

/// Round to the nearest bf16, ties to even, in the upper half of the word. A NaN stays a NaN.
#[inline(always)]
fn round(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    // Rounding the mantissa of a NaN could carry it to infinity.
    let nan = bits & 0x7fff_ffff > 0x7f80_0000;
    (if nan { 0x7fc0_0000 } else { rounded }) & 0xffff_0000
}

/// `low` and `high` as one word.
#[inline(always)]
fn pair(low: f32, high: f32) -> f32 {
    f32::from_bits(round(low) >> 16 | round(high))
}

kernel! {
    /// Up to 16 rows, all their columns from tile `done` on.
    fn rows_block<A>(x: Matrix<'_, f32>, transpose: Option<Transpose>, done: usize, words: &mut [f32]) {
        let columns = x.columns();
        let mut block = [0.0f32; TILE]; // [16 rows][16 pairs]
        for (tile, words) in words.chunks_exact_mut(TILE).enumerate().skip(done) {
            let first = tile * DEPTH;
            let out = if transpose.is_some() { &mut block[..] } else { &mut words[..] };
            for row in 0..SIDE {
                let out = &mut out[row * SIDE..(row + 1) * SIDE];
                if row >= x.rows() {
                    out.fill(0.0);
                    continue;
                }
                let values = &x.row(row)[first..columns.min(first + DEPTH)];
                match <&[f32; DEPTH]>::try_from(values) {
                    Ok(values) => {
                        for i in 0..SIDE {
                            out[i] = pair(values[2 * i], values[2 * i + 1]);
                        }
                    }
                    Err(_) => {
                        for i in 0..SIDE {
                            let at = |column: usize| values.get(column).copied().unwrap_or(0.0);
                            out[i] = pair(at(2 * i), at(2 * i + 1));
                        }
                    }
                }
            }
            if let Some(transpose) = transpose {
                transpose(&block, words);
            }
        }
    }
}

kernel! {
    /// Column blocks from `block`, as many as fit into `words`, all their rows from tile `done` on.
    fn columns_block<A>(
        x: Matrix<'_, f32>,
        block: usize,
        transpose: Option<Transpose>,
        done: usize,
        words: &mut [f32],
    ) {
        let (rows, columns) = (x.rows(), x.columns());
        let depth = rows.div_ceil(DEPTH);
        let blocks = words.len() / (depth * TILE).max(1);
        let none = [0.0f32; SIDE];
        let mut tiles = [[0.0f32; TILE]; TOGETHER]; // [16 pairs][16 columns]
        for tile in done..depth {
            for pairs in 0..SIDE {
                let row = tile * DEPTH + 2 * pairs;
                for (part, out) in tiles.iter_mut().enumerate().take(blocks) {
                    let out = &mut out[pairs * SIDE..(pairs + 1) * SIDE];
                    let first = (block + part) * SIDE;
                    let width = SIDE.min(columns - first);
                    let values = |row: usize| if row < rows { &x.row(row)[first..first + width] } else { &none[..width] };
                    let (low, high) = (values(row), values(row + 1));
                    match (<&[f32; SIDE]>::try_from(low), <&[f32; SIDE]>::try_from(high)) {
                        (Ok(low), Ok(high)) => {
                            for i in 0..SIDE {
                                out[i] = pair(low[i], high[i]);
                            }
                        }
                        _ => {
                            for i in 0..SIDE {
                                let of = |values: &[f32]| values.get(i).copied().unwrap_or(0.0);
                                out[i] = pair(of(low), of(high));
                            }
                        }
                    }
                }
            }
            for (part, block) in tiles.iter().enumerate().take(blocks) {
                let words = &mut words[(part * depth + tile) * TILE..][..TILE];
                match transpose {
                    Some(transpose) => transpose(block, words),
                    None => words.copy_from_slice(block),
                }
            }
        }
    }
}

/// A transpose of 16 x 16 words.
type Transpose = fn(&[f32; TILE], &mut [f32]);

/// The fastest transpose of this machine.
fn transpose(simd: Simd) -> Transpose {
    match simd.level() {
        #[cfg(target_arch = "x86_64")]
        super::super::simd::SimdLevel::Avx512 => super::avx512::transpose,
        _ => transpose_plainly,
    }
}

fn transpose_plainly(block: &[f32; TILE], out: &mut [f32]) {
    for (column, out) in out.chunks_exact_mut(SIDE).enumerate() {
        for (row, out) in out.iter_mut().enumerate() {
            *out = block[row * SIDE + column];
        }
    }
}
