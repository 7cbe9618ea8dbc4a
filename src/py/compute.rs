//! What computes, chosen once and handed to every call that computes.

use pyo3::prelude::*;

use crate::ops::engine::Compute;

/// Device, precision and threads.
#[pyclass(frozen, eq, name = "Compute", module = "biorel._biorel")]
#[derive(PartialEq)]
pub struct PyCompute(pub Compute);

#[pymethods]
impl PyCompute {
    #[new]
    #[pyo3(signature = (device, precision, threads))]
    fn new(device: &str, precision: &str, threads: Option<usize>) -> PyResult<Self> {
        Ok(Self(Compute::new(device.parse()?, precision.parse()?, threads)?))
    }

    /// `f32` or `bf16`: what `auto` came to.
    #[getter]
    fn precision(&self) -> &'static str {
        self.0.precision().name()
    }

    /// The instructions in use.
    #[getter]
    fn instructions(&self) -> String {
        self.0.instructions()
    }
}
