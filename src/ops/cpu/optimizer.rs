//! The optimizer's passes over all parameters. They are bound by memory, so each element is read
//! and written once.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::engine::{Cpu, ELEMENTS, expect};
use super::math;
use super::simd::{Simd, kernel};
use crate::Result;
use crate::ops::{AdamWStep, Moments};

/// Rows of a table that one task updates.
const ROWS: usize = 256;

/// Sum of squares in f64: pieces of a fixed size, added in order.
pub(super) fn sum_squares(cpu: &Cpu, x: &Buffer) -> f64 {
    let simd = cpu.simd;
    let x = x.stored_rows().map_or_else(|| x.values(), |(_, values)| values);
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

/// One step of AdamW in place with a gradient whose rows other than `rows` are zero: the same values
/// as [`update`]. A row that has never had a gradient is not `active`: its moments are zero, so that
/// only weight decay changes it. Most words of a vocabulary never occur in a corpus.
fn update_rows(
    simd: Simd,
    step: &AdamWStep,
    [w, m, v]: [&mut [f32]; 3],
    active: &mut [bool],
    (rows, gradient): (&[u32], &[f32]),
) {
    let width = w.len() / active.len().max(1);
    let zeros = vec![0.0; width];
    let size = ROWS * width.max(1);
    let chunks = w.par_chunks_mut(size).zip(m.par_chunks_mut(size)).zip(v.par_chunks_mut(size));
    chunks.zip(active.par_chunks_mut(ROWS)).enumerate().for_each(|(chunk, (((w, m), v), active))| {
        let first = chunk * ROWS;
        let mut next = rows.partition_point(|row| (*row as usize) < first);
        for (at, active) in active.iter_mut().enumerate() {
            let row = at * width..(at + 1) * width;
            let (w, m, v) = (&mut w[row.clone()], &mut m[row.clone()], &mut v[row]);
            if rows.get(next).is_some_and(|row| *row as usize == first + at) {
                *active = true;
                adamw_piece(simd, step, w, m, v, &gradient[next * width..][..width]);
                next += 1;
            } else if *active {
                adamw_piece(simd, step, w, m, v, &zeros);
            } else if step.decay != 0.0 {
                decay_piece(simd, step, w);
            }
        }
    });
}

/// The rows with a moment that is not zero.
fn active_rows(rows: usize, m: &[f32], v: &[f32]) -> Vec<bool> {
    let width = (m.len() / rows.max(1)).max(1);
    let some = |x: &[f32]| x.iter().any(|x| *x != 0.0);
    m.par_chunks(width).zip(v.par_chunks(width)).map(|(m, v)| some(m) || some(v)).collect()
}

kernel! {
    fn decay_piece<A>(step: &AdamWStep, w: &mut [f32]) {
        for w in w {
            (*w, _, _) = step.apply(*w, 0.0, 0.0, 0.0);
        }
    }
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
    if let Some(stored) = gradient.stored_rows() {
        let rows = value.shape()[0];
        let mut active = m.take_active().unwrap_or_else(|| active_rows(rows, m.values(), v.values()));
        value.fill(|w| m.fill(|m| v.fill(|v| update_rows(cpu.simd, step, [w, m, v], &mut active, stored))));
        m.set_active(active);
        return Ok(());
    }
    value.fill(|w| m.fill(|m| v.fill(|v| update(cpu.simd, step, w, m, v, gradient.values()))));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    /// Steps with some rows in the gradient, one of them dense, and moments that were uploaded.
    #[test]
    fn stored_rows_have_the_bits_of_a_dense_gradient() {
        let cpu = Cpu::new();
        let (rows, width) = (3 * ROWS + 5, 7);
        let mut stream = Stream::new(1, Purpose::Init, 0);
        let mut random = |n: usize| (0..n).map(|_| stream.normal() as f32).collect::<Vec<f32>>();
        let shape = [rows, width];
        let start = random(rows * width);
        let mut sides = [(); 2].map(|()| {
            let zeros = || cpu.pool.zeros(&shape);
            (cpu.pool.copy(&start, &shape), Moments { m: zeros(), v: zeros() })
        });
        for step in 0..8usize {
            let indices: Vec<u32> =
                (0..rows as u32).filter(|row| (row * 7 + step as u32).is_multiple_of(5) && *row > 40).collect();
            let values = random(indices.len() * width);
            let sparse = cpu.pool.rows(shape, indices, |out| out.copy_from_slice(&values));
            let dense = cpu.pool.copy(sparse.values(), &shape);
            let squares = [&sparse, &dense].map(|gradient| sum_squares(&cpu, gradient));
            assert!((squares[0] - squares[1]).abs() <= 1e-12 * squares[1]);
            let settings = AdamWStep {
                learning_rate: 0.01,
                decay: if step == 3 { 0.0 } else { 0.1 },
                betas: [0.9, 0.999],
                epsilon: 1e-6,
                clip: 0.5,
                corrections: [1.5, 1.1],
            };
            let [(w, moments), (other_w, other_moments)] = &mut sides;
            adamw(&cpu, w, moments, if step == 4 { &dense } else { &sparse }, &settings).unwrap();
            adamw(&cpu, other_w, other_moments, &dense, &settings).unwrap();
            for (found, expected) in [(&*w, &*other_w), (&moments.m, &other_moments.m), (&moments.v, &other_moments.v)]
            {
                assert_eq!(found.values(), expected.values(), "step {step}");
            }
            if step == 5 {
                moments.m = cpu.pool.copy(moments.m.values(), &shape);
            }
        }
    }
}
