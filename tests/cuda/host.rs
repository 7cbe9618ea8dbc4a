//! A device of the CUDA engine that runs its kernels on the CPU: `shim/` compiled together with
//! `src/ops/cuda/kernels/` by the system's C++ compiler into a library that is loaded here.
//! Products are those of the `gemm` crate in f32.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use biorel::ops::cpu::matmul::{Matrix, all_threads, matmul};
use biorel::ops::cuda::Device;
use biorel::ops::cuda::device::{Dtype, Gemm, Launch, Operand};
use biorel::{Error, Result};
use candle_core::Tensor;
use half::bf16;
use libloading::Library;

type Run = unsafe extern "C" fn(c_int, c_int, *const c_char, *const u32, u32, u32, *mut *mut c_void) -> *const c_char;

/// The compiled kernels.
pub struct Shim {
    run: Run,
    allocate: unsafe extern "C" fn(usize) -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void, usize) -> c_int,
    /// Keeps the functions alive.
    _library: Library,
}

/// Where the kernels are.
pub fn kernels() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ops/cuda/kernels")
}

fn compiler() -> String {
    std::env::var("CXX").unwrap_or_else(|_| "c++".into())
}

impl Shim {
    /// The unmodified kernels, compiled once; `None`, with a message, where there is no C++
    /// compiler. `BIOREL_HOST_FLAGS` are further flags of it: `make test-cuda-host` turns the
    /// sanitizers on.
    pub fn get() -> Option<Arc<Self>> {
        static SHIM: OnceLock<Option<Arc<Shim>>> = OnceLock::new();
        let compile = || match Command::new(compiler()).arg("--version").output() {
            Ok(output) if output.status.success() => Some(Arc::new(Self::compile(&kernels(), "kernels"))),
            _ => {
                eprintln!("skipped: the kernels need a C++ compiler, and `{}` does not run; set CXX", compiler());
                None
            }
        };
        SHIM.get_or_init(compile).clone()
    }

    /// Kernels of a directory, compiled to a library of the given name.
    pub fn compile(kernels: &Path, name: &str) -> Self {
        let shim = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda/shim");
        // A name per process, because two runs may build concurrently.
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.so", std::process::id()));
        let flags = std::env::var("BIOREL_HOST_FLAGS").unwrap_or_default();
        let output = Command::new(compiler())
            .args(["-x", "c++", "-std=c++17", "-O2", "-fPIC", "-shared", "-ffp-contract=off", "-fno-strict-aliasing"])
            .args(["-Wall", "-Wno-unknown-pragmas", "-Werror", "-DBIOREL_HOST"])
            .args(flags.split_whitespace())
            .arg(format!("-I{}", shim.display()))
            .arg(format!("-I{}", kernels.display()))
            .arg(shim.join("library.cpp"))
            .arg("-o")
            .arg(&out)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // SAFETY: loading runs the constructors that register the kernels; the signatures are those of shim.cpp.
        unsafe {
            let library = Library::new(&out).unwrap();
            let _ = std::fs::remove_file(&out);
            Self {
                run: *library.get::<Run>(b"shim_launch").unwrap(),
                allocate: *library.get(b"shim_allocate").unwrap(),
                free: *library.get(b"shim_free").unwrap(),
                _library: library,
            }
        }
    }
}

/// The order in which blocks, and threads inside of a block, take their turns.
#[derive(Debug, Clone, Copy)]
pub enum Schedule {
    Forward,
    Reverse,
    Random,
}

/// The CPU as a device of the CUDA engine.
pub struct Host {
    shim: Arc<Shim>,
    schedule: Schedule,
    /// The active one of the mutations that were compiled into the kernels, or -1.
    mutation: c_int,
    /// Whether products leave their bias to the engine.
    separate_bias: bool,
    launches: AtomicUsize,
    products: AtomicUsize,
    waits: Mutex<Vec<usize>>,
}

/// A copy to the host, and how much was enqueued before it.
pub struct Readback {
    bytes: Vec<u8>,
    enqueued: usize,
}

impl Host {
    pub fn new(shim: Arc<Shim>, schedule: Schedule) -> Self {
        let (launches, products) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { shim, schedule, mutation: -1, separate_bias: false, launches, products, waits: Mutex::default() }
    }

    /// The same with one of the mutations.
    pub fn mutated(self, mutation: Option<usize>) -> Self {
        Self { mutation: mutation.map_or(-1, |index| index as c_int), ..self }
    }

    /// The same, as a device whose products cannot add a bias.
    pub fn with_separate_bias(self) -> Self {
        Self { separate_bias: true, ..self }
    }

    /// Kernels launched until now.
    pub fn launches(&self) -> usize {
        self.launches.load(Ordering::Relaxed)
    }

    /// Products until now.
    pub fn products(&self) -> usize {
        self.products.load(Ordering::Relaxed)
    }

    fn enqueued(&self) -> usize {
        self.launches() + self.products()
    }

    /// Every wait of the host until now: how much work was enqueued behind it. With 0, a GPU would
    /// have been idle.
    pub fn waits(&self) -> Vec<usize> {
        self.waits.lock().unwrap().clone()
    }

    fn wait(&self, since: usize) {
        self.waits.lock().unwrap().push(self.enqueued() - since);
    }
}

/// Memory that starts as NaN and is followed by a guard.
pub struct Memory {
    shim: Arc<Shim>,
    address: u64,
    bytes: usize,
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with as many bytes, and freed once.
        let intact = unsafe { (self.shim.free)(self.address as *mut c_void, self.bytes) };
        assert!(intact == 1 || std::thread::panicking(), "a write behind an array of {} bytes", self.bytes);
    }
}

/// SAFETY (for callers): the address of `n` elements of a live array that nobody writes meanwhile.
unsafe fn values<'a, T>(address: u64, n: usize) -> &'a [T] {
    // SAFETY: the caller's.
    unsafe { std::slice::from_raw_parts(address as *const T, n) }
}

/// SAFETY (for callers): as [`values`], and nobody else reads them.
unsafe fn values_mut<'a, T>(address: u64, n: usize) -> &'a mut [T] {
    // SAFETY: the caller's.
    unsafe { std::slice::from_raw_parts_mut(address as *mut T, n) }
}

/// SAFETY (for callers): as [`values`].
unsafe fn floats(address: u64, n: usize, element: Dtype) -> Vec<f32> {
    // SAFETY: the caller's.
    unsafe {
        match element {
            Dtype::F32 => values::<f32>(address, n).to_vec(),
            Dtype::Bf16 => values::<bf16>(address, n).iter().map(|x| x.to_f32()).collect(),
        }
    }
}

fn error(message: String) -> Error {
    Error::Tensor(candle_core::Error::Msg(message))
}

// The emulated device executes everything immediately, so its queue is always empty.
impl Device for Host {
    type Memory = Memory;
    type Readback = Readback;

    fn name(&self) -> String {
        "kernels on the CPU".into()
    }

    fn allocate(&self, bytes: usize) -> Result<Memory> {
        assert!(bytes > 0);
        // SAFETY: any size.
        let address = unsafe { (self.shim.allocate)(bytes) } as u64;
        if address == 0 {
            return Err(error(format!("no memory for {bytes} bytes")));
        }
        Ok(Memory { shim: self.shim.clone(), address, bytes })
    }

    fn address(&self, memory: &Memory) -> u64 {
        memory.address
    }

    unsafe fn upload(&self, from: &[u8], to: u64) -> Result<()> {
        // SAFETY: the caller's.
        unsafe { values_mut(to, from.len()).copy_from_slice(from) };
        Ok(())
    }

    unsafe fn download(&self, from: u64, to: &mut [u8]) -> Result<()> {
        self.wait(self.enqueued());
        // SAFETY: the caller's.
        to.copy_from_slice(unsafe { values(from, to.len()) });
        Ok(())
    }

    unsafe fn download_async(&self, from: u64, bytes: usize) -> Result<Readback> {
        // SAFETY: the caller's.
        let bytes = unsafe { values(from, bytes) }.to_vec();
        Ok(Readback { bytes, enqueued: self.enqueued() })
    }

    fn wait_for(&self, readback: Readback) -> Result<Vec<u8>> {
        self.wait(readback.enqueued);
        Ok(readback.bytes)
    }

    unsafe fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        // SAFETY: the caller's.
        unsafe { values_mut::<u8>(to, bytes).copy_from_slice(values(from, bytes)) };
        Ok(())
    }

    unsafe fn zero(&self, to: u64, bytes: usize) -> Result<()> {
        // SAFETY: the caller's.
        unsafe { values_mut::<u8>(to, bytes).fill(0) };
        Ok(())
    }

    unsafe fn launch(&self, launch: &Launch, arguments: &mut [*mut c_void]) -> Result<()> {
        let name = CString::new(launch.kernel).unwrap();
        self.launches.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's; the message is copied before this thread's next launch.
        unsafe {
            let (Launch { grid, block, shared, .. }, schedule) = (launch, self.schedule as c_int);
            let arguments = arguments.as_mut_ptr();
            let message =
                (self.shim.run)(schedule, self.mutation, name.as_ptr(), grid.as_ptr(), *block, *shared, arguments);
            match message.is_null() {
                true => Ok(()),
                false => Err(error(CStr::from_ptr(message).to_string_lossy().into_owned())),
            }
        }
    }

    unsafe fn gemm(&self, gemm: &Gemm) -> Result<bool> {
        let &Gemm { m, n, k, a, b, inputs, out, output, onto, bias } = gemm;
        self.products.fetch_add(1, Ordering::Relaxed);
        assert!(m > 0 && n > 0 && k > 0, "{gemm:?}");
        let operand = |x: Operand, rows: usize, columns: usize| unsafe {
            // SAFETY: the caller's.
            (floats(x.address, rows * columns, inputs), x.transposed)
        };
        let (a, b) = (operand(a, m, k), operand(b, k, n));
        fn view((values, transposed): &(Vec<f32>, bool), rows: usize, columns: usize) -> Matrix<'_, f32> {
            match transposed {
                true => Matrix::new(values, columns, rows).t(),
                false => Matrix::new(values, rows, columns),
            }
        }
        // SAFETY: the caller's.
        let mut sums = onto.map_or_else(|| vec![0.0; m * n], |onto| unsafe { floats(onto, m * n, output) });
        matmul(&mut sums, n, view(&a, m, k), view(&b, k, n), 1.0, 1.0, all_threads());
        if let Some(bias) = bias.filter(|_| !self.separate_bias) {
            // SAFETY: the caller's.
            let bias = unsafe { floats(bias, n, output) };
            sums.chunks_mut(n).for_each(|row| row.iter_mut().zip(&bias).for_each(|(x, bias)| *x += bias));
        }
        // SAFETY: the caller's.
        unsafe {
            match output {
                Dtype::F32 => values_mut(out, m * n).copy_from_slice(&sums),
                Dtype::Bf16 => {
                    let out = values_mut::<bf16>(out, m * n);
                    out.iter_mut().zip(&sums).for_each(|(out, x)| *out = bf16::from_f32(*x));
                }
            }
        }
        Ok(!self.separate_bias)
    }

    fn candle(&self) -> candle_core::Device {
        candle_core::Device::Cpu
    }

    unsafe fn to_candle(&self, from: u64, shape: &[usize]) -> Result<Tensor> {
        // SAFETY: the caller's.
        let values = unsafe { values::<f32>(from, shape.iter().product()) };
        Ok(Tensor::from_slice(values, shape, &candle_core::Device::Cpu)?)
    }

    unsafe fn from_candle(&self, tensor: &Tensor, to: u64) -> Result<()> {
        assert!(tensor.is_contiguous() && tensor.elem_count() > 0);
        let from = tensor.flatten_all()?.to_vec1::<f32>()?;
        // SAFETY: the caller's.
        unsafe { values_mut(to, from.len()).copy_from_slice(&from) };
        Ok(())
    }

    fn synchronize(&self) -> Result<()> {
        self.wait(self.enqueued());
        Ok(())
    }
}
