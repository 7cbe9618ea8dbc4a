//! Bias and GELU in one pass, GELU with a gate, and rotation, forward and backward.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::engine::{Cpu, ELEMENTS, ROWS, expect, matrix};
use super::math::{self, normal};
use super::simd::kernel;
use crate::Result;
use crate::ops::Rotation;

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

kernel! {
    /// `gelu(a) g` of rows `[a, g]`, each `width` wide.
    fn geglu_forward<A>(x: &[f32], width: usize, out: &mut [f32]) {
        for (x, out) in x.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
            let (a, gate) = x.split_at(width);
            for ((out, a), gate) in out.iter_mut().zip(a).zip(gate) {
                *out = a * normal::<A>(*a).0 * gate;
            }
        }
    }
}

kernel! {
    /// The gradient of rows `[a, g]`: `dy g (Phi(a) + a phi(a))` and `dy a Phi(a)`.
    fn geglu_gradient<A>(x: &[f32], dy: &[f32], width: usize, dx: &mut [f32]) {
        for ((x, dx), dy) in x.chunks_exact(2 * width).zip(dx.chunks_exact_mut(2 * width)).zip(dy.chunks_exact(width)) {
            let (a, gate) = x.split_at(width);
            let (da, dgate) = dx.split_at_mut(width);
            for ((((da, dgate), a), gate), dy) in da.iter_mut().zip(dgate).zip(a).zip(gate).zip(dy) {
                let (cdf, density) = normal::<A>(*a);
                *da = dy * gate * A::madd(*a, density, cdf);
                *dgate = dy * a * cdf;
            }
        }
    }
}

kernel! {
    /// Rotate heads of `2 * cos.len()` columns.
    fn rotate<A>(heads: &mut [f32], cos: &[f32], sin: &[f32]) {
        for head in heads.chunks_exact_mut((2 * cos.len()).max(1)) {
            let (low, high) = head.split_at_mut(cos.len());
            for (((low, high), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
                let turned = A::madd(*low, *cos, -(*high * sin));
                *high = A::madd(*high, *cos, *low * sin);
                *low = turned;
            }
        }
    }
}

/// Half of the columns of a matrix.
fn half_width(x: &Buffer) -> Result<(usize, usize)> {
    let (rows, width) = matrix(x)?;
    expect("the input with its gate", x, &[rows, width / 2 * 2])?;
    Ok((rows, width / 2))
}

pub(super) fn geglu(cpu: &Cpu, x: &Buffer) -> Result<Buffer> {
    let (rows, width) = half_width(x)?;
    let mut out = cpu.pool.uninit(&[rows, width]);
    let piece = (ROWS * width).max(1);
    out.fill(|out| {
        let pieces = x.values().par_chunks(2 * piece).zip(out.par_chunks_mut(piece));
        pieces.for_each(|(x, out)| geglu_forward(cpu.simd, x, width.max(1), out));
    });
    Ok(out)
}

pub(super) fn geglu_backward(cpu: &Cpu, x: &Buffer, dy: &Buffer) -> Result<Buffer> {
    let (rows, width) = half_width(x)?;
    expect("the gradient", dy, &[rows, width])?;
    let mut dx = cpu.pool.uninit(x.shape());
    let piece = (ROWS * width).max(1);
    dx.fill(|dx| {
        let pieces =
            dx.par_chunks_mut(2 * piece).zip(x.values().par_chunks(2 * piece)).zip(dy.values().par_chunks(piece));
        pieces.for_each(|((dx, x), dy)| geglu_gradient(cpu.simd, x, dy, width.max(1), dx));
    });
    Ok(dx)
}

pub(super) fn rotary(cpu: &Cpu, qkv: Buffer, rotation: &Rotation<'_>) -> Result<Buffer> {
    let size = rotation.head_size(qkv.shape())?;
    let [cos, sin] = rotation.table(size);
    let (half, turned) = (size / 2, 2 * rotation.heads * size);
    let width = (3 * rotation.heads * size).max(1);
    let mut qkv = qkv.into_unique(&cpu.pool);
    qkv.fill(|qkv| {
        let rows = qkv.par_chunks_mut(width).zip(rotation.positions).with_min_len(ROWS);
        rows.for_each(|(row, position)| {
            let at = *position as usize * half;
            rotate(cpu.simd, &mut row[..turned], &cos[at..at + half], &sin[at..at + half]);
        });
    });
    Ok(qkv)
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
