//! Bias and GELU in one pass, forward and backward.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::engine::{Cpu, ELEMENTS, ROWS, expect, matrix};
use super::math::{self, normal};
use super::simd::kernel;
use crate::Result;

kernel! {
    /// `gelu(x + b)` of rows as wide as `bias`. Error within 2e-7 |x + b| of the exact function,
    /// and f32 rounding.
    fn gelu_forward<A>(x: &[f32], bias: &[f32], out: &mut [f32]) {
        let width = bias.len().max(1);
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            for ((out, x), bias) in out.iter_mut().zip(x).zip(bias) {
                let z = x + bias;
                *out = z * normal::<A>(z).0;
            }
        }
    }
}

kernel! {
    /// `dy` becomes the gradient of `x`, `dy (Phi(z) + z phi(z))`; its columns are added onto
    /// `sums`.
    fn gelu_backward<A>(x: &[f32], bias: &[f32], dy: &mut [f32], sums: &mut [f32]) {
        let width = bias.len().max(1);
        let sums = &mut sums[..bias.len()];
        for (x, dy) in x.chunks_exact(width).zip(dy.chunks_exact_mut(width)) {
            for (((dy, x), bias), sum) in dy.iter_mut().zip(x).zip(bias).zip(sums.iter_mut()) {
                let z = x + bias;
                let (cdf, density) = normal::<A>(z);
                let dx = *dy * A::madd(z, density, cdf);
                *dy = dx;
                *sum += dx;
            }
        }
    }
}

pub(super) fn bias_gelu(cpu: &Cpu, x: &Buffer, bias: &Buffer) -> Result<Buffer> {
    let (_, width) = matrix(x)?;
    expect("the bias", bias, &[width])?;
    let mut out = cpu.pool.uninit(x.shape());
    let piece = (ROWS * width).max(1);
    out.fill(|out| {
        let pieces = x.values().par_chunks(piece).zip(out.par_chunks_mut(piece));
        pieces.for_each(|(x, out)| gelu_forward(cpu.simd, x, bias.values(), out));
    });
    Ok(out)
}

pub(super) fn bias_gelu_backward(cpu: &Cpu, x: &Buffer, bias: &Buffer, dy: Buffer) -> Result<(Buffer, Buffer)> {
    let (_, width) = matrix(x)?;
    expect("the bias", bias, &[width])?;
    expect("the gradient", &dy, x.shape())?;
    let mut dx = dy.into_unique(&cpu.pool);
    let piece = (ROWS * width).max(1);
    let sums = dx.fill(|dx| {
        let pieces = x.values().par_chunks(piece).zip(dx.par_chunks_mut(piece));
        cpu.sums(pieces, width, |_, (x, dx), sums| gelu_backward(cpu.simd, x, bias.values(), dx, sums))
    });
    Ok((dx, sums))
}

pub(super) fn add(cpu: &Cpu, a: Buffer, b: &Buffer) -> Result<Buffer> {
    expect("the second term", b, a.shape())?;
    let mut a = a.into_unique(&cpu.pool);
    a.fill(|a| {
        let pieces = a.par_chunks_mut(ELEMENTS).zip(b.values().par_chunks(ELEMENTS));
        pieces.for_each(|(a, b)| math::add(cpu.simd, a, b));
    });
    Ok(a)
}
