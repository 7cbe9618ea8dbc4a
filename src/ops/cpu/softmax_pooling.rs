//! [`crate::ops::Ops::softmax_pooling`] as one operation with its own backward: candle's would be
//! a product for each instance, with a pool of threads of its own and a gradient of the whole last
//! layer for each.
//!
//! The tasks of the forward are instances, so the bits of one do not depend on the others. Those of
//! the backward share no gradient, so the bits do not depend on the number of threads.

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Shape, Tensor};
use rayon::prelude::*;

use super::math::sum_of;
use super::matmul::{Matrix, MatrixMut};
use super::pair_scores::{COLUMNS, dense};
use super::simd::{Simd, kernel};
use crate::Result;
use crate::ops::shapes::internal_error;
use crate::ops::softmax_pooling::softmax_pooling;

/// Summaries, `(n, H)`, and weights, `(n, T)`; the weights have no gradient.
pub(super) fn pool(simd: Simd, last: &Tensor, scores: &Tensor, words: &[Range<usize>]) -> Result<(Tensor, Tensor)> {
    if last.dtype() != DType::F32 {
        return softmax_pooling(last, scores, words);
    }
    let (tokens, hidden) = last.dims2()?;
    if let Some(words) = words.iter().find(|words| words.end > tokens) {
        return Err(internal_error(format!("softmax pooling: words {words:?} are outside of {tokens} tokens")));
    }
    let op = SoftmaxPooling { simd, words: words.to_vec(), hidden };
    let (last, scores) = (last.contiguous()?, scores.contiguous()?);
    let mut weights = vec![0.0; words.len() * tokens];
    let probabilities = op.probabilities(&scores.to_vec1()?)?;
    for ((row, words), a) in weights.chunks_exact_mut(tokens.max(1)).zip(words).zip(&probabilities) {
        row[words.clone()].copy_from_slice(a);
    }
    let weights = Tensor::from_vec(weights, (words.len(), tokens), last.device())?;
    Ok((last.apply_op2(&scores, op)?, weights))
}

struct SoftmaxPooling {
    simd: Simd,
    /// The words of each instance among the rows of the last layer.
    words: Vec<Range<usize>>,
    hidden: usize,
}

impl SoftmaxPooling {
    /// The softmax of each instance's scores.
    fn probabilities(&self, scores: &[f32]) -> candle_core::Result<Vec<Vec<f32>>> {
        let all: usize = self.words.iter().map(Range::len).sum();
        if scores.len() != all {
            candle_core::bail!("softmax pooling: {} scores for {all} words", scores.len());
        }
        let mut rest = scores;
        let softmax = |words: &Range<usize>| {
            let (own, others) = rest.split_at(words.len());
            rest = others;
            let largest = own.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let exponentials: Vec<f32> = own.iter().map(|score| (score - largest).exp()).collect();
            let sum: f32 = exponentials.iter().sum();
            exponentials.into_iter().map(|e| e / sum).collect()
        };
        Ok(self.words.iter().map(softmax).collect())
    }

    /// `last` `(T, H)` to the summaries `(n, H)`.
    fn forward(&self, last: &[f32], probabilities: &[Vec<f32>]) -> Vec<f32> {
        let mut out = vec![0.0; self.words.len() * self.hidden];
        let tasks = out.par_chunks_mut(self.hidden).zip(&self.words).zip(probabilities);
        tasks.for_each(|((out, words), a)| {
            for (word, a) in words.clone().zip(a) {
                add_scaled(self.simd, out, *a, &last[word * self.hidden..][..self.hidden]);
            }
        });
        out
    }

    /// Gradients of the last layer and of the scores.
    fn backward(&self, last: &[f32], probabilities: &[Vec<f32>], upstream: &[f32]) -> [Vec<f32>; 2] {
        let h = self.hidden;
        let tasks = probabilities.par_iter().zip(&self.words).zip(upstream.par_chunks(h));
        let d_scores: Vec<Vec<f32>> = tasks
            .map(|((a, words), upstream)| {
                let rows = last[words.start * h..words.end * h].chunks_exact(h);
                let mut d: Vec<f32> = rows.map(|row| dot(self.simd, row, upstream)).collect();
                let mean: f32 = d.iter().zip(a).map(|(d, a)| d * a).sum();
                d.iter_mut().zip(a).for_each(|(d, a)| *d = a * (*d - mean));
                d
            })
            .collect();
        let mut d_last = vec![0.0; last.len()];
        let blocks: Vec<_> =
            MatrixMut::new(&mut d_last, last.len() / h, h).split_columns(COLUMNS).enumerate().collect();
        blocks.into_par_iter().for_each(|(block, mut d_last)| {
            let columns = COLUMNS.min(h - block * COLUMNS);
            let upstream = Matrix::strided(&upstream[block * COLUMNS..], self.words.len(), columns, h);
            for (instance, (words, a)) in self.words.iter().zip(probabilities).enumerate() {
                for (word, a) in words.clone().zip(a) {
                    add_scaled(self.simd, d_last.row_mut(word), *a, upstream.row(instance));
                }
            }
        });
        [d_last, d_scores.concat()]
    }
}

kernel! {
    /// `out += scale x`.
    fn add_scaled<A>(out: &mut [f32], scale: f32, x: &[f32]) {
        for (out, x) in out.iter_mut().zip(x) {
            *out = A::madd(scale, *x, *out);
        }
    }
}

kernel! {
    fn dot<A>(x: &[f32], y: &[f32]) -> f32 {
        sum_of([x, y], |[x, y]| x * y)
    }
}

impl CustomOp2 for SoftmaxPooling {
    fn name(&self) -> &'static str {
        "softmax-pooling"
    }

    fn cpu_fwd(
        &self,
        last: &CpuStorage,
        last_layout: &Layout,
        scores: &CpuStorage,
        scores_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (last, scores) = (dense(last, last_layout)?, dense(scores, scores_layout)?);
        let summaries = self.forward(last, &self.probabilities(scores)?);
        Ok((CpuStorage::F32(summaries), Shape::from((self.words.len(), self.hidden))))
    }

    fn bwd(
        &self,
        last: &Tensor,
        scores: &Tensor,
        _: &Tensor,
        upstream: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let values = |x: &Tensor| x.flatten_all()?.to_vec1::<f32>();
        let probabilities = self.probabilities(&values(scores)?)?;
        let [d_last, d_scores] = self.backward(&values(last)?, &probabilities, &values(upstream)?);
        let like = |values, x: &Tensor| Tensor::from_vec(values, x.shape(), x.device()).map(Some);
        Ok((like(d_last, last)?, like(d_scores, scores)?))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::ops::cpu::SimdLevel;
    use crate::rng::{Purpose, Stream};

    /// From the last layer and the scores to summaries and weights.
    type Pool<'a> = &'a dyn Fn(&Tensor, &Tensor) -> Result<(Tensor, Tensor)>;

    /// Summaries, weights, and gradients of the last layer and the scores.
    fn run(pool: Pool<'_>, arguments: &[Tensor; 2], dtype: DType) -> [Vec<f64>; 4] {
        let [last, scores] = arguments.each_ref().map(|x| Var::from_tensor(&x.to_dtype(dtype).unwrap()).unwrap());
        let (out, weights) = pool(&last, &scores).unwrap();
        let factors: Vec<f64> = (0..out.elem_count()).map(|i| (i as f64 * 0.7).sin()).collect();
        let factors = Tensor::from_vec(factors, out.shape(), &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        let gradients = (&out * factors).unwrap().sum_all().unwrap().backward().unwrap();
        let of = |var: &Var| gradients.get(var).unwrap().clone();
        [out, weights, of(&last), of(&scores)]
            .map(|x| x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap())
    }

    fn random(shape: &[usize], index: u32) -> Tensor {
        let mut stream = Stream::new(6, Purpose::Init, index);
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| 2.0 * stream.normal()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn summaries_and_gradients_are_those_of_candle() {
        // Instances that share words, instances that do not, and sizes that are no multiple of blocks and vectors.
        let words = [1..6, 1..6, 7..8, 9..21, 9..21, 9..21];
        let scores = words.iter().map(Range::len).sum();
        for hidden in [3, 64, 100] {
            let arguments = [random(&[22, hidden], 0), random(&[scores], 1)];
            let expected = run(&|last, scores| softmax_pooling(last, scores, &words), &arguments, DType::F64);
            for level in SimdLevel::ALL.into_iter().filter(|level| level.is_available()) {
                let simd = Simd::new(level).unwrap();
                let found = run(&|last, scores| pool(simd, last, scores, &words), &arguments, DType::F32);
                for (found, expected) in found.iter().zip(&expected) {
                    assert_eq!(found.len(), expected.len());
                    for (x, y) in found.iter().zip(expected) {
                        assert!((x - y).abs() < 1e-5 * (1.0 + y.abs()), "{level:?}, H = {hidden}: {x} is not {y}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_instance_does_not_depend_on_the_others() {
        let [last, scores] = [random(&[12, 20], 0), random(&[13], 1)].map(|x| x.to_dtype(DType::F32).unwrap());
        let words = [1..5, 6..11, 1..5];
        let of = |scores: &Tensor, words: &[Range<usize>]| {
            let (summaries, weights) = pool(Simd::detect(), &last, scores, words).unwrap();
            [summaries, weights].map(|x| x.to_vec2::<f32>().unwrap())
        };
        let all = of(&scores, &words);
        for (instance, (start, size)) in [(0, 4), (4, 5), (9, 4)].into_iter().enumerate() {
            let alone = of(&scores.narrow(0, start, size).unwrap(), &words[instance..=instance]);
            assert_eq!([&alone[0][0], &alone[1][0]], [&all[0][instance], &all[1][instance]]);
        }
    }

    #[test]
    fn arguments_that_do_not_fit_are_refused() {
        let [last, scores] = [random(&[4, 6], 0), random(&[5], 1)].map(|x| x.to_dtype(DType::F32).unwrap());
        for words in [&[0..2, 2..4][..], &[0..2, 2..5]] {
            assert!(pool(Simd::detect(), &last, &scores, words).is_err(), "{words:?}");
        }
    }
}
