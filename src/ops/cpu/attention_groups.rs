//! Attention inside groups of tokens: the few columns of a row of scores that belong to its own
//! group. Plain loops, in which the bits of a row depend on its group alone.

use super::math::sum_of;
use super::matmul::{Matrix, MatrixMut};
use super::simd::kernel;

/// Groups that follow each other, and their columns in the rows of scores.
#[derive(Debug, Clone, Copy)]
pub(super) struct Groups {
    /// Tokens of a group.
    pub size: usize,
    /// The column of a group's first token.
    pub column: usize,
    /// Elements between two rows.
    pub stride: usize,
}

kernel! {
    /// Set the columns of each row's group: `scores_ij = scale queries_i keys_j`. `queries` and
    /// `keys` are the rows of whole groups, `(rows, D)`.
    pub(super) fn scores<A>(
        groups: Groups,
        scores: &mut [f32],
        queries: Matrix<'_, f32>,
        keys: Matrix<'_, f32>,
        scale: f32,
    ) {
        for (row, scores) in scores.chunks_exact_mut(groups.stride).enumerate() {
            let first = row / groups.size * groups.size;
            for (member, score) in scores[groups.column..][..groups.size].iter_mut().enumerate() {
                *score = scale * sum_of([queries.row(row), keys.row(first + member)], |[q, k]| q * k);
            }
        }
    }
}

kernel! {
    /// Add the keys of each row's group: `out_i += scale sum_j weights_ij keys_j`.
    pub(super) fn add_keys<A>(
        groups: Groups,
        out: &mut MatrixMut<'_, f32>,
        weights: &[f32],
        keys: Matrix<'_, f32>,
        scale: f32,
    ) {
        for (row, weights) in weights.chunks_exact(groups.stride).enumerate() {
            let first = row / groups.size * groups.size;
            for (member, weight) in weights[groups.column..][..groups.size].iter().enumerate() {
                let weight = scale * weight;
                for (out, key) in out.row_mut(row).iter_mut().zip(keys.row(first + member)) {
                    *out = A::madd(weight, *key, *out);
                }
            }
        }
    }
}

kernel! {
    /// The sum that each key receives from its group, `out_j = scale sum_i weights_ij queries_i`;
    /// 0 for tokens without groups.
    pub(super) fn sums_of_keys<A>(
        groups: Groups,
        out: &mut MatrixMut<'_, f32>,
        weights: &[f32],
        queries: Matrix<'_, f32>,
        scale: f32,
    ) {
        for row in 0..out.rows() {
            let out = out.row_mut(row);
            out.fill(0.0);
            if groups.size == 0 {
                continue;
            }
            let (first, member) = (row / groups.size * groups.size, row % groups.size);
            for query in first..first + groups.size {
                let weight = scale * weights[query * groups.stride + groups.column + member];
                for (out, query) in out.iter_mut().zip(queries.row(query)) {
                    *out = A::madd(weight, *query, *out);
                }
            }
        }
    }
}
