//! The arithmetic of a step: vectorised in f32, and plain loops in f64, for the tests of gradients.

use gemm::Parallelism;

use super::super::matmul::{Float, Matrix, MatrixMut, matmul_into};
use super::super::simd::Simd;
use super::super::small_matmul;
use super::gates::{self, Backward, Forward, UNITS};

/// An element type of the recurrence.
pub(super) trait Cell: Float {
    /// `out = a b`, in the calling thread.
    fn matmul(simd: Simd, out: &mut MatrixMut<'_, Self>, a: Matrix<'_, Self>, b: Matrix<'_, Self>);
    /// A step of a block of units.
    fn forward(simd: Simd, step: Forward<'_, Self>);
    /// Its backward.
    fn backward(simd: Simd, step: Backward<'_, Self>);
}

impl Cell for f32 {
    fn matmul(simd: Simd, out: &mut MatrixMut<'_, Self>, a: Matrix<'_, Self>, b: Matrix<'_, Self>) {
        small_matmul::small_matmul(simd, out, a, b, 1.0);
    }

    fn forward(simd: Simd, step: Forward<'_, Self>) {
        gates::forward(simd, step);
    }

    fn backward(simd: Simd, step: Backward<'_, Self>) {
        gates::backward(simd, step);
    }
}

impl Cell for f64 {
    fn matmul(_: Simd, out: &mut MatrixMut<'_, Self>, a: Matrix<'_, Self>, b: Matrix<'_, Self>) {
        matmul_into(out, a, b, 1.0, 0.0, Parallelism::None);
    }

    fn forward(_: Simd, step: Forward<'_, Self>) {
        let Forward { gates: mut z, before, mut cells, mut hidden } = step;
        for row in 0..z.rows() {
            for unit in 0..UNITS {
                let last = before.map_or(0.0, |(_, cells)| cells.row(row)[unit]);
                let sum = |gate: usize| before.map_or(0.0, |(sums, _)| sums.row(row)[gate * UNITS + unit]);
                let z = z.row_mut(row);
                let [i, f, g, o] = [0, 1, 2, 3].map(|gate| z[gate * UNITS + unit] + sum(gate));
                let [i, f, g, o] = [i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()];
                let c = f * last + i * g;
                [i, f, g, o].into_iter().enumerate().for_each(|(gate, value)| z[gate * UNITS + unit] = value);
                cells.row_mut(row)[unit] = c;
                hidden.row_mut(row)[unit] = o * c.tanh();
            }
        }
    }

    fn backward(_: Simd, step: Backward<'_, Self>) {
        let Backward { gates, cells, before, d_hidden, mut d_cells, mut d_gates } = step;
        for row in 0..gates.rows() {
            for unit in 0..UNITS {
                let [i, f, g, o] = [0, 1, 2, 3].map(|gate| gates.row(row)[gate * UNITS + unit]);
                let last = before.map_or(0.0, |cells| cells.row(row)[unit]);
                let (tanh_c, dh) = (cells.row(row)[unit].tanh(), d_hidden.row(row)[unit]);
                let d_cell = d_cells.row_mut(row)[unit] + dh * o * (1.0 - tanh_c * tanh_c);
                let dz = [
                    d_cell * g * i * (1.0 - i),
                    d_cell * last * f * (1.0 - f),
                    d_cell * i * (1.0 - g * g),
                    dh * tanh_c * o * (1.0 - o),
                ];
                dz.into_iter().enumerate().for_each(|(gate, dz)| d_gates.row_mut(row)[gate * UNITS + unit] = dz);
                d_cells.row_mut(row)[unit] = d_cell * f;
            }
        }
    }
}
