//! The LSTM on the device: the recurrence of [`lstm`](crate::ops::lstm), one product and one kernel
//! a step.
//!
//! Rows are in step order (longest sequence first, step by step), so each step's product reads and
//! writes contiguous rows. Arrays of states and of gradients have one more row, of zeros: the last
//! state of sequences without rows, and the gradient of rows that no sequence reads.

use std::ops::Range;

use candle_core::Tensor;

use super::buffer::Buffer;
use super::candle_op::Precomputed;
use super::device::{Device, Dtype, Gemm, Operand, argument};
use super::engine::Cuda;
use super::parameters::{Form, Forms, blocks};
use super::rows;
use super::shapes::{expect, internal_error, matrix};
use crate::Result;
use crate::ops::Ops;
use crate::ops::lstm::Schedule;

/// The activations that the forward saves for the backward, in step order.
pub(super) struct Saved<D: Device> {
    order: Schedule,
    /// For each sequence of the caller, the row of its last state.
    last: Vec<Option<usize>>,
    weight: Buffer<D>,
    gates: Buffer<D>, // (rows, 4H)
    cells: Buffer<D>, // (rows, H)
    h: Buffer<D>,     // (rows + 1, H)
}

/// The last hidden state of each sequence, `(sequences, H)`, from the inputs of T rows, `(T, 4H)`.
pub(super) fn forward<D: Device>(
    cuda: &Cuda<D>,
    z: &Buffer<D>,
    weight: &Buffer<D>,
    sequences: &[Range<usize>],
) -> Result<(Buffer<D>, Saved<D>)> {
    let ((total, width), (_, hidden)) = (matrix(z)?, matrix(weight)?);
    expect("the recurrent weight", weight, &[4 * hidden, hidden])?;
    expect("the inputs of the LSTM", z, &[total, 4 * hidden])?;
    if let Some(rows) = sequences.iter().find(|rows| rows.start > rows.end || rows.end > total) {
        return Err(internal_error(format!("the rows {rows:?} of a sequence are outside of 0..{total}")));
    }
    let order = Schedule::new(sequences);
    let rows = order.rows.len();
    let mut last = vec![None; sequences.len()];
    for (place, sequence) in order.sequences.iter().enumerate() {
        last[*sequence] = sequences[*sequence].len().checked_sub(1).map(|t| order.step(t).start + place);
    }
    let gates = rows::gather(cuda, z, &order.rows, width, Forms::F32)?;
    let (cells, cells_at) = cuda.floats(&[rows, hidden])?;
    let (h, h_at) = cuda.make(&[rows + 1, hidden], cuda.both())?;
    zero_row(cuda, h_at, rows, hidden)?;
    let (gates_at, operand) = (cuda.f32(&gates)?, cuda.address(&h, cuda.dtype)?);
    for t in 0..order.len() {
        let (now, before) = (order.step(t), order.before(t));
        let out = at(gates_at, now.start, 4 * hidden, Dtype::F32);
        if let Some(before) = &before {
            let gemm = Gemm {
                m: now.len(),
                n: 4 * hidden,
                k: hidden,
                a: Operand { address: at(operand, before.start, hidden, cuda.dtype), transposed: false },
                b: cuda.operand(weight, true)?,
                inputs: cuda.dtype,
                out,
                output: Dtype::F32,
                onto: Some(out),
                bias: None,
            };
            // SAFETY: rows of arrays that were made for all rows.
            unsafe { cuda.gemm(&gemm)? };
        }
        let cell = at(cells_at, now.start, hidden, Dtype::F32);
        let cell_before = before.map_or(0, |before| at(cells_at, before.start, hidden, Dtype::F32));
        let h = form_at(h_at, now.start, hidden);
        let (n, width) = (now.len() as i32, hidden as i32);
        let mut arguments =
            [argument(&n), argument(&width), argument(&out), argument(&cell_before), argument(&cell), argument(&h)];
        // SAFETY: (int, int, float*, const float*, float*, Out).
        unsafe { cuda.launch("lstm_cell", [blocks(now.len() * hidden, 128), 1, 1], 128, 0, &mut arguments)? };
    }
    let ends: Vec<usize> = last.iter().map(|row| row.unwrap_or(rows)).collect();
    let out = rows::gather(cuda, &h, &ends, hidden, Forms::F32)?;
    Ok((out, Saved { order, last, weight: weight.clone(), gates, cells, h }))
}

/// Gradients of the inputs of `total` rows, and of the weight.
pub(super) fn backward<D: Device>(
    cuda: &Cuda<D>,
    saved: &Saved<D>,
    total: usize,
    dh: &Buffer<D>,
) -> Result<(Buffer<D>, Buffer<D>)> {
    let Saved { order, last, weight, gates, cells, h } = saved;
    let (rows, hidden) = (order.rows.len(), matrix(h)?.1);
    expect("the gradient of the last states", dh, &[last.len(), hidden])?;
    // Each sequence's gradient comes in at its last row; that of earlier rows grows from step to step.
    let (ended, ends): (Vec<usize>, Vec<usize>) =
        last.iter().enumerate().filter_map(|(sequence, row)| row.map(|row| (sequence, row))).unzip();
    let dh = rows::gather(cuda, dh, &ended, hidden, Forms::F32)?;
    let dh = cuda.add_rows(cuda.zeros(&[rows, hidden])?, &ends, &dh)?;
    let dc = cuda.zeros(&[rows, hidden])?;
    let (dz, dz_at) = cuda.make(&[rows + 1, 4 * hidden], cuda.both())?;
    zero_row(cuda, dz_at, rows, 4 * hidden)?;
    let (gates_at, cells_at, dh_at, dc_at) = (cuda.f32(gates)?, cuda.f32(cells)?, cuda.f32(&dh)?, cuda.f32(&dc)?);
    let operand = cuda.address(&dz, cuda.dtype)?;
    for t in (0..order.len()).rev() {
        let (now, before) = (order.step(t), order.before(t));
        let row = |from: u64, start: usize| at(from, start, hidden, Dtype::F32);
        let behind = |from: u64| before.as_ref().map_or(0, |before| row(from, before.start));
        let gates = at(gates_at, now.start, 4 * hidden, Dtype::F32);
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
        unsafe { cuda.launch("lstm_cell_backward", grid, 128, 0, &mut arguments)? };
        if let Some(before) = &before {
            let out = row(dh_at, before.start);
            let gemm = Gemm {
                m: now.len(),
                n: hidden,
                k: 4 * hidden,
                a: Operand { address: at(operand, now.start, 4 * hidden, cuda.dtype), transposed: false },
                b: cuda.operand(weight, false)?,
                inputs: cuda.dtype,
                out,
                output: Dtype::F32,
                onto: Some(out),
                bias: None,
            };
            // SAFETY: rows of arrays that were made for all rows.
            unsafe { cuda.gemm(&gemm)? };
        }
    }
    // The first step's rows have no state before them, and no part in the weight's gradient.
    let first = order.widest();
    let previous: Vec<usize> = (1..order.len()).filter_map(|t| order.before(t)).flatten().collect();
    let previous = rows::gather(cuda, h, &previous, hidden, cuda.between())?;
    let (dw, out) = cuda.floats(&[4 * hidden, hidden])?;
    let gemm = Gemm {
        m: 4 * hidden,
        n: hidden,
        k: rows - first,
        a: Operand { address: at(operand, first, 4 * hidden, cuda.dtype), transposed: true },
        b: cuda.operand(&previous, false)?,
        inputs: cuda.dtype,
        out,
        output: Dtype::F32,
        onto: None,
        bias: None,
    };
    // SAFETY: `previous` has as many rows as there are from `first` on.
    unsafe { cuda.gemm(&gemm)? };
    let places: Vec<usize> = order.places(total).into_iter().map(|place| place.unwrap_or(rows)).collect();
    Ok((rows::gather(cuda, &dz, &places, 4 * hidden, Forms::F32)?, dw))
}

/// Zeros in one row of both forms.
fn zero_row<D: Device>(cuda: &Cuda<D>, form: Form, row: usize, width: usize) -> Result<()> {
    let form = form_at(form, row, width);
    for (address, element) in [(form.f32, Dtype::F32), (form.bf16, Dtype::Bf16)] {
        if address != 0 && width > 0 {
            // SAFETY: the array has that row.
            unsafe { cuda.device.zero(address, width * element.bytes())? };
        }
    }
    Ok(())
}

/// The recurrence as an operation that candle differentiates.
pub(super) fn lstm<D: Device>(
    cuda: &Cuda<D>,
    inputs: &Tensor,
    recurrent: &Tensor,
    sequences: &[Range<usize>],
) -> Result<Tensor> {
    let (z, weight) = (cuda.upload_candle(inputs)?, cuda.upload_candle(recurrent)?);
    let (h, saved) = forward(cuda, &z, &weight, sequences)?;
    let (value, total, engine) = (cuda.to_candle(&h)?, inputs.dim(0)?, cuda.clone());
    Precomputed::apply("lstm-recurrence-cuda", value, [inputs, recurrent], move |dh| {
        let (dz, dw) = backward(&engine, &saved, total, &engine.upload_candle(dh)?)?;
        Ok((engine.to_candle(&dz)?, engine.to_candle(&dw)?))
    })
}

/// Address of a row.
fn at(start: u64, row: usize, width: usize, element: Dtype) -> u64 {
    start + (row * width * element.bytes()) as u64
}

/// Addresses of a row in both forms.
fn form_at(form: Form, row: usize, width: usize) -> Form {
    let shifted = |start: u64, element| if start == 0 { 0 } else { at(start, row, width, element) };
    Form { f32: shifted(form.f32, Dtype::F32), bf16: shifted(form.bf16, Dtype::Bf16) }
}
