//! AVX-512: its dot product of pairs, its rounding and its shuffles, which the compiler does not
//! find on its own.

use std::arch::x86_64::*;

use super::super::matmul::{Matrix, MatrixMut};
use super::tile::{DEPTH, Piece, SIDE, Start, TILE, TOGETHER};

/// AVX-512 with BF16. No processor has the latter without BW.
pub fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512bf16")
}

/// Rows that AVX-512 computes together; with three tiles of columns, 24 of the 32 registers hold
/// sums.
const ROWS: usize = 8;

/// # Safety
/// The machine must have [`has_avx512`].
#[target_feature(enable = "avx512f,avx512bf16")]
pub unsafe fn avx512(piece: &Piece<'_>, out: &mut MatrixMut<'_, f32>) {
    let tiles = out.columns().div_ceil(SIDE);
    for top in (0..out.rows()).step_by(ROWS) {
        let mut first = 0;
        while first < tiles {
            let abreast = (tiles - first).min(3);
            // SAFETY: the caller's; the rows and tiles are inside of the piece.
            unsafe {
                match abreast {
                    3 => some_rows::<3>(piece, out, top, first),
                    2 => some_rows::<2>(piece, out, top, first),
                    _ => some_rows::<1>(piece, out, top, first),
                }
            }
            first += abreast;
        }
    }
}

/// Up to [`ROWS`] rows from `top`, `TILES` tiles of columns from `first`.
///
/// # Safety
/// As [`avx512`]; `top` and `first` are inside the piece.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn some_rows<const TILES: usize>(piece: &Piece<'_>, out: &mut MatrixMut<'_, f32>, top: usize, first: usize) {
    let depth = piece.left.depth();
    let rows = ROWS.min(out.rows() - top);
    let width = out.columns() - first * SIDE;
    // Lanes of each tile that are columns of the output.
    let mut lanes = [0u16; TILES];
    for (tile, lanes) in lanes.iter_mut().enumerate() {
        let columns = width.saturating_sub(tile * SIDE).min(SIDE);
        *lanes = ((1u32 << columns) - 1) as u16;
    }
    let left = piece.left.block(piece.block + top / SIDE).as_ptr();
    let mut right = [left; TILES];
    for (tile, right) in right.iter_mut().enumerate() {
        *right = piece.right.block(piece.tile + first + tile).as_ptr();
    }
    // SAFETY: the rows exist, and `lanes` leaves out what lies beyond the columns. A block has `depth` tiles of 256 words,
    // of which the loops read row `top % 16` and the `rows` after it; rows beyond the matrix are zeros in the tile.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); TILES]; ROWS];
        let (base, stride) = (out.start_mut().add(top * out.stride() + first * SIDE), out.stride());
        match piece.start {
            Start::Zero => {}
            Start::Bias(row) => {
                let row = row.as_ptr().add((piece.tile + first) * SIDE);
                for tile in 0..TILES {
                    let shared = _mm512_maskz_loadu_ps(lanes[tile], row.add(tile * SIDE));
                    for sums in &mut sums {
                        sums[tile] = shared;
                    }
                }
            }
            Start::Accumulate => {
                for row in 0..rows {
                    for tile in 0..TILES {
                        sums[row][tile] = _mm512_maskz_loadu_ps(lanes[tile], base.add(row * stride + tile * SIDE));
                    }
                }
            }
        }
        let mut left = left.add(top % SIDE * SIDE);
        for at in 0..depth {
            for pair in 0..SIDE {
                let mut b = [_mm512_setzero_ps(); TILES];
                for tile in 0..TILES {
                    b[tile] = _mm512_loadu_ps(right[tile].add(at * TILE + pair * SIDE));
                }
                for row in 0..ROWS {
                    let a = as_pairs(_mm512_set1_ps(*left.add(row * SIDE + pair)));
                    for tile in 0..TILES {
                        sums[row][tile] = _mm512_dpbf16_ps(sums[row][tile], a, as_pairs(b[tile]));
                    }
                }
            }
            left = left.add(TILE);
        }
        for row in 0..rows {
            for tile in 0..TILES {
                _mm512_mask_storeu_ps(base.add(row * stride + tile * SIDE), lanes[tile], sums[row][tile]);
            }
        }
    }
}

/// The same bits as 32 numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn as_pairs(x: __m512) -> __m512bh {
    // SAFETY: both are 64 bytes without invalid values.
    unsafe { std::mem::transmute(x) }
}

/// The same bits as 16 words.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn as_words(x: __m512bh) -> __m512 {
    // SAFETY: both are 64 bytes without invalid values.
    unsafe { std::mem::transmute(x) }
}

/// A transpose of 16 x 16 words, for machines with AVX-512.
pub fn transpose(block: &[f32; TILE], out: &mut [f32]) {
    let out = out.first_chunk_mut().expect("a whole tile");
    // SAFETY: it is chosen only where the machine has AVX-512.
    unsafe { transpose_avx512(block, out) }
}

#[target_feature(enable = "avx512f")]
fn transpose_avx512(block: &[f32; TILE], out: &mut [f32; TILE]) {
    let mut rows = [_mm512_setzero_ps(); SIDE];
    for (row, values) in rows.iter_mut().zip(block.chunks_exact(SIDE)) {
        // SAFETY: 16 words.
        *row = unsafe { _mm512_loadu_ps(values.as_ptr()) };
    }
    transpose_rows(&rows, out);
}

#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_rows(rows: &[__m512; SIDE], out: &mut [f32; TILE]) {
    // Inside of each 128-bit lane: 4 x 4 words of rows 4i .. 4i + 3.
    let mut fours = [_mm512_setzero_ps(); SIDE];
    for i in (0..SIDE).step_by(4) {
        let (low01, high01) = (_mm512_unpacklo_ps(rows[i], rows[i + 1]), _mm512_unpackhi_ps(rows[i], rows[i + 1]));
        let (low23, high23) =
            (_mm512_unpacklo_ps(rows[i + 2], rows[i + 3]), _mm512_unpackhi_ps(rows[i + 2], rows[i + 3]));
        let pd = |x: __m512| _mm512_castps_pd(x);
        fours[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(pd(low01), pd(low23)));
        fours[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(pd(low01), pd(low23)));
        fours[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(pd(high01), pd(high23)));
        fours[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(pd(high01), pd(high23)));
    }
    // Then the 4 x 4 lanes. Lane l of fours[4i + j] is column 4l + j, rows 4i .. 4i + 3.
    for j in 0..4 {
        let (a, b, c, d) = (fours[j], fours[4 + j], fours[8 + j], fours[12 + j]);
        let (ab_low, ab_high) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
        let (cd_low, cd_high) = (_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xdd>(c, d));
        // ab_low: lanes 0 and 2 of a, then of b; ab_high: lanes 1 and 3.
        let columns = [
            (j, _mm512_shuffle_f32x4::<0x88>(ab_low, cd_low)),
            (4 + j, _mm512_shuffle_f32x4::<0x88>(ab_high, cd_high)),
            (8 + j, _mm512_shuffle_f32x4::<0xdd>(ab_low, cd_low)),
            (12 + j, _mm512_shuffle_f32x4::<0xdd>(ab_high, cd_high)),
        ];
        for (column, values) in columns {
            // SAFETY: 16 words.
            unsafe { _mm512_storeu_ps(out[column * SIDE..(column + 1) * SIDE].as_mut_ptr(), values) };
        }
    }
}

/// Pack the whole tiles of 16 rows, for machines with [`has_avx512`], and return their number. The
/// instruction rounds to nearest even as the plain code does, and treats numbers below 2^-126 as
/// zeros, as the products do.
pub fn whole_rows(x: Matrix<'_, f32>, transposed: bool, words: &mut [f32]) -> usize {
    let whole = x.columns() / DEPTH;
    assert!(has_avx512() && x.rows() == SIDE && x.column_stride() == 1 && whole * TILE <= words.len());
    // SAFETY: the machine has the instructions; there are 16 rows, and room for the tiles.
    unsafe { rows_avx512(x, transposed, words, whole) };
    whole
}

/// # Safety
/// [`has_avx512`]; `x` has 16 rows of `32 * whole` columns at least.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn rows_avx512(x: Matrix<'_, f32>, transposed: bool, words: &mut [f32], whole: usize) {
    for (tile, out) in words.as_chunks_mut::<TILE>().0.iter_mut().enumerate().take(whole) {
        let mut rows = [_mm512_setzero_ps(); SIDE];
        for (row, words) in rows.iter_mut().enumerate() {
            // SAFETY: 32 numbers of a row.
            let (low, high) = unsafe {
                let from = x.start().add(row * x.row_stride() + tile * DEPTH);
                (_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(SIDE)))
            };
            *words = as_words(_mm512_cvtne2ps_pbh(high, low));
        }
        if transposed {
            transpose_rows(&rows, out);
        } else {
            for (row, out) in rows.iter().zip(out.chunks_exact_mut(SIDE)) {
                // SAFETY: 16 words.
                unsafe { _mm512_storeu_ps(out.as_mut_ptr(), *row) };
            }
        }
    }
}

/// Pack the whole tiles of [`TOGETHER`] blocks of columns from column `first`, as [`whole_rows`].
pub fn whole_columns(x: Matrix<'_, f32>, first: usize, transposed: bool, words: &mut [f32]) -> usize {
    let depth = x.rows().div_ceil(DEPTH);
    assert!(has_avx512() && x.column_stride() == 1 && first + TOGETHER * SIDE <= x.columns());
    assert!(words.len() == TOGETHER * depth * TILE, "words of a few blocks");
    // SAFETY: the machine has the instructions; the columns exist, and there is room for the tiles.
    unsafe { columns_avx512(x, first, transposed, words, depth) };
    x.rows() / DEPTH
}

/// # Safety
/// [`has_avx512`]; `x` has the columns, and `words` has `depth` tiles for each block of them.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn columns_avx512(x: Matrix<'_, f32>, first: usize, transposed: bool, words: &mut [f32], depth: usize) {
    // Numbers 0 to 15 come from one row and 16 to 31 from the next; the pairs are one of each.
    let order: [u16; DEPTH] = std::array::from_fn(|at| (at / 2 + at % 2 * SIDE) as u16);
    // SAFETY: 32 numbers of 16 bits.
    let order = unsafe { _mm512_loadu_si512(order.as_ptr().cast()) };
    let mut tiles = [[0.0f32; TILE]; TOGETHER]; // [16 pairs][16 columns]
    for tile in 0..x.rows() / DEPTH {
        for pair in 0..SIDE {
            for (part, out) in tiles.iter_mut().enumerate() {
                // SAFETY: 16 columns of two rows; 16 words of a tile.
                unsafe {
                    let from = x.start().add((tile * DEPTH + 2 * pair) * x.row_stride() + first + part * SIDE);
                    let (low, high) = (_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(x.row_stride())));
                    let rounded = _mm512_castps_si512(as_words(_mm512_cvtne2ps_pbh(high, low)));
                    let pairs = _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, rounded));
                    _mm512_storeu_ps(out.as_mut_ptr().add(pair * SIDE), pairs);
                }
            }
        }
        for (part, block) in tiles.iter().enumerate() {
            let words = &mut words[(part * depth + tile) * TILE..][..TILE];
            match transposed {
                true => transpose(block, words),
                false => words.copy_from_slice(block),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transpose_moves_every_word() {
        if !has_avx512() {
            println!("skipped: no AVX-512 here");
            return;
        }
        let block: [f32; TILE] = std::array::from_fn(|i| i as f32);
        let mut out = [0.0; TILE];
        transpose(&block, &mut out);
        for (at, value) in out.iter().enumerate() {
            assert_eq!(*value, block[at % SIDE * SIDE + at / SIDE]);
        }
    }
}
