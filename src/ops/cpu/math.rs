//! Vectorisable scalar functions, and sums over a slice.
//!
//! Errors, measured by the tests below against f64 over the whole range used: [`exp`] 2e-7
//! relative, [`normal_cdf`] 2e-7 absolute (so the error function behind it 4e-7), [`sigmoid`] 2e-7
//! and [`tanh`] 3e-7 relative.

use super::simd::{Arithmetic, kernel};

/// `e^x`: 0 below -87.3 (the smallest normal number), infinite never (clamped at 88).
#[inline(always)]
pub fn exp<A: Arithmetic>(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, the first with trailing zeros so that n * LN2_HIGH is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Minimax for (e^r - 1 - r) / r^2 on |r| <= ln(2) / 2, 3e-9 relative.
    const C: [f32; 5] = [0.499_999_93, 0.166_665_2, 0.041_668_39, 0.008_368_721, 0.001_381_460_1];
    let clamped = x.clamp(-87.3, 88.0);
    let shifted = A::madd(clamped, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = A::madd(n, -LN2_LOW, A::madd(n, -LN2_HIGH, clamped));
    let mut p = C[4];
    p = A::madd(p, r, C[3]);
    p = A::madd(p, r, C[2]);
    p = A::madd(p, r, C[1]);
    p = A::madd(p, r, C[0]);
    let mantissa = A::madd(p, r * r, r) + 1.0;
    let exponent = shifted.to_bits().wrapping_add(127) << 23;
    let value = mantissa * f32::from_bits(exponent);
    if x < -87.3 { 0.0 } else { value }
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid<A: Arithmetic>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<A>(-x))
}

/// Hyperbolic tangent: `1 - 2 / (1 + e^2|x|)` with the sign of x, and near 0, where that loses all
/// digits, the polynomial of Moshier's Cephes.
#[inline(always)]
pub fn tanh<A: Arithmetic>(x: f32) -> f32 {
    const C: [f32; 5] = [-0.333_332_8, 0.133_314_42, -0.053_739_72, 0.020_639_09, -0.005_704_988_7];
    let size = x.abs();
    let far = 1.0 - 2.0 / (1.0 + exp::<A>(2.0 * size));
    let square = x * x;
    let mut p = C[4];
    p = A::madd(p, square, C[3]);
    p = A::madd(p, square, C[2]);
    p = A::madd(p, square, C[1]);
    p = A::madd(p, square, C[0]);
    let near = A::madd(p * square, size, size);
    let value = if size < 0.625 { near } else { far };
    value.copysign(x)
}

/// `(Phi(z), phi(z))`: the standard normal distribution function and its density.
///
/// `1 - Phi(|z|) = e^(-z²/2) P(t)` with `t = 1 / (1 + 0.275 |z|)`, the form of Hastings (1955) with
/// coefficients refitted to an error of 5e-9; the exponential is also used for the density.
#[inline(always)]
pub fn normal<A: Arithmetic>(z: f32) -> (f32, f32) {
    const C: [f32; 6] = [0.117_809_26, 0.042_111_43, 0.333_932_4, -0.330_993_5, 0.451_998_77, -0.114_858_34];
    const DENSITY_AT_0: f32 = 0.398_942_3;
    let t = 1.0 / A::madd(0.275, z.abs(), 1.0);
    let mut p = C[5];
    p = A::madd(p, t, C[4]);
    p = A::madd(p, t, C[3]);
    p = A::madd(p, t, C[2]);
    p = A::madd(p, t, C[1]);
    p = A::madd(p, t, C[0]);
    let bell = exp::<A>(-0.5 * z * z);
    let tail = p * t * bell;
    let cdf = if z < 0.0 { tail } else { 1.0 - tail };
    (cdf, DENSITY_AT_0 * bell)
}

/// Floats in the largest vector: partial results of a reduction, and the size of pieces without a
/// last, shorter one.
pub const LANES: usize = 16;

/// Combine partial results pairwise.
///
/// In steps of constant size, because the compiler makes vector code of those only; and without
/// `array::map` and the like here and in the kernels, because a call that is not inlined runs
/// without the vector instructions.
#[inline(always)]
fn collapse(lanes: &[f32; LANES], pair: impl Fn(f32, f32) -> f32) -> f32 {
    let (mut half, mut quarter) = ([0.0; 8], [0.0; 4]);
    for i in 0..8 {
        half[i] = pair(lanes[i], lanes[i + 8]);
    }
    for i in 0..4 {
        quarter[i] = pair(half[i], half[i + 4]);
    }
    pair(pair(quarter[0], quarter[2]), pair(quarter[1], quarter[3]))
}

/// Sum of `f` over the elements of some slices of one length, with [`LANES`] partial sums.
///
/// One sum a pass: with two the compiler falls back to scalar additions.
#[inline(always)]
pub fn sum_of<const SLICES: usize>(x: [&[f32]; SLICES], f: impl Fn([f32; SLICES]) -> f32) -> f32 {
    let n = x[0].len();
    let pieces = n / LANES;
    // Pieces of constant size have no bounds to check inside.
    let mut whole: [&[[f32; LANES]]; SLICES] = [&[]; SLICES];
    let mut rest: [&[f32]; SLICES] = [&[]; SLICES];
    for slice in 0..SLICES {
        whole[slice] = &x[slice].as_chunks().0[..pieces];
        rest[slice] = &x[slice][pieces * LANES..n];
    }
    let mut sums = [0.0; LANES];
    let mut terms = [0.0; LANES];
    for piece in 0..pieces {
        for lane in 0..LANES {
            let mut arguments = [0.0; SLICES];
            for slice in 0..SLICES {
                arguments[slice] = whole[slice][piece][lane];
            }
            terms[lane] = f(arguments);
        }
        for lane in 0..LANES {
            sums[lane] += terms[lane];
        }
    }
    for lane in 0..n % LANES {
        let mut arguments = [0.0; SLICES];
        for slice in 0..SLICES {
            arguments[slice] = rest[slice][lane];
        }
        sums[lane] += f(arguments);
    }
    collapse(&sums, |a, b| a + b)
}

/// `e^(x - max) / sum` of a row of whole vectors, of which the first `length` count; the others
/// become 0.
#[inline(always)]
pub fn softmax<A: Arithmetic>(row: &mut [f32], length: usize) {
    row[length..].fill(f32::NEG_INFINITY);
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for x in row.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            lanes[lane] = larger(x[lane], lanes[lane]);
        }
    }
    let top = collapse(&lanes, larger);
    let (row, _) = row.as_chunks_mut::<LANES>();
    for x in row.as_flattened_mut() {
        *x = exp::<A>(*x - top);
    }
    let factor = 1.0 / sum_of([row.as_flattened()], |[x]| x);
    for x in row.as_flattened_mut() {
        *x *= factor;
    }
}

kernel! {
    /// `onto += x`.
    pub fn add<A>(onto: &mut [f32], x: &[f32]) {
        for (onto, x) in onto.iter_mut().zip(x) {
            *onto += *x;
        }
    }
}

kernel! {
    /// Sum of squares, accumulated in f64.
    pub fn sum_squares<A>(x: &[f32]) -> f64 {
        const WIDTH: usize = 32;
        let mut lanes = [0.0f64; WIDTH];
        let chunks = x.chunks_exact(WIDTH);
        let rest = chunks.remainder();
        for chunk in chunks {
            for lane in 0..WIDTH {
                let value = f64::from(chunk[lane]);
                lanes[lane] += value * value;
            }
        }
        for (lane, value) in rest.iter().enumerate() {
            lanes[lane] += f64::from(*value) * f64::from(*value);
        }
        lanes.iter().sum()
    }
}

kernel! {
    /// Add each row of `x` onto `sums`, `(rows, columns)` onto `(columns)`.
    pub fn add_columns<A>(x: &[f32], sums: &mut [f32]) {
        for row in x.chunks_exact(sums.len().max(1)) {
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += *x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::{Fused, Plain, Simd, SimdLevel};
    use super::*;

    kernel! {
        fn evaluate<A>(x: &[f32], exps: &mut [f32], cdfs: &mut [f32], densities: &mut [f32]) {
            for i in 0..x.len() {
                exps[i] = exp::<A>(x[i]);
                (cdfs[i], densities[i]) = normal::<A>(x[i]);
            }
        }
    }

    fn levels() -> impl Iterator<Item = Simd> {
        SimdLevel::ALL.into_iter().filter_map(Simd::new)
    }

    /// Phi in f64: the series 1/2 + phi(z) (z + z³/3 + z⁵/15 + ...) near 0, the continued fraction
    /// of the tail beyond.
    fn cdf(z: f64) -> f64 {
        let density = (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
        if z.abs() < 3.0 {
            let (mut term, mut sum) = (z, z);
            for k in 1..100 {
                term *= z * z / f64::from(2 * k + 1);
                sum += term;
            }
            0.5 + density * sum
        } else {
            let fraction = (1..200).rev().fold(z.abs(), |f, k| z.abs() + f64::from(k) / f);
            let tail = density / fraction;
            if z < 0.0 { tail } else { 1.0 - tail }
        }
    }

    #[test]
    fn exp_and_normal_within_the_stated_errors() {
        let x: Vec<f32> = (-90_000..88_000).map(|i| i as f32 * 1e-3).collect();
        for simd in levels() {
            let mut outs = [vec![0.0; x.len()], vec![0.0; x.len()], vec![0.0; x.len()]];
            let [exps, cdfs, densities] = &mut outs;
            evaluate(simd, &x, exps, cdfs, densities);
            for (i, x) in x.iter().enumerate() {
                let z = f64::from(*x);
                let expected = if *x < -87.3 { 0.0 } else { z.exp() };
                assert!((f64::from(exps[i]) - expected).abs() <= 2e-7 * expected, "{simd:?} exp({x}) = {}", exps[i]);
                assert!((f64::from(cdfs[i]) - cdf(z)).abs() < 2e-7, "{simd:?} Phi({x}) = {}", cdfs[i]);
                let density = (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
                assert!((f64::from(densities[i]) - density).abs() < 1e-7, "{simd:?} phi({x}) = {}", densities[i]);
            }
        }
    }

    kernel! {
        fn gates<A>(x: &[f32], sigmoids: &mut [f32], tanhs: &mut [f32]) {
            for i in 0..x.len() {
                sigmoids[i] = sigmoid::<A>(x[i]);
                tanhs[i] = tanh::<A>(x[i]);
            }
        }
    }

    #[test]
    fn sigmoid_and_tanh_within_the_stated_errors() {
        let tiny = (0..400).map(|i| 1e-6 * 1.05f32.powi(i));
        let x: Vec<f32> = (-80_000..80_000).map(|i| i as f32 * 1e-3).chain(tiny).collect();
        for simd in levels() {
            let (mut sigmoids, mut tanhs) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            gates(simd, &x, &mut sigmoids, &mut tanhs);
            for (i, x) in x.iter().enumerate() {
                let z = f64::from(*x);
                let (sigmoid, tanh) = (1.0 / (1.0 + (-z).exp()), z.tanh());
                assert!((f64::from(sigmoids[i]) - sigmoid).abs() <= 2e-7 * sigmoid, "{simd:?} sigmoid({x})");
                assert!((f64::from(tanhs[i]) - tanh).abs() <= 3e-7 * tanh.abs(), "{simd:?} tanh({x}) = {}", tanhs[i]);
            }
        }
        assert_eq!([sigmoid::<Plain>(f32::INFINITY), tanh::<Plain>(f32::NEG_INFINITY)], [1.0, -1.0]);
        assert!(
            sigmoid::<Plain>(-1e4) < 1e-37 && sigmoid::<Plain>(f32::NAN).is_nan() && tanh::<Plain>(f32::NAN).is_nan()
        );
    }

    #[test]
    fn exp_at_the_ends() {
        for exp in [exp::<Fused>, exp::<Plain>] {
            assert_eq!(exp(f32::NEG_INFINITY), 0.0);
            assert_eq!(exp(0.0), 1.0);
            assert!(exp(f32::NAN).is_nan());
        }
    }

    kernel! {
        fn softmax_kernel<A>(row: &mut [f32], length: usize) {
            softmax::<A>(row, length);
        }
    }

    #[test]
    fn softmax_of_every_length() {
        for simd in levels() {
            for length in 1..70usize {
                let x: Vec<f32> = (0..length).map(|i| ((i * 31) % 17) as f32 * 3.0 - 40.0).collect();
                let top = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let exps: Vec<f64> = x.iter().map(|x| f64::from(x - top).exp()).collect();
                let mut row = vec![f32::NAN; length.next_multiple_of(LANES)];
                row[..length].copy_from_slice(&x);
                softmax_kernel(simd, &mut row, length);
                for (i, p) in row.iter().enumerate() {
                    let expected = exps.get(i).map_or(0.0, |exp| exp / exps.iter().sum::<f64>());
                    assert!((f64::from(*p) - expected).abs() < 3e-7, "{simd:?} {length} {i} {p} {expected}");
                }
            }
        }
    }

    #[test]
    fn reductions_of_every_length() {
        for n in 0..200 {
            let x: Vec<f32> = (0..n).map(|i| ((i * 7) % 13) as f32 - 6.0).collect();
            let y: Vec<f32> = x.iter().map(|x| x + 1.0).collect();
            assert_eq!(sum_of([&x, &y], |[x, y]| x * y), x.iter().zip(&y).map(|(x, y)| x * y).sum::<f32>());
            for simd in levels() {
                assert_eq!(sum_squares(simd, &x), x.iter().map(|x| f64::from(x * x)).sum::<f64>());
            }
        }
    }
}
