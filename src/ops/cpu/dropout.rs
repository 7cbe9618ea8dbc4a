//! Dropout masks from the generator of [`crate::rng`], several blocks of Philox at a time.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::engine::{Cpu, ELEMENTS};
use super::simd::kernel;
use crate::rng::Dropout;

/// Blocks drawn together: two vectors of 64-bit lanes at AVX-512, so that one computes while the
/// other waits.
const MANY: usize = 16;
/// Blocks drawn together at the end of a row.
const FEW: usize = 8;

/// A dropout with its constants precomputed.
#[derive(Debug, Clone, Copy)]
pub struct Mask {
    seed: u64,
    /// Site, step and micro-batch.
    counter: [u64; 3],
    threshold: u32,
    /// The scale of the elements that are kept.
    pub scale: f32,
}

impl From<&Dropout> for Mask {
    fn from(dropout: &Dropout) -> Self {
        Self {
            seed: dropout.seed,
            counter: [dropout.site, dropout.step, dropout.micro].map(u64::from),
            threshold: dropout.threshold(),
            scale: dropout.scale(),
        }
    }
}

impl Mask {
    /// The factors of the elements `4 * counter .. 4 * (counter + BLOCKS)`.
    ///
    /// [`crate::rng::philox`] with each word in a 64-bit lane, whose upper half is arbitrary:
    /// a product reads the lower halves only and leaves both halves of its result in place, so that
    /// no lane is ever split or joined.
    #[inline(always)]
    fn factors<const BLOCKS: usize>(&self, counter: u32, out: &mut [[f32; 4]; BLOCKS]) {
        const M0: u64 = 0xD251_1F53;
        const M1: u64 = 0xCD9E_8D57;
        let low = |word: u64| word & 0xffff_ffff;
        let [site, step, micro] = self.counter;
        let mut c0 = [0; BLOCKS];
        for block in 0..BLOCKS {
            c0[block] = u64::from(counter.wrapping_add(block as u32));
        }
        let (mut c1, mut c2, mut c3) = ([site; BLOCKS], [step; BLOCKS], [micro; BLOCKS]);
        let (mut k0, mut k1) = (self.seed as u32, (self.seed >> 32) as u32);
        for _ in 0..10 {
            for block in 0..BLOCKS {
                let p0 = M0 * low(c0[block]);
                let p1 = M1 * low(c2[block]);
                c0[block] = (p1 >> 32) ^ c1[block] ^ u64::from(k0);
                c1[block] = p1;
                c2[block] = (p0 >> 32) ^ c3[block] ^ u64::from(k1);
                c3[block] = p0;
            }
            k0 = k0.wrapping_add(0x9E37_79B9);
            k1 = k1.wrapping_add(0xBB67_AE85);
        }
        let (threshold, scale) = (self.threshold, self.scale);
        let factor = |word: u64| if (word as u32) < threshold { scale } else { 0.0 };
        for block in 0..BLOCKS {
            out[block] = [factor(c0[block]), factor(c1[block]), factor(c2[block]), factor(c3[block])];
        }
    }

    /// The factors of the elements from `start` on, bit for bit those of [`Dropout::fill`].
    #[inline(always)]
    pub fn fill_inline(&self, start: u64, out: &mut [f32]) {
        let mut counter = (start / 4) as u32;
        let skip = (start % 4) as usize;
        let mut out = out;
        if skip > 0 {
            let mut block = [[0.0; 4]];
            self.factors(counter, &mut block);
            let (now, later) = out.split_at_mut(out.len().min(4 - skip));
            now.copy_from_slice(&block[0][skip..skip + now.len()]);
            (out, counter) = (later, counter.wrapping_add(1));
        }
        let (blocks, rest) = out.as_chunks_mut::<4>();
        let (many, blocks) = blocks.as_chunks_mut::<MANY>();
        for out in many {
            self.factors(counter, out);
            counter = counter.wrapping_add(MANY as u32);
        }
        let (few, blocks) = blocks.as_chunks_mut::<FEW>();
        for out in few {
            self.factors(counter, out);
            counter = counter.wrapping_add(FEW as u32);
        }
        if !blocks.is_empty() || !rest.is_empty() {
            let mut last = [[0.0; 4]; FEW];
            self.factors(counter, &mut last);
            let last = last.as_flattened();
            let (whole, part) = last.split_at(4 * blocks.len());
            blocks.as_flattened_mut().copy_from_slice(whole);
            rest.copy_from_slice(&part[..rest.len()]);
        }
    }
}

kernel! {
    /// Multiply `x`, whose first element is `start`, by its mask.
    fn apply<A>(mask: &Mask, start: u64, x: &mut [f32]) {
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

pub(super) fn dropout(cpu: &Cpu, x: Buffer, dropout: &Dropout) -> Buffer {
    let mut x = x.into_unique(&cpu.pool);
    let mask = Mask::from(dropout);
    x.fill(|x| {
        let pieces = x.par_chunks_mut(ELEMENTS).enumerate();
        pieces.for_each(|(index, x)| apply(cpu.simd, &mask, (index * ELEMENTS) as u64, x));
    });
    x
}

#[cfg(test)]
mod tests {
    use super::super::simd::{Simd, SimdLevel};
    use super::*;

    kernel! {
        fn fill<A>(mask: &Mask, start: u64, out: &mut [f32]) {
            mask.fill_inline(start, out);
        }
    }

    #[test]
    fn equals_the_sequential_masks() {
        for simd in SimdLevel::ALL.into_iter().filter_map(Simd::new) {
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
