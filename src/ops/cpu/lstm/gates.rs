//! The gates of an LSTM for [`UNITS`] hidden units of some sequences at one step, forward and
//! backward.
//!
//! A row of pre-activations has the units' four gates one after the other: i, f, g, o, each
//! [`UNITS`] wide.

use super::super::math::{LANES, sigmoid, tanh};
use super::super::matmul::{Matrix, MatrixMut};
use super::super::simd::kernel;

/// Hidden units that are computed together: one vector at AVX-512.
pub const UNITS: usize = LANES;

/// One step of a block of units; each matrix has a row for each of the sequences that run at this
/// step.
pub struct Forward<'a, T> {
    /// The input product, `(n, 4 UNITS)`; becomes the activated gates.
    pub gates: MatrixMut<'a, T>,
    /// The recurrent product, `(n, 4 UNITS)`, and the cells of the step before, `(n, UNITS)`;
    /// `None` at the first step.
    pub before: Option<(Matrix<'a, T>, Matrix<'a, T>)>,
    /// Receives the cells, `(n, UNITS)`.
    pub cells: MatrixMut<'a, T>,
    /// Receives the hidden states, `(n, UNITS)`.
    pub hidden: MatrixMut<'a, T>,
}

/// The backward of [`Forward`].
pub struct Backward<'a, T> {
    /// Activated gates, `(n, 4 UNITS)`.
    pub gates: Matrix<'a, T>,
    /// Cells of this step, `(n, UNITS)`.
    pub cells: Matrix<'a, T>,
    /// Cells of the step before, `(n, UNITS)`; `None` at the first step.
    pub before: Option<Matrix<'a, T>>,
    /// Gradient of the hidden states, `(n, UNITS)`.
    pub d_hidden: Matrix<'a, T>,
    /// Gradient of the cells, `(n, UNITS)`; becomes that of the cells of the step before.
    pub d_cells: MatrixMut<'a, T>,
    /// Receives the gradient of the pre-activations, `(n, 4 UNITS)`.
    pub d_gates: MatrixMut<'a, T>,
}

/// A row as whole vectors.
#[inline(always)]
fn vectors<const N: usize>(row: &[f32]) -> &[[f32; UNITS]; N] {
    row.as_chunks().0.try_into().expect("a row of whole vectors")
}

kernel! {
    /// Run a step.
    pub fn forward<A>(step: Forward<'_, f32>) {
        const NONE: [[f32; UNITS]; 4] = [[0.0; UNITS]; 4];
        let Forward { mut gates, before, mut cells, mut hidden } = step;
        for row in 0..gates.rows() {
            let (sums, cell) = match before {
                Some((sums, cells)) => (vectors::<4>(sums.row(row)), &vectors::<1>(cells.row(row))[0]),
                None => (&NONE, &NONE[0]),
            };
            let mut z = *vectors::<4>(gates.row_mut(row));
            for gate in 0..4 {
                for unit in 0..UNITS {
                    z[gate][unit] += sums[gate][unit];
                }
            }
            for gate in [0, 1, 3] {
                for unit in 0..UNITS {
                    z[gate][unit] = sigmoid::<A>(z[gate][unit]);
                }
            }
            let (mut c, mut h) = ([0.0; UNITS], [0.0; UNITS]);
            for unit in 0..UNITS {
                z[2][unit] = tanh::<A>(z[2][unit]);
                c[unit] = A::madd(z[1][unit], cell[unit], z[0][unit] * z[2][unit]);
            }
            for unit in 0..UNITS {
                h[unit] = z[3][unit] * tanh::<A>(c[unit]);
            }
            gates.row_mut(row).copy_from_slice(z.as_flattened());
            cells.row_mut(row).copy_from_slice(&c);
            hidden.row_mut(row).copy_from_slice(&h);
        }
    }
}

kernel! {
    /// Run the backward of a step.
    pub fn backward<A>(step: Backward<'_, f32>) {
        const NONE: [f32; UNITS] = [0.0; UNITS];
        let Backward { gates, cells, before, d_hidden, mut d_cells, mut d_gates } = step;
        for row in 0..gates.rows() {
            let [i, f, g, o] = vectors::<4>(gates.row(row));
            let [c] = vectors::<1>(cells.row(row));
            let [dh] = vectors::<1>(d_hidden.row(row));
            let [last] = before.as_ref().map_or(&[NONE], |before| vectors::<1>(before.row(row)));
            let mut dc = vectors::<1>(d_cells.row_mut(row))[0];
            let mut dz = [[0.0; UNITS]; 4];
            for unit in 0..UNITS {
                let tanh_c = tanh::<A>(c[unit]);
                let d_cell = A::madd(dh[unit] * o[unit], 1.0 - tanh_c * tanh_c, dc[unit]);
                dz[0][unit] = d_cell * g[unit] * i[unit] * (1.0 - i[unit]);
                dz[1][unit] = d_cell * last[unit] * f[unit] * (1.0 - f[unit]);
                dz[2][unit] = d_cell * i[unit] * (1.0 - g[unit] * g[unit]);
                dz[3][unit] = dh[unit] * tanh_c * o[unit] * (1.0 - o[unit]);
                dc[unit] = d_cell * f[unit];
            }
            d_gates.row_mut(row).copy_from_slice(dz.as_flattened());
            d_cells.row_mut(row).copy_from_slice(&dc);
        }
    }
}
