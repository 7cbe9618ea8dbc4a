//! NVIDIA's driver: the GPUs of this machine, and the meaning of its errors for the user.

use std::fmt::Display;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUdevice_attribute, CUresult};

use crate::Error;
use crate::ops::cuda::device::Gpu;

/// The CUDA version that the driver must support, as `cuDriverGetVersion` writes it, and the first
/// driver that does.
const CUDA: (i32, &str) = (13_000, "580");
/// The first compute capability that the kernels run on: bf16 tensor cores.
const CAPABILITY: (i32, i32) = (8, 0);

/// The GPUs of this machine, in the driver's order.
///
/// # Errors
/// The reason why none can be used, with the remedy.
pub(in crate::ops) fn gpus() -> std::result::Result<Vec<Gpu>, String> {
    let mut version = 0;
    // SAFETY: writes one integer; allowed before `cuInit`.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result().map_err(meaning)?;
    if version < CUDA.0 {
        return Err(format!(
            "the NVIDIA driver is too old: it supports CUDA {}.{}, and this build needs {}.{}. Update it to version {} or \
             newer (nvidia-smi shows the one in use)",
            version / 1000,
            version % 1000 / 10,
            CUDA.0 / 1000,
            CUDA.0 % 1000 / 10,
            CUDA.1
        ));
    }
    result::init().map_err(meaning)?;
    let count = result::device::get_count().map_err(meaning)?;
    if count == 0 {
        return Err(meaning(DriverError(CUresult::CUDA_ERROR_NO_DEVICE)));
    }
    (0..count).map(|index| gpu(index).map_err(meaning)).collect()
}

fn gpu(index: i32) -> std::result::Result<Gpu, DriverError> {
    let device = result::device::get(index)?;
    // SAFETY: the device is the driver's own.
    let attribute = |what| unsafe { result::device::get_attribute(device, what) };
    let major = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    let reason = ((major, minor) < CAPABILITY).then(|| {
        format!(
            "its compute capability is {major}.{minor}; biorel needs {}.{} (Ampere, 2020) or newer",
            CAPABILITY.0, CAPABILITY.1
        )
    });
    // SAFETY: as above.
    let memory = unsafe { result::device::total_mem(device) }?;
    Ok(Gpu { name: result::device::get_name(device)?, memory, reason })
}

/// The meaning of an error of the driver, with the remedy.
fn meaning(error: DriverError) -> String {
    let visible = match std::env::var("CUDA_VISIBLE_DEVICES") {
        Ok(value) => format!(", and CUDA_VISIBLE_DEVICES is \"{value}\""),
        Err(_) => String::new(),
    };
    match error.0 {
        CUresult::CUDA_ERROR_NO_DEVICE => format!(
            "no CUDA device: the NVIDIA driver finds none (nvidia-smi should list it; a container needs --gpus all){visible}"
        ),
        CUresult::CUDA_ERROR_STUB_LIBRARY => "libcuda.so.1 is the stub that comes with the CUDA toolkit, not a driver: \
             take its folder out of LD_LIBRARY_PATH"
            .into(),
        CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH | CUresult::CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE => format!(
            "the NVIDIA driver's parts are of different versions ({:?}): restart the machine after an update of the driver; \
             in a container, update the driver of the host to {} or newer",
            error.0, CUDA.1
        ),
        CUresult::CUDA_ERROR_SYSTEM_NOT_READY => {
            "the GPUs are not ready (CUDA_ERROR_SYSTEM_NOT_READY): is nvidia-fabricmanager running?".into()
        }
        CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE => {
            "the GPU is in use by another program that keeps it for itself (exclusive compute mode): nvidia-smi shows which"
                .into()
        }
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => MEMORY.into(),
        CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU | CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
            format!("the NVIDIA driver cannot load the kernels ({:?}): update it to version {} or newer", error.0, CUDA.1)
        }
        CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
        | CUresult::CUDA_ERROR_LAUNCH_FAILED
        | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
        | CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION
        | CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR
        | CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE
        | CUresult::CUDA_ERROR_INVALID_PC
        | CUresult::CUDA_ERROR_LAUNCH_TIMEOUT
        | CUresult::CUDA_ERROR_ASSERT => format!(
            "{KERNEL_FAILED} ({:?}). That is a defect of biorel: please report it with what you called. This process cannot \
             use the GPU any more; start a new one",
            error.0
        ),
        _ => format!("the NVIDIA driver says {error:?}"),
    }
}

const KERNEL_FAILED: &str = "a kernel failed";

const MEMORY: &str = "the memory of the GPU is exhausted. Fewer concurrent trainings (a smaller jobs=), a smaller batch_size \
                      (gradient_accumulation_steps= keeps the size of the step), a smaller max_length or \
                      gradient_checkpointing=True need less; nvidia-smi shows what else uses it";

/// That there is not enough memory for `bytes` more, or why they could not be had.
pub(in crate::ops::cuda) fn allocation(device: &str, bytes: usize, error: DriverError) -> Error {
    if error.0 != CUresult::CUDA_ERROR_OUT_OF_MEMORY {
        return Error::device(device, format!("allocating {bytes} bytes: {}", meaning(error)));
    }
    let megabytes = |bytes: usize| bytes.div_ceil(1_000_000);
    let state = match result::mem_get_info() {
        Ok((free, total)) => format!(" ({} MB of {} MB are free)", megabytes(free), megabytes(total)),
        Err(_) => String::new(),
    };
    Error::device(device, format!("{MEMORY}. Requested: {} MB more{state}", megabytes(bytes)))
}

/// An error of the driver, with the action that failed.
pub(in crate::ops::cuda) fn refused(device: &str, doing: &str, error: DriverError) -> Error {
    Error::device(device, format!("{doing}: {}", meaning(error)))
}

/// Whether work that was enqueued earlier may have caused the error: a kernel's failure shows at
/// whatever is called next.
pub(super) fn is_deferred(error: DriverError) -> bool {
    meaning(error).starts_with(KERNEL_FAILED)
}

/// As [`refused`], for the errors of other libraries, which say less.
pub(in crate::ops::cuda) fn failure(device: &str, doing: &str, error: impl Display) -> Error {
    Error::device(device, format!("{doing}: {error}"))
}

/// An error of a computation on a GPU, with candle's errors about the device in the user's words.
pub(in crate::ops) fn explain(device: &str, error: Error) -> Error {
    match &error {
        Error::Tensor(inner) => {
            let text = inner.to_string();
            let signs = ["CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED", MEMORY];
            if signs.iter().any(|sign| text.contains(sign)) { Error::device(device, MEMORY) } else { error }
        }
        _ => error,
    }
}
