//! The error type. Each variant has the parts of its message, so that `py/error.rs` maps all of
//! them in one place.

use std::path::{Path, PathBuf};

/// The result type of every fallible function in the crate.
pub type Result<T> = std::result::Result<T, Error>;

/// The errors, by the input that caused them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A corpus file, or a row of a user's table, does not follow its format.
    #[error("{}: {message}", location(path, *line))]
    Corpus {
        /// The file, or a name such as `sentences[3]` for data that came from memory.
        path: PathBuf,
        /// Line, counted from 1, if the format has lines.
        line: Option<usize>,
        /// What is wrong and what to do about it.
        message: String,
    },
    /// A setting is out of range, unknown, or contradicts another.
    #[error("{field}: {message}")]
    Config {
        /// Name of the setting, as the user writes it.
        field: String,
        /// What is wrong, with the allowed values.
        message: String,
    },
    /// A model directory, a weight file or a vocabulary cannot be used.
    #[error("{}: {}{message}", path.display(), tensor.as_ref().map(|t| format!("tensor `{t}`: ")).unwrap_or_default())]
    Checkpoint {
        /// The file or directory.
        path: PathBuf,
        /// The tensor, if the error concerns a single one.
        tensor: Option<String>,
        /// What is wrong and what to do about it.
        message: String,
    },
    /// The operating system reported an error.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// Training cannot continue (loss or gradient not finite).
    #[error("step {step}: {message}")]
    Training {
        /// Optimizer step, counted from 1.
        step: usize,
        /// What is wrong and what usually helps.
        message: String,
    },
    /// A device cannot be used: no driver, no GPU, a library missing, its memory exhausted.
    #[error("{device}: {message}")]
    Device {
        /// Its name, as in `cuda:0`.
        device: String,
        /// What is wrong and what to do about it.
        message: String,
    },
    /// The caller asked to stop (Ctrl-C).
    #[error("interrupted")]
    Interrupted,
    /// A tensor operation failed: an internal error of this crate, not of the input.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
}

fn location(path: &Path, line: Option<usize>) -> String {
    match line {
        Some(line) => format!("{}:{line}", path.display()),
        None => path.display().to_string(),
    }
}

impl Error {
    /// A corpus error without a line.
    pub fn corpus(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::Corpus { path: path.into(), line: None, message: message.into() }
    }

    /// A corpus error at a line counted from 1.
    pub fn corpus_line(path: impl Into<PathBuf>, line: usize, message: impl Into<String>) -> Self {
        Self::Corpus { path: path.into(), line: Some(line), message: message.into() }
    }

    /// A setting that cannot be used.
    pub fn config(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Config { field: field.into(), message: message.into() }
    }

    /// A model file that cannot be used.
    pub fn checkpoint(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::Checkpoint { path: path.into(), tensor: None, message: message.into() }
    }

    /// A tensor of a model file that cannot be used.
    pub fn tensor(path: impl Into<PathBuf>, tensor: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Checkpoint { path: path.into(), tensor: Some(tensor.into()), message: message.into() }
    }

    /// A device that cannot be used.
    pub fn device(device: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Device { device: device.into(), message: message.into() }
    }

    /// Attach the path to an input/output error: `.map_err(Error::io(path))`.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
