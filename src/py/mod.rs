//! The Python extension `biorel._biorel`: thin classes around the core's types, one file per topic.
//!
//! Tables cross the border as columns (numpy arrays and lists); the Python package makes DataFrames of them. Every call
//! that computes or reads goes through [`gate`], and every error through [`error`].

mod error;
mod gate;

use pyo3::prelude::*;

/// The compiled core of biorel. Use the package `biorel`, which documents and completes it.
#[pymodule(gil_used = true)]
mod _biorel {
    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
