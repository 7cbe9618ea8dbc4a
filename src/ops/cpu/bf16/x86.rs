//! The units of x86-64. Their intrinsics and instructions are what this module is for: the compiler finds neither the
//! dot product of pairs nor the tile registers by itself.

use std::arch::asm;
use std::arch::x86_64::*;
use std::sync::OnceLock;

use super::pack::TOGETHER;
use super::{DEPTH, Piece, SIDE, Start, TILE};
use crate::ops::product::{Matrix, MatrixMut};

/// AVX-512 with BF16. No processor has the latter without BW.
pub fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512bf16")
}

/// AMX with BF16, granted to this process by the operating system.
pub fn has_amx() -> bool {
    static GRANTED: OnceLock<bool> = OnceLock::new();
    *GRANTED.get_or_init(|| has_avx512() && amx_in_processor() && ask_for_tiles())
}

fn amx_in_processor() -> bool {
    // Leaf 7, EDX: bit 22 is amx-bf16, bit 24 amx-tile. XCR0 bits 17 and 18: the system saves the tile state.
    if __cpuid(0).eax < 7 || __cpuid(1).ecx & (1 << 27) == 0 {
        return false;
    }
    let features = __cpuid_count(7, 0).edx;
    // SAFETY: OSXSAVE, tested above, makes `xgetbv` available.
    let enabled = unsafe { xgetbv() };
    features & (1 << 22) != 0 && features & (1 << 24) != 0 && enabled & (3 << 17) == 3 << 17
}

#[target_feature(enable = "xsave")]
fn xgetbv() -> u64 {
    // SAFETY: reads a register; register 0 exists wherever the instruction does.
    unsafe { _xgetbv(0) }
}

/// Linux hands the tile registers, 8 KB of state, only to processes that ask.
#[cfg(target_os = "linux")]
fn ask_for_tiles() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const REQUEST_PERMISSION: i64 = 0x1023;
    const TILE_DATA: i64 = 18;
    let result: i64;
    // SAFETY: the system call reads and writes no memory of ours; it clobbers rcx and r11.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") REQUEST_PERMISSION,
            in("rsi") TILE_DATA,
            out("rcx") _,
            out("r11") _,
            options(nostack)
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn ask_for_tiles() -> bool {
    false
}

/// Rows that the AVX-512 unit computes at once; with three tiles of columns, 24 of the 32 registers hold sums.
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
/// As [`avx512`]; `top` and `first` are inside of the piece.
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
    // SAFETY: the rows exist, and `lanes` leaves out what lies beyond the columns. A block holds `depth` tiles of 256 words,
    // of which the loops read row `top % 16` and the `rows` after it; rows beyond the matrix are zeros in the tile.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); TILES]; ROWS];
        let (base, stride) = (out.start_mut().add(top * out.stride() + first * SIDE), out.stride());
        match piece.start {
            Start::Zero => {}
            Start::Row(row) => {
                let row = row.as_ptr().add((piece.tile + first) * SIDE);
                for tile in 0..TILES {
                    let shared = _mm512_maskz_loadu_ps(lanes[tile], row.add(tile * SIDE));
                    for sums in &mut sums {
                        sums[tile] = shared;
                    }
                }
            }
            Start::There => {
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

/// Pack the whole tiles of 16 rows, for machines with [`has_avx512`]; how many they are. The instruction rounds to nearest
/// even as the plain code does, and takes numbers below 2^-126 as zeros, as the products do.
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

/// Where a tile of sums starts from and where it goes; strides in bytes.
#[repr(C)]
#[derive(Clone, Copy)]
struct Corner {
    from: *const f32,
    from_stride: usize,
    to: *mut f32,
    to_stride: usize,
}

/// A row of zeros: with a stride of 0, a tile of zeros.
static ZEROS: [f32; SIDE] = [0.0; SIDE];
/// Bytes of a row of a tile.
const LINE: usize = 4 * SIDE;

/// Palette 1: eight tiles of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static CONFIG: TileConfig = TileConfig {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// # Safety
/// The machine must have [`has_amx`].
pub unsafe fn amx(piece: &Piece<'_>, out: &mut MatrixMut<'_, f32>) {
    // SAFETY: the machine has the instruction. Nothing else uses the tile registers of this thread until `tilerelease`.
    unsafe { asm!("ldtilecfg [{config}]", config = in(reg) &raw const CONFIG, options(nostack, readonly)) };
    // SAFETY: the tile registers are configured.
    unsafe { by_twos(piece, out) };
    // SAFETY: frees the tile registers, so that the system need not save them.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// A piece, two by two tiles of sums at a time.
///
/// # Safety
/// The tile registers are configured.
unsafe fn by_twos(piece: &Piece<'_>, out: &mut MatrixMut<'_, f32>) {
    let (depth, stride) = (piece.left.depth(), out.stride());
    let (blocks, tiles) = (out.rows().div_ceil(SIDE), out.columns().div_ceil(SIDE));
    // Corners that are not whole tiles of the output, or lie outside of it, are computed here.
    let mut aside = [[0.0f32; SIDE * SIDE]; 4];
    for block in (0..blocks).step_by(2) {
        for tile in (0..tiles).step_by(2) {
            let mut corners =
                [Corner { from: ZEROS.as_ptr(), from_stride: 0, to: std::ptr::null_mut(), to_stride: LINE }; 4];
            for (index, (corner, aside)) in corners.iter_mut().zip(&mut aside).enumerate() {
                let (top, first) = (SIDE * (block + index / 2), SIDE * (tile + index % 2));
                corner.to = aside.as_mut_ptr();
                let (height, width) = (remaining(out.rows(), top), remaining(out.columns(), first));
                if height == 0 || width == 0 {
                    continue;
                }
                let whole = height == SIDE && width == SIDE;
                match piece.start {
                    Start::Zero => {}
                    Start::Row(_) if whole => corner.from = piece.start_row(first, width).unwrap_or(&ZEROS).as_ptr(),
                    Start::There if whole => {
                        // SAFETY: the first element of a tile that lies inside of the output.
                        corner.from = unsafe { out.start_mut().add(top * stride + first) };
                        corner.from_stride = 4 * stride;
                    }
                    Start::Row(_) | Start::There => {
                        for (row, aside) in aside.chunks_exact_mut(SIDE).enumerate().take(height) {
                            let there = &out.row_mut(top + row)[first..first + width];
                            aside[..width].copy_from_slice(piece.start_row(first, width).unwrap_or(there));
                        }
                        corner.to = aside.as_mut_ptr();
                        (corner.from, corner.from_stride) = (corner.to, LINE);
                    }
                }
                if whole {
                    // SAFETY: as above.
                    corner.to = unsafe { out.start_mut().add(top * stride + first) };
                    corner.to_stride = 4 * stride;
                }
            }
            let left = |index: usize| piece.left.block(piece.block + index.min(blocks - 1)).as_ptr();
            let right = |index: usize| piece.right.block(piece.tile + index.min(tiles - 1)).as_ptr();
            if depth > 0 {
                // SAFETY: each block holds `depth` tiles; the corners are 16 rows of 64 bytes, their strides apart.
                unsafe { two_by_two([left(block), left(block + 1)], [right(tile), right(tile + 1)], depth, &corners) };
            }
            for (index, aside) in aside.iter().enumerate() {
                let (top, first) = (SIDE * (block + index / 2), SIDE * (tile + index % 2));
                let (height, width) = (remaining(out.rows(), top), remaining(out.columns(), first));
                if width == 0 || (height == SIDE && width == SIDE) {
                    continue;
                }
                for (row, aside) in aside.chunks_exact(SIDE).enumerate().take(height) {
                    out.row_mut(top + row)[first..first + width].copy_from_slice(&aside[..width]);
                }
            }
        }
    }
}

/// Up to a tile's side of what is left of `size` after `from`.
fn remaining(size: usize, from: usize) -> usize {
    size.saturating_sub(from).min(SIDE)
}

/// # Safety
/// The tile registers are configured; `left` and `right` each point to `depth` tiles, at least one; the corners to what
/// [`Corner`] says.
unsafe fn two_by_two(left: [*const f32; 2], right: [*const f32; 2], depth: usize, corners: &[Corner; 4]) {
    // SAFETY: reads the tiles and writes the corners that the caller vouches for. The tile registers are ours.
    unsafe {
        asm!(
            "mov {at}, [{c}]",
            "mov {s}, [{c} + 8]",
            "tileloadd tmm0, [{at} + {s}*1]",
            "mov {at}, [{c} + 32]",
            "mov {s}, [{c} + 40]",
            "tileloadd tmm1, [{at} + {s}*1]",
            "mov {at}, [{c} + 64]",
            "mov {s}, [{c} + 72]",
            "tileloadd tmm2, [{at} + {s}*1]",
            "mov {at}, [{c} + 96]",
            "mov {s}, [{c} + 104]",
            "tileloadd tmm3, [{at} + {s}*1]",
            "mov {s:e}, 64",
            "2:",
            "tileloadd tmm4, [{a0} + {s}*1]",
            "tileloadd tmm6, [{b0} + {s}*1]",
            "tileloadd tmm5, [{a1} + {s}*1]",
            "tileloadd tmm7, [{b1} + {s}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a0}, 1024",
            "add {a1}, 1024",
            "add {b0}, 1024",
            "add {b1}, 1024",
            "dec {n}",
            "jnz 2b",
            "mov {at}, [{c} + 16]",
            "mov {s}, [{c} + 24]",
            "tilestored [{at} + {s}*1], tmm0",
            "mov {at}, [{c} + 48]",
            "mov {s}, [{c} + 56]",
            "tilestored [{at} + {s}*1], tmm1",
            "mov {at}, [{c} + 80]",
            "mov {s}, [{c} + 88]",
            "tilestored [{at} + {s}*1], tmm2",
            "mov {at}, [{c} + 112]",
            "mov {s}, [{c} + 120]",
            "tilestored [{at} + {s}*1], tmm3",
            a0 = inout(reg) left[0] => _,
            a1 = inout(reg) left[1] => _,
            b0 = inout(reg) right[0] => _,
            b1 = inout(reg) right[1] => _,
            n = inout(reg) depth => _,
            c = in(reg) corners.as_ptr(),
            at = out(reg) _,
            s = out(reg) _,
            options(nostack)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::Unit;
    use super::*;

    #[test]
    fn the_transpose_moves_every_word() {
        if !Unit::Avx512.is_available() {
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
