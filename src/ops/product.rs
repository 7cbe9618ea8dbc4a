//! Matrix products on the CPU through the `gemm` crate, behind a safe, bounds-checked door.

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

/// `out = alpha a b + beta out`, `out` row-major with rows `stride` apart. `beta` 0 never reads `out`.
pub fn multiply<T: Element>(
    out: &mut [T],
    stride: usize,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    alpha: T,
    beta: T,
    parallelism: Parallelism,
) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert_eq!(k, b.rows, "inner sizes of a product");
    if m == 0 || n == 0 {
        return;
    }
    assert!(n <= stride && (m - 1) * stride + n <= out.len(), "product outside of its output");
    // SAFETY: the views were checked against their slices when they were made and `out` just now; `out` is borrowed
    // mutably, so it cannot overlap the inputs.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride as isize,
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

/// The two element types of the CPU engines.
pub trait Element: Copy + Send + Sync + PartialEq + PartialOrd + std::fmt::Debug + 'static {
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
        impl Element for $t {
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
        multiply(&mut out, 3, a, b, 1.0, 0.0, Parallelism::None);
        assert_eq!(out, [1.0, 2.0, 8.0, 3.0, 4.0, 18.0, 5.0, 6.0, 28.0]);
        let mut out = [1.0f32; 9];
        multiply(&mut out, 3, b.t(), a.t(), 2.0, 10.0, Parallelism::None);
        assert_eq!(out, [12.0, 16.0, 20.0, 14.0, 18.0, 22.0, 26.0, 46.0, 66.0]);
    }
}
