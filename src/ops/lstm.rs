//! The LSTM recurrence over packed sequences as one operation with its own backward.
//!
//! Gate order i, f, g, o as in PyTorch, one bias:
//! `z_t = W_ih x_t + b + W_hh h_{t-1}`, `c_t = σ(f) c_{t-1} + σ(i) tanh(g)`, `h_t = σ(o) tanh(c_t)`.
//!
//! The input product `W_ih x + b` for all steps is one product outside of this operation (candle differentiates it).
//! Inside, sequences are sorted by length, longest first, and stored step by step, so that the `n_t` sequences still
//! running at step t are contiguous rows: each step is one `(n_t, H) x (H, 4H)` product. The output holds every `h_t`,
//! so the backward recomputes all gates with a single product and keeps nothing from the forward.

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Shape, Tensor, WithDType};
use rayon::prelude::*;

use super::product::{Element, Matrix, all_threads, multiply};
use crate::Result;

/// Hidden states of an LSTM at every position.
///
/// `inputs`: `(T, 4H)`, the input product with its bias; `recurrent`: `W_hh`, `(4H, H)`; `starts`: where each sequence
/// starts, and T at the end. Returns `(T, H)`. Differentiable in both tensors.
///
/// # Errors
/// When the tensors are not on the CPU or not f32 or f64.
pub fn recurrence(inputs: &Tensor, recurrent: &Tensor, starts: &[usize]) -> Result<Tensor> {
    let hidden = recurrent.dim(1)?;
    let op = Recurrence { order: Schedule::new(starts), hidden };
    Ok(inputs.contiguous()?.apply_op2(&recurrent.contiguous()?, op)?)
}

/// The same by candle operations, one position after the other: the specification that [`recurrence`] is tested
/// against, and whose gradient is candle's autograd.
///
/// # Errors
/// When a tensor operation fails.
pub fn recurrence_reference(inputs: &Tensor, recurrent: &Tensor, starts: &[usize]) -> Result<Tensor> {
    let hidden = recurrent.dim(1)?;
    let mut rows = Vec::new();
    for bounds in starts.windows(2) {
        let mut h = Tensor::zeros((1, hidden), inputs.dtype(), inputs.device())?;
        let mut c = h.clone();
        for t in bounds[0]..bounds[1] {
            let z = (inputs.narrow(0, t, 1)? + h.matmul(&recurrent.t()?)?)?; // (1, 4H)
            let gate = |i: usize| z.narrow(1, i * hidden, hidden);
            let sigmoid = |x: Tensor| (x.neg()?.exp()? + 1.0)?.recip();
            c = ((sigmoid(gate(1)?)? * c)? + (sigmoid(gate(0)?)? * gate(2)?.tanh()?)?)?;
            h = (sigmoid(gate(3)?)? * c.tanh()?)?;
            rows.push(h.clone());
        }
    }
    Ok(Tensor::cat(&rows, 0)?)
}

/// Rows in step order: step by step, longest sequence first.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    /// For each row in step order, its row in the caller's order.
    pub(super) rows: Vec<usize>,
    /// Where each step starts in step order, and T at the end.
    pub(super) steps: Vec<usize>,
}

impl Schedule {
    pub(super) fn new(starts: &[usize]) -> Self {
        let mut sequences: Vec<(usize, usize)> = starts.windows(2).map(|w| (w[0], w[1] - w[0])).collect();
        sequences.sort_by_key(|(start, length)| (std::cmp::Reverse(*length), *start));
        let (mut rows, mut steps) = (Vec::new(), vec![0]);
        for t in 0..sequences.first().map_or(0, |(_, length)| *length) {
            rows.extend(sequences.iter().take_while(|(_, length)| *length > t).map(|(start, _)| start + t));
            steps.push(rows.len());
        }
        Self { rows, steps }
    }

    /// Range of step `t` and of its rows' predecessors in step order. The sequences of step t are the first of t - 1.
    pub(super) fn step(&self, t: usize) -> (std::ops::Range<usize>, Option<std::ops::Range<usize>>) {
        let rows = self.steps[t]..self.steps[t + 1];
        let before = (t > 0).then(|| self.steps[t - 1]..self.steps[t - 1] + rows.len());
        (rows, before)
    }

    pub(super) fn len(&self) -> usize {
        self.steps.len() - 1
    }

    /// Caller's order to step order.
    fn gather<T: Element>(&self, x: &[T], width: usize) -> Vec<T> {
        let mut out = vec![T::ZERO; x.len()];
        out.par_chunks_mut(width)
            .zip(&self.rows)
            .for_each(|(out, row)| out.copy_from_slice(&x[row * width..(row + 1) * width]));
        out
    }

    /// Step order to caller's order.
    fn scatter<T: Element>(&self, x: &[T], width: usize) -> Vec<T> {
        let mut out = vec![T::ZERO; x.len()];
        for (x, row) in x.chunks(width).zip(&self.rows) {
            out[row * width..(row + 1) * width].copy_from_slice(x);
        }
        out
    }
}

struct Recurrence {
    order: Schedule,
    hidden: usize,
}

impl Recurrence {
    /// All hidden states in step order, `(T, H)`. `z` in step order, `(T, 4H)`.
    fn forward<T: Element>(&self, mut z: Vec<T>, recurrent: &[T]) -> Vec<T> {
        let width = self.hidden;
        let mut h = vec![T::ZERO; z.len() / 4];
        let mut c = vec![T::ZERO; z.len() / 4];
        for t in 0..self.order.len() {
            let (rows, before) = self.order.step(t);
            let z = &mut z[rows.start * 4 * width..rows.end * 4 * width];
            if let Some(before) = &before {
                let previous = Matrix::new(&h[before.start * width..before.end * width], rows.len(), width);
                let weight = Matrix::new(recurrent, 4 * width, width).t();
                multiply(z, 4 * width, previous, weight, T::ONE, T::ONE, all_threads());
            }
            let (c_before, c_now) = c.split_at_mut(rows.start * width);
            let c_before = before.map(|before| &c_before[before.start * width..before.end * width]);
            let c_now = &mut c_now[..rows.len() * width];
            let h = &mut h[rows.start * width..rows.end * width];
            for (row, z) in z.chunks(4 * width).enumerate() {
                for j in 0..width {
                    let at = row * width + j;
                    let before = c_before.map_or(T::ZERO, |c| c[at]);
                    let [i, f, g, o] = gates(z, width, j);
                    let cell = f.multiply_add(before, i.times(g));
                    c_now[at] = cell;
                    h[at] = o.times(cell.tanh());
                }
            }
        }
        h
    }

    /// Gradients of the inputs (caller's order) and of `W_hh`.
    fn backward<T: Element>(&self, inputs: &[T], recurrent: &[T], h: &[T], dh: &[T]) -> (Vec<T>, Vec<T>) {
        let width = self.hidden;
        let mut z = self.order.gather(inputs, 4 * width);
        let h = self.order.gather(h, width);
        let mut dh = self.order.gather(dh, width);
        let total = h.len() / width;
        // h_{t-1} of every row; the first steps have none, and their rows stay 0.
        let mut previous = vec![T::ZERO; h.len()];
        for t in 0..self.order.len() {
            if let (rows, Some(before)) = self.order.step(t) {
                previous[rows.start * width..rows.end * width]
                    .copy_from_slice(&h[before.start * width..before.end * width]);
            }
        }
        let previous = Matrix::new(&previous, total, width);
        let weight = Matrix::new(recurrent, 4 * width, width);
        multiply(&mut z, 4 * width, previous, weight.t(), T::ONE, T::ONE, all_threads());
        // Gate activations in place of z; cells by a scan over the steps.
        let mut c = vec![T::ZERO; h.len()];
        for t in 0..self.order.len() {
            let (rows, before) = self.order.step(t);
            for (offset, row) in rows.enumerate() {
                let z = &mut z[row * 4 * width..(row + 1) * 4 * width];
                for j in 0..width {
                    let values = gates(z, width, j);
                    let [i, f, g, _] = values;
                    let cell = before.as_ref().map_or(T::ZERO, |b| c[(b.start + offset) * width + j]);
                    c[row * width + j] = f.multiply_add(cell, i.times(g));
                    for (gate, value) in values.into_iter().enumerate() {
                        z[gate * width + j] = value;
                    }
                }
            }
        }
        // From the last step to the first; z becomes dz.
        let mut dc = vec![T::ZERO; h.len()];
        for t in (0..self.order.len()).rev() {
            let (rows, before) = self.order.step(t);
            for (offset, row) in rows.clone().enumerate() {
                let z = &mut z[row * 4 * width..(row + 1) * 4 * width];
                for j in 0..width {
                    let [i, f, g, o] = [0, 1, 2, 3].map(|gate| z[gate * width + j]);
                    let tanh_c = c[row * width + j].tanh();
                    let d_out = dh[row * width + j];
                    let slope = T::ONE.minus(tanh_c.times(tanh_c));
                    let d_cell = d_out.times(o).multiply_add(slope, dc[row * width + j]);
                    let mut d_forget = T::ZERO;
                    if let Some(before) = &before {
                        let at = (before.start + offset) * width + j;
                        d_forget = d_cell.times(c[at]).times(f).times(T::ONE.minus(f));
                        dc[at] = d_cell.times(f);
                    }
                    z[j] = d_cell.times(g).times(i).times(T::ONE.minus(i));
                    z[width + j] = d_forget;
                    z[2 * width + j] = d_cell.times(i).times(T::ONE.minus(g.times(g)));
                    z[3 * width + j] = d_out.times(tanh_c).times(o).times(T::ONE.minus(o));
                }
            }
            if let Some(before) = before {
                let dz = Matrix::new(&z[rows.start * 4 * width..rows.end * 4 * width], rows.len(), 4 * width);
                let onto = &mut dh[before.start * width..before.end * width];
                multiply(onto, width, dz, weight, T::ONE, T::ONE, all_threads());
            }
        }
        let mut d_recurrent = vec![T::ZERO; recurrent.len()];
        let dz = Matrix::new(&z, total, 4 * width);
        multiply(&mut d_recurrent, width, dz.t(), previous, T::ONE, T::ZERO, all_threads());
        (self.order.scatter(&z, 4 * width), d_recurrent)
    }

    fn run<T: Element + WithDType>(
        &self,
        (inputs, inputs_layout): (&[T], &Layout),
        (recurrent, recurrent_layout): (&[T], &Layout),
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let inputs = dense(inputs, inputs_layout)?;
        let recurrent = dense(recurrent, recurrent_layout)?;
        let width = self.hidden;
        if recurrent.len() != 4 * width * width || inputs.len() != self.order.rows.len() * 4 * width {
            candle_core::bail!("lstm: inputs {inputs_layout:?} and recurrent {recurrent_layout:?} do not fit together");
        }
        let h = self.forward(self.order.gather(inputs, 4 * width), recurrent);
        let h = self.order.scatter(&h, width);
        Ok((T::to_cpu_storage_owned(h), Shape::from((self.order.rows.len(), width))))
    }

    fn differentiate<T: Element + WithDType>(
        &self,
        [inputs, recurrent, h, dh]: [&Tensor; 4],
    ) -> candle_core::Result<(Tensor, Tensor)> {
        let values = |x: &Tensor| x.flatten_all()?.to_vec1::<T>();
        let (dz, dw) = self.backward(&values(inputs)?, &values(recurrent)?, &values(h)?, &values(dh)?);
        Ok((
            Tensor::from_vec(dz, inputs.shape(), inputs.device())?,
            Tensor::from_vec(dw, recurrent.shape(), recurrent.device())?,
        ))
    }
}

/// Activated gates i, f, g, o of element `j` of a row of pre-activations.
#[inline(always)]
fn gates<T: Element>(z: &[T], width: usize, j: usize) -> [T; 4] {
    [z[j].sigmoid(), z[width + j].sigmoid(), z[2 * width + j].tanh(), z[3 * width + j].sigmoid()]
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
            (CpuStorage::F32(a), CpuStorage::F32(b)) => self.run((a, l1), (b, l2)),
            (CpuStorage::F64(a), CpuStorage::F64(b)) => self.run((a, l1), (b, l2)),
            _ => candle_core::bail!("lstm: both arguments must be f32 or both f64"),
        }
    }

    fn bwd(
        &self,
        inputs: &Tensor,
        recurrent: &Tensor,
        h: &Tensor,
        dh: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let tensors = [inputs, recurrent, h, dh];
        let (d_inputs, d_recurrent) = match inputs.dtype() {
            DType::F64 => self.differentiate::<f64>(tensors)?,
            _ => self.differentiate::<f32>(tensors)?,
        };
        Ok((Some(d_inputs), Some(d_recurrent)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};
    use candle_core::{Device, Var};

    fn random(shape: (usize, usize), index: u32) -> Tensor {
        let mut stream = Stream::new(11, Purpose::Init, index);
        let values: Vec<f64> = (0..shape.0 * shape.1).map(|_| stream.normal() * 0.5).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// Values and both gradients equal candle's autograd through the step-by-step form, in f64.
    #[test]
    fn equals_the_step_by_step_form() {
        for (starts, hidden) in [(vec![0, 3, 4, 9], 5), (vec![0, 1], 1), (vec![0, 4, 8], 3), (vec![0, 2, 2, 5], 2)] {
            let total = *starts.last().unwrap();
            let upstream = random((total, hidden), 2);
            let run = |recurrence: fn(&Tensor, &Tensor, &[usize]) -> Result<Tensor>| {
                let inputs = Var::from_tensor(&random((total, 4 * hidden), 0)).unwrap();
                let weight = Var::from_tensor(&random((4 * hidden, hidden), 1)).unwrap();
                let h = recurrence(&inputs, &weight, &starts).unwrap();
                let gradients = (&h * &upstream).unwrap().sum_all().unwrap().backward().unwrap();
                [
                    h.clone(),
                    gradients.get(&inputs).unwrap().clone(),
                    // One sequence of one step never uses the weight: autograd then has no gradient for it.
                    gradients.get(&weight).cloned().unwrap_or_else(|| weight.zeros_like().unwrap()),
                ]
            };
            for (ours, theirs) in run(recurrence).iter().zip(&run(recurrence_reference)) {
                let difference = (ours - theirs).unwrap().abs().unwrap().max_all().unwrap();
                assert!(difference.to_scalar::<f64>().unwrap() < 1e-12, "{starts:?} {difference}");
            }
        }
    }
}
