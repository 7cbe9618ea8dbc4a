//! The engine for NVIDIA GPUs.

pub mod device;

pub use device::Device;
