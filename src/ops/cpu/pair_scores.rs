//! [`crate::ops::Ops::pair_scores`] as one operation with its own backward: candle's would write
//! the `(pairs, words, H)` sums and their tangents to memory, and differentiate them with a pool of
//! threads of its own.
//!
//! The backward computes the tangents again. Its tasks are blocks of columns, which share no
//! gradient, so the bits do not depend on the number of threads.

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp3, DType, Layout, Shape, Tensor};
use rayon::prelude::*;

use super::math::{sum_of, tanh};
use super::matmul::{Matrix, MatrixMut};
use super::simd::{Simd, kernel};
use crate::Result;
use crate::ops::pair_scores;

/// Columns of a task of the backward: some cache lines, so that tasks do not share one.
pub(super) const COLUMNS: usize = 64;

pub(super) fn scores(
    simd: Simd,
    keys: &Tensor,
    queries: &Tensor,
    score: &Tensor,
    words: &[Range<usize>],
) -> Result<Tensor> {
    if keys.dtype() != DType::F32 {
        return pair_scores::pair_scores(keys, queries, score, words);
    }
    let op = PairScores { simd, words: words.to_vec(), hidden: keys.dim(1)? };
    Ok(keys.contiguous()?.apply_op3(&queries.contiguous()?, &score.contiguous()?, op)?)
}

struct PairScores {
    simd: Simd,
    /// The words of each pair among the rows of the keys.
    words: Vec<Range<usize>>,
    hidden: usize,
}

impl PairScores {
    /// `keys` `(T, H)`, `queries` `(n, H)`, `score` `(H)`, to the scores of all pairs one after the
    /// other.
    fn forward(&self, keys: &[f32], queries: &[f32], score: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; self.words.iter().map(Range::len).sum()];
        let mut rest = &mut out[..];
        let mut tasks = Vec::new();
        for (query, words) in queries.chunks_exact(self.hidden).zip(&self.words) {
            let (own, others) = rest.split_at_mut(words.len());
            tasks.push((own, query, &keys[words.start * self.hidden..words.end * self.hidden]));
            rest = others;
        }
        tasks.into_par_iter().for_each(|(out, query, keys)| score_words(self.simd, out, keys, query, score));
        out
    }

    /// Gradients of keys, queries and score.
    fn backward(&self, [keys, queries, score, upstream]: [&[f32]; 4]) -> [Vec<f32>; 3] {
        let h = self.hidden;
        let (rows, pairs) = (keys.len() / h, self.words.len());
        let mut gradients = [keys, queries, score].map(|of| vec![0.0; of.len()]);
        let [d_keys, d_queries, d_score] = &mut gradients;
        let blocks = MatrixMut::new(d_keys, rows, h).split_columns(COLUMNS);
        let blocks = blocks.zip(MatrixMut::new(d_queries, pairs, h).split_columns(COLUMNS));
        let tasks: Vec<_> = blocks.zip(d_score.chunks_mut(COLUMNS)).enumerate().collect();
        tasks.into_par_iter().for_each(|(block, ((mut d_keys, mut d_queries), d_score))| {
            let columns = block * COLUMNS..block * COLUMNS + d_score.len();
            let keys = Matrix::strided(&keys[columns.start..], rows, columns.len(), h);
            let queries = Matrix::strided(&queries[columns.start..], pairs, columns.len(), h);
            let mut upstream = upstream;
            for (pair, words) in self.words.iter().enumerate() {
                for word in words.clone() {
                    let Some((d, rest)) = upstream.split_first() else { unreachable!("one for each score") };
                    upstream = rest;
                    differentiate(
                        self.simd,
                        *d,
                        [keys.row(word), queries.row(pair), &score[columns.clone()]],
                        d_keys.row_mut(word),
                        d_queries.row_mut(pair),
                        d_score,
                    );
                }
            }
        });
        gradients
    }
}

kernel! {
    /// `out_i = score . tanh(keys_i + query)` for each row of keys.
    fn score_words<A>(out: &mut [f32], keys: &[f32], query: &[f32], score: &[f32]) {
        for (out, key) in out.iter_mut().zip(keys.chunks_exact(query.len())) {
            *out = sum_of([key, query, score], |[k, q, v]| v * tanh::<A>(k + q));
        }
    }
}

kernel! {
    /// Add the gradients of one score, `d` times its derivatives, in some columns.
    fn differentiate<A>(d: f32, arguments: [&[f32]; 3], d_key: &mut [f32], d_query: &mut [f32], d_score: &mut [f32]) {
        let n = d_score.len();
        let [key, query, score] = arguments.map(|x| &x[..n]);
        let (d_key, d_query) = (&mut d_key[..n], &mut d_query[..n]);
        for i in 0..n {
            let t = tanh::<A>(key[i] + query[i]);
            let inner = d * score[i] * A::madd(-t, t, 1.0);
            d_key[i] += inner;
            d_query[i] += inner;
            d_score[i] = A::madd(d, t, d_score[i]);
        }
    }
}

impl CustomOp3 for PairScores {
    fn name(&self) -> &'static str {
        "pair-scores"
    }

    fn cpu_fwd(
        &self,
        keys: &CpuStorage,
        keys_layout: &Layout,
        queries: &CpuStorage,
        queries_layout: &Layout,
        score: &CpuStorage,
        score_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let keys = dense(keys, keys_layout)?;
        let queries = dense(queries, queries_layout)?;
        let score = dense(score, score_layout)?;
        let h = self.hidden;
        if queries.len() != self.words.len() * h || score.len() != h {
            candle_core::bail!("pair scores: {queries_layout:?} and {score_layout:?} do not fit {keys_layout:?}");
        }
        if let Some(words) = self.words.iter().find(|words| words.end * h > keys.len()) {
            candle_core::bail!("pair scores: words {words:?} are outside of {keys_layout:?}");
        }
        let scores = self.forward(keys, queries, score);
        let shape = Shape::from(scores.len());
        Ok((CpuStorage::F32(scores), shape))
    }

    fn bwd(
        &self,
        keys: &Tensor,
        queries: &Tensor,
        score: &Tensor,
        _: &Tensor,
        upstream: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let values = |x: &Tensor| x.flatten_all()?.to_vec1::<f32>();
        let arguments = [values(keys)?, values(queries)?, values(score)?, values(upstream)?];
        let [dk, dq, dv] = self.backward(arguments.each_ref().map(Vec::as_slice));
        let like = |values, x: &Tensor| Tensor::from_vec(values, x.shape(), x.device()).map(Some);
        Ok((like(dk, keys)?, like(dq, queries)?, like(dv, score)?))
    }
}

/// The values of an argument of a head's operation.
pub(super) fn dense<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(data), Some((start, end))) => Ok(&data[start..end]),
        _ => candle_core::bail!("an argument is not contiguous f32"),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::ops::cpu::SimdLevel;
    use crate::rng::{Purpose, Stream};

    /// Scores and gradients of keys, queries and score.
    fn run(scores: &dyn Fn([&Tensor; 3]) -> Result<Tensor>, arguments: &[Tensor; 3], dtype: DType) -> [Vec<f64>; 4] {
        let vars = arguments.each_ref().map(|x| Var::from_tensor(&x.to_dtype(dtype).unwrap()).unwrap());
        let out = scores([&vars[0], &vars[1], &vars[2]]).unwrap();
        let weights: Vec<f64> = (0..out.elem_count()).map(|i| (i as f64 * 0.7).sin()).collect();
        let weights = Tensor::new(weights, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        let gradients = (&out * weights).unwrap().sum_all().unwrap().backward().unwrap();
        let of = |var: &Var| gradients.get(var).unwrap().clone();
        [out, of(&vars[0]), of(&vars[1]), of(&vars[2])]
            .map(|x| x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap())
    }

    fn random(rows: usize, columns: usize, index: u32) -> Tensor {
        let mut stream = Stream::new(5, Purpose::Init, index);
        let values: Vec<f64> = (0..rows * columns).map(|_| stream.normal()).collect();
        Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
    }

    #[test]
    fn scores_and_gradients_are_those_of_candle() {
        // Pairs that share words, pairs that do not, and sizes that are no multiple of blocks and vectors.
        let words = [1..6, 1..6, 7..8, 9..21, 9..21, 9..21];
        for hidden in [3, 64, 100] {
            let arguments = [random(22, hidden, 0), random(words.len(), hidden, 1), random(1, hidden, 2)];
            let expected = run(&|[k, q, v]| pair_scores::pair_scores(k, q, v, &words), &arguments, DType::F64);
            for level in SimdLevel::ALL.into_iter().filter(|level| level.is_available()) {
                let simd = Simd::new(level).unwrap();
                let found = run(&|[k, q, v]| scores(simd, k, q, v, &words), &arguments, DType::F32);
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
    fn a_score_does_not_depend_on_other_pairs() {
        let (keys, queries, score) = (random(12, 20, 0), random(3, 20, 1), random(1, 20, 2));
        let [keys, queries, score] = [keys, queries, score].map(|x| x.to_dtype(DType::F32).unwrap());
        let words = [1..5, 6..11, 1..5];
        let of = |queries: &Tensor, words: &[Range<usize>]| {
            scores(Simd::detect(), &keys, queries, &score, words).unwrap().to_vec1::<f32>().unwrap()
        };
        let all = of(&queries, &words);
        assert_eq!(of(&queries.narrow(0, 1, 1).unwrap(), &words[1..2]), all[4..9]);
        assert_eq!(of(&queries.narrow(0, 2, 1).unwrap(), &words[2..]), all[9..]);
    }

    #[test]
    fn arguments_that_do_not_fit_are_refused() {
        let [keys, queries, score] =
            [random(4, 6, 0), random(2, 6, 1), random(1, 6, 2)].map(|x| x.to_dtype(DType::F32).unwrap());
        for words in [&[0..2, 2..5][..], &[0..2, 0..2, 0..2]] {
            assert!(scores(Simd::detect(), &keys, &queries, &score, words).is_err(), "{words:?}");
        }
    }
}
