//! Which GPUs this machine has, and whether one can be used.

use super::device::Gpu;
use crate::config::Backend;
use crate::{Error, Result};

/// The GPUs of this machine, in the driver's order; or why none can be used, with the remedy.
pub fn gpus() -> std::result::Result<Vec<Gpu>, String> {
    #[cfg(feature = "cuda")]
    return super::nvidia::driver::gpus();
    #[cfg(not(feature = "cuda"))]
    Err("this build of biorel has no CUDA part".into())
}

/// The name of the GPU with this number, if it can be used.
pub(in crate::ops) fn usable(index: usize) -> Result<String> {
    let device = Backend::Cuda(index).to_string();
    let gpus = gpus().map_err(|reason| Error::device(&device, reason))?;
    match gpus.get(index) {
        None => {
            let names: Vec<String> = (0..gpus.len()).map(|i| Backend::Cuda(i).to_string()).collect();
            Err(Error::device(&device, format!("there is no such device, only {}", names.join(", "))))
        }
        Some(Gpu { name, reason: Some(reason), .. }) => {
            Err(Error::device(&device, format!("{name} cannot be used: {reason}")))
        }
        Some(gpu) => Ok(gpu.name.clone()),
    }
}
