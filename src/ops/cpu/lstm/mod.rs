//! The LSTM recurrence over sequences of different lengths as one operation with its own backward.
//!
//! The gates are in PyTorch's order i, f, g, o, with one bias: `z_t = W_ih x_t + b + W_hh h_{t-1}`,
//! `c_t = σ(f) c_{t-1} + σ(i) tanh(g)`, `h_t = σ(o) tanh(c_t)`.
//!
//! The input product `W_ih x + b` of all steps is one matrix product outside this operation.
//! Inside, the rows of a step are contiguous (`Schedule`), and the hidden units are cut into blocks
//! of `UNITS`: a block has the weights of its four gates in one panel, so that a task computes its
//! part of the step's product and then its gates, and a step is one parallel loop over the blocks.
//! The gates and cells are saved for the backward, which runs the same way from the last step to
//! the first; the gradient of `W_hh` is one product at the end. Hidden sizes are padded with zeros
//! to whole blocks; the padding stays 0. The blocks do not depend on the number of threads, and
//! neither do the bits of the result.

mod cell;
mod gates;
mod panels;

use std::ops::Range;
use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Shape, Tensor, WithDType};
use rayon::prelude::*;

use super::matmul::{Matrix, MatrixMut, all_threads, matmul};
use super::simd::{Simd, SimdLevel};
use crate::ops::lstm::Schedule;
use crate::{Error, Result};
use cell::Cell;
use gates::{Backward, Forward, UNITS};
use panels::Width;

/// The last hidden state of each sequence, 0 for one without rows.
///
/// `inputs`: `(T, 4H)`, the input product with its bias; `recurrent`: `W_hh`, `(4H, H)`;
/// `sequences`: the rows of each sequence, which may skip rows. Returns `(sequences, H)`.
/// Differentiable in both tensors.
///
/// # Errors
/// When the tensors are not on the CPU or not f32 or f64; when a sequence lies outside the rows.
pub fn lstm(inputs: &Tensor, recurrent: &Tensor, sequences: &[Range<usize>]) -> Result<Tensor> {
    lstm_at(SimdLevel::detect(), inputs, recurrent, sequences)
}

/// [`lstm`] with a given instruction set, for tests.
///
/// # Errors
/// As [`lstm`]; [`Error::Config`] when this machine lacks the instructions.
pub fn lstm_at(level: SimdLevel, inputs: &Tensor, recurrent: &Tensor, sequences: &[Range<usize>]) -> Result<Tensor> {
    let message = || format!("this machine does not have {}", level.name());
    let simd = Simd::new(level).ok_or_else(|| Error::config("instructions", message()))?;
    let order = Schedule::new(sequences);
    let op = Recurrence { simd, order, hidden: recurrent.dim(1)?, tapes: Default::default() };
    Ok(inputs.contiguous()?.apply_op2(&recurrent.contiguous()?, op)?)
}

/// The activations that the forward saves for the backward, rows in step order.
struct Tape<T> {
    gates: Vec<T>,  // (T, 4H), activated, in blocks
    cells: Vec<T>,  // (T, H)
    hidden: Vec<T>, // (T, H)
}

#[derive(Default)]
struct Tapes {
    single: OnceLock<Tape<f32>>,
    double: OnceLock<Tape<f64>>,
}

struct Recurrence {
    simd: Simd,
    order: Schedule,
    hidden: usize,
    tapes: Tapes,
}

impl Recurrence {
    fn width(&self) -> Width {
        Width { hidden: self.hidden, full: self.hidden.next_multiple_of(UNITS) }
    }

    /// Gates, cells and hidden states of all rows. `inputs` in the caller's order, `(T, 4H)`.
    fn forward<T: Cell>(&self, inputs: &[T], recurrent: &[T]) -> Tape<T> {
        let (order, width) = (&self.order, self.width());
        let (h, z) = (width.full, 4 * width.full);
        let total = order.rows.len();
        let panels = width.panels_forward(recurrent);
        let mut gates = vec![T::ZERO; total * z];
        gates.par_chunks_mut(z.max(1)).zip(&order.rows).for_each(|(out, row)| {
            width.into_blocks(&inputs[row * 4 * width.hidden..(row + 1) * 4 * width.hidden], out);
        });
        let (mut cells, mut hidden) = (vec![T::ZERO; total * h], vec![T::ZERO; total * h]);
        let mut sums = vec![T::ZERO; order.widest() * z];
        for t in 0..order.len() {
            let (rows, before) = (order.step(t), order.before(t));
            let n = rows.len();
            let (cells_before, cells) = cells.split_at_mut(rows.start * h);
            let (hidden_before, hidden) = hidden.split_at_mut(rows.start * h);
            let before = before.map(|rows| rows.start * h..rows.end * h);
            let before = before.map(|rows| (&cells_before[rows.clone()], &hidden_before[rows]));
            let blocks = MatrixMut::new(&mut gates[rows.start * z..rows.end * z], n, z).split_columns(4 * UNITS);
            let outs = MatrixMut::new(&mut cells[..n * h], n, h).split_columns(UNITS);
            let outs = outs.zip(MatrixMut::new(&mut hidden[..n * h], n, h).split_columns(UNITS));
            let work = sums.chunks_exact_mut(order.widest() * 4 * UNITS).zip(panels.chunks_exact(h * 4 * UNITS));
            let tasks: Vec<_> = blocks.zip(outs).zip(work).enumerate().collect();
            tasks.into_par_iter().for_each(|(block, ((gates, (cells, hidden)), (sums, panel)))| {
                let before = before.map(|(cells, hidden)| {
                    let panel = Matrix::new(panel, h, 4 * UNITS);
                    let out = &mut MatrixMut::new(&mut sums[..n * 4 * UNITS], n, 4 * UNITS);
                    T::matmul(self.simd, out, Matrix::new(hidden, n, h), panel);
                    let cells = Matrix::strided(&cells[block * UNITS..], n, UNITS, h);
                    (Matrix::new(&sums[..n * 4 * UNITS], n, 4 * UNITS), cells)
                });
                T::forward(self.simd, Forward { gates, before, cells, hidden });
            });
        }
        Tape { gates, cells, hidden }
    }

    /// Gradients of the inputs (caller's order, `rows` rows) and of `W_hh`. `upstream`:
    /// `(sequences, H)`, caller's order.
    fn backward<T: Cell>(&self, tape: &Tape<T>, recurrent: &[T], rows: usize, upstream: &[T]) -> (Vec<T>, Vec<T>) {
        let (order, width) = (&self.order, self.width());
        let (h, z) = (width.full, 4 * width.full);
        let widest = order.widest();
        let panels = width.panels_backward(recurrent);
        let mut d_gates = vec![T::ZERO; tape.gates.len()];
        // By block, a row for each sequence: its gradients at the step that is being computed.
        let (mut d_hidden, mut d_cells) = (vec![T::ZERO; widest * h], vec![T::ZERO; widest * h]);
        d_hidden.par_chunks_mut((widest * UNITS).max(1)).enumerate().for_each(|(block, out)| {
            let units = block * UNITS..self.hidden.min((block + 1) * UNITS);
            for (out, sequence) in out.chunks_exact_mut(UNITS).zip(&order.sequences) {
                let upstream = &upstream[sequence * self.hidden..(sequence + 1) * self.hidden];
                out[..units.len()].copy_from_slice(&upstream[units.clone()]);
            }
        });
        for t in (0..order.len()).rev() {
            let (rows, before, after) = (order.step(t), order.before(t), order.step(t + 1));
            let n = rows.len();
            let (now, later) = d_gates[rows.start * z..].split_at_mut(n * z);
            let later = Matrix::new(&later[..after.len() * z], after.len(), z);
            let work = d_hidden.chunks_exact_mut(widest * UNITS).zip(d_cells.chunks_exact_mut(widest * UNITS));
            let outs = MatrixMut::new(now, n, z).split_columns(4 * UNITS);
            let tasks: Vec<_> = outs.zip(work).zip(panels.chunks_exact(z * UNITS)).enumerate().collect();
            tasks.into_par_iter().for_each(|(block, ((d_gates, (d_hidden, d_cells)), panel))| {
                // Sequences that continue have the gradient of the next step; those that end here have the upstream gradient.
                let out = &mut MatrixMut::new(&mut d_hidden[..after.len() * UNITS], after.len(), UNITS);
                T::matmul(self.simd, out, later, Matrix::new(panel, z, UNITS));
                let cells = |rows: &Range<usize>| {
                    Matrix::strided(&tape.cells[rows.start * h + block * UNITS..], rows.len(), UNITS, h)
                };
                T::backward(
                    self.simd,
                    Backward {
                        gates: Matrix::strided(&tape.gates[rows.start * z + block * 4 * UNITS..], n, 4 * UNITS, z),
                        cells: cells(&rows),
                        before: before.as_ref().map(cells),
                        d_hidden: Matrix::new(&d_hidden[..n * UNITS], n, UNITS),
                        d_cells: MatrixMut::new(&mut d_cells[..n * UNITS], n, UNITS),
                        d_gates,
                    },
                );
            });
        }
        (self.scatter(&d_gates, rows), self.d_recurrent(tape, &d_gates))
    }

    /// Gradients in step order and blocks to the caller's order, `(rows, 4H)`.
    fn scatter<T: Cell>(&self, d_gates: &[T], rows: usize) -> Vec<T> {
        let width = self.width();
        let places = self.order.places(rows);
        let mut out = vec![T::ZERO; rows * 4 * width.hidden];
        out.par_chunks_mut((4 * width.hidden).max(1)).zip(&places).for_each(|(out, place)| {
            if let Some(place) = place {
                width.out_of_blocks(&d_gates[place * 4 * width.full..(place + 1) * 4 * width.full], out);
            }
        });
        out
    }

    /// `dW_hh = sum_t dz_t h_{t-1}ᵀ`, `(4H, H)`.
    fn d_recurrent<T: Cell>(&self, tape: &Tape<T>, d_gates: &[T]) -> Vec<T> {
        let width = self.width();
        let (h, z) = (width.full, 4 * width.full);
        let (first, total) = (self.order.widest(), self.order.rows.len());
        // h_{t-1} of every row from the second step on: rows that end drop out between.
        let mut previous = vec![T::ZERO; (total - first) * h];
        for t in 1..self.order.len() {
            if let Some(before) = self.order.before(t) {
                let rows = self.order.step(t);
                previous[(rows.start - first) * h..(rows.end - first) * h]
                    .copy_from_slice(&tape.hidden[before.start * h..before.end * h]);
            }
        }
        let mut blocks = vec![T::ZERO; z * h]; // rows in the order of the blocks
        let dz = Matrix::new(&d_gates[first * z..], total - first, z);
        matmul(&mut blocks, h, dz.t(), Matrix::new(&previous, total - first, h), T::ONE, T::ZERO, all_threads());
        let mut out = vec![T::ZERO; 4 * width.hidden * width.hidden];
        for (row, out) in out.chunks_exact_mut(width.hidden.max(1)).enumerate() {
            let (gate, unit) = (row / width.hidden, row % width.hidden);
            let from = (unit / UNITS * 4 * UNITS + gate * UNITS + unit % UNITS) * h;
            out.copy_from_slice(&blocks[from..from + width.hidden]);
        }
        out
    }

    /// The last state of every sequence in the caller's order, `(sequences, H)`.
    fn last<T: Cell>(&self, tape: &Tape<T>) -> Vec<T> {
        let width = self.width();
        let mut out = vec![T::ZERO; self.order.sequences.len() * width.hidden];
        for t in 0..self.order.len() {
            let rows = self.order.step(t);
            // Those that are not among the first `n_{t+1}` end here.
            for place in self.order.step(t + 1).len()..rows.len() {
                let from = (rows.start + place) * width.full;
                let to = self.order.sequences[place] * width.hidden;
                out[to..to + width.hidden].copy_from_slice(&tape.hidden[from..from + width.hidden]);
            }
        }
        out
    }

    fn run<T: Cell + WithDType>(
        &self,
        tape: &OnceLock<Tape<T>>,
        (inputs, inputs_layout): (&[T], &Layout),
        (recurrent, recurrent_layout): (&[T], &Layout),
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let inputs = dense(inputs, inputs_layout)?;
        let recurrent = dense(recurrent, recurrent_layout)?;
        let width = self.hidden;
        let rows = inputs.len() / (4 * width).max(1);
        if recurrent.len() != 4 * width * width || inputs.len() != rows * 4 * width {
            candle_core::bail!("lstm: inputs {inputs_layout:?} and recurrent {recurrent_layout:?} do not fit together");
        }
        if let Some(row) = self.order.rows.iter().find(|row| **row >= rows) {
            candle_core::bail!("lstm: row {row} of a sequence is outside of the {rows} rows of the inputs");
        }
        let tape = tape.get_or_init(|| self.forward(inputs, recurrent));
        let last = self.last(tape);
        Ok((T::to_cpu_storage_owned(last), Shape::from((self.order.sequences.len(), width))))
    }

    fn differentiate<T: Cell + WithDType>(
        &self,
        tape: &OnceLock<Tape<T>>,
        [inputs, recurrent, upstream]: [&Tensor; 3],
    ) -> candle_core::Result<(Tensor, Tensor)> {
        let Some(tape) = tape.get() else { candle_core::bail!("lstm: the backward comes after the forward") };
        let values = |x: &Tensor| x.flatten_all()?.to_vec1::<T>();
        let (dz, dw) = self.backward(tape, &values(recurrent)?, inputs.dim(0)?, &values(upstream)?);
        Ok((
            Tensor::from_vec(dz, inputs.shape(), inputs.device())?,
            Tensor::from_vec(dw, recurrent.shape(), recurrent.device())?,
        ))
    }
}

fn dense<'a, T>(data: &'a [T], layout: &Layout) -> candle_core::Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&data[start..end]),
        None => candle_core::bail!("lstm: an argument is not contiguous"),
    }
}

impl CustomOp2 for Recurrence {
    fn name(&self) -> &'static str {
        "lstm-recurrence"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        match (s1, s2) {
            (CpuStorage::F32(a), CpuStorage::F32(b)) => self.run(&self.tapes.single, (a, l1), (b, l2)),
            (CpuStorage::F64(a), CpuStorage::F64(b)) => self.run(&self.tapes.double, (a, l1), (b, l2)),
            _ => candle_core::bail!("lstm: both arguments must be f32 or both f64"),
        }
    }

    fn bwd(
        &self,
        inputs: &Tensor,
        recurrent: &Tensor,
        _: &Tensor,
        upstream: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let tensors = [inputs, recurrent, upstream];
        let (d_inputs, d_recurrent) = match inputs.dtype() {
            DType::F64 => self.differentiate(&self.tapes.double, tensors)?,
            _ => self.differentiate(&self.tapes.single, tensors)?,
        };
        Ok((Some(d_inputs), Some(d_recurrent)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::single_range_in_vec_init)] // one sequence, not the elements of a range

    use super::*;
    use crate::ops::lstm::lstm_reference;
    use crate::rng::{Purpose, Stream};
    use candle_core::{Device, Var};

    fn random(shape: (usize, usize), index: u32, dtype: DType) -> Tensor {
        let mut stream = Stream::new(11, Purpose::Init, index);
        let values: Vec<f64> = (0..shape.0 * shape.1).map(|_| stream.normal() * 0.5).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
    }

    type States<'a> = &'a dyn Fn(&Tensor, &Tensor, &[Range<usize>]) -> Result<Tensor>;

    /// The last states and both gradients.
    fn run(states: States<'_>, dtype: DType, sequences: &[Range<usize>], total: usize, hidden: usize) -> [Vec<f64>; 3] {
        let upstream = random((sequences.len(), hidden), 2, dtype);
        let inputs = Var::from_tensor(&random((total, 4 * hidden), 0, dtype)).unwrap();
        let weight = Var::from_tensor(&random((4 * hidden, hidden), 1, dtype)).unwrap();
        let h = states(&inputs, &weight, sequences).unwrap();
        let gradients = (&h * &upstream).unwrap().sum_all().unwrap().backward().unwrap();
        let of = |var: &Var| gradients.get(var).cloned().unwrap_or_else(|| var.zeros_like().unwrap());
        // One sequence of one step never uses the weight: autograd then has no gradient for it.
        [h.clone(), of(&inputs), of(&weight)]
            .map(|x| x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap())
    }

    /// Sequences with rows between them, of one step, without any; hidden sizes of less than a
    /// block, and of blocks and a part.
    fn cases() -> Vec<(Vec<Range<usize>>, usize, usize)> {
        vec![
            (vec![0..3, 3..4, 4..9], 9, 5),
            (vec![0..1], 1, 1),
            (vec![1..4, 6..8], 9, 3),
            (vec![0..2, 2..2, 2..5], 5, 2),
            (vec![0..7, 9..10, 12..31, 31..33], 40, 33),
            (vec![0..2; 1].into_iter().chain((1..20).map(|i| 3 * i..3 * i + 2)).collect(), 60, 48),
        ]
    }

    fn assert_close(ours: &[Vec<f64>; 3], expected: &[Vec<f64>; 3], tolerance: f64, what: &str) {
        for (part, (ours, expected)) in ours.iter().zip(expected).enumerate() {
            let scale = expected.iter().fold(1.0f64, |scale, x| scale.max(x.abs()));
            for (i, (ours, expected)) in ours.iter().zip(expected).enumerate() {
                assert!(
                    (ours - expected).abs() <= tolerance * scale,
                    "{what} {part}[{i}]: {ours}, expected {expected}"
                );
            }
        }
    }

    /// Values and both gradients equal candle's autograd through the step-by-step form.
    #[test]
    fn equals_the_step_by_step_form() {
        for (sequences, total, hidden) in cases() {
            let expected = run(&lstm_reference, DType::F64, &sequences, total, hidden);
            let what = format!("{sequences:?} {hidden}");
            assert_close(&run(&lstm, DType::F64, &sequences, total, hidden), &expected, 1e-12, &what);
            for level in SimdLevel::ALL.into_iter().filter(|level| level.is_available()) {
                let states = |z: &Tensor, w: &Tensor, rows: &[Range<usize>]| lstm_at(level, z, w, rows);
                let ours = run(&states, DType::F32, &sequences, total, hidden);
                assert_close(&ours, &expected, 2e-6, &format!("{what} {level:?}"));
            }
        }
    }

    #[test]
    fn the_same_bits_on_any_number_of_threads() {
        let sequences: Vec<Range<usize>> = (0..9).map(|i| 20 * i..20 * i + 1 + 2 * i).collect();
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| run(&lstm, DType::F32, &sequences, 200, 72))
        };
        let expected = on(1);
        for threads in 2..=7 {
            assert_eq!(on(threads), expected, "{threads} threads");
        }
    }

    #[test]
    fn sequences_outside_of_the_rows_are_refused() {
        let (z, w) = (random((3, 8), 0, DType::F32), random((8, 2), 1, DType::F32));
        assert!(lstm(&z, &w, &[0..4]).is_err());
        assert!(lstm(&z, &random((8, 3), 1, DType::F32), &[0..2]).is_err());
        assert_eq!(lstm(&z, &w, &[1..1, 0..3]).unwrap().dims(), [2, 2]);
    }
}
