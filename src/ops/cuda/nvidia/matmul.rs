//! Matrix products by cuBLASLt, planned once for each shape, and by cuBLAS where it has no
//! algorithm.
//!
//! cuBLASLt rather than candle's or cudarc's safe wrapper: it takes bf16 in and f32 out, adds a
//! bias in the same pass, keeps true f32 (no TF32), and its plan can be kept: asking for one costs
//! more than enqueueing a small product. Which algorithm, and what follows where there is none, is
//! decided in `products.rs`.

use std::collections::HashMap;
use std::ffi::c_void;

use cudarc::cublas::sys as cublas;
use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;
use cudarc::driver::sys::CUstream;

use super::super::device::{Dtype, Gemm};
use super::super::products::{Method, Planner, Product, decide};
use super::driver;
use crate::Result;

/// The result of a call of cuBLASLt.
type Answer<T> = std::result::Result<T, CublasError>;

/// Most plans, and most algorithms, that are kept. A step needs about ten plans, and other ones for
/// another number of tokens.
const PLANS: usize = 4096;

/// `None` for answers that say that there is no algorithm. cuBLASLt also calls a combination that it
/// does not know an invalid value.
fn supported<T>(answer: Answer<T>) -> Answer<Option<T>> {
    use sys::cublasStatus_t::{CUBLAS_STATUS_ARCH_MISMATCH, CUBLAS_STATUS_INVALID_VALUE, CUBLAS_STATUS_NOT_SUPPORTED};
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(CublasError(CUBLAS_STATUS_NOT_SUPPORTED | CUBLAS_STATUS_INVALID_VALUE | CUBLAS_STATUS_ARCH_MISMATCH)) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn data_type(element: Dtype) -> sys::cudaDataType_t {
    match element {
        Dtype::F32 => sys::cudaDataType_t::CUDA_R_32F,
        Dtype::Bf16 => sys::cudaDataType_t::CUDA_R_16BF,
    }
}

fn operation(transposed: bool) -> cublas::cublasOperation_t {
    match transposed {
        true => cublas::cublasOperation_t::CUBLAS_OP_T,
        false => cublas::cublasOperation_t::CUBLAS_OP_N,
    }
}

/// Rows and columns of the stored A and B.
fn stored(product: &Product) -> [(usize, usize); 2] {
    let [m, n, k] = product.extents;
    let of = |rows, columns, transposed| if transposed { (columns, rows) } else { (rows, columns) };
    let [a, b] = product.transposed;
    [of(m, k, a), of(k, n, b)]
}

/// Handles and plans of one stream.
pub(super) struct CublasLt {
    handle: sys::cublasLtHandle_t,
    workspace: (u64, usize),
    /// What cuBLASLt chose, for products with rounded numbers of tokens and for others that were
    /// asked about.
    algorithms: HashMap<Product, Option<sys::cublasLtMatmulAlgo_t>>,
    plans: HashMap<Product, Plan>,
}
// SAFETY: handles that any thread may use, one at a time (it is kept behind a lock).
unsafe impl Send for CublasLt {}

/// How a product is computed, with what cuBLASLt needs for it.
enum Plan {
    Planned { description: Description, algorithm: sys::cublasLtMatmulAlgo_t, bias: bool },
    Unplanned,
}

impl CublasLt {
    /// Use `bytes` of scratch memory at `address`, which outlives them.
    pub(super) fn new(device: &str, address: u64, bytes: usize) -> Result<Self> {
        let handle = result::create_handle().map_err(|e| driver::failure(device, "starting cuBLASLt", e))?;
        Ok(Self { handle, workspace: (address, bytes), algorithms: HashMap::new(), plans: HashMap::new() })
    }

    /// Enqueue a product. Returns whether its bias was added. `cublas` computes what cuBLASLt cannot;
    /// it has the same stream and workspace.
    ///
    /// # Safety
    /// As [`Device::gemm`](super::super::Device::gemm); the stream must be the one that the
    /// workspace belongs to, and its context current.
    pub(super) unsafe fn enqueue(
        &mut self,
        device: &str,
        gemm: &Gemm,
        stream: CUstream,
        cublas: cublas::cublasHandle_t,
    ) -> Result<bool> {
        let Gemm { m, n, k, .. } = *gemm;
        let failed = |e: CublasError| driver::failure(device, &format!("the product of {m} x {k} and {k} x {n}"), e);
        let product = Product::new(gemm);
        if !self.plans.contains_key(&product) {
            let plan = self.plan(&product).map_err(failed)?;
            self.plans.insert(product, plan);
        }
        if let Some(Plan::Planned { description, algorithm, bias }) = self.plans.get(&product) {
            // SAFETY: the caller's.
            let answer = unsafe { self.planned(gemm, description, algorithm, *bias, stream) };
            if supported(answer).map_err(failed)?.is_some() {
                return Ok(*bias);
            }
            // Planned, and refused all the same: not tried again.
            self.plans.insert(product, Plan::Unplanned);
        }
        // SAFETY: the caller's.
        unsafe { unplanned(gemm, &product, stream, cublas) }.map_err(|e| driver::failure(device, "cuBLAS", e))?;
        Ok(false)
    }

    fn plan(&mut self, product: &Product) -> Answer<Plan> {
        if self.plans.len() >= PLANS || self.algorithms.len() >= PLANS {
            self.plans.clear();
            self.algorithms.clear();
        }
        Ok(match decide(self, product)? {
            Method::Whole(algorithm) => {
                Plan::Planned { description: Description::new(product)?, algorithm, bias: product.bias }
            }
            Method::WithoutBias(algorithm) => {
                let description = Description::new(&Product { bias: false, ..*product })?;
                Plan::Planned { description, algorithm, bias: false }
            }
            Method::Unplanned => Plan::Unplanned,
        })
    }

    /// # Safety
    /// As [`CublasLt::enqueue`], with the description of this product.
    unsafe fn planned(
        &self,
        gemm: &Gemm,
        description: &Description,
        algorithm: &sys::cublasLtMatmulAlgo_t,
        bias: bool,
        stream: CUstream,
    ) -> Answer<()> {
        let (one, beta) = (1.0_f32, if gemm.onto.is_some() { 1.0_f32 } else { 0.0 });
        // SAFETY: the descriptors are alive; the addresses are the caller's. The scalars are read before this
        // returns (their pointer mode is the host's), and so is the descriptor with the address of the bias.
        unsafe {
            if let Some(address) = gemm.bias.filter(|_| bias) {
                description
                    .describe(sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &address)?;
            }
            let [a, b, c, d] = description.layouts;
            result::matmul(
                self.handle,
                description.product,
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
                algorithm,
                self.workspace.0 as *mut c_void,
                self.workspace.1,
                stream.cast(),
            )
        }
    }
}

/// # Safety
/// As [`CublasLt::enqueue`].
unsafe fn unplanned(
    gemm: &Gemm,
    product: &Product,
    stream: CUstream,
    cublas: cublas::cublasHandle_t,
) -> std::result::Result<(), String> {
    let Gemm { m, n, k, a, b, inputs, out, output, onto, .. } = *gemm;
    let beta = if onto.is_some() { 1.0_f32 } else { 0.0 };
    if let Some(onto) = onto.filter(|onto| *onto != out) {
        // SAFETY: the caller's; the two do not overlap.
        unsafe { cudarc::driver::result::memcpy_dtod_async(out, onto, m * n * output.bytes(), stream) }
            .map_err(|error| error.to_string())?;
    }
    let [(_, a_row), (_, b_row)] = stored(product);
    let narrow = |extent: usize| i32::try_from(extent).map_err(|_| format!("an extent of {extent} is too large"));
    let data_type = |element| match element {
        Dtype::F32 => cublas::cudaDataType_t::CUDA_R_32F,
        Dtype::Bf16 => cublas::cudaDataType_t::CUDA_R_16BF,
    };
    let one = 1.0_f32;
    // SAFETY: the caller's; row-major matrices are their column-major transposes, and the scalars are on the host.
    unsafe {
        cudarc::cublas::result::gemm_ex(
            cublas,
            operation(b.transposed),
            operation(a.transposed),
            narrow(n)?,
            narrow(m)?,
            narrow(k)?,
            (&raw const one).cast(),
            b.address as *const c_void,
            data_type(inputs),
            narrow(b_row)?,
            a.address as *const c_void,
            data_type(inputs),
            narrow(a_row)?,
            (&raw const beta).cast(),
            out as *mut c_void,
            data_type(output),
            narrow(n)?,
            // f32 inputs: products and sums in f32, no TF32.
            cublas::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            cublas::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
        )
    }
    .map_err(|error| format!("the product of {m} x {k} and {k} x {n}: {error}"))
}

impl Planner for CublasLt {
    type Algorithm = sys::cublasLtMatmulAlgo_t;
    type Error = CublasError;

    fn choose(&mut self, product: &Product) -> Answer<Option<Self::Algorithm>> {
        if let Some(known) = self.algorithms.get(product) {
            return Ok(*known);
        }
        let chosen =
            supported(Description::new(product).and_then(|of| of.choose(self.handle, product, self.workspace)))?;
        self.algorithms.insert(*product, chosen);
        Ok(chosen)
    }

    fn check(&mut self, product: &Product, algorithm: &Self::Algorithm) -> Answer<bool> {
        let checked = supported(Description::new(product).and_then(|of| of.check(self.handle, algorithm)))?;
        Ok(checked.is_some_and(|workspace| workspace <= self.workspace.1))
    }
}

impl Drop for CublasLt {
    fn drop(&mut self) {
        self.plans.clear();
        // SAFETY: created once, destroyed once.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

/// A product in cuBLASLt's words.
struct Description {
    product: sys::cublasLtMatmulDesc_t,
    /// The layouts of cuBLASLt's A, B, C and D: our B, our A, `onto` and the output.
    layouts: [sys::cublasLtMatrixLayout_t; 4],
}

impl Description {
    fn new(product: &Product) -> Answer<Self> {
        use sys::cublasLtMatmulDescAttributes_t as Describe;
        let Product { extents: [m, n, _], transposed: [a_transposed, b_transposed], elements, .. } = *product;
        let [inputs, output] = elements.map(data_type);
        // Dense and row-major, `rows` x `columns`, is column-major and `columns` x `rows`.
        let layout = |element, (rows, columns): (usize, usize)| {
            result::create_matrix_layout(element, columns as u64, rows as u64, columns as i64)
        };
        let [a, b] = stored(product);
        // f32 inputs: products and sums in f32, no TF32.
        let compute = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let mut description = Self {
            product: result::create_matmul_desc(compute, sys::cudaDataType_t::CUDA_R_32F)?,
            layouts: [std::ptr::null_mut(); 4],
        };
        // Filled one by one: if one fails, the description is dropped with those before it.
        description.layouts[0] = layout(inputs, b)?;
        description.layouts[1] = layout(inputs, a)?;
        description.layouts[2] = layout(output, (m, n))?;
        description.layouts[3] = layout(output, (m, n))?;
        let epilogue = match product.bias {
            true => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS,
            false => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_DEFAULT,
        };
        // cuBLASLt looks whether there is a bias, and how its address is aligned; it reads none before a product.
        let placeholder = 256_u64;
        // SAFETY: the descriptors are alive; each value has its attribute's type (cublasLt.h).
        unsafe {
            description.describe(Describe::CUBLASLT_MATMUL_DESC_TRANSA, &operation(b_transposed))?;
            description.describe(Describe::CUBLASLT_MATMUL_DESC_TRANSB, &operation(a_transposed))?;
            description.describe(Describe::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue)?;
            if product.bias {
                description.describe(Describe::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &placeholder)?;
            }
        }
        Ok(description)
    }

    fn choose(
        &self,
        handle: sys::cublasLtHandle_t,
        product: &Product,
        (_, workspace): (u64, usize),
    ) -> Answer<sys::cublasLtMatmulAlgo_t> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Prefer;
        let preference = Preference(result::create_matmul_pref()?);
        // Parts of a sum over k that was split are added in f32, in a fixed order; never in bf16, never in place.
        let reduction = sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
        let [a, b, onto, out] = product.alignment;
        // SAFETY: the descriptors are alive; each value has its attribute's type (cublasLt.h).
        unsafe {
            preference.set(Prefer::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace)?;
            preference.set(Prefer::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reduction)?;
            preference.set(Prefer::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &b)?;
            preference.set(Prefer::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &a)?;
            preference.set(Prefer::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &onto)?;
            preference.set(Prefer::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &out)?;
            let [a, b, c, d] = self.layouts;
            Ok(result::get_matmul_algo_heuristic(handle, self.product, a, b, c, d, preference.0)?.algo)
        }
    }

    /// The workspace that an algorithm needs for this product.
    fn check(&self, handle: sys::cublasLtHandle_t, algorithm: &sys::cublasLtMatmulAlgo_t) -> Answer<usize> {
        let mut found = std::mem::MaybeUninit::<sys::cublasLtMatmulHeuristicResult_t>::zeroed();
        let [a, b, c, d] = self.layouts;
        // SAFETY: the descriptors are alive. The result is plain numbers, and written where the call succeeds.
        unsafe {
            sys::cublasLtMatmulAlgoCheck(handle, self.product, a, b, c, d, algorithm, found.as_mut_ptr()).result()?;
            Ok(found.assume_init().workspaceSize)
        }
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

impl Drop for Description {
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
