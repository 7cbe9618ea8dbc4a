//! Device, precision and threads, chosen once and passed to every call that computes.

use pyo3::prelude::*;

use super::error::ConfigError;
use crate::ops::compute::Compute;
use crate::ops::cuda::Gpu;

/// Device, precision and threads.
#[pyclass(frozen, eq, name = "Compute", module = "biorel._biorel")]
#[derive(PartialEq)]
pub struct PyCompute(pub Compute);

#[pymethods]
impl PyCompute {
    #[new]
    #[pyo3(signature = (device, precision, threads))]
    fn new(device: &str, precision: &str, threads: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        // A value that is negative or too large for a count has the message of `Compute::new`.
        let threads = threads.map(|value| value.extract::<usize>().map_err(|_| out_of_range(value))).transpose()?;
        Ok(Self(Compute::new(device.parse()?, precision.parse()?, threads)?))
    }

    /// `cpu`, `cuda:0` or `reference`: what `auto` chose.
    #[getter]
    fn device(&self) -> String {
        self.0.backend().to_string()
    }

    /// `f32` or `bf16`: what `auto` chose.
    #[getter]
    fn precision(&self) -> &'static str {
        self.0.precision().name()
    }

    /// Processor threads; one per core if None.
    #[getter]
    fn threads(&self) -> Option<usize> {
        self.0.threads()
    }

    /// The instructions in use.
    #[getter]
    fn instructions(&self) -> String {
        self.0.instructions()
    }
}

fn out_of_range(threads: &Bound<'_, PyAny>) -> PyErr {
    let shown = threads.repr().map_or_else(|_| "a value without a repr".into(), |repr| repr.to_string());
    ConfigError::new_err((format!("threads: {shown} is out of range; it must be from 1 to 1024"), "threads"))
}

/// Name, bytes of memory, and why it cannot be used, of every GPU; or why there is none.
type Gpus = (Vec<(String, usize, Option<String>)>, Option<String>);

/// The GPUs of this machine that this build detects.
#[pyfunction]
pub fn gpus() -> Gpus {
    match crate::ops::cuda::gpus::gpus() {
        Ok(gpus) => (gpus.into_iter().map(|Gpu { name, memory, reason }| (name, memory, reason)).collect(), None),
        Err(reason) => (vec![], Some(reason)),
    }
}
