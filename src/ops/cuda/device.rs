//! The interface between the CUDA engine and a device: memory, launches of kernels, matrix
//! products.
//!
//! `Cuda` is written once over this trait. One implementation drives an NVIDIA GPU (cudarc,
//! cublasLt); another runs the same kernel sources on the CPU (`tests/cuda/`), so that the whole
//! engine is tested without a GPU. Addresses are plain `u64` on both, so the arguments of a kernel
//! are the same bytes.
//!
//! A device is one queue (a CUDA stream): everything enqueued through it happens in the order of
//! the calls. Only [`Device::download`], [`Device::wait_for`] and [`Device::synchronize`] wait for
//! the queue. So memory may be dropped or reused while earlier work on it is still in the queue, as
//! long as the implementation frees it in the order of the queue.

use std::ffi::c_void;

use candle_core::Tensor;

use crate::Result;

/// A GPU, whether or not it can be used.
#[derive(Debug, Clone)]
pub struct Gpu {
    /// As the driver names it.
    pub name: String,
    /// Bytes of memory.
    pub memory: usize,
    /// Why it cannot be used, if it cannot.
    pub reason: Option<String>,
}

/// The element type of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// 32-bit floats.
    F32,
    /// bfloat16: the upper half of an f32.
    Bf16,
}

impl Dtype {
    /// Size of one element.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// A dense row-major matrix as an operand of [`Gemm`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operand {
    /// Address of its first element.
    pub address: u64,
    /// Whether the product uses its transpose; the stored matrix then has the two extents
    /// exchanged.
    pub transposed: bool,
}

/// `out = A B (+ onto) (+ bias)`: A is m x k, B is k x n, `out` m x n, all dense and row-major.
///
/// Sums are in f32 whatever the inputs (for f32 inputs: true f32 products, not TF32), and in an
/// order that depends on the shape alone. No extent is 0. Arrays start at multiples of 256, but a
/// matrix may begin at a later row of an array (the steps of the LSTM), so its address may be less
/// aligned. The engine's uses, with T tokens:
///
/// | | m, n, k | A | B | inputs | out |
/// |---|---|---|---|---|---|
/// | `y = x Wᵀ + b` | T, out, in | x | W, transposed | any | as the inputs |
/// | `dx = dy W` | T, in, out | dy | W | any | as the inputs |
/// | `dx = onto + dy W` | T, in, out | dy | W | any | f32 |
/// | `dW = dyᵀ x` | out, in, T | dy, transposed | x | any | f32 |
/// | `z += h W_hhᵀ` (LSTM) | rows, 4H, H | h | W, transposed | any | f32, onto itself |
///
/// In cuBLAS's column-major words: `m' = n`, `n' = m`, `A' = B` with `transa = b.transposed`,
/// `B' = A` with `transb = a.transposed`, leading dimensions the stored row lengths; `bias` runs
/// along `m'`, as its BIAS epilogue does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gemm {
    /// Rows of the output.
    pub m: usize,
    /// Columns of the output.
    pub n: usize,
    /// The extent that the product sums over.
    pub k: usize,
    /// Left operand.
    pub a: Operand,
    /// Right operand.
    pub b: Operand,
    /// Element type of both operands.
    pub inputs: Dtype,
    /// Address of the output. It overlaps neither operand.
    pub out: u64,
    /// Element type of the output, of `onto` and of `bias`; never narrower than needed: f32 inputs
    /// give f32.
    pub output: Dtype,
    /// An m x n matrix that is added. It may be `out` itself.
    pub onto: Option<u64>,
    /// n elements that are added to every row.
    pub bias: Option<u64>,
}

/// How a kernel is launched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// Name of the kernel in `kernels/` (they are `extern "C"`).
    pub kernel: &'static str,
    /// Blocks in x, y, z; none is 0.
    pub grid: [u32; 3],
    /// Threads of a block in x; the others are 1. A multiple of 32.
    pub block: u32,
    /// Bytes of dynamic shared memory of a block. Above 48 KB the device must raise the function's
    /// limit first.
    pub shared: u32,
}

/// An argument of a kernel in the form that `cuLaunchKernel` expects: a pointer to its value.
pub fn argument<T: Copy>(value: &T) -> *mut c_void {
    std::ptr::from_ref(value).cast_mut().cast()
}

/// A queue of work on a device with its own memory.
///
/// The methods that take addresses are `unsafe`: each address must be that of live memory of this
/// device, with room for what is read or written there. The engine computes them from shapes that
/// it has checked.
#[allow(clippy::missing_safety_doc)] // once, above, for all of them
#[allow(clippy::wrong_self_convention)] // `to_candle` and `from_candle` are one pair
pub trait Device: Send + Sync + 'static {
    /// A piece of memory. Dropping it frees it, after everything that is in the queue by then.
    type Memory: Send + Sync;

    /// A copy to the host that is in flight.
    type Readback: Send;

    /// The name of the GPU, for the records of a run.
    fn name(&self) -> String;

    /// Memory of undefined content that starts at a multiple of 256; `bytes` is not 0.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) that names the remedies when the memory is
    /// exhausted.
    fn allocate(&self, bytes: usize) -> Result<Self::Memory>;

    /// Address of its first byte.
    fn address(&self, memory: &Self::Memory) -> u64;

    /// Copy from the host. `values` may change as soon as this returns (so it is staged, or copied
    /// concurrently).
    ///
    /// # Errors
    /// When the device fails.
    unsafe fn upload(&self, values: &[u8], to: u64) -> Result<()>;

    /// Copy to the host, after everything in the queue: waits for it.
    ///
    /// # Errors
    /// When the device fails, also in work that was enqueued earlier.
    unsafe fn download(&self, from: u64, values: &mut [u8]) -> Result<()>;

    /// Enqueue a copy to the host; [`Device::wait_for`] waits for it. `from` may be freed
    /// meanwhile.
    ///
    /// # Errors
    /// When the device fails.
    unsafe fn download_async(&self, from: u64, bytes: usize) -> Result<Self::Readback>;

    /// Wait for a copy and return its bytes. Work that was enqueued after the copy is not waited
    /// for.
    ///
    /// # Errors
    /// When the device fails, also in work that was enqueued earlier.
    fn wait_for(&self, readback: Self::Readback) -> Result<Vec<u8>>;

    /// Copy on the device; the two do not overlap.
    ///
    /// # Errors
    /// When the device fails.
    unsafe fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()>;

    /// Fill with bytes of 0.
    ///
    /// # Errors
    /// When the device fails.
    unsafe fn zero(&self, to: u64, bytes: usize) -> Result<()>;

    /// Launch a kernel. `arguments` point to values of exactly the kernel's parameter types, see
    /// [`argument`].
    ///
    /// # Errors
    /// When there is no such kernel, or the device refuses the launch.
    unsafe fn launch(&self, launch: &Launch, arguments: &mut [*mut c_void]) -> Result<()>;

    /// A matrix product. Returns whether the bias was added: where the device cannot add it in the
    /// same pass, the engine does.
    ///
    /// # Errors
    /// When the device has no algorithm for it.
    unsafe fn gemm(&self, gemm: &Gemm) -> Result<bool>;

    /// The candle device that [`Device::to_candle`] makes tensors on; work on its tensors runs in
    /// this queue.
    fn candle(&self) -> candle_core::Device;

    /// A tensor of f32 on [`Device::candle`] with a copy of the dense array at `from`.
    ///
    /// # Errors
    /// When the device fails.
    unsafe fn to_candle(&self, from: u64, shape: &[usize]) -> Result<Tensor>;

    /// Copy a tensor's values to `to` in row-major order. The tensor is contiguous, of f32, on
    /// [`Device::candle`], and not empty; it may be dropped as soon as this returns.
    ///
    /// # Errors
    /// When the device fails.
    unsafe fn from_candle(&self, tensor: &Tensor, to: u64) -> Result<()>;

    /// Wait for everything in the queue.
    ///
    /// # Errors
    /// When any of the work failed.
    fn synchronize(&self) -> Result<()>;
}
