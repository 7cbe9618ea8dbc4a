//! Vectorisable functions of one number and sums over a slice.
//!
//! Errors, measured by the tests below against f64 over the whole range used: [`exp`] 2e-7 relative, [`normal_cdf`] 2e-7
//! absolute (so the error function behind it 4e-7).

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

/// `(Phi(z), phi(z))`: the standard normal distribution function and its density.
///
/// `1 - Phi(|z|) = e^(-z²/2) P(t)` with `t = 1 / (1 + 0.275 |z|)`, the form of Hastings (1955) with coefficients fitted
/// anew for 5e-9; the exponential serves the density too.
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

/// Independent partial sums of a reduction: enough for the latency of additions, and a whole number of vectors at every
/// level.
pub const LANES: usize = 64;

/// Add up partial sums pairwise.
#[inline(always)]
pub fn collapse(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Sum of `f(i)` over `0..n`, with [`LANES`] partial sums.
#[inline(always)]
pub fn sum_of(n: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let whole = n - n % LANES;
    let mut at = 0;
    while at < whole {
        for lane in 0..LANES {
            lanes[lane] += f(at + lane);
        }
        at += LANES;
    }
    for lane in 0..n - whole {
        lanes[lane] += f(whole + lane);
    }
    collapse(lanes)
}

/// Sum of `f(i)` and `g(i)` over `0..n` in one pass, with half of [`LANES`] partial sums each.
#[inline(always)]
pub fn sums_of(n: usize, f: impl Fn(usize) -> [f32; 2]) -> [f32; 2] {
    const HALF: usize = LANES / 2;
    let mut lanes = [[0.0; LANES]; 2];
    let whole = n - n % HALF;
    let mut at = 0;
    while at < whole {
        for lane in 0..HALF {
            let [a, b] = f(at + lane);
            lanes[0][lane] += a;
            lanes[1][lane] += b;
        }
        at += HALF;
    }
    for lane in 0..n - whole {
        let [a, b] = f(whole + lane);
        lanes[0][lane] += a;
        lanes[1][lane] += b;
    }
    lanes.map(collapse)
}

/// The largest value; negative infinity for none.
#[inline(always)]
pub fn largest(x: &[f32]) -> f32 {
    const WIDTH: usize = 32;
    let mut lanes = [f32::NEG_INFINITY; WIDTH];
    let chunks = x.chunks_exact(WIDTH);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..WIDTH {
            lanes[lane] = if chunk[lane] > lanes[lane] { chunk[lane] } else { lanes[lane] };
        }
    }
    for (lane, value) in rest.iter().enumerate() {
        lanes[lane] = if *value > lanes[lane] { *value } else { lanes[lane] };
    }
    let mut width = WIDTH / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = if lanes[i + width] > lanes[i] { lanes[i + width] } else { lanes[i] };
        }
        width /= 2;
    }
    lanes[0]
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
    use super::super::simd::{Fused, Level, Plain, Simd};
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
        Level::ALL.into_iter().filter_map(Simd::new)
    }

    /// Phi in f64: the series 1/2 + phi(z) (z + z³/3 + z⁵/15 + ...) near 0, the continued fraction of the tail beyond.
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

    #[test]
    fn exp_at_the_ends() {
        for exp in [exp::<Fused>, exp::<Plain>] {
            assert_eq!(exp(f32::NEG_INFINITY), 0.0);
            assert_eq!(exp(0.0), 1.0);
            assert!(exp(f32::NAN).is_nan());
        }
    }

    #[test]
    fn reductions_of_every_length() {
        for n in 0..200 {
            let x: Vec<f32> = (0..n).map(|i| ((i * 7) % 13) as f32 - 6.0).collect();
            assert_eq!(sum_of(n, |i| x[i]), x.iter().sum::<f32>());
            assert_eq!(sums_of(n, |i| [x[i], x[i] * x[i]]), [x.iter().sum(), x.iter().map(|x| x * x).sum::<f32>()]);
            assert_eq!(largest(&x), x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            for simd in levels() {
                assert_eq!(sum_squares(simd, &x), x.iter().map(|x| f64::from(x * x)).sum::<f64>());
            }
        }
    }
}
