//! Products with weights, and their backward; sums over rows.

use super::buffer::Buffer;
use super::device::{Device, Dtype, Gemm, argument};
use super::engine::Cuda;
use super::parameters::blocks;
use super::reductions::SUM_ROWS;
use super::shapes::{expect, matrix};
use crate::Result;

pub(super) fn linear<D: Device>(
    cuda: &Cuda<D>,
    x: &Buffer<D>,
    weight: &Buffer<D>,
    bias: Option<&Buffer<D>>,
) -> Result<Buffer<D>> {
    let ((tokens, inputs), (outputs, _)) = (matrix(x)?, matrix(weight)?);
    expect("the weight", weight, &[outputs, inputs])?;
    if let Some(bias) = bias {
        expect("the bias", bias, &[outputs])?;
    }
    let (out, to) = cuda.make(&[tokens, outputs], cuda.between())?;
    let gemm = Gemm {
        m: tokens,
        n: outputs,
        k: inputs,
        a: cuda.operand(x, false)?,
        b: cuda.operand(weight, true)?,
        inputs: cuda.dtype,
        out: to.f32.max(to.bf16),
        output: cuda.dtype,
        onto: None,
        bias: bias.map(|bias| cuda.address(bias, cuda.dtype)).transpose()?,
    };
    // SAFETY: the shapes were checked, the output made for them.
    unsafe { cuda.gemm(&gemm)? };
    Ok(out)
}

pub(super) fn linear_backward<D: Device>(
    cuda: &Cuda<D>,
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
            let (dx, to) = cuda.unique(onto)?;
            (dx, to, Dtype::F32, Some(to))
        }
        None => {
            let (dx, form) = cuda.make(&[tokens, inputs], cuda.between())?;
            (dx, form.f32.max(form.bf16), cuda.dtype, None)
        }
    };
    let (a, b) = (cuda.operand(dy, false)?, cuda.operand(weight, false)?);
    let gemm = Gemm { m: tokens, n: inputs, k: outputs, a, b, inputs: cuda.dtype, out: to, output, onto, bias: None };
    // SAFETY: the shapes were checked, the output made for them.
    unsafe { cuda.gemm(&gemm)? };
    let (dw, to) = cuda.floats(&[outputs, inputs])?;
    let (a, b) = (cuda.operand(dy, true)?, cuda.operand(x, false)?);
    let (out, output) = (to, Dtype::F32);
    let gemm = Gemm { m: outputs, n: inputs, k: tokens, a, b, inputs: cuda.dtype, out, output, onto: None, bias: None };
    // SAFETY: as above.
    unsafe { cuda.gemm(&gemm)? };
    Ok((dx, dw))
}

pub(super) fn column_sum<D: Device>(cuda: &Cuda<D>, dy: &Buffer<D>) -> Result<Buffer<D>> {
    let (out, _) = cuda.floats(&[matrix(dy)?.1])?;
    column_sum_to(cuda, dy, out)
}

/// The same in the first row of an array whose others have been written.
pub(super) fn column_sum_to<D: Device>(cuda: &Cuda<D>, dy: &Buffer<D>, out: Buffer<D>) -> Result<Buffer<D>> {
    let (rows, width) = matrix(dy)?;
    let parts = rows.div_ceil(SUM_ROWS);
    let partial = cuda.pool.block(4 * parts * width)?;
    let (partial_at, x) = (partial.address(), cuda.input(dy)?);
    let (rows, width32) = (rows as i32, width as i32);
    let mut arguments = [argument(&rows), argument(&width32), argument(&x), argument(&partial_at)];
    // SAFETY: (int, int, In, float*).
    unsafe { cuda.launch("column_sum", [blocks(width, 128), parts as u32, 1], 128, 0, &mut arguments)? };
    let [out] = cuda.reduce_to(partial, parts, width, [out]);
    Ok(out)
}
