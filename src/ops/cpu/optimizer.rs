//! The optimizer's passes over all parameters. They are bound by memory, so each element is read
//! and written once.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::engine::{Cpu, ELEMENTS, expect};
use super::math;
use super::simd::{Simd, kernel};
use crate::Result;
use crate::ops::{AdamWStep, Moments};

/// Sum of squares in f64: pieces of a fixed size, added in order.
pub(super) fn sum_squares(cpu: &Cpu, x: &[f32]) -> f64 {
    let simd = cpu.simd;
    if x.len() <= ELEMENTS {
        return math::sum_squares(simd, x);
    }
    let pieces: Vec<f64> = x.par_chunks(ELEMENTS).map(|x| math::sum_squares(simd, x)).collect();
    pieces.iter().sum()
}

/// One step of AdamW in place.
fn update(simd: Simd, step: &AdamWStep, w: &mut [f32], m: &mut [f32], v: &mut [f32], gradient: &[f32]) {
    if w.len() <= ELEMENTS {
        return adamw_piece(simd, step, w, m, v, gradient);
    }
    w.par_chunks_mut(ELEMENTS)
        .zip(m.par_chunks_mut(ELEMENTS))
        .zip(v.par_chunks_mut(ELEMENTS))
        .zip(gradient.par_chunks(ELEMENTS))
        .for_each(|(((w, m), v), gradient)| adamw_piece(simd, step, w, m, v, gradient));
}

kernel! {
    fn adamw_piece<A>(step: &AdamWStep, w: &mut [f32], m: &mut [f32], v: &mut [f32], gradient: &[f32]) {
        for (((w, m), v), gradient) in w.iter_mut().zip(m).zip(v).zip(gradient) {
            (*w, *m, *v) = step.apply(*w, *m, *v, *gradient);
        }
    }
}

pub(super) fn adamw(
    cpu: &Cpu,
    value: &mut Buffer,
    moments: &mut Moments<Buffer>,
    gradient: &Buffer,
    step: &AdamWStep,
) -> Result<()> {
    for (what, x) in [("the first moment", &moments.m), ("the second moment", &moments.v), ("the gradient", gradient)] {
        expect(what, x, value.shape())?;
    }
    for x in [&mut *value, &mut moments.m, &mut moments.v] {
        x.make_unique(&cpu.pool);
    }
    let (m, v) = (&mut moments.m, &mut moments.v);
    value.fill(|w| m.fill(|m| v.fill(|v| update(cpu.simd, step, w, m, v, gradient.values()))));
    Ok(())
}
