//! Bias and GELU in one pass, forward and backward.

use super::math::normal;
use super::simd::kernel;

kernel! {
    /// `gelu(x + b)` of rows as wide as `bias`. Error within 2e-7 |x + b| of the exact function, and f32 rounding.
    pub fn forward<A>(x: &[f32], bias: &[f32], out: &mut [f32]) {
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
    /// `dy` becomes the gradient of `x`, `dy (Phi(z) + z phi(z))`; its columns are added onto `sums`.
    pub fn backward<A>(x: &[f32], bias: &[f32], dy: &mut [f32], sums: &mut [f32]) {
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
