//! Counter-based random numbers: Philox4x32-10 (Salmon et al., *Parallel random numbers: as easy as
//! 1, 2, 3*, SC 2011).
//!
//! A number is a pure function of (seed, stream, position), so every engine, device and number of
//! threads draws the same dropout masks, shuffles and initial weights, and a resumed run needs no
//! saved generator state.
//!
//! Ours, because the generators of `rand` are sequential: a dropout mask needs the numbers of any
//! element by itself, in any thread, and bit for bit those of the CUDA kernels.

/// One block of Philox4x32-10: four words from a 64-bit key and a 128-bit counter.
#[inline(always)]
pub fn philox(key: u64, counter: [u32; 4]) -> [u32; 4] {
    const M0: u64 = 0xD251_1F53;
    const M1: u64 = 0xCD9E_8D57;
    let (mut k0, mut k1) = (key as u32, (key >> 32) as u32);
    let [mut c0, mut c1, mut c2, mut c3] = counter;
    for _ in 0..10 {
        let p0 = M0 * u64::from(c0);
        let p1 = M1 * u64::from(c2);
        (c0, c1, c2, c3) = ((p1 >> 32) as u32 ^ c1 ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c3 ^ k1, p0 as u32);
        k0 = k0.wrapping_add(0x9E37_79B9);
        k1 = k1.wrapping_add(0xBB67_AE85);
    }
    [c0, c1, c2, c3]
}

/// The purpose of a sequence of draws. It is part of the counter, so that purposes never share
/// numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// Dropout masks use the sites 0, 1, 2, ... below this value.
    Shuffle = 0x4000_0000,
    /// Initial values of new parameters.
    Init = 0x4000_0001,
    /// Choice of instances: down-sampling, folds.
    Sample = 0x4000_0002,
    /// Random words with as many pieces as a ranking masks.
    Matched = 0x4000_0003,
    /// Masked words of the language model.
    Mask = 0x4000_0004,
}

/// A sequential reader of one stream of numbers.
#[derive(Debug, Clone)]
pub struct Stream {
    seed: u64,
    purpose: u32,
    index: u32,
    block: u32,
    buffer: [u32; 4],
    used: usize,
}

impl Stream {
    /// The stream of `seed` for `purpose`; `index` separates the streams of one purpose (the epoch,
    /// the parameter).
    pub fn new(seed: u64, purpose: Purpose, index: u32) -> Self {
        Self { seed, purpose: purpose as u32, index, block: 0, buffer: [0; 4], used: 4 }
    }

    /// The next 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.buffer = philox(self.seed, [self.block, self.purpose, self.index, 0]);
            self.block = self.block.wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.buffer[self.used - 1]
    }

    /// Uniform in the open interval (0, 1), 53 bits.
    pub fn uniform(&mut self) -> f64 {
        let high = u64::from(self.next_u32() >> 5);
        let low = u64::from(self.next_u32() >> 6);
        ((high << 26 | low) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Uniform in `0..n` without modulo bias (rejection). `n` must be positive.
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0 && n <= u32::MAX as usize, "below({n})");
        let n = n as u32;
        let limit = u32::MAX - u32::MAX % n;
        loop {
            let word = self.next_u32();
            if word < limit {
                return (word % n) as usize;
            }
        }
    }

    /// Standard normal (Box-Muller; one of the two values).
    pub fn normal(&mut self) -> f64 {
        let (u, v) = (self.uniform(), self.uniform());
        (-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos()
    }

    /// Fisher-Yates shuffle.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// The position of a dropout mask: every decision is a pure function of these fields and the
/// element's index.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Probability that an element is zeroed, in `[0, 1)`.
    pub rate: f32,
    /// The run's seed.
    pub seed: u64,
    /// The dropout in the network: `4 * layer + kind` (see `model::encoder`).
    pub site: u32,
    /// Optimizer step.
    pub step: u32,
    /// Micro-batch within the step.
    pub micro: u32,
}

impl Dropout {
    /// Words below this value are kept: `round((1 - rate) * 2^32)`, saturated.
    #[inline]
    pub fn threshold(&self) -> u32 {
        ((1.0 - f64::from(self.rate)) * 4_294_967_296.0).round().min(4_294_967_295.0) as u32
    }

    /// The factor of a kept element: `1 / (1 - rate)`.
    #[inline]
    pub fn scale(&self) -> f32 {
        1.0 / (1.0 - self.rate)
    }

    /// The four random words of elements `4 * quad .. 4 * quad + 4`.
    #[inline(always)]
    pub fn words(&self, quad: u32) -> [u32; 4] {
        philox(self.seed, [quad, self.site, self.step, self.micro])
    }

    /// The factor of element `index`: 0, or [`Self::scale`].
    #[inline]
    pub fn factor(&self, index: u64) -> f32 {
        if self.words((index / 4) as u32)[(index % 4) as usize] < self.threshold() { self.scale() } else { 0.0 }
    }

    /// The factors of elements `start .. start + out.len()`.
    pub fn fill(&self, start: u64, out: &mut [f32]) {
        let (threshold, scale) = (self.threshold(), self.scale());
        let mut index = start;
        let mut done = 0;
        while done < out.len() {
            let words = self.words((index / 4) as u32);
            for word in &words[(index % 4) as usize..] {
                if done == out.len() {
                    break;
                }
                out[done] = if *word < threshold { scale } else { 0.0 };
                done += 1;
                index += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the Random123 distribution (kat_vectors, philox4x32 10).
    #[test]
    fn philox_known_answers() {
        assert_eq!(philox(0, [0; 4]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox(u64::MAX, [u32::MAX; 4]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox(0x299f_31d0_a409_3822, [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn fill_equals_factor_from_any_start() {
        let dropout = Dropout { rate: 0.3, seed: 7, site: 2, step: 5, micro: 0 };
        for start in 0..9 {
            let mut out = vec![9.0; 11];
            dropout.fill(start, &mut out);
            for (i, value) in out.iter().enumerate() {
                assert_eq!(*value, dropout.factor(start + i as u64));
            }
        }
    }

    #[test]
    fn dropout_keeps_the_stated_share() {
        let dropout = Dropout { rate: 0.1, seed: 1, site: 0, step: 0, micro: 0 };
        let mut out = vec![0.0; 100_000];
        dropout.fill(0, &mut out);
        let kept = out.iter().filter(|v| **v > 0.0).count() as f64;
        // Standard deviation of the count is sqrt(100000 * 0.09) = 95.
        assert!((kept - 90_000.0).abs() < 5.0 * 95.0, "{kept}");
    }

    #[test]
    fn streams_are_reproducible_and_distinct() {
        let draw = |seed, purpose, index| {
            let mut stream = Stream::new(seed, purpose, index);
            (0..5).map(|_| stream.next_u32()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, Purpose::Init, 0), draw(1, Purpose::Init, 0));
        assert_ne!(draw(1, Purpose::Init, 0), draw(1, Purpose::Init, 1));
        assert_ne!(draw(1, Purpose::Init, 0), draw(1, Purpose::Shuffle, 0));
        assert_ne!(draw(1, Purpose::Init, 0), draw(2, Purpose::Init, 0));
    }

    #[test]
    fn shuffle_is_a_permutation() {
        let mut items: Vec<usize> = (0..100).collect();
        Stream::new(3, Purpose::Shuffle, 0).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
