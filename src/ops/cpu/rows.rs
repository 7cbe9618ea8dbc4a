//! Rows that are picked from a matrix or added to it.

use super::buffer::Buffer;
use super::engine::{Cpu, expect, matrix};
use super::math::add;
use crate::Result;
use crate::ops::shapes::expect_inside;

pub(super) fn rows(cpu: &Cpu, x: &Buffer, rows: &[usize]) -> Result<Buffer> {
    let (total, width) = matrix(x)?;
    expect_inside("row", rows.iter().copied(), total)?;
    let mut out = cpu.pool.uninit(&[rows.len(), width]);
    out.fill(|out| {
        for (out, row) in out.chunks_exact_mut(width.max(1)).zip(rows) {
            out.copy_from_slice(&x.values()[row * width..(row + 1) * width]);
        }
    });
    Ok(out)
}

pub(super) fn add_rows(cpu: &Cpu, x: Buffer, rows: &[usize], values: &Buffer) -> Result<Buffer> {
    let (total, width) = matrix(&x)?;
    expect("what to add to rows", values, &[rows.len(), width])?;
    expect_inside("row", rows.iter().copied(), total)?;
    let mut x = x.into_unique(&cpu.pool);
    x.fill(|x| {
        for (row, values) in rows.iter().zip(values.values().chunks_exact(width.max(1))) {
            add(cpu.simd, &mut x[row * width..(row + 1) * width], values);
        }
    });
    Ok(x)
}
