//! AMX: the tile registers, which the compiler does not use on its own.

use std::arch::asm;
use std::arch::x86_64::*;
use std::sync::OnceLock;

use super::super::matmul::MatrixMut;
use super::avx512::has_avx512;
use super::tile::{Piece, SIDE, Start};

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
                    Start::Bias(_) if whole => corner.from = piece.start_row(first, width).unwrap_or(&ZEROS).as_ptr(),
                    Start::Accumulate if whole => {
                        // SAFETY: the first element of a tile that lies inside of the output.
                        corner.from = unsafe { out.start_mut().add(top * stride + first) };
                        corner.from_stride = 4 * stride;
                    }
                    Start::Bias(_) | Start::Accumulate => {
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
                // SAFETY: each block has `depth` tiles; the corners are 16 rows of 64 bytes, their strides apart.
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

/// The part of `size` after `from`, at most a tile's side.
fn remaining(size: usize, from: usize) -> usize {
    size.saturating_sub(from).min(SIDE)
}

/// # Safety
/// The tile registers are configured; `left` and `right` each point to `depth` tiles, at least one;
/// the corners to memory as [`Corner`] describes it.
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
