//! `impl Ops`: checks shapes, makes the arrays that come out, launches kernels.
//!
//! The safety of every launch is the same argument: the argument list is the kernel's parameter list (named in the comment
//! beside it), arrays have the shapes that were checked or made just before, indices were checked against their tables,
//! and the grid is the one that the kernel's comment asks for.

use candle_core::{DType, Tensor};

use super::attention::Probabilities;
use super::buffer::Buffer;
use super::device::{Device, Element, Gemm, argument};
use super::engine::{Cuda, Form, Forms, Mask, blocks, bytes_of};
use super::shapes::{defect, expect, expect_inside, matrix};
use crate::Result;
use crate::ops::{AdamWStep, AttentionShape, Moments, Norm, NormGradients, Normed, Ops, Update};
use crate::rng::Dropout;

/// Rows of one partial sum: SUM_ROWS of columns.cuh.
const SUM_ROWS: usize = 16;
/// Most blocks, and so partial sums, of the backward of a LayerNorm. A constant: the order of the sum depends on it.
const NORM_BLOCKS: usize = 256;
/// Shared memory that every device gives without being asked.
const SHARED: usize = 48 << 10;

/// Warps of a block that keeps `row` bytes of shared memory per warp.
fn warps(row: usize, width: usize) -> Result<usize> {
    match SHARED / row.max(1) {
        0 => Err(defect(format!("a hidden size of {width} is more than the kernels of a LayerNorm hold"))),
        warps => Ok(warps.min(4)),
    }
}

/// Kernels come in two forms: four elements at a time where rows allow it.
fn by_width(width: usize, [four, one]: [&'static str; 2]) -> (&'static str, usize) {
    if width.is_multiple_of(4) { (four, 4) } else { (one, 1) }
}

impl<D: Device> Cuda<D> {
    /// (parts, columns) partial sums to the given outputs of equal length, which follow each other in the columns.
    pub(super) fn reduce(&self, partial: u64, parts: usize, outputs: &[u64], each: usize) -> Result<()> {
        let width = outputs.len() * each;
        let out = |i: usize| outputs.get(i).copied().unwrap_or(0);
        let (out0, out1, out2) = (out(0), out(1), out(2));
        let (parts, width32, each) = (parts as i32, width as i32, each as i32);
        let mut arguments = [
            argument(&parts),
            argument(&width32),
            argument(&partial),
            argument(&each),
            argument(&out0),
            argument(&out1),
            argument(&out2),
        ];
        // SAFETY: (int, int, const float*, int, float*, float*, float*).
        unsafe { self.launch("column_reduce", [blocks(width, 32), 1, 1], 256, 4 * 256, &mut arguments) }
    }

    /// Rows of a table that equal indices of a batch add to, in a fixed order; the others are 0.
    fn scatter(&self, indices: &[u32], gradient: u64, table: &Buffer<D>) -> Result<Buffer<D>> {
        let (rows, width) = matrix(table)?;
        let (out, to) = self.floats(table.shape())?;
        if rows * width == 0 {
            return Ok(out);
        }
        let mut order: Vec<u32> = (0..indices.len() as u32).collect();
        order.sort_by_key(|row| indices[*row as usize]); // stable: rows of one index stay in order
        let (mut unique, mut first) = (Vec::new(), Vec::new());
        for (at, row) in order.iter().enumerate() {
            let index = indices[*row as usize];
            if unique.last() != Some(&index) {
                unique.push(index);
                first.push(at as u32);
            }
        }
        first.push(order.len() as u32);
        let grid = [unique.len() as u32, 1, 1];
        let (unique, first, order) = (self.send(&unique)?, self.send(&first)?, self.send(&order)?);
        let (width, unique, first, order) = (width as i32, unique.address(), first.address(), order.address());
        let mut arguments = [
            argument(&width),
            argument(&unique),
            argument(&first),
            argument(&order),
            argument(&gradient),
            argument(&to),
        ];
        // SAFETY: (int, const uint32_t*, const uint32_t*, const uint32_t*, const float*, float*).
        unsafe {
            self.device.zero(to, 4 * out.elements())?;
            self.launch("scatter_rows", grid, 128, 0, &mut arguments)?;
        }
        Ok(out)
    }

    /// The given rows in a form; the indices were checked.
    pub(super) fn gather(&self, x: &Buffer<D>, rows: &[usize], width: usize, forms: Forms) -> Result<Buffer<D>> {
        let (out, to) = self.make(&[rows.len(), width], forms)?;
        let indices = self.send_rows(rows)?;
        let (width, indices, from) = (width as i32, indices.address(), self.input(x));
        let mut arguments = [argument(&width), argument(&indices), argument(&from), argument(&to)];
        // SAFETY: (int, const uint32_t*, In, Out).
        unsafe { self.launch("gather_rows", [rows.len() as u32, 1, 1], 128, 0, &mut arguments)? };
        Ok(out)
    }

    /// An array of the same f32 values that nothing shares: itself, or a copy.
    pub(super) fn owned(&self, x: Buffer<D>) -> Result<(Buffer<D>, u64)> {
        if x.is_unshared() && x.address(Element::Bf16).is_none() {
            let address = self.f32(&x)?;
            return Ok((x, address));
        }
        let from = self.f32(&x)?;
        let (out, to) = self.floats(x.shape())?;
        if out.elements() > 0 {
            // SAFETY: both have as many elements.
            unsafe { self.device.copy(from, to, 4 * out.elements())? };
        }
        Ok((out, to))
    }
}

impl<D: Device> Ops for Cuda<D> {
    type Buffer = Buffer<D>;
    type Probabilities = Probabilities<D>;

    fn name(&self) -> &'static str {
        match self.products {
            Element::F32 => "cuda",
            Element::Bf16 => "cuda-bf16",
        }
    }

    fn upload(&self, values: &[f32], shape: &[usize]) -> Result<Buffer<D>> {
        if values.len() != shape.iter().product::<usize>() {
            return Err(defect(format!("{} values do not fill the shape {shape:?}", values.len())));
        }
        let (out, to) = self.floats(shape)?;
        if !values.is_empty() {
            // SAFETY: the array has as many elements.
            unsafe { self.device.upload(bytes_of(values), to)? };
        }
        Ok(out)
    }

    fn download(&self, buffer: &Buffer<D>) -> Result<Vec<f32>> {
        let from = self.f32(buffer)?;
        // SAFETY: the form holds that many.
        unsafe { self.fetch(from, buffer.elements()) }
    }

    fn zeros(&self, shape: &[usize]) -> Result<Buffer<D>> {
        let (out, to) = self.floats(shape)?;
        if out.elements() > 0 {
            // SAFETY: the array's own bytes.
            unsafe { self.device.zero(to, 4 * out.elements())? };
        }
        Ok(out)
    }

    fn to_candle(&self, buffer: &Buffer<D>) -> Result<Tensor> {
        if buffer.elements() == 0 {
            return Ok(Tensor::zeros(buffer.shape(), DType::F32, &self.device.candle())?);
        }
        let from = self.f32(buffer)?;
        // SAFETY: the form has that shape.
        unsafe { self.device.to_candle(from, buffer.shape()) }
    }

    fn upload_candle(&self, tensor: &Tensor) -> Result<Buffer<D>> {
        let tensor = tensor.to_device(&self.device.candle())?.to_dtype(DType::F32)?.contiguous()?;
        let (out, to) = self.floats(tensor.dims())?;
        if out.elements() > 0 {
            // SAFETY: the array has the tensor's shape.
            unsafe { self.device.from_candle(&tensor, to)? };
        }
        Ok(out)
    }

    fn embed(&self, ids: &[u32], positions: &[u32], tables: [&Buffer<D>; 3]) -> Result<Buffer<D>> {
        let width = expect_tables(ids, positions, tables)?;
        let (out, to) = self.floats(&[ids.len(), width])?;
        let (ids32, positions32) = (self.send(ids)?, self.send(positions)?);
        let [words, places, kinds] = tables.map(|table| self.f32(table));
        let (words, places, kinds) = (words?, places?, kinds?);
        let (width, ids32, positions32) = (width as i32, ids32.address(), positions32.address());
        let mut arguments = [
            argument(&width),
            argument(&ids32),
            argument(&positions32),
            argument(&words),
            argument(&places),
            argument(&kinds),
            argument(&to),
        ];
        // SAFETY: (int, const uint32_t*, const uint32_t*, const float*, const float*, const float*, float*).
        unsafe { self.launch("embed", [ids.len() as u32, 1, 1], 128, 0, &mut arguments)? };
        Ok(out)
    }

    fn embed_backward(
        &self,
        ids: &[u32],
        positions: &[u32],
        gradient: &Buffer<D>,
        tables: [&Buffer<D>; 3],
    ) -> Result<[Buffer<D>; 3]> {
        let width = expect_tables(ids, positions, tables)?;
        expect("the gradient of the embeddings", gradient, &[ids.len(), width])?;
        let from = self.f32(gradient)?;
        let words = self.scatter(ids, from, tables[0])?;
        let places = self.scatter(positions, from, tables[1])?;
        let sums = self.column_sum(gradient)?;
        let (kinds, to) = self.floats(tables[2].shape())?;
        let first = self.f32(&sums)?;
        if kinds.elements() > 0 {
            // SAFETY: the table has at least the one row that is copied.
            unsafe {
                self.device.zero(to, 4 * kinds.elements())?;
                self.device.copy(first, to, 4 * width)?;
            }
        }
        Ok([words, places, kinds])
    }

    fn linear(&self, x: &Buffer<D>, weight: &Buffer<D>, bias: Option<&Buffer<D>>) -> Result<Buffer<D>> {
        let ((tokens, inputs), (outputs, _)) = (matrix(x)?, matrix(weight)?);
        expect("the weight", weight, &[outputs, inputs])?;
        if let Some(bias) = bias {
            expect("the bias", bias, &[outputs])?;
        }
        let (out, to) = self.make(&[tokens, outputs], self.between())?;
        let gemm = Gemm {
            m: tokens,
            n: outputs,
            k: inputs,
            a: self.operand(x, false)?,
            b: self.operand(weight, true)?,
            inputs: self.products,
            out: to.f32.max(to.bf16),
            output: self.products,
            onto: None,
            bias: bias.map(|bias| self.address(bias, self.products)).transpose()?,
        };
        // SAFETY: the shapes were checked, the output made for them.
        unsafe { self.product(&gemm)? };
        Ok(out)
    }

    fn linear_backward(
        &self,
        x: &Buffer<D>,
        weight: &Buffer<D>,
        dy: &Buffer<D>,
        onto: Option<Buffer<D>>,
    ) -> Result<(Buffer<D>, Buffer<D>)> {
        let ((tokens, inputs), (outputs, _)) = (matrix(x)?, matrix(weight)?);
        expect("the weight", weight, &[outputs, inputs])?;
        expect("the gradient", dy, &[tokens, outputs])?;
        // A gradient that is added onto another is the residual stream's: f32.
        let (dx, to, output, onto) = match onto {
            Some(onto) => {
                expect("what to add onto", &onto, &[tokens, inputs])?;
                let (dx, to) = self.owned(onto)?;
                (dx, to, Element::F32, Some(to))
            }
            None => {
                let (dx, form) = self.make(&[tokens, inputs], self.between())?;
                (dx, form.f32.max(form.bf16), self.products, None)
            }
        };
        let (a, b) = (self.operand(dy, false)?, self.operand(weight, false)?);
        let gemm =
            Gemm { m: tokens, n: inputs, k: outputs, a, b, inputs: self.products, out: to, output, onto, bias: None };
        // SAFETY: the shapes were checked, the output made for them.
        unsafe { self.product(&gemm)? };
        let (dw, to) = self.floats(&[outputs, inputs])?;
        let (a, b) = (self.operand(dy, true)?, self.operand(x, false)?);
        let (out, output) = (to, Element::F32);
        let gemm =
            Gemm { m: outputs, n: inputs, k: tokens, a, b, inputs: self.products, out, output, onto: None, bias: None };
        // SAFETY: as above.
        unsafe { self.product(&gemm)? };
        Ok((dx, dw))
    }

    fn column_sum(&self, dy: &Buffer<D>) -> Result<Buffer<D>> {
        let (rows, width) = matrix(dy)?;
        let parts = rows.div_ceil(SUM_ROWS);
        let (out, to) = self.floats(&[width])?;
        let partial = self.pool.block(4 * parts * width)?;
        let (partial_at, x) = (partial.address(), self.input(dy));
        let (rows, width32) = (rows as i32, width as i32);
        let mut arguments = [argument(&rows), argument(&width32), argument(&x), argument(&partial_at)];
        // SAFETY: (int, int, In, float*).
        unsafe { self.launch("column_sum", [blocks(width, 128), parts as u32, 1], 128, 0, &mut arguments)? };
        self.reduce(partial_at, parts, &[to], width)?;
        Ok(out)
    }

    fn bias_gelu(&self, x: &Buffer<D>, bias: &Buffer<D>) -> Result<Buffer<D>> {
        let (rows, width) = matrix(x)?;
        expect("the bias", bias, &[width])?;
        let (out, to) = self.make(x.shape(), self.between())?;
        let (kernel, vector) = by_width(width, ["bias_gelu_4", "bias_gelu_1"]);
        let (width32, x, bias) = (width as i32, self.input(x), self.f32(bias)?);
        let mut arguments = [argument(&width32), argument(&x), argument(&bias), argument(&to)];
        // SAFETY: (int, In, const float*, Out).
        unsafe { self.launch(kernel, [rows as u32, blocks(width, 128 * vector), 1], 128, 0, &mut arguments)? };
        Ok(out)
    }

    fn bias_gelu_backward(&self, x: &Buffer<D>, bias: &Buffer<D>, dy: Buffer<D>) -> Result<(Buffer<D>, Buffer<D>)> {
        let (rows, width) = matrix(x)?;
        expect("the bias", bias, &[width])?;
        expect("the gradient", &dy, x.shape())?;
        let parts = rows.div_ceil(SUM_ROWS);
        let (dx, to) = self.make(x.shape(), self.between())?;
        let (sums, sums_to) = self.floats(&[width])?;
        let partial = self.pool.block(4 * parts * width)?;
        let (kernel, vector) = by_width(width, ["bias_gelu_backward_4", "bias_gelu_backward_1"]);
        let (rows, width32, partial_at) = (rows as i32, width as i32, partial.address());
        let (x, bias, dy) = (self.input(x), self.f32(bias)?, self.input(&dy));
        let mut arguments = [
            argument(&rows),
            argument(&width32),
            argument(&x),
            argument(&bias),
            argument(&dy),
            argument(&to),
            argument(&partial_at),
        ];
        // SAFETY: (int, int, In, const float*, In, Out, float*).
        unsafe { self.launch(kernel, [blocks(width, 128 * vector), parts as u32, 1], 128, 0, &mut arguments)? };
        self.reduce(partial_at, parts, &[sums_to], width)?;
        Ok((dx, sums))
    }

    fn add_norm(
        &self,
        branch: Buffer<D>,
        bias: Option<&Buffer<D>>,
        residual: Option<&Buffer<D>>,
        norm: Norm<'_, Buffer<D>>,
        dropout: Option<&Dropout>,
    ) -> Result<Normed<Buffer<D>>> {
        let (rows, width) = matrix(&branch)?;
        for (what, vector) in [("the bias", bias), ("gamma", Some(norm.gamma)), ("beta", Some(norm.beta))] {
            vector.map_or(Ok(()), |vector| expect(what, vector, &[width]))?;
        }
        residual.map_or(Ok(()), |residual| expect("the residual", residual, &[rows, width]))?;
        let warps = warps(4 * width, width)?;
        let (out, to) = self.make(&[rows, width], self.both())?;
        let (normalized, normalized_to) = self.make(&[rows, width], self.between())?;
        let (rstd, rstd_to) = self.floats(&[rows])?;
        let (kernel, _) = by_width(width, ["add_norm_4", "add_norm_1"]);
        let optional = |x: Option<&Buffer<D>>| x.map_or(Ok(0), |x| self.f32(x));
        let (bias, residual) = (optional(bias)?, optional(residual)?);
        let (gamma, beta, eps) = (self.f32(norm.gamma)?, self.f32(norm.beta)?, norm.eps as f32);
        let (branch, mask) = (self.input(&branch), Mask::from(dropout));
        let (rows32, width32) = (rows as i32, width as i32);
        let mut arguments = [
            argument(&rows32),
            argument(&width32),
            argument(&branch),
            argument(&bias),
            argument(&residual),
            argument(&gamma),
            argument(&beta),
            argument(&eps),
            argument(&mask),
            argument(&to),
            argument(&normalized_to),
            argument(&rstd_to),
        ];
        let grid = [blocks(rows, warps), 1, 1];
        // SAFETY: (int, int, In, const float* x 4, float, Mask, Out, Out, float*).
        unsafe { self.launch(kernel, grid, 32 * warps as u32, 4 * width * warps, &mut arguments)? };
        Ok(Normed { out, normalized, rstd })
    }

    fn add_norm_backward(
        &self,
        dy: Buffer<D>,
        normed: &Normed<Buffer<D>>,
        gamma: &Buffer<D>,
        dropout: Option<&Dropout>,
    ) -> Result<NormGradients<Buffer<D>>> {
        let (rows, width) = matrix(&dy)?;
        expect("the normalized rows", &normed.normalized, &[rows, width])?;
        expect("rstd", &normed.rstd, &[rows])?;
        expect("gamma", gamma, &[width])?;
        let warps = warps(12 * width, width)?;
        let parts = rows.div_ceil(warps).min(NORM_BLOCKS);
        // Without dropout the two gradients are one array, in the forms of both.
        let (residual, branch, residual_to, branch_to) = match dropout {
            Some(_) => {
                let (residual, to) = self.make(&[rows, width], Forms::F32)?;
                let (branch, branch_to) = self.make(&[rows, width], self.between())?;
                (residual, branch, to, branch_to)
            }
            None => {
                let (residual, to) = self.make(&[rows, width], self.both())?;
                (residual.clone(), residual, to, Form::NONE)
            }
        };
        let [gamma_sums, beta_sums, bias_sums] = [self.floats(&[width]), self.floats(&[width]), self.floats(&[width])];
        let ((gamma_sums, gamma_to), (beta_sums, beta_to), (bias_sums, bias_to)) =
            (gamma_sums?, beta_sums?, bias_sums?);
        let partial = self.pool.block(4 * parts * 3 * width)?;
        let (kernel, _) = by_width(width, ["add_norm_backward_4", "add_norm_backward_1"]);
        let (rows32, width32, partial_at) = (rows as i32, width as i32, partial.address());
        let (dy, normalized, rstd) = (self.f32(&dy)?, self.input(&normed.normalized), self.f32(&normed.rstd)?);
        let (gamma, mask) = (self.f32(gamma)?, Mask::from(dropout));
        let mut arguments = [
            argument(&rows32),
            argument(&width32),
            argument(&dy),
            argument(&normalized),
            argument(&rstd),
            argument(&gamma),
            argument(&mask),
            argument(&branch_to),
            argument(&residual_to),
            argument(&partial_at),
        ];
        let grid = [parts as u32, 1, 1];
        // SAFETY: (int, int, const float*, In, const float*, const float*, Mask, Out, Out, float*).
        unsafe { self.launch(kernel, grid, 32 * warps as u32, 12 * width * warps, &mut arguments)? };
        self.reduce(partial_at, parts, &[gamma_to, beta_to, bias_to], width)?;
        Ok(NormGradients { branch, residual, gamma: gamma_sums, beta: beta_sums, bias: bias_sums })
    }

    fn dropout(&self, x: Buffer<D>, dropout: &Dropout) -> Result<Buffer<D>> {
        let (out, to) = self.floats(x.shape())?;
        let (n, from, mask) = (x.elements() as u64, self.f32(&x)?, Mask::from(Some(dropout)));
        let mut arguments = [argument(&n), argument(&from), argument(&mask), argument(&to)];
        // SAFETY: (size_t, const float*, Mask, float*).
        unsafe { self.launch("dropout", [blocks(x.elements(), 1024), 1, 1], 256, 0, &mut arguments)? };
        Ok(out)
    }

    fn attention(
        &self,
        qkv: &Buffer<D>,
        shape: AttentionShape<'_>,
        dropout: Option<&Dropout>,
    ) -> Result<(Buffer<D>, Probabilities<D>)> {
        self.attend(qkv, shape, dropout)
    }

    fn attention_backward(
        &self,
        qkv: &Buffer<D>,
        probabilities: Probabilities<D>,
        dy: &Buffer<D>,
        shape: AttentionShape<'_>,
        dropout: Option<&Dropout>,
    ) -> Result<Buffer<D>> {
        self.attend_backward(qkv, &probabilities, dy, shape, dropout)
    }

    fn recurrence(&self, inputs: &Tensor, recurrent: &Tensor, starts: &[usize]) -> Result<Tensor> {
        self.recurrence_in_candle(inputs, recurrent, starts)
    }

    fn rows(&self, x: &Buffer<D>, rows: &[usize]) -> Result<Buffer<D>> {
        let (total, width) = matrix(x)?;
        expect_inside("row", rows.iter().copied(), total)?;
        self.gather(x, rows, width, Forms::F32)
    }

    fn add_rows(&self, x: Buffer<D>, rows: &[usize], values: &Buffer<D>) -> Result<Buffer<D>> {
        let (total, width) = matrix(&x)?;
        expect("what to add to rows", values, &[rows.len(), width])?;
        expect_inside("row", rows.iter().copied(), total)?;
        let (x, to) = self.owned(x)?;
        let indices = self.send_rows(rows)?;
        let (width, indices, values) = (width as i32, indices.address(), self.f32(values)?);
        let mut arguments = [argument(&width), argument(&indices), argument(&values), argument(&to)];
        // SAFETY: (int, const uint32_t*, const float*, float*); the rows are distinct, so no two blocks write one.
        unsafe { self.launch("add_rows", [rows.len() as u32, 1, 1], 128, 0, &mut arguments)? };
        Ok(x)
    }

    fn add(&self, a: Buffer<D>, b: &Buffer<D>) -> Result<Buffer<D>> {
        expect("the second term", b, a.shape())?;
        let (out, to) = self.floats(a.shape())?;
        let (n, left, right) = (a.elements() as u64, self.f32(&a)?, self.f32(b)?);
        let mut arguments = [argument(&n), argument(&left), argument(&right), argument(&to)];
        // SAFETY: (size_t, const float*, const float*, float*).
        unsafe { self.launch("add", [blocks(a.elements(), 256), 1, 1], 256, 0, &mut arguments)? };
        Ok(out)
    }

    fn sum_squares(&self, x: &Buffer<D>) -> Result<f64> {
        self.squares(&[x])
    }

    fn sum_squares_of(&self, xs: &[&Buffer<D>]) -> Result<f64> {
        self.squares(xs)
    }

    fn adamw_of(&self, updates: &mut [Update<'_, Buffer<D>>]) -> Result<()> {
        self.update(updates)
    }

    fn adamw(
        &self,
        value: &mut Buffer<D>,
        moments: &mut Moments<Buffer<D>>,
        gradient: &Buffer<D>,
        step: &AdamWStep,
    ) -> Result<()> {
        self.update(&mut [Update { value, moments, gradient, step: *step }])
    }
}

/// Refuse tables that do not fit together, and indices outside of them; the width of their rows.
fn expect_tables<D: Device>(ids: &[u32], positions: &[u32], [words, places, kinds]: [&Buffer<D>; 3]) -> Result<usize> {
    let (vocabulary, width) = matrix(words)?;
    let (longest, _) = matrix(places)?;
    expect("the position table", places, &[longest, width])?;
    let (types, _) = matrix(kinds)?;
    expect("the type table", kinds, &[types.max(1), width])?;
    expect_inside("word piece", ids.iter().map(|id| *id as usize), vocabulary)?;
    expect_inside("position", positions.iter().map(|position| *position as usize), longest)?;
    if ids.len() != positions.len() {
        return Err(defect(format!("{} ids have {} positions", ids.len(), positions.len())));
    }
    Ok(width)
}
