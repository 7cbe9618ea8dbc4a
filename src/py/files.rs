//! Directories of files that are written atomically.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use super::runtime::detached;
use crate::{Error, atomic};

/// Check that a directory has nothing but what biorel writes into one, as it is replaced as a whole.
#[pyfunction]
pub fn check_replaceable(py: Python<'_>, directory: PathBuf) -> PyResult<()> {
    detached(py, || atomic::check_replaceable(&directory))
}

/// Write `files` (content by name, which may be in a folder) as `directory`, in the place of an earlier one; a kill leaves
/// one or the other.
#[pyfunction]
pub fn write_directory(py: Python<'_>, directory: PathBuf, files: BTreeMap<String, PyBackedBytes>) -> PyResult<()> {
    detached(py, || {
        atomic::write_directory(&directory, |partial| {
            files.iter().try_for_each(|(name, content)| {
                let path = partial.join(name);
                let parent = path.parent().unwrap_or(partial);
                fs::create_dir_all(parent).map_err(Error::io(parent))?;
                fs::write(&path, content).map_err(Error::io(&path))
            })
        })
    })
}
