//! [`Device`] on an NVIDIA GPU, through cudarc and cuBLASLt.
//!
//! Why candle's CUDA device as well, when the encoder runs on our own kernels: heads are candle
//! modules. On the CPU they would cost two copies of the hidden states across the bus and a wait
//! for the GPU at every step, and an LSTM head's 20 GFLOP a step would take longer than the whole
//! encoder on the GPU. With candle's device they stay where the states are, in the same stream, and
//! a new head needs no kernel. The price: candle links libcuda and cuBLAS when the module is
//! loaded, so the CUDA build is a separate module (`cuda13/`).
//!
//! Everything runs in one explicit stream. candle's usual device takes the stream of the *calling
//! thread*, so work from several threads would not be ordered.
//!
//! Concurrent trainings on one GPU have one [`Nvidia`] each: a [`Queue`] with a stream, handles, a
//! workspace and staging memory of its own. They share the context, our kernels, and the driver's
//! pool of memory, which gives memory that one stream has freed to another only when the first has
//! reached that point.
//!
//! candle's kernels are PTX, which the driver compiles when they are loaded, and candle's device
//! takes no machine code and knows one stream only. So a queue whose [`Nvidia`] is dropped is kept
//! for the next one, with candle's kernels and the plans of products: a process loads them once for
//! every training that runs at the same time, instead of once for every call. What is kept is the
//! context, and for each queue the workspace and 4 MiB of pinned memory.
//!
//! A kernel that fails shows at a later call. The error then names what was enqueued last, and with
//! `CUDA_LAUNCH_BLOCKING=1` in the environment every operation is waited for, so that it names the
//! one that failed.
//!
//! The host waits for: [`Device::download`], [`Device::wait_for`] and [`Device::synchronize`];
//! copies of more than [`Staging::MOST`] bytes to the device, which a step of training does not
//! make; and the first launch of a kernel, which loads it. Candle's uploads for a head in a step
//! are below the 64 KB up to which the driver copies and returns.

pub(in crate::ops) mod driver;
mod matmul;
mod pinned;

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::{Arc, Mutex};

use candle_core::cuda_backend::{CudaDevice, CudaStorage};
use candle_core::op::BackpropOp;
use candle_core::{Storage, Tensor};
use cudarc::cublas::sys as cublas;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr, sys};

use super::device::{Device, Gemm, Launch};
use super::recent::Recent;
use crate::{Error, Result};
use matmul::CublasLt;
use pinned::{Answer, PinnedSlot, Staging, locked};

pub use pinned::Readback;

/// SASS for compute capability 8.0 and 9.0, and PTX for later ones, made by `build.rs`. The driver
/// reads it in words of eight bytes.
#[repr(C, align(16))]
struct Aligned<T: ?Sized>(T);
static KERNELS: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/kernels.fatbin")));

/// Scratch memory of matrix products. One for all of a stream: they run one after another in it.
/// NVIDIA requires a workspace that the program itself allocates, of constant size, for the same
/// bits each time.
const WORKSPACE: usize = 32 << 20;

/// Dynamic shared memory that a block may have without asking.
const SHARED_UNASKED: u32 = 48 << 10;

/// Kernels that were launched, and the dynamic shared memory that each may have.
type Functions = HashMap<&'static str, (Function, u32)>;

#[derive(Clone, Copy)]
struct Function(sys::CUfunction);
// SAFETY: a handle that any thread may use; it lives as long as its module, which `Shared` owns.
unsafe impl Send for Function {}

/// The kernels, loaded.
struct Module(sys::CUmodule);
// SAFETY: as for `Function`.
unsafe impl Send for Module {}
// SAFETY: only read, to look functions up.
unsafe impl Sync for Module {}

/// State that all streams of a GPU share, for as long as the process runs.
struct Shared {
    functions: Mutex<Functions>,
    module: Module,
    queues: Mutex<Queues>,
    /// Keeps the module loaded.
    _context: Arc<CudaContext>,
}

/// The queues of a GPU.
#[derive(Default)]
struct Queues {
    /// Those that no [`Nvidia`] has at the moment.
    idle: Vec<Arc<Queue>>,
    /// The number of those that one has.
    in_use: usize,
}

impl Shared {
    /// The state of this GPU, which is loaded by the first call.
    fn get(index: usize) -> Answer<Arc<Self>> {
        static LOADED: Mutex<Vec<(usize, Arc<Shared>)>> = Mutex::new(Vec::new());
        let mut loaded = locked(&LOADED);
        if let Some((_, shared)) = loaded.iter().find(|(of, _)| *of == index) {
            return Ok(shared.clone());
        }
        let context = CudaContext::new(index)?;
        context.bind_to_thread()?;
        // SAFETY: the image is a whole fatbin, and aligned.
        let module = Module(unsafe { result::module::load_data(KERNELS.0.as_ptr().cast()) }?);
        let (functions, queues) = (Mutex::default(), Mutex::default());
        let shared = Arc::new(Self { functions, module, queues, _context: context });
        loaded.push((index, shared.clone()));
        Ok(shared)
    }
}

/// A stream, with all that belongs to it alone.
///
/// Fields are dropped in this order, so that the context outlives everything that needs it.
struct Queue {
    cublas_lt: Mutex<CublasLt>,
    staging: Mutex<Staging>,
    free_slots: Arc<Mutex<Vec<PinnedSlot>>>,
    /// Used by `cublas_lt` and by candle's cuBLAS handle, through its address.
    _workspace: CudaSlice<u8>,
    pool: Option<Pool>,
    candle: CudaDevice,
    stream: Arc<CudaStream>,
}

impl Queue {
    fn open(index: usize) -> Result<Self> {
        let device = format!("cuda:{index}");
        let failed = |doing: &'static str| move |error| driver::refused(&format!("cuda:{index}"), doing, error);
        let candle = CudaDevice::new_with_stream(index).map_err(|e| match driver::explain(&device, e.into()) {
            Error::Tensor(other) => driver::failure(&device, "opening it", other),
            known => known,
        })?;
        // SAFETY: all work on tensors and memory of this device is enqueued in its one stream.
        unsafe { candle.disable_event_tracking() };
        let stream = candle.cuda_stream();
        let context = stream.context();
        let pool = if context.has_async_alloc() {
            Some(Pool::keep(context.cu_device()).map_err(failed("setting up its memory"))?)
        } else {
            None
        };
        // SAFETY: uninitialised, and never read before it is written.
        let workspace = unsafe { stream.alloc::<u8>(WORKSPACE) }.map_err(failed("allocating a workspace"))?;
        let scratch = workspace.device_ptr(&stream).0;
        let handle = *candle.cublas_handle().handle();
        // SAFETY: the workspace lives as long as `candle`'s handle is used: both are ours.
        let status = unsafe { cublas::cublasSetWorkspace_v2(handle, scratch as *mut c_void, WORKSPACE) };
        status.result().map_err(|e| driver::failure(&device, "giving cuBLAS its workspace", e))?;
        // Parts of a sum are added in f32, as in cuBLASLt's plans.
        let mode = cublas::cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
        // SAFETY: the handle is alive.
        let status = unsafe { cublas::cublasSetMathMode(handle, mode) };
        status.result().map_err(|e| driver::failure(&device, "setting up cuBLAS", e))?;
        // Threads that wait for it sleep: there may be more of them than cores.
        context.set_blocking_synchronize().map_err(failed("using it"))?;
        let cublas_lt = Mutex::new(CublasLt::new(&device, scratch, WORKSPACE)?);
        let staging = Mutex::new(Staging::new(&stream).map_err(failed("allocating pinned memory"))?);
        Ok(Self { cublas_lt, staging, free_slots: Arc::default(), _workspace: workspace, pool, candle, stream })
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let handle = self.candle.cublas_handle();
        // SAFETY: a tensor may keep candle's handle alive for longer than the workspace lives: setting the stream takes
        // the workspace from it.
        let _ = unsafe { cudarc::cublas::result::set_stream(*handle.handle(), self.stream.cu_stream().cast()) };
    }
}

/// A GPU and a stream on it.
pub struct Nvidia {
    /// `cuda:0`.
    device: String,
    name: String,
    queue: Arc<Queue>,
    shared: Arc<Shared>,
    recent: Recent,
    /// Whether every operation is waited for.
    blocking: bool,
}

impl Nvidia {
    /// The GPU with this number, counted as the driver does (`CUDA_VISIBLE_DEVICES` included).
    ///
    /// # Errors
    /// [`Error::Device`] that names what is missing and the remedy.
    pub fn open(index: usize) -> Result<Self> {
        let device = format!("cuda:{index}");
        let name = super::gpus::usable(index)?;
        let shared = Shared::get(index).map_err(|error| driver::refused(&device, "loading the kernels", error))?;
        let idle = locked(&shared.queues).idle.pop();
        let queue = match idle {
            Some(queue) => queue,
            None => Arc::new(Queue::open(index)?),
        };
        locked(&shared.queues).in_use += 1;
        let blocking = std::env::var_os("CUDA_LAUNCH_BLOCKING").is_some_and(|value| value == "1");
        Ok(Self { device, name, queue, shared, recent: Recent::default(), blocking })
    }

    fn failed(&self, doing: &'static str) -> impl FnOnce(DriverError) -> Error + '_ {
        move |error| match driver::is_deferred(error) && !self.blocking {
            true => driver::refused(&self.device, &self.recent.blame(doing), error),
            false => driver::refused(&self.device, doing, error),
        }
    }

    /// The stream's handle, for a call on this thread.
    fn stream(&self, doing: &'static str) -> Result<sys::CUstream> {
        let context = self.queue.stream.context();
        // What failed where nothing can be returned, which cudarc keeps for the next call.
        context.check_err().map_err(self.failed("freeing what was dropped"))?;
        context.bind_to_thread().map_err(self.failed(doing))?;
        Ok(self.queue.stream.cu_stream())
    }

    /// An operation was enqueued.
    fn enqueued(&self, operation: &'static str) -> Result<()> {
        self.recent.add(operation);
        match self.blocking {
            true => self.queue.stream.synchronize().map_err(self.failed(operation)),
            false => Ok(()),
        }
    }

    /// A kernel by its name, allowed `shared` bytes of dynamic shared memory.
    fn function(&self, name: &'static str, shared: u32) -> Result<sys::CUfunction> {
        let mut functions = locked(&self.shared.functions);
        let (function, allowed) = match functions.get(name) {
            Some(known) => *known,
            None => {
                let text = CString::new(name).map_err(|e| driver::failure(&self.device, name, e))?;
                // SAFETY: the module is loaded.
                let found = unsafe { result::module::get_function(self.shared.module.0, text) };
                (Function(found.map_err(|e| driver::failure(&self.device, name, e))?), SHARED_UNASKED)
            }
        };
        if shared > allowed {
            let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function is of the loaded module.
            unsafe { result::function::set_function_attribute(function.0, attribute, shared as i32) }
                .map_err(|e| driver::failure(&self.device, name, e))?;
        }
        functions.insert(name, (function, allowed.max(shared)));
        Ok(function.0)
    }
}

impl Device for Nvidia {
    type Memory = CudaSlice<u8>;
    type Readback = Readback;

    fn name(&self) -> String {
        self.name.clone()
    }

    fn allocate(&self, bytes: usize) -> Result<CudaSlice<u8>> {
        // SAFETY: uninitialised, as the trait says.
        let memory = unsafe { self.queue.stream.alloc::<u8>(bytes) };
        let memory = memory.map_err(|error| driver::allocation(&self.device, bytes, error))?;
        debug_assert_eq!(self.address(&memory) % 256, 0);
        Ok(memory)
    }

    fn address(&self, memory: &CudaSlice<u8>) -> u64 {
        memory.device_ptr(&self.queue.stream).0
    }

    unsafe fn upload(&self, values: &[u8], to: u64) -> Result<()> {
        let stream = self.stream("copying to it")?;
        // SAFETY: the caller's, for the address. What does not fit is copied from where it is: the driver stages pageable
        // memory itself before it returns, and waits for the stream where it has to.
        let copied = unsafe {
            match values.len() > Staging::MOST {
                true => result::memcpy_htod_async(to, values, stream),
                false => locked(&self.queue.staging).send(values, to, &self.queue.stream),
            }
        };
        copied.map_err(self.failed("copying to it"))?;
        self.enqueued("copying to it")
    }

    unsafe fn download(&self, from: u64, values: &mut [u8]) -> Result<()> {
        let stream = self.stream("copying from it")?;
        // SAFETY: the caller's; `values` is borrowed until the copy is done.
        unsafe { result::memcpy_dtoh_async(values, from, stream) }.map_err(self.failed("copying from it"))?;
        self.synchronize()
    }

    unsafe fn download_async(&self, from: u64, bytes: usize) -> Result<Readback> {
        let stream = self.stream("copying from it")?;
        let failed = |error| self.failed("copying from it")(error);
        let mut free = locked(&self.queue.free_slots);
        let slot = match free.iter().position(|slot| slot.memory.len() >= bytes) {
            Some(fits) => free.swap_remove(fits),
            None => PinnedSlot::new(&self.queue.stream, bytes).map_err(failed)?,
        };
        drop(free);
        let readback = Readback { slot: Some(slot), bytes, free: self.queue.free_slots.clone() };
        if let Some(slot) = &readback.slot {
            // SAFETY: the caller's for `from`; the slot is long enough, and nobody reads it before the copy is done.
            unsafe {
                let to = std::slice::from_raw_parts_mut(slot.address, bytes);
                result::memcpy_dtoh_async(to, from, stream).map_err(failed)?;
            }
            slot.done.record(&self.queue.stream).map_err(failed)?;
        }
        Ok(readback)
    }

    fn wait_for(&self, readback: Readback) -> Result<Vec<u8>> {
        let Some(slot) = &readback.slot else { return Ok(Vec::new()) };
        slot.done.synchronize().map_err(self.failed("waiting for it"))?;
        // SAFETY: the copy is done, and wrote that many.
        Ok(unsafe { std::slice::from_raw_parts(slot.address, readback.bytes) }.to_vec())
    }

    unsafe fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        let stream = self.stream("copying on it")?;
        // SAFETY: the caller's.
        unsafe { result::memcpy_dtod_async(to, from, bytes, stream) }.map_err(self.failed("copying on it"))?;
        self.enqueued("copying on it")
    }

    unsafe fn zero(&self, to: u64, bytes: usize) -> Result<()> {
        let stream = self.stream("clearing its memory")?;
        // SAFETY: the caller's.
        unsafe { result::memset_d8_async(to, 0, bytes, stream) }.map_err(self.failed("clearing its memory"))?;
        self.enqueued("clearing its memory")
    }

    unsafe fn launch(&self, launch: &Launch, arguments: &mut [*mut c_void]) -> Result<()> {
        let stream = self.stream(launch.kernel)?;
        let function = self.function(launch.kernel, launch.shared)?;
        let [x, y, z] = launch.grid;
        // SAFETY: the caller's; the driver has copied the arguments when this returns.
        unsafe { result::launch_kernel(function, (x, y, z), (launch.block, 1, 1), launch.shared, stream, arguments) }
            .map_err(self.failed(launch.kernel))?;
        self.enqueued(launch.kernel)
    }

    unsafe fn gemm(&self, gemm: &Gemm) -> Result<bool> {
        let stream = self.stream("a matrix product")?;
        let cublas = self.queue.candle.cublas_handle();
        // SAFETY: the caller's.
        let biased = unsafe { locked(&self.queue.cublas_lt).enqueue(&self.device, gemm, stream, *cublas.handle()) }?;
        self.enqueued("a matrix product")?;
        Ok(biased)
    }

    fn candle(&self) -> candle_core::Device {
        candle_core::Device::Cuda(self.queue.candle.clone())
    }

    unsafe fn to_candle(&self, from: u64, shape: &[usize]) -> Result<Tensor> {
        let elements: usize = shape.iter().product();
        // SAFETY: written whole by the copy below.
        let values = unsafe { self.queue.stream.alloc::<f32>(elements) }
            .map_err(|error| driver::allocation(&self.device, elements * 4, error))?;
        let to = values.device_ptr(&self.queue.stream).0;
        // SAFETY: the caller's for `from`; `to` has the same size.
        unsafe { self.copy(from, to, elements * 4) }?;
        let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(values, self.queue.candle.clone()));
        Ok(Tensor::from_storage(storage, shape, BackpropOp::none(), false))
    }

    unsafe fn from_candle(&self, tensor: &Tensor, to: u64) -> Result<()> {
        let (storage, layout) = tensor.storage_and_layout();
        let (Storage::Cuda(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
            return Err(Error::device(&self.device, "a tensor is not contiguous, or not on this device"));
        };
        let from = storage.as_cuda_slice::<f32>()?.device_ptr(&self.queue.stream).0 + 4 * start as u64;
        // SAFETY: the caller's for `to`. The tensor's memory is freed in this stream, so not before this copy.
        unsafe { self.copy(from, to, 4 * (end - start)) }
    }

    fn synchronize(&self) -> Result<()> {
        self.queue.stream.synchronize().map_err(self.failed("waiting for it"))
    }
}

impl Drop for Nvidia {
    /// Wait, since memory may be freed next that the stream still uses, and leave the queue to the
    /// next one. An error here has no one to report it to; its queue is not used again.
    fn drop(&mut self) {
        let works = self.queue.stream.synchronize().is_ok();
        let mut queues = locked(&self.shared.queues);
        queues.in_use -= 1;
        if works {
            queues.idle.push(self.queue.clone());
        }
        // Other users of this GPU continue with the free memory.
        if let Some(pool) = self.queue.pool.as_ref().filter(|_| queues.in_use == 0) {
            pool.trim();
        }
    }
}

/// The memory pool of the driver from which `cuMemAllocAsync` allocates.
struct Pool(sys::CUmemoryPool);
// SAFETY: a handle of the driver, which any thread may use.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Pool {
    /// Keep freed memory for the next allocation: by default each wait returns it to the system.
    fn keep(device: sys::CUdevice) -> Answer<Self> {
        // SAFETY: the device is open; each value has its attribute's type (CUmemPool_attribute).
        unsafe {
            let pool = result::device::get_mem_pool(device)?;
            let set = |attribute, value: *mut c_void| result::mem_pool::set_attribute(pool, attribute, value);
            let mut everything = u64::MAX;
            set(sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, (&raw mut everything).cast())?;
            // Otherwise an allocation may make this stream wait for another one: concurrent folds would then run one after another.
            let mut off = 0_i32;
            set(sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES, (&raw mut off).cast())?;
            Ok(Self(pool))
        }
    }

    /// Return unused memory to the system.
    fn trim(&self) {
        // SAFETY: the pool is the device's own.
        let _ = unsafe { result::mem_pool::trim_to(self.0, 0) };
    }
}
