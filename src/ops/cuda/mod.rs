//! The engine for NVIDIA GPUs.

pub mod device;
#[cfg(feature = "cuda")]
pub mod driver;
#[cfg(feature = "cuda")]
pub mod nvidia;
#[cfg(feature = "cuda")]
mod products;

pub use device::Device;
#[cfg(feature = "cuda")]
pub use nvidia::Nvidia;
