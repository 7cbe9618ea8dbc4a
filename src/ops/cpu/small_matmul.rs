//! Matrix products of a few dozen rows and columns, as in attention. Their operands are in the
//! nearest caches already; packing them, as a large product does, would cost as much as the
//! product.
//!
//! `out = alpha a b` with up to 8 x 32 results in registers. Written once over a vector type; the
//! intrinsics are needed because the compiler does not reliably keep such a block of results in
//! registers on its own.

use std::ops::Range;

use gemm::Parallelism;

use super::math::LANES;
use super::matmul::{Matrix, MatrixMut, matmul_into};
use super::simd::{Simd, SimdLevel, kernel};

/// `out = alpha a b`. Fast when `out` has whole vectors of columns.
pub fn small_matmul(simd: Simd, out: &mut MatrixMut<'_, f32>, a: Matrix<'_, f32>, b: Matrix<'_, f32>, alpha: f32) {
    let fits = out.columns().is_multiple_of(LANES) && b.column_stride() == 1;
    match simd.level() {
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx512 if fits => {
            x86::check(out, a, b);
            // SAFETY: the features were detected, the sizes fit together.
            unsafe { x86::avx512(out, a, b, alpha) }
        }
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx2 if fits => {
            x86::check(out, a, b);
            // SAFETY: the features were detected, the sizes fit together.
            unsafe { x86::avx2(out, a, b, alpha) }
        }
        SimdLevel::Avx512 | SimdLevel::Avx2 | SimdLevel::Portable => {
            let _ = fits;
            matmul_into(out, a, b, alpha, 0.0, Parallelism::None);
        }
    }
}

/// Prefetch all rows. They start a few kilobytes apart, which the hardware prefetcher does not
/// predict.
pub fn prefetch(x: Matrix<'_, f32>) {
    #[cfg(target_arch = "x86_64")]
    for row in 0..x.rows() {
        for piece in x.row(row).chunks(16) {
            // SAFETY: a hint, which has no effect on memory; SSE is in the baseline.
            unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(piece.as_ptr().cast()) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = x;
}

/// `(rows, columns)` to `(columns, stride)`, with zeros beyond `rows`. `stride` is a multiple of
/// [`LANES`].
pub fn transpose(simd: Simd, x: Matrix<'_, f32>, stride: usize, out: &mut [f32]) {
    assert!(stride.is_multiple_of(LANES), "stride of a transpose");
    transpose_to(simd, x, 0..stride, stride, out);
}

kernel! {
    /// `(rows, columns)` to the columns `to` of `(columns, stride)`, with zeros beyond `rows`.
    pub fn transpose_to<A>(x: Matrix<'_, f32>, to: Range<usize>, stride: usize, out: &mut [f32]) {
        assert!(x.rows() <= to.len() && to.end <= stride, "columns of a transpose");
        let columns = x.columns();
        let out = &mut out[to.start.min(columns * stride)..];
        for first in (0..to.len()).step_by(4) {
            let mut rows: [&[f32]; 4] = [&[]; 4];
            for (row, values) in rows.iter_mut().enumerate() {
                if first + row < x.rows() {
                    *values = x.row(first + row);
                }
            }
            // Four by four is eight shuffles; the last rows and columns go one by one.
            let whole = if first + 4 <= x.rows() { columns / 4 } else { 0 };
            for block in 0..whole {
                let column = 4 * block;
                let (a, b) = (&rows[0][column..column + 4], &rows[1][column..column + 4]);
                let (c, d) = (&rows[2][column..column + 4], &rows[3][column..column + 4]);
                for i in 0..4 {
                    out[(column + i) * stride + first..][..4].copy_from_slice(&[a[i], b[i], c[i], d[i]]);
                }
            }
            for column in 4 * whole..columns {
                for (row, values) in rows.iter().enumerate().take(to.len() - first) {
                    out[column * stride + first + row] = values.get(column).copied().unwrap_or(0.0);
                }
            }
        }
    }
}

/// Columns that [`transpose_far`] takes together: four cache lines of each row.
pub const TOGETHER: usize = 64;

kernel! {
    /// [`transpose`] of at most [`TOGETHER`] columns of a matrix whose rows are far apart, `stride`
    /// = `rows`: each line of the cache is read once, and written once.
    pub fn transpose_far<A>(x: Matrix<'_, f32>, out: &mut [f32]) {
        let (rows, columns) = (x.rows(), x.columns());
        assert!(rows.is_multiple_of(LANES) && columns <= TOGETHER, "rows and columns of a transpose");
        let mut near = [[0.0f32; TOGETHER]; LANES];
        for first in (0..rows).step_by(LANES) {
            for (row, near) in near.iter_mut().enumerate() {
                near[..columns].copy_from_slice(x.row(first + row));
            }
            for column in (0..columns).step_by(4) {
                for four in (0..LANES).step_by(4) {
                    let [a, b, c, d] = [0, 1, 2, 3].map(|row| &near[four + row][column..column + 4]);
                    for i in 0..4.min(columns - column) {
                        let to = (column + i) * rows + first + four;
                        out[to..to + 4].copy_from_slice(&[a[i], b[i], c[i], d[i]]);
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use crate::ops::cpu::matmul::{Matrix, MatrixMut};

    /// One register of floats. The functions need the instruction set of the type.
    trait Vector: Copy {
        const LANES: usize;
        unsafe fn splat(x: f32) -> Self;
        unsafe fn load(from: *const f32) -> Self;
        unsafe fn store(self, to: *mut f32);
        /// `self * b + c`.
        unsafe fn madd(self, b: Self, c: Self) -> Self;
        unsafe fn times(self, b: Self) -> Self;
    }

    macro_rules! vector {
        ($type:ty, $lanes:expr, $splat:ident, $load:ident, $store:ident, $madd:ident, $times:ident) => {
            impl Vector for $type {
                const LANES: usize = $lanes;
                #[inline(always)]
                unsafe fn splat(x: f32) -> Self {
                    // SAFETY: the caller has the instruction set.
                    unsafe { $splat(x) }
                }
                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    // SAFETY: as above, and the caller gives readable memory.
                    unsafe { $load(from) }
                }
                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    // SAFETY: as above, and the caller gives writable memory.
                    unsafe { $store(to, self) }
                }
                #[inline(always)]
                unsafe fn madd(self, b: Self, c: Self) -> Self {
                    // SAFETY: the caller has the instruction set.
                    unsafe { $madd(self, b, c) }
                }
                #[inline(always)]
                unsafe fn times(self, b: Self) -> Self {
                    // SAFETY: the caller has the instruction set.
                    unsafe { $times(self, b) }
                }
            }
        };
    }
    vector!(__m512, 16, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_fmadd_ps, _mm512_mul_ps);
    vector!(__m256, 8, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_fmadd_ps, _mm256_mul_ps);

    /// Refuse sizes that do not fit together.
    pub fn check(out: &MatrixMut<'_, f32>, a: Matrix<'_, f32>, b: Matrix<'_, f32>) {
        assert_eq!((a.rows(), b.columns()), (out.rows(), out.columns()), "sizes of a product and its output");
        assert_eq!((a.columns(), b.column_stride()), (b.rows(), 1), "inner sizes of a product");
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma")]
    pub unsafe fn avx512(out: &mut MatrixMut<'_, f32>, a: Matrix<'_, f32>, b: Matrix<'_, f32>, alpha: f32) {
        // SAFETY: the caller's.
        unsafe {
            let whole = out.columns() / 32 * 32;
            for column in (0..whole).step_by(32) {
                columns::<__m512, 2>(out, a, b, alpha, column);
            }
            if whole < out.columns() {
                columns::<__m512, 1>(out, a, b, alpha, whole);
            }
        }
    }

    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn avx2(out: &mut MatrixMut<'_, f32>, a: Matrix<'_, f32>, b: Matrix<'_, f32>, alpha: f32) {
        for column in (0..out.columns()).step_by(16) {
            // SAFETY: the caller's.
            unsafe { columns::<__m256, 2>(out, a, b, alpha, column) }
        }
    }

    /// `C` vectors of columns from `column` on, all rows.
    #[inline(always)]
    unsafe fn columns<V: Vector, const C: usize>(
        out: &mut MatrixMut<'_, f32>,
        a: Matrix<'_, f32>,
        b: Matrix<'_, f32>,
        alpha: f32,
        column: usize,
    ) {
        // Sixteen registers at AVX2, thirty-two at AVX-512: four or eight rows of two vectors, and room to load.
        let most = if V::LANES == 16 { 8 } else { 4 };
        let mut row = 0;
        while row < out.rows() {
            let left = (out.rows() - row).min(most);
            // SAFETY: the caller's; the rows and columns are inside of `out`.
            let done = unsafe {
                match left {
                    8.. => block::<V, 8, C>(out, a, b, alpha, row, column),
                    4..8 => block::<V, 4, C>(out, a, b, alpha, row, column),
                    2..4 => block::<V, 2, C>(out, a, b, alpha, row, column),
                    _ => block::<V, 1, C>(out, a, b, alpha, row, column),
                }
            };
            row += done;
        }
    }

    /// `R` rows from `row` on, `C` vectors of columns from `column` on. Returns `R`.
    #[inline(always)]
    unsafe fn block<V: Vector, const R: usize, const C: usize>(
        out: &mut MatrixMut<'_, f32>,
        a: Matrix<'_, f32>,
        b: Matrix<'_, f32>,
        alpha: f32,
        row: usize,
        column: usize,
    ) -> usize {
        // SAFETY: `check` saw that the sizes of the three views fit together, and each view was checked against its
        // data when it was made; the block is inside of `out`.
        unsafe {
            let (a_row, a_column, b_row) = (a.row_stride(), a.column_stride(), b.row_stride());
            let a_start = a.start().add(row * a_row);
            let b_start = b.start().add(column);
            let mut sums = [[V::splat(0.0); C]; R];
            for k in 0..a.columns() {
                let from = b_start.add(k * b_row);
                let mut right = [V::splat(0.0); C];
                for c in 0..C {
                    right[c] = V::load(from.add(c * V::LANES));
                }
                let left = a_start.add(k * a_column);
                for r in 0..R {
                    let factor = V::splat(*left.add(r * a_row));
                    for c in 0..C {
                        sums[r][c] = factor.madd(right[c], sums[r][c]);
                    }
                }
            }
            let alpha = V::splat(alpha);
            for (r, sums) in sums.into_iter().enumerate() {
                let to = out.row_mut(row + r)[column..column + C * V::LANES].as_mut_ptr();
                for (c, sum) in sums.into_iter().enumerate() {
                    sum.times(alpha).store(to.add(c * V::LANES));
                }
            }
        }
        R
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposes_with_zeros_beyond() {
        let levels: Vec<Simd> = SimdLevel::ALL.into_iter().filter_map(Simd::new).collect();
        for (simd, (rows, columns, stride)) in levels
            .into_iter()
            .flat_map(|simd| [(1, 1, 16), (5, 7, 16), (16, 32, 16), (33, 12, 48)].map(|size| (simd, size)))
        {
            let x: Vec<f32> = (0..rows * columns).map(|i| i as f32 + 1.0).collect();
            let mut out = vec![77.0; columns * stride];
            transpose(simd, Matrix::new(&x, rows, columns), stride, &mut out);
            for (at, out) in out.iter().enumerate() {
                let (column, row) = (at / stride, at % stride);
                assert_eq!(*out, if row < rows { x[row * columns + column] } else { 0.0 });
            }
        }
    }

    #[test]
    fn transposes_to_some_of_the_columns() {
        for simd in SimdLevel::ALL.into_iter().filter_map(Simd::new) {
            for (rows, columns, to) in [(4, 32, 11..15), (2, 5, 0..3), (7, 6, 9..16), (1, 1, 15..16), (0, 3, 5..6)] {
                let x: Vec<f32> = (0..rows * columns).map(|i| i as f32 + 1.0).collect();
                let mut out = vec![77.0; columns * 16];
                transpose_to(simd, Matrix::new(&x, rows, columns), to.clone(), 16, &mut out);
                for (at, out) in out.iter().enumerate() {
                    let (column, row) = (at / 16, (at % 16).wrapping_sub(to.start));
                    let inside = if row < rows { x[row * columns + column] } else { 0.0 };
                    assert_eq!(*out, if to.contains(&(at % 16)) { inside } else { 77.0 }, "{rows} {columns} {to:?}");
                }
            }
        }
    }

    #[test]
    fn transposes_what_is_far_apart() {
        for simd in SimdLevel::ALL.into_iter().filter_map(Simd::new) {
            for (rows, columns) in [(16, 64), (48, 63), (32, 1), (16, 6)] {
                let x: Vec<f32> = (0..rows * 70).map(|i| i as f32).collect();
                let mut out = vec![77.0; columns * rows];
                transpose_far(simd, Matrix::strided(&x, rows, columns, 70), &mut out);
                for (at, out) in out.iter().enumerate() {
                    assert_eq!(*out, x[at % rows * 70 + at / rows]);
                }
            }
        }
    }

    /// Every block shape, with strides and transposes, against sums of products of small integers,
    /// which are exact.
    #[test]
    fn equals_the_sum_of_products() {
        let value = |i: usize| ((i * 37) % 11) as f32 - 5.0;
        for simd in SimdLevel::ALL.into_iter().filter_map(Simd::new) {
            for rows in (1..20).chain([33]) {
                for (inner, columns) in [(1, 16), (5, 48), (32, 64), (7, 10), (3, 80)] {
                    let (a_stride, b_stride, stride) = (inner.max(rows) + 3, columns + 1, columns + 5);
                    let a: Vec<f32> = (0..a_stride * rows.max(inner)).map(value).collect();
                    let b: Vec<f32> = (0..b_stride * inner).map(|i| value(i + 3)).collect();
                    for transposed in [false, true] {
                        let left = if transposed {
                            Matrix::strided(&a, inner, rows, a_stride).t()
                        } else {
                            Matrix::strided(&a, rows, inner, a_stride)
                        };
                        let right = Matrix::strided(&b, inner, columns, b_stride);
                        let mut out = vec![77.0; stride * rows];
                        small_matmul(simd, &mut MatrixMut::strided(&mut out, rows, columns, stride), left, right, 2.0);
                        for (at, out) in out.iter().enumerate() {
                            let (row, column) = (at / stride, at % stride);
                            let at = |k: usize| if transposed { a[k * a_stride + row] } else { a[row * a_stride + k] };
                            let sum: f32 =
                                (0..inner).map(|k| at(k) * b.get(k * b_stride + column).unwrap_or(&0.0)).sum();
                            let expected = if column < columns { 2.0 * sum } else { 77.0 };
                            assert_eq!(*out, expected, "{simd:?} {rows} {inner} {columns} {transposed}");
                        }
                    }
                }
            }
        }
    }
}
