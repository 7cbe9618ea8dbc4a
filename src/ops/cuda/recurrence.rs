//! The LSTM on the device: the recurrence of [`lstm`](crate::ops::lstm), one product and one kernel a step.
//!
//! Rows are in step order (longest sequence first, step by step), so each step's product reads and writes contiguous
//! rows. Unlike on the CPU, gates and cells are kept for the backward: memory is cheaper here than time.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp2, Layout, Shape, Storage, Tensor};

use super::buffer::Buffer;
use super::device::{Device, Element, Gemm, Operand, argument};
use super::engine::{Cuda, Form, Forms, blocks};
use super::shapes::{expect, expect_starts, matrix};
use crate::Result;
use crate::ops::Ops;
use crate::ops::lstm::Schedule;

/// What the forward keeps for the backward, in step order.
pub(super) struct Kept<D: Device> {
    order: Schedule,
    weight: Buffer<D>,
    gates: Buffer<D>, // (T, 4H)
    cells: Buffer<D>, // (T, H)
    h: Buffer<D>,     // (T, H)
}

impl<D: Device> Cuda<D> {
    /// Hidden states in the caller's order, `(T, H)`.
    pub(super) fn recur(&self, z: &Buffer<D>, weight: &Buffer<D>, starts: &[usize]) -> Result<(Buffer<D>, Kept<D>)> {
        let ((rows, width), (_, hidden)) = (matrix(z)?, matrix(weight)?);
        expect("the recurrent weight", weight, &[4 * hidden, hidden])?;
        expect("the inputs of the LSTM", z, &[rows, 4 * hidden])?;
        expect_starts("sequence", starts, rows)?;
        let order = Schedule::new(starts);
        let gates = self.gather(z, &order.rows, width, Forms::F32)?;
        let (cells, cells_at) = self.floats(&[rows, hidden])?;
        let (h, h_at) = self.make(&[rows, hidden], self.both())?;
        let (gates_at, operand) = (self.f32(&gates)?, self.address(&h, self.products)?);
        for t in 0..order.len() {
            let (now, before) = order.step(t);
            let out = at(gates_at, now.start, 4 * hidden, Element::F32);
            if let Some(before) = &before {
                let gemm = Gemm {
                    m: now.len(),
                    n: 4 * hidden,
                    k: hidden,
                    a: Operand { address: at(operand, before.start, hidden, self.products), transposed: false },
                    b: self.operand(weight, true)?,
                    inputs: self.products,
                    out,
                    output: Element::F32,
                    onto: Some(out),
                    bias: None,
                };
                // SAFETY: rows of arrays that were made for all rows.
                unsafe { self.product(&gemm)? };
            }
            let cell = at(cells_at, now.start, hidden, Element::F32);
            let cell_before = before.map_or(0, |before| at(cells_at, before.start, hidden, Element::F32));
            let h = form_at(h_at, now.start, hidden);
            let (n, width) = (now.len() as i32, hidden as i32);
            let mut arguments =
                [argument(&n), argument(&width), argument(&out), argument(&cell_before), argument(&cell), argument(&h)];
            // SAFETY: (int, int, float*, const float*, float*, Out).
            unsafe { self.launch("lstm_cell", [blocks(now.len() * hidden, 128), 1, 1], 128, 0, &mut arguments)? };
        }
        let out = self.gather(&h, &inverse(&order.rows), hidden, Forms::F32)?;
        Ok((out, Kept { order, weight: weight.clone(), gates, cells, h }))
    }

    /// Gradients of the inputs (in the caller's order) and of the weight.
    pub(super) fn recur_backward(&self, kept: &Kept<D>, dh: &Buffer<D>) -> Result<(Buffer<D>, Buffer<D>)> {
        let Kept { order, weight, gates, cells, h } = kept;
        let (rows, hidden) = matrix(h)?;
        expect("the gradient of the hidden states", dh, &[rows, hidden])?;
        let dh = self.gather(dh, &order.rows, hidden, Forms::F32)?; // grows from step to step
        let dc = self.zeros(&[rows, hidden])?;
        let (dz, dz_at) = self.make(&[rows, 4 * hidden], self.both())?;
        let (gates_at, cells_at, dh_at, dc_at) = (self.f32(gates)?, self.f32(cells)?, self.f32(&dh)?, self.f32(&dc)?);
        let operand = self.address(&dz, self.products)?;
        for t in (0..order.len()).rev() {
            let (now, before) = order.step(t);
            let row = |from: u64, start: usize| at(from, start, hidden, Element::F32);
            let behind = |from: u64| before.as_ref().map_or(0, |before| row(from, before.start));
            let gates = at(gates_at, now.start, 4 * hidden, Element::F32);
            let (cell, d_h, d_c) = (row(cells_at, now.start), row(dh_at, now.start), row(dc_at, now.start));
            let (cell_before, dc_before) = (behind(cells_at), behind(dc_at));
            let out = form_at(dz_at, now.start, 4 * hidden);
            let (n, width) = (now.len() as i32, hidden as i32);
            let mut arguments = [
                argument(&n),
                argument(&width),
                argument(&gates),
                argument(&cell_before),
                argument(&cell),
                argument(&d_h),
                argument(&d_c),
                argument(&dc_before),
                argument(&out),
            ];
            let grid = [blocks(now.len() * hidden, 128), 1, 1];
            // SAFETY: (int, int, const float* x 5, float*, Out).
            unsafe { self.launch("lstm_cell_backward", grid, 128, 0, &mut arguments)? };
            if let Some(before) = &before {
                let out = row(dh_at, before.start);
                let gemm = Gemm {
                    m: now.len(),
                    n: hidden,
                    k: 4 * hidden,
                    a: Operand { address: at(operand, now.start, 4 * hidden, self.products), transposed: false },
                    b: self.operand(weight, false)?,
                    inputs: self.products,
                    out,
                    output: Element::F32,
                    onto: Some(out),
                    bias: None,
                };
                // SAFETY: rows of arrays that were made for all rows.
                unsafe { self.product(&gemm)? };
            }
        }
        // The first step's rows have no state before them, and no part in the weight's gradient.
        let first = order.steps.get(1).copied().unwrap_or(rows);
        let previous: Vec<usize> = (1..order.len()).filter_map(|t| order.step(t).1).flatten().collect();
        let previous = self.gather(h, &previous, hidden, self.between())?;
        let (dw, out) = self.floats(&[4 * hidden, hidden])?;
        let gemm = Gemm {
            m: 4 * hidden,
            n: hidden,
            k: rows - first,
            a: Operand { address: at(operand, first, 4 * hidden, self.products), transposed: true },
            b: self.operand(&previous, false)?,
            inputs: self.products,
            out,
            output: Element::F32,
            onto: None,
            bias: None,
        };
        // SAFETY: `previous` has as many rows as there are from `first` on.
        unsafe { self.product(&gemm)? };
        Ok((self.gather(&dz, &inverse(&order.rows), 4 * hidden, Forms::F32)?, dw))
    }

    /// The recurrence as an operation that candle differentiates: computed here, and handed to candle as a known value
    /// with its backward.
    pub(super) fn recurrence_in_candle(&self, inputs: &Tensor, recurrent: &Tensor, starts: &[usize]) -> Result<Tensor> {
        let (z, weight) = (self.upload_candle(inputs)?, self.upload_candle(recurrent)?);
        let (h, kept) = self.recur(&z, &weight, starts)?;
        let value = self.to_candle(&h)?;
        Ok(inputs.apply_op2(recurrent, Known { engine: self.clone(), value, kept })?)
    }
}

/// Address of a row.
fn at(start: u64, row: usize, width: usize, element: Element) -> u64 {
    start + (row * width * element.bytes()) as u64
}

/// Addresses of a row in both forms.
fn form_at(form: Form, row: usize, width: usize) -> Form {
    let shifted = |start: u64, element| if start == 0 { 0 } else { at(start, row, width, element) };
    Form { f32: shifted(form.f32, Element::F32), bf16: shifted(form.bf16, Element::Bf16) }
}

fn inverse(order: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; order.len()];
    for (at, row) in order.iter().enumerate() {
        inverse[*row] = at;
    }
    inverse
}

/// A value that was computed outside of candle, and its backward.
struct Known<D: Device> {
    engine: Cuda<D>,
    value: Tensor,
    kept: Kept<D>,
}

impl<D: Device> CustomOp2 for Known<D> {
    fn name(&self) -> &'static str {
        "lstm-recurrence-cuda"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        match &*self.value.storage_and_layout().0 {
            Storage::Cpu(storage) => Ok((storage.clone(), self.value.shape().clone())),
            _ => candle_core::bail!("lstm: the value is not on the CPU"),
        }
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        let (storage, layout) = self.value.storage_and_layout();
        match &*storage {
            Storage::Cuda(storage) => Ok((storage.try_clone(layout)?, self.value.shape().clone())),
            _ => candle_core::bail!("lstm: the value is not on the GPU"),
        }
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        dh: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let run = || -> Result<(Tensor, Tensor)> {
            let dh = self.engine.upload_candle(dh)?;
            let (dz, dw) = self.engine.recur_backward(&self.kept, &dh)?;
            Ok((self.engine.to_candle(&dz)?, self.engine.to_candle(&dw)?))
        };
        match run() {
            Ok((dz, dw)) => Ok((Some(dz), Some(dw))),
            Err(error) => candle_core::bail!("lstm: {error}"),
        }
    }
}
