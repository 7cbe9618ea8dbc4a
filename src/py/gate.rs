//! The one door between Python and the core: it releases the interpreter's lock while the core works, lets the core ask
//! whether Ctrl-C was pressed, and turns a panic into an exception, so that none ever reaches Python.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::prelude::*;

use super::error::internal;
use crate::Result;

/// Run `work` without the interpreter's lock.
///
/// # Errors
/// The core's error, mapped; a panic becomes a `BiorelError` that asks for a report.
pub fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    py.detach(|| guarded(work))?.map_err(PyErr::from)
}

/// Like [`detached`], for long work that reports as it goes. `work` receives a function to call often: it takes the lock
/// for a moment, lets Python's signal handlers run and then calls `report`, and returns whether to go on. What a handler
/// or `report` raises is raised again once `work` has come to its end.
///
/// # Errors
/// What was raised meanwhile, together with what `work` made (a stopped training has a model); else as [`detached`].
pub fn reporting<T: Send, R>(
    py: Python<'_>,
    mut report: impl FnMut(Python<'_>, R) -> PyResult<()> + Send,
    work: impl FnOnce(&mut (dyn FnMut(R) -> bool + Send)) -> Result<T> + Send,
) -> PyResult<(T, Option<PyErr>)> {
    let mut raised = None;
    let outcome = py.detach(|| {
        guarded(|| {
            work(&mut |news| {
                let said = Python::attach(|py| py.check_signals().and_then(|()| report(py, news)));
                match said {
                    Ok(()) => true,
                    Err(error) => {
                        raised = Some(error);
                        false
                    }
                }
            })
        })
    })?;
    match (outcome, raised) {
        (Ok(value), raised) => Ok((value, raised)),
        (Err(_), Some(raised)) => Err(raised),
        (Err(error), None) => Err(error.into()),
    }
}

/// Call `work`; a panic comes back as an exception.
fn guarded<T>(work: impl FnOnce() -> T) -> PyResult<T> {
    // Nothing that `work` had borrowed is looked at after a panic: the values are dropped with the error.
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let message = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("a panic without a message");
        internal(message)
    })
}
