//! Bias, dropout, residual and LayerNorm in one pass over the rows, forward and backward.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::dropout::Mask;
use super::engine::{Cpu, ROWS, expect, matrix};
use super::math::sum_of;
use super::simd::kernel;
use crate::Result;
use crate::ops::{Norm, NormGradients, Normed};
use crate::rng::Dropout;

kernel! {
    /// `x`, the branch, becomes the normalized rows; `out` receives the scaled and shifted ones.
    /// `mask` comes with the element of the first row.
    fn forward<A>(
        x: &mut [f32],
        bias: Option<&[f32]>,
        residual: Option<&[f32]>,
        affine: [&[f32]; 2],
        eps: f32,
        mask: Option<(&Mask, u64)>,
        out: &mut [f32],
        rstds: &mut [f32],
    ) {
        let [gamma, beta] = affine;
        let width = gamma.len();
        let rows = x.chunks_exact_mut(width).zip(out.chunks_exact_mut(width)).zip(rstds).enumerate();
        for (row, ((x, out), rstd)) in rows {
            let beta = &beta[..width];
            if let Some(bias) = bias {
                for (x, bias) in x.iter_mut().zip(bias) {
                    *x += *bias;
                }
            }
            if let Some((mask, start)) = mask {
                mask.fill_inline(start + (row * width) as u64, out);
                for (x, factor) in x.iter_mut().zip(out.iter()) {
                    *x *= *factor;
                }
            }
            if let Some(residual) = residual {
                for (x, residual) in x.iter_mut().zip(&residual[row * width..]) {
                    *x += *residual;
                }
            }
            let mean = sum_of([&*x], |[x]| x) / width as f32;
            // Two passes over a row that is in the nearest cache: the one-pass variance cancels.
            let variance = sum_of([&*x], |[x]| (x - mean) * (x - mean)) / width as f32;
            let r = 1.0 / (variance + eps).sqrt();
            *rstd = r;
            for i in 0..width {
                let normalized = (x[i] - mean) * r;
                x[i] = normalized;
                out[i] = A::madd(normalized, gamma[i], beta[i]);
            }
        }
    }
}

kernel! {
    /// With n the normalized row and g = dy * gamma: `dx = rstd (g - mean(g) - n mean(g n))` in
    /// place of `dy`; `branch` becomes dx times the mask. Columns of `dy n`, `dy` and the branch's
    /// gradient are added onto `sums`, `(3, H)`.
    fn backward<A>(
        dy: &mut [f32],
        normalized: &[f32],
        rstds: &[f32],
        gamma: &[f32],
        branch: Option<(&Mask, u64, &mut [f32])>,
        sums: &mut [f32],
    ) {
        let width = gamma.len();
        let (gammas, rest) = sums.split_at_mut(width);
        let (betas, biases) = rest.split_at_mut(width);
        let biases = &mut biases[..width];
        let mut branch = branch;
        let rows = dy.chunks_exact_mut(width).zip(normalized.chunks_exact(width)).zip(rstds).enumerate();
        for (row, ((dy, n), rstd)) in rows {
            let g = sum_of([&*dy, gamma], |[dy, gamma]| dy * gamma);
            let gn = sum_of([&*dy, gamma, n], |[dy, gamma, n]| dy * gamma * n);
            // The products below are rounded like these: a fused one would not cancel against the mean.
            let (mean_g, mean_gn) = (g / width as f32, gn / width as f32);
            match &mut branch {
                None => {
                    for i in 0..width {
                        gammas[i] = A::madd(dy[i], n[i], gammas[i]);
                        betas[i] += dy[i];
                        let centred = dy[i] * gamma[i] - mean_g;
                        let dx = rstd * A::madd(-n[i], mean_gn, centred);
                        dy[i] = dx;
                        biases[i] += dx;
                    }
                }
                Some((mask, start, branch)) => {
                    let branch = &mut branch[row * width..(row + 1) * width];
                    mask.fill_inline(*start + (row * width) as u64, branch);
                    for i in 0..width {
                        gammas[i] = A::madd(dy[i], n[i], gammas[i]);
                        betas[i] += dy[i];
                        let centred = dy[i] * gamma[i] - mean_g;
                        let dx = rstd * A::madd(-n[i], mean_gn, centred);
                        dy[i] = dx;
                        branch[i] *= dx;
                        biases[i] += branch[i];
                    }
                }
            }
        }
    }
}

pub(super) fn add_norm(
    cpu: &Cpu,
    branch: Buffer,
    bias: Option<&Buffer>,
    residual: Option<&Buffer>,
    norm: Norm<'_, Buffer>,
    dropout: Option<&Dropout>,
) -> Result<Normed<Buffer>> {
    let (tokens, hidden) = matrix(&branch)?;
    for (what, vector) in [("the bias", bias), ("gamma", Some(norm.gamma)), ("beta", Some(norm.beta))] {
        vector.map_or(Ok(()), |vector| expect(what, vector, &[hidden]))?;
    }
    residual.map_or(Ok(()), |residual| expect("the residual", residual, &[tokens, hidden]))?;
    let mask = dropout.map(Mask::from);
    let mut normalized = branch.into_unique(&cpu.pool);
    let (mut out, mut rstd) = (cpu.pool.uninit(&[tokens, hidden]), cpu.pool.uninit(&[tokens]));
    let (bias, affine) = (bias.map(Buffer::values), [norm.gamma.values(), norm.beta.values()]);
    let piece = (ROWS * hidden).max(1);
    normalized.fill(|x| {
        out.fill(|out| {
            rstd.fill(|rstd| {
                let pieces = x.par_chunks_mut(piece).zip(out.par_chunks_mut(piece)).zip(rstd.par_chunks_mut(ROWS));
                pieces.enumerate().for_each(|(index, ((x, out), rstd))| {
                    let start = index * piece;
                    let residual = residual.map(|residual| &residual.values()[start..start + x.len()]);
                    let mask = mask.as_ref().map(|mask| (mask, start as u64));
                    forward(cpu.simd, x, bias, residual, affine, norm.eps as f32, mask, out, rstd);
                });
            });
        });
    });
    Ok(Normed { out, normalized, rstd })
}

pub(super) fn add_norm_backward(
    cpu: &Cpu,
    dy: Buffer,
    normed: &Normed<Buffer>,
    gamma: &Buffer,
    dropout: Option<&Dropout>,
) -> Result<NormGradients<Buffer>> {
    let (tokens, hidden) = matrix(&dy)?;
    expect("the normalized rows", &normed.normalized, &[tokens, hidden])?;
    expect("rstd", &normed.rstd, &[tokens])?;
    expect("gamma", gamma, &[hidden])?;
    let mut residual = dy.into_unique(&cpu.pool);
    let (normalized, rstd) = (normed.normalized.values(), normed.rstd.values());
    let piece = (ROWS * hidden).max(1);
    let mask = dropout.map(Mask::from);
    let (branch, sums) = match &mask {
        Some(mask) => {
            let mut branch = cpu.pool.uninit(&[tokens, hidden]);
            let sums = residual.fill(|dx| {
                branch.fill(|branch| {
                    let pieces = dx.par_chunks_mut(piece).zip(branch.par_chunks_mut(piece));
                    cpu.sums(pieces, 3 * hidden, |row, (dx, branch), sums| {
                        let (start, rows) = (row * hidden, dx.len() / hidden);
                        let (n, rstd) = (&normalized[start..start + dx.len()], &rstd[row..row + rows]);
                        let branch = Some((mask, start as u64, branch));
                        backward(cpu.simd, dx, n, rstd, gamma.values(), branch, sums);
                    })
                })
            });
            (branch, sums)
        }
        None => {
            let sums = residual.fill(|dx| {
                cpu.sums(dx.par_chunks_mut(piece), 3 * hidden, |row, dx, sums| {
                    let (start, rows) = (row * hidden, dx.len() / hidden);
                    let (n, rstd) = (&normalized[start..start + dx.len()], &rstd[row..row + rows]);
                    backward(cpu.simd, dx, n, rstd, gamma.values(), None, sums);
                })
            });
            // Without dropout the two gradients are equal.
            (residual.clone(), sums)
        }
    };
    let [gamma, beta, bias] =
        [0, 1, 2].map(|part| cpu.pool.copy(&sums.values()[part * hidden..(part + 1) * hidden], &[hidden]));
    Ok(NormGradients { branch, residual, gamma, beta, bias })
}
