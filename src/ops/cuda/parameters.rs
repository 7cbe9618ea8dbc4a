//! Parameters of kernels: the two forms of an array, plain values as bytes, the size of a grid.

use crate::Result;
use crate::ops::shapes::internal_error;

/// `In` and `Out` of the kernels: addresses of the two forms of an array, 0 for a form that does
/// not exist.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Form {
    pub f32: u64,
    pub bf16: u64,
}

impl Form {
    pub(super) const NONE: Self = Self { f32: 0, bf16: 0 };
}

/// Which forms of an array a kernel writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forms {
    F32,
    Bf16,
    Both,
}

/// The variant of a kernel, and how many elements it processes at a time: four where the width
/// allows it.
pub(super) fn by_width(width: usize, [four, one]: [&'static str; 2]) -> (&'static str, usize) {
    if width.is_multiple_of(4) { (four, 4) } else { (one, 1) }
}

/// Number of blocks that cover `n` items, `each` per block.
pub(super) fn blocks(n: usize, each: usize) -> u32 {
    n.div_ceil(each) as u32
}

/// Types without padding for which any bytes are a value.
///
/// # Safety
/// As the first line says.
pub(super) unsafe trait Plain: Copy + Default {}
// SAFETY: numbers.
unsafe impl Plain for u32 {}
// SAFETY: numbers.
unsafe impl Plain for i32 {}
// SAFETY: numbers.
unsafe impl Plain for f32 {}
// SAFETY: numbers.
unsafe impl Plain for f64 {}

/// The bytes of plain values.
pub(super) fn bytes_of<T: Plain>(values: &[T]) -> &[u8] {
    // SAFETY: the slice covers exactly `values`, which have no padding.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), std::mem::size_of_val(values)) }
}

/// The bytes of plain values, writable.
pub(super) fn bytes_of_mut<T: Plain>(values: &mut [T]) -> &mut [u8] {
    // SAFETY: the slice covers exactly `values`, and any bytes are a value of a plain type.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast::<u8>(), std::mem::size_of_val(values)) }
}

/// Indices for a kernel.
pub(super) fn narrow(indices: impl IntoIterator<Item = usize>) -> Result<Vec<u32>> {
    let narrow = |index| u32::try_from(index).map_err(|_| internal_error(format!("row {index} is out of range")));
    indices.into_iter().map(narrow).collect()
}
