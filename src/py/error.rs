//! The only mapping from [`Error`] to Python's exceptions (their classes are in
//! `biorel/errors.py`).

use pyo3::exceptions::{PyKeyboardInterrupt, PyOSError};
use pyo3::prelude::*;

use crate::Error;

pyo3::import_exception!(biorel.errors, BiorelError);
pyo3::import_exception!(biorel.errors, CorpusError);
pyo3::import_exception!(biorel.errors, ConfigError);
pyo3::import_exception!(biorel.errors, CheckpointError);
pyo3::import_exception!(biorel.errors, TrainingError);
pyo3::import_exception!(biorel.errors, DeviceError);

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Corpus { path, line, .. } => CorpusError::new_err((message, path.display().to_string(), line)),
            Error::Config { field, .. } => ConfigError::new_err((message, field)),
            Error::Checkpoint { path, tensor, .. } => {
                CheckpointError::new_err((message, path.display().to_string(), tensor))
            }
            // Python picks the subclass (FileNotFoundError, PermissionError, ...) from the number
            // when it is given one.
            Error::Io { path, source } => match source.raw_os_error() {
                Some(number) => PyOSError::new_err((number, reason(&source), path.display().to_string())),
                None if source.kind() == std::io::ErrorKind::NotFound => {
                    pyo3::exceptions::PyFileNotFoundError::new_err(message)
                }
                None => PyOSError::new_err(message),
            },
            Error::Device { device, .. } => DeviceError::new_err((message, device)),
            Error::Training { step, .. } => TrainingError::new_err((message, step)),
            Error::Interrupted => PyKeyboardInterrupt::new_err(()),
            Error::Tensor(_) => internal(&message),
        }
    }
}

/// The operating system's message, without the error number that Rust appends and Python prints
/// itself.
fn reason(source: &std::io::Error) -> String {
    let text = source.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_string(),
        None => text,
    }
}

/// An internal error: a bug of biorel itself.
pub fn internal(message: &str) -> PyErr {
    BiorelError::new_err(format!("internal error, please report it with what you called: {message}"))
}
