//! Matrix products by cuBLASLt, planned once for each shape.
//!
//! cuBLASLt rather than candle's or cudarc's safe wrapper: it takes bf16 in and f32 out, adds a
//! bias in the same pass, keeps true f32 (no TF32), and its plan can be kept: asking for one costs
//! more than enqueueing a small product.

use std::collections::HashMap;
use std::ffi::c_void;

use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;

use super::super::device::{Dtype, Gemm};
use super::driver;
use crate::Result;

/// The result of a call of cuBLASLt.
type Answer<T> = std::result::Result<T, CublasError>;

/// Most plans that are kept. A step needs about ten, and other ones for another number of tokens.
const PLANS: usize = 4096;

/// The properties of a product that its plan depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    extents: [usize; 3],
    transposed: [bool; 2],
    elements: [Dtype; 2],
    bias: bool,
    onto: bool,
    /// Bytes that divide the addresses of A, B, `onto` and the output, as cuBLASLt names them.
    alignment: [u32; 4],
}

impl Key {
    fn new(gemm: &Gemm) -> Self {
        // The largest power of two that divides an address; cuBLASLt cares up to 256.
        let alignment = |address: u64| 1 << address.trailing_zeros().min(8);
        let addresses = [gemm.b.address, gemm.a.address, gemm.onto.unwrap_or(gemm.out), gemm.out];
        Self {
            extents: [gemm.m, gemm.n, gemm.k],
            transposed: [gemm.a.transposed, gemm.b.transposed],
            elements: [gemm.inputs, gemm.output],
            bias: gemm.bias.is_some(),
            onto: gemm.onto.is_some(),
            alignment: addresses.map(alignment),
        }
    }
}

/// Handles and plans of one stream.
pub(super) struct CublasLt {
    handle: sys::cublasLtHandle_t,
    workspace: (u64, usize),
    plans: HashMap<Key, Plan>,
}
// SAFETY: handles that any thread may use, one at a time (it is kept behind a lock).
unsafe impl Send for CublasLt {}

impl CublasLt {
    /// Use `bytes` of scratch memory at `address`, which outlives them.
    pub(super) fn new(device: &str, address: u64, bytes: usize) -> Result<Self> {
        let handle = result::create_handle().map_err(|e| driver::failure(device, "starting cuBLASLt", e))?;
        Ok(Self { handle, workspace: (address, bytes), plans: HashMap::new() })
    }

    /// Enqueue a product.
    ///
    /// # Safety
    /// As [`Device::gemm`](super::super::Device::gemm); the stream must be the one that the
    /// workspace belongs to, and its context current.
    pub(super) unsafe fn enqueue(
        &mut self,
        device: &str,
        gemm: &Gemm,
        stream: cudarc::driver::sys::CUstream,
    ) -> Result<()> {
        let Gemm { m, n, k, .. } = *gemm;
        let failed = |e: CublasError| driver::failure(device, &format!("the product of {m} x {k} and {k} x {n}"), e);
        let key = Key::new(gemm);
        if !self.plans.contains_key(&key) {
            if self.plans.len() >= PLANS {
                self.plans.clear();
            }
            let plan = Plan::new(self.handle, &key, gemm.bias, self.workspace.1).map_err(failed)?;
            self.plans.insert(key, plan);
        }
        let Some(plan) = self.plans.get(&key) else { unreachable!("it was just inserted") };
        let (one, beta) = (1.0_f32, if gemm.onto.is_some() { 1.0_f32 } else { 0.0 });
        // SAFETY: the plan's descriptors are alive; the addresses are the caller's. The scalars are read before this
        // returns (their pointer mode is the host's), and so is the descriptor with the address of the bias.
        unsafe {
            if let Some(bias) = gemm.bias {
                plan.describe(sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)
                    .map_err(failed)?;
            }
            let [a, b, c, d] = plan.layouts;
            result::matmul(
                self.handle,
                plan.product,
                (&raw const one).cast(),
                (&raw const beta).cast(),
                gemm.b.address as *const c_void,
                a,
                gemm.a.address as *const c_void,
                b,
                gemm.onto.unwrap_or(gemm.out) as *const c_void,
                c,
                gemm.out as *mut c_void,
                d,
                &raw const plan.algorithm,
                self.workspace.0 as *mut c_void,
                self.workspace.1,
                stream.cast(),
            )
            .map_err(failed)
        }
    }
}

impl Drop for CublasLt {
    fn drop(&mut self) {
        self.plans.clear();
        // SAFETY: created once, destroyed once.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

/// A product's descriptors and the algorithm that cuBLASLt chose for them.
struct Plan {
    product: sys::cublasLtMatmulDesc_t,
    /// The layouts of cuBLASLt's A, B, C and D: our B, our A, `onto` and the output.
    layouts: [sys::cublasLtMatrixLayout_t; 4],
    algorithm: sys::cublasLtMatmulAlgo_t,
}

impl Plan {
    /// `bias` is that of the first product: cuBLASLt looks whether there is one.
    fn new(handle: sys::cublasLtHandle_t, key: &Key, bias: Option<u64>, workspace: usize) -> Answer<Self> {
        use sys::cublasLtMatmulDescAttributes_t as Describe;
        use sys::cublasLtMatmulPreferenceAttributes_t as Prefer;
        let Key { extents: [m, n, k], transposed: [a_transposed, b_transposed], elements, .. } = *key;
        let [inputs, output] = elements.map(|element| match element {
            Dtype::F32 => sys::cudaDataType_t::CUDA_R_32F,
            Dtype::Bf16 => sys::cudaDataType_t::CUDA_R_16BF,
        });
        // Dense and row-major, `rows` x `columns`, is column-major and `columns` x `rows`.
        let layout = |element, rows: usize, columns: usize| {
            result::create_matrix_layout(element, columns as u64, rows as u64, columns as i64)
        };
        let stored = |rows, columns, transposed| if transposed { (columns, rows) } else { (rows, columns) };
        let (a, b) = (stored(m, k, a_transposed), stored(k, n, b_transposed));
        // f32 inputs: products and sums in f32, no TF32.
        let compute = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let mut plan = Self {
            product: result::create_matmul_desc(compute, sys::cudaDataType_t::CUDA_R_32F)?,
            layouts: [std::ptr::null_mut(); 4],
            algorithm: sys::cublasLtMatmulAlgo_t { data: [0; 8] },
        };
        // Filled one by one: if one fails, the plan is dropped with those before it.
        plan.layouts[0] = layout(inputs, b.0, b.1)?;
        plan.layouts[1] = layout(inputs, a.0, a.1)?;
        plan.layouts[2] = layout(output, m, n)?;
        plan.layouts[3] = layout(output, m, n)?;
        let operation = |transposed| match transposed {
            true => cudarc::cublas::sys::cublasOperation_t::CUBLAS_OP_T,
            false => cudarc::cublas::sys::cublasOperation_t::CUBLAS_OP_N,
        };
        let epilogue = match key.bias {
            true => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS,
            false => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_DEFAULT,
        };
        // SAFETY: the descriptors are alive; each value has its attribute's type (cublasLt.h).
        unsafe {
            plan.describe(Describe::CUBLASLT_MATMUL_DESC_TRANSA, &operation(b_transposed))?;
            plan.describe(Describe::CUBLASLT_MATMUL_DESC_TRANSB, &operation(a_transposed))?;
            plan.describe(Describe::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue)?;
            if let Some(bias) = bias {
                plan.describe(Describe::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)?;
            }
            let preference = Preference(result::create_matmul_pref()?);
            preference.set(Prefer::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace)?;
            // Parts of a sum over k that was split are added in f32, in a fixed order; never in bf16, never in place.
            let reduction = sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
            preference.set(Prefer::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reduction)?;
            let [a, b, c, d] = key.alignment;
            preference.set(Prefer::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &a)?;
            preference.set(Prefer::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &b)?;
            preference.set(Prefer::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &c)?;
            preference.set(Prefer::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &d)?;
            let [a, b, c, d] = plan.layouts;
            plan.algorithm = result::get_matmul_algo_heuristic(handle, plan.product, a, b, c, d, preference.0)?.algo;
        }
        Ok(plan)
    }

    /// # Safety
    /// `T` must be the attribute's type.
    unsafe fn describe<T>(&self, what: sys::cublasLtMatmulDescAttributes_t, value: &T) -> Answer<()> {
        // SAFETY: the descriptor is alive; the type is the caller's.
        unsafe {
            result::set_matmul_desc_attribute(self.product, what, std::ptr::from_ref(value).cast(), size_of::<T>())
        }
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: created in `new` and destroyed once. What was enqueued with them does not need them any more.
        unsafe {
            let _ = result::destroy_matmul_desc(self.product);
            for layout in self.layouts.into_iter().filter(|layout| !layout.is_null()) {
                let _ = result::destroy_matrix_layout(layout);
            }
        }
    }
}

struct Preference(sys::cublasLtMatmulPreference_t);

impl Preference {
    /// # Safety
    /// `T` must be the attribute's type.
    unsafe fn set<T>(&self, what: sys::cublasLtMatmulPreferenceAttributes_t, value: &T) -> Answer<()> {
        // SAFETY: the preference is alive; the type is the caller's.
        unsafe { result::set_matmul_pref_attribute(self.0, what, std::ptr::from_ref(value).cast(), size_of::<T>()) }
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: created once, destroyed once.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}
