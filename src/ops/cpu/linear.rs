//! Matrix products with weights, in f32 or in bf16, and their backward; sums over rows.

use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Tensor};
use rayon::prelude::*;

use super::bf16::{Bf16Matmul, Start};
use super::buffer::Buffer;
use super::engine::{Cpu, ROWS, expect, matrix};
use super::math;
use super::matmul::{Matrix, all_threads, matmul};
use super::pair_scores::dense;
use super::rows::rows;
use super::small_matmul;
use crate::Result;

/// The `gemm` crate has a special method for products with up to this many elements.
const SMALL_PRODUCT: usize = 256;

pub(super) fn linear(cpu: &Cpu, x: &Buffer, weight: &Buffer, bias: Option<&Buffer>) -> Result<Buffer> {
    let ((tokens, inputs), (outputs, _)) = (matrix(x)?, matrix(weight)?);
    expect("the weight", weight, &[outputs, inputs])?;
    if let Some(bias) = bias {
        expect("the bias", bias, &[outputs])?;
    }
    let enough = enough_rows(outputs);
    if cpu.bf16.is_none() && (1..enough).contains(&tokens) {
        let repeated: Vec<usize> = (0..enough).map(|row| row % tokens).collect();
        let out = linear(cpu, &rows(cpu, x, &repeated)?, weight, bias)?;
        return rows(cpu, &out, &repeated[..tokens]);
    }
    let mut out = cpu.pool.uninit(&[tokens, outputs]);
    if let Some(products) = cpu.bf16 {
        let weights = || Matrix::new(weight.values(), outputs, inputs);
        let packed = weight.packed().forward.get_or_init(|| products.right_transposed(&cpu.pool, weights()));
        let x = products.left(&cpu.pool, Matrix::new(x.values(), tokens, inputs));
        let start = bias.map_or(Start::Zero, |bias| Start::Bias(bias.values()));
        out.fill(|out| products.matmul(out, &x, packed, start));
        return Ok(out);
    }
    out.fill(|out| {
        if let Some(bias) = bias {
            let rows = out.par_chunks_mut(outputs.max(1)).with_min_len(ROWS);
            rows.for_each(|row| row.copy_from_slice(bias.values()));
        }
        let onto = if bias.is_some() { 1.0 } else { 0.0 };
        let x = Matrix::new(x.values(), tokens, inputs);
        let transposed = transposed(cpu, weight, tokens);
        let weight = match &transposed {
            Some(transposed) => Matrix::new(transposed.values(), inputs, outputs),
            None => Matrix::new(weight.values(), outputs, inputs).t(),
        };
        matmul(out, outputs, x, weight, 1.0, onto, all_threads());
    });
    Ok(out)
}

/// Rows from which the bits of a row do not depend on the others: the crate sums a small product in
/// another order, and the result of a sentence must not depend, in its last bits, on what else is
/// in its batch. Fewer rows are repeated.
fn enough_rows(outputs: usize) -> usize {
    (SMALL_PRODUCT / outputs.max(1) + 1).max(2)
}

/// See [`crate::ops::Ops::linear_rows`].
pub(super) fn linear_rows(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let y = x.contiguous()?.apply_op2(&weight.contiguous()?, LinearRows)?;
    Ok(match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    })
}

/// `x Wᵀ` as an operation of candle.
struct LinearRows;

impl CustomOp2 for LinearRows {
    fn name(&self) -> &'static str {
        "linear-rows"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let ((n, inputs), (outputs, columns)) = (x_layout.shape().dims2()?, weight_layout.shape().dims2()?);
        let (x, weight) = (dense(x, x_layout)?, dense(weight, weight_layout)?);
        if inputs != columns {
            candle_core::bail!("linear rows: {weight_layout:?} does not fit {x_layout:?}");
        }
        let rows = n.max(enough_rows(outputs));
        let repeated: Vec<f32> =
            if n < rows { x.iter().copied().cycle().take(rows * inputs).collect() } else { vec![] };
        let x = if n < rows { &repeated } else { x };
        let mut out = vec![0.0; rows * outputs];
        if n > 0 {
            let (x, weight) = (Matrix::new(x, rows, inputs), Matrix::new(weight, outputs, inputs).t());
            matmul(&mut out, outputs, x, weight, 1.0, 0.0, all_threads());
        }
        out.truncate(n * outputs);
        Ok((CpuStorage::F32(out), Shape::from((n, outputs))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(dy.matmul(weight)?), Some(dy.t()?.matmul(x)?)))
    }
}

pub(super) fn linear_backward(
    cpu: &Cpu,
    x: &Buffer,
    weight: &Buffer,
    dy: &Buffer,
    onto: Option<Buffer>,
) -> Result<(Buffer, Buffer)> {
    let ((tokens, inputs), (outputs, _)) = (matrix(x)?, matrix(weight)?);
    expect("the weight", weight, &[outputs, inputs])?;
    expect("the gradient", dy, &[tokens, outputs])?;
    let added = onto.is_some();
    let mut dx = match onto {
        Some(onto) => {
            expect("what to add onto", &onto, &[tokens, inputs])?;
            onto.into_unique(&cpu.pool)
        }
        None => cpu.pool.uninit(&[tokens, inputs]),
    };
    let dy = Matrix::new(dy.values(), tokens, outputs);
    let x = Matrix::new(x.values(), tokens, inputs);
    let mut dw = cpu.pool.uninit(&[outputs, inputs]);
    if let Some(products) = cpu.bf16 {
        dx.fill(|dx| dw.fill(|dw| bf16_backward(cpu, products, [x, dy], weight, (dx, added), dw)));
        return Ok((dx, dw));
    }
    let weights = Matrix::new(weight.values(), outputs, inputs);
    let beta = if added { 1.0 } else { 0.0 };
    dx.fill(|dx| matmul(dx, inputs, dy, weights, 1.0, beta, all_threads()));
    dw.fill(|dw| matmul(dw, inputs, dy.t(), x, 1.0, 0.0, all_threads()));
    Ok((dx, dw))
}

pub(super) fn column_sum(cpu: &Cpu, dy: &Buffer) -> Result<Buffer> {
    let (_, width) = matrix(dy)?;
    let pieces = dy.values().par_chunks((ROWS * width).max(1));
    Ok(cpu.sums(pieces, width, |_, rows, sums| math::add_columns(cpu.simd, rows, sums)))
}

/// `dx = onto + dy W` and `dW = dyᵀ x` in bf16.
fn bf16_backward(
    cpu: &Cpu,
    products: Bf16Matmul,
    [x, dy]: [Matrix<'_, f32>; 2],
    weight: &Buffer,
    (dx, onto): (&mut [f32], bool),
    dw: &mut [f32],
) {
    let pool = &cpu.pool;
    let weights = Matrix::new(weight.values(), dy.columns(), x.columns());
    let packed = weight.packed().backward.get_or_init(|| products.right(pool, weights));
    let start = if onto { Start::Accumulate } else { Start::Zero };
    products.matmul(dx, &products.left(pool, dy), packed, start);
    let (left, right) = (products.left_transposed(pool, dy), products.right(pool, x));
    products.matmul(dw, &left, &right, Start::Zero);
}

/// The transpose of a weight with long rows, for a product with many rows. The `gemm` crate gathers
/// such a weight column by column, from addresses a power of two apart that share a few lines of
/// the cache: 9 % slower with 1536 inputs and 384 outputs, 16 % with 3072 and 768. The bits of the
/// product are the same.
fn transposed(cpu: &Cpu, weight: &Buffer, rows: usize) -> Option<Buffer> {
    const MANY: usize = 256;
    let [outputs, inputs] = *weight.shape() else { return None };
    if inputs < 2 * outputs || rows < MANY || !outputs.is_multiple_of(math::LANES) {
        return None;
    }
    let mut out = cpu.pool.uninit(&[inputs, outputs]);
    out.fill(|out| {
        out.par_chunks_mut(small_matmul::TOGETHER * outputs).enumerate().for_each(|(block, out)| {
            let first = block * small_matmul::TOGETHER;
            let columns = small_matmul::TOGETHER.min(inputs - first);
            small_matmul::transpose_far(
                cpu.simd,
                Matrix::strided(&weight.values()[first..], outputs, columns, inputs),
                out,
            );
        });
    });
    Some(out)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor, Var};

    use crate::ops::{Cpu, Ops, Reference};
    use crate::rng::{Purpose, Stream};

    fn random(rows: usize, columns: usize, index: u32) -> Tensor {
        let mut stream = Stream::new(7, Purpose::Init, index);
        let values: Vec<f32> = (0..rows * columns).map(|_| stream.normal() as f32).collect();
        Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
    }

    #[test]
    fn the_rows_of_a_head_have_gradients() {
        let (x, weight) = (random(7, 12, 0), random(5, 12, 1));
        let gradients = |ops: &dyn Fn(&Tensor, &Tensor) -> Tensor| {
            let vars = [&x, &weight].map(|tensor| Var::from_tensor(tensor).unwrap());
            let y = ops(&vars[0], &vars[1]);
            let all = (y.sqr().unwrap() * 0.5).unwrap().sum_all().unwrap().backward().unwrap();
            vars.map(|var| all.get(&var).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap())
        };
        let ours = gradients(&|x, weight| Cpu::new().linear_rows(x, weight, None).unwrap());
        let expected = gradients(&|x, weight| x.matmul(&weight.t().unwrap()).unwrap());
        for (ours, expected) in ours.iter().flatten().zip(expected.iter().flatten()) {
            assert!((ours - expected).abs() < 1e-4 * (1.0 + expected.abs()), "{ours} is not {expected}");
        }
    }

    #[test]
    fn a_row_of_a_head_does_not_depend_on_the_others() {
        let cpu = Cpu::new();
        let values = |y: Tensor| y.to_vec2::<f32>().unwrap();
        for (inputs, outputs) in [(96, 1), (144, 2), (144, 6), (128, 96)] {
            let (x, weight) = (random(300, inputs, 0), random(outputs, inputs, 1));
            let bias = random(1, outputs, 2).flatten_all().unwrap();
            let all = values(cpu.linear_rows(&x, &weight, Some(&bias)).unwrap());
            let expected = values(Reference::cpu().linear_rows(&x, &weight, Some(&bias)).unwrap());
            for (row, expected) in all.iter().flatten().zip(expected.iter().flatten()) {
                assert!((row - expected).abs() < 1e-4 * (1.0 + expected.abs()), "{row} is not {expected}");
            }
            for (start, rows) in [(0, 1), (7, 2), (20, 60), (299, 1)] {
                let some = cpu.linear_rows(&x.narrow(0, start, rows).unwrap(), &weight, Some(&bias)).unwrap();
                assert_eq!(values(some), all[start..start + rows], "{inputs} to {outputs}, {rows} rows");
            }
        }
    }
}
