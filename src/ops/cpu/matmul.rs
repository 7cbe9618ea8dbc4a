//! Matrix products on the CPU: a safe, bounds-checked interface to the `gemm` crate.

use std::marker::PhantomData;

use gemm::Parallelism;

/// A read-only view of a strided matrix.
#[derive(Clone, Copy)]
pub struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// A row-major matrix whose rows start `stride` elements apart.
    pub fn strided(data: &'a [T], rows: usize, columns: usize, stride: usize) -> Self {
        if rows > 0 && columns > 0 {
            assert!(columns <= stride && (rows - 1) * stride + columns <= data.len(), "matrix outside of its data");
        }
        Self { data, rows, columns, row_stride: stride, column_stride: 1 }
    }

    /// A dense row-major matrix.
    pub fn new(data: &'a [T], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// Number of rows.
    pub fn rows(self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(self) -> usize {
        self.columns
    }

    /// Elements from a row to the next.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn row_stride(self) -> usize {
        self.row_stride
    }

    /// Elements from a column to the next.
    pub(crate) fn column_stride(self) -> usize {
        self.column_stride
    }

    /// The first element; every element of the view lies inside the data that it was made from.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn start(self) -> *const T {
        self.data.as_ptr()
    }

    /// A row of a matrix that is not transposed.
    pub fn row(self, row: usize) -> &'a [T] {
        assert!(row < self.rows && self.column_stride == 1, "row {row} of {}", self.rows);
        &self.data[row * self.row_stride..row * self.row_stride + self.columns]
    }

    /// Some of the rows, counted in this view.
    pub fn some_rows(self, rows: std::ops::Range<usize>) -> Self {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        let from = (rows.start * self.row_stride).min(self.data.len());
        Self { data: &self.data[from..], rows: rows.len(), ..self }
    }

    /// The transpose, without moving anything.
    pub fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// Threads for one product: those of the rayon pool that runs the caller.
pub fn all_threads() -> Parallelism {
    match rayon::current_num_threads() {
        0 | 1 => Parallelism::None,
        threads => Parallelism::Rayon(threads),
    }
}

/// A writable view of a row-major matrix whose rows start `stride` elements apart.
///
/// Column blocks of one matrix interleave in memory, so they cannot be `&mut` slices; this type
/// lends them out without overlap, which lets the heads of an attention write side by side.
pub struct MatrixMut<'a, T> {
    data: *mut T,
    rows: usize,
    columns: usize,
    stride: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: a `MatrixMut` is the only way to its elements for its lifetime, like a `&mut [T]`.
unsafe impl<T: Send> Send for MatrixMut<'_, T> {}

impl<'a, T> MatrixMut<'a, T> {
    /// A row-major matrix whose rows start `stride` elements apart.
    pub fn strided(data: &'a mut [T], rows: usize, columns: usize, stride: usize) -> Self {
        if rows > 0 && columns > 0 {
            assert!(columns <= stride && (rows - 1) * stride + columns <= data.len(), "matrix outside of its data");
        }
        Self { data: data.as_mut_ptr(), rows, columns, stride, lifetime: PhantomData }
    }

    /// A dense row-major matrix.
    pub fn new(data: &'a mut [T], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// Adjacent blocks of `width` columns; the last one has the rest.
    pub fn split_columns(self, width: usize) -> impl Iterator<Item = MatrixMut<'a, T>> {
        let Self { data, rows, columns, stride, .. } = self;
        (0..columns).step_by(width.max(1)).map(move |first| {
            // SAFETY: `first < columns`, so the start is inside of the matrix. The blocks share no element, and `self`
            // is consumed: each element stays reachable through one view only.
            let data = unsafe { data.add(first) };
            MatrixMut { data, rows, columns: width.min(columns - first), stride, lifetime: PhantomData }
        })
    }

    /// Consecutive pieces of `height` rows; the last one has the rest.
    pub fn split_rows(self, height: usize) -> impl Iterator<Item = MatrixMut<'a, T>> {
        let Self { data, rows, columns, stride, .. } = self;
        (0..rows).step_by(height.max(1)).map(move |first| {
            // SAFETY: `first < rows`, so the start is inside of the matrix; as for columns, the pieces share no element.
            let data = unsafe { data.add(first * stride) };
            MatrixMut { data, rows: height.min(rows - first), columns, stride, lifetime: PhantomData }
        })
    }

    /// The first element; every element of the view lies inside the data that it was made from.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn start_mut(&mut self) -> *mut T {
        self.data
    }

    /// Elements from a row to the next.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Some of the rows, for as long as they are borrowed.
    pub fn some_rows(&mut self, rows: std::ops::Range<usize>) -> MatrixMut<'_, T> {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        let data = if rows.is_empty() {
            self.data
        } else {
            // SAFETY: the first of the rows is inside of the matrix.
            unsafe { self.data.add(rows.start * self.stride) }
        };
        MatrixMut { data, rows: rows.len(), columns: self.columns, stride: self.stride, lifetime: PhantomData }
    }

    /// A row.
    pub fn row_mut(&mut self, row: usize) -> &mut [T] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: the row was inside of the data when the view was made, and no other view has its elements.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(row * self.stride), self.columns) }
    }
}

/// `out = alpha a b + beta out`, `out` row-major with rows `stride` apart. `beta` 0 never reads
/// `out`.
pub fn matmul<T: Float>(
    out: &mut [T],
    stride: usize,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    alpha: T,
    beta: T,
    parallelism: Parallelism,
) {
    matmul_into(&mut MatrixMut::strided(out, a.rows, b.columns, stride), a, b, alpha, beta, parallelism);
}

/// `out = alpha a b + beta out`. `beta` 0 never reads `out`.
pub fn matmul_into<T: Float>(
    out: &mut MatrixMut<'_, T>,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    alpha: T,
    beta: T,
    parallelism: Parallelism,
) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert_eq!(k, b.rows, "inner sizes of a product");
    assert_eq!((m, n), (out.rows, out.columns), "sizes of a product and its output");
    if m == 0 || n == 0 {
        return;
    }
    // SAFETY: the three views were checked against their slices when they were made; `out` is the only view of its
    // elements, so it cannot overlap the inputs.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.data,
            1,
            out.stride as isize,
            beta != T::ZERO,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            // gemm's names are swapped against BLAS: its `alpha` scales `dst`, its `beta` the product.
            beta,
            alpha,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// The element types of matrix products on the CPU.
pub trait Float: Copy + Send + Sync + PartialEq + PartialOrd + std::fmt::Debug + 'static {
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// From an f64, rounded.
    fn from_f64(x: f64) -> Self;
    /// `1 / (1 + exp(-x))`.
    fn sigmoid(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// `self * a + b`.
    fn multiply_add(self, a: Self, b: Self) -> Self;
    /// `self - a`.
    fn minus(self, a: Self) -> Self;
    /// `self * a`.
    fn times(self, a: Self) -> Self;
}

macro_rules! element {
    ($t:ty) => {
        impl Float for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            fn from_f64(x: f64) -> Self {
                x as Self
            }
            fn sigmoid(self) -> Self {
                1.0 / (1.0 + (-self).exp())
            }
            fn tanh(self) -> Self {
                <$t>::tanh(self)
            }
            fn multiply_add(self, a: Self, b: Self) -> Self {
                self * a + b
            }
            fn minus(self, a: Self) -> Self {
                self - a
            }
            fn times(self, a: Self) -> Self {
                self * a
            }
        }
    };
}
element!(f32);
element!(f64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn product_with_strides_transposes_and_beta() {
        // a = [[1, 2], [3, 4], [5, 6]] in rows of 3; b = [[1, 0, 2], [0, 1, 3]].
        let a = [1.0f32, 2.0, 9.0, 3.0, 4.0, 9.0, 5.0, 6.0];
        let b = [1.0f32, 0.0, 2.0, 0.0, 1.0, 3.0];
        let a = Matrix::strided(&a, 3, 2, 3);
        let b = Matrix::new(&b, 2, 3);
        let mut out = [f32::NAN; 9];
        matmul(&mut out, 3, a, b, 1.0, 0.0, Parallelism::None);
        assert_eq!(out, [1.0, 2.0, 8.0, 3.0, 4.0, 18.0, 5.0, 6.0, 28.0]);
        let mut out = [1.0f32; 9];
        matmul(&mut out, 3, b.t(), a.t(), 2.0, 10.0, Parallelism::None);
        assert_eq!(out, [12.0, 16.0, 20.0, 14.0, 18.0, 22.0, 26.0, 46.0, 66.0]);
    }

    #[test]
    fn column_blocks_are_written_side_by_side() {
        let a = [1.0f32, 2.0];
        let b = [1.0f32, 10.0, 100.0];
        let mut out = [0.0f32; 10]; // two rows of 5
        for (index, mut block) in MatrixMut::strided(&mut out, 2, 5, 5).split_columns(2).enumerate() {
            let b = Matrix::new(&b[..block.columns], 1, block.columns);
            matmul_into(&mut block, Matrix::new(&a, 2, 1), b, 1.0, 0.0, Parallelism::None);
            block.row_mut(1)[0] += index as f32;
        }
        assert_eq!(out, [1.0, 10.0, 1.0, 10.0, 1.0, 2.0, 20.0, 3.0, 20.0, 4.0]);
    }
}
