//! Dropout masks: the numbers of [`crate::rng`], 16 blocks of Philox at a time.

use super::simd::kernel;
use crate::rng::{Dropout, philox};

/// Blocks drawn together: one vector of counters.
const BLOCKS: usize = 16;

/// A dropout with its constants at hand.
#[derive(Debug, Clone, Copy)]
pub struct Mask {
    seed: u64,
    counter: [u32; 3],
    threshold: u32,
    /// What a kept element is multiplied by.
    pub scale: f32,
}

impl From<&Dropout> for Mask {
    fn from(dropout: &Dropout) -> Self {
        Self {
            seed: dropout.seed,
            counter: [dropout.site, dropout.step, dropout.micro],
            threshold: dropout.threshold(),
            scale: dropout.scale(),
        }
    }
}

impl Mask {
    /// The factors of the elements `4 * counter .. 4 * counter + 4` of 16 counters.
    #[inline(always)]
    fn factors(&self, counters: &[u32; BLOCKS]) -> [f32; 4 * BLOCKS] {
        let [site, step, micro] = self.counter;
        let mut words = [[0u32; BLOCKS]; 4];
        for block in 0..BLOCKS {
            let drawn = philox(self.seed, [counters[block], site, step, micro]);
            for word in 0..4 {
                words[word][block] = drawn[word];
            }
        }
        let mut factors = [0.0; 4 * BLOCKS];
        for block in 0..BLOCKS {
            for word in 0..4 {
                factors[4 * block + word] = if words[word][block] < self.threshold { self.scale } else { 0.0 };
            }
        }
        factors
    }

    /// The factors of the elements from `start` on: what [`Dropout::fill`] gives, bit for bit.
    #[inline(always)]
    pub fn fill_inline(&self, start: u64, out: &mut [f32]) {
        let mut counter = (start / 4) as u32;
        let mut skip = (start % 4) as usize;
        let mut out = out;
        while !out.is_empty() {
            let counters = std::array::from_fn(|block| counter.wrapping_add(block as u32));
            let factors = self.factors(&counters);
            let n = out.len().min(4 * BLOCKS - skip);
            let (now, later) = out.split_at_mut(n);
            now.copy_from_slice(&factors[skip..skip + n]);
            out = later;
            counter = counter.wrapping_add(BLOCKS as u32);
            skip = 0;
        }
    }
}

kernel! {
    /// Multiply `x`, whose first element is `start`, by its mask.
    pub fn apply<A>(mask: &Mask, start: u64, x: &mut [f32]) {
        let mut factors = [0.0; 1024];
        for (block, x) in x.chunks_mut(1024).enumerate() {
            let factors = &mut factors[..x.len()];
            mask.fill_inline(start + 1024 * block as u64, factors);
            for (x, factor) in x.iter_mut().zip(factors) {
                *x *= *factor;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::{Level, Simd};
    use super::*;

    kernel! {
        fn fill<A>(mask: &Mask, start: u64, out: &mut [f32]) {
            mask.fill_inline(start, out);
        }
    }

    #[test]
    fn equals_the_sequential_masks() {
        for simd in Level::ALL.into_iter().filter_map(Simd::new) {
            for rate in [0.0, 0.1, 0.5, 0.999] {
                let dropout = Dropout { rate, seed: 0x1234_5678_9abc_def0, site: 9, step: 77, micro: 3 };
                let mask = Mask::from(&dropout);
                // The last start wraps the 32-bit block counter.
                for (start, n) in [(0, 1), (0, 64), (3, 200), (5, 63), (1_000_001, 1030), (4 * 0xffff_fff0, 500)] {
                    let (mut expected, mut drawn) = (vec![9.0; n], vec![9.0; n]);
                    dropout.fill(start, &mut expected);
                    fill(simd, &mask, start, &mut drawn);
                    assert_eq!(drawn, expected, "{simd:?} {rate} {start} {n}");
                    let mut applied = vec![2.0; n];
                    apply(simd, &mask, start, &mut applied);
                    assert_eq!(applied, expected.iter().map(|factor| 2.0 * factor).collect::<Vec<_>>());
                }
            }
        }
    }
}
