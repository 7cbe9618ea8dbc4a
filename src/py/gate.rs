//! The one door between Python and the core: it releases the interpreter's lock while the core works, lets the core ask
//! whether Ctrl-C was pressed, and turns a panic into an exception, so that none ever reaches Python.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

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

/// How often the calling thread looks for Ctrl-C while the core works.
const POLL: Duration = Duration::from_millis(50);

/// Like [`detached`], for long work that reports as it goes. `work` runs on a thread of its own and receives a function
/// to call often, which returns whether to go on. Meanwhile the calling thread lets Python's signal handlers run (only
/// the main thread can) and calls `report` with the news. What a handler or `report` raises stops the work, and is
/// returned once `work` has come to its end.
///
/// # Errors
/// What was raised meanwhile, together with what `work` made (a stopped training has a model); else as [`detached`].
pub fn reporting<T: Send, R: Send>(
    py: Python<'_>,
    mut report: impl FnMut(Python<'_>, R) -> PyResult<()> + Send,
    work: impl FnOnce(&mut (dyn FnMut(R) -> bool + Send)) -> Result<T> + Send,
) -> PyResult<(T, Option<PyErr>)> {
    let (outcome, raised) = py.detach(|| {
        let (sender, news) = mpsc::channel();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let stop = &stop;
            let worker = scope.spawn(move || {
                // A closed channel means that the calling thread raised: `stop` is then set.
                guarded(|| work(&mut |news| sender.send(news).is_ok() && !stop.load(Ordering::Relaxed)))
            });
            let mut raised = None;
            loop {
                let received = match news.recv_timeout(POLL) {
                    Ok(news) => Some(news),
                    Err(mpsc::RecvTimeoutError::Timeout) => None,
                    Err(mpsc::RecvTimeoutError::Disconnected) => break,
                };
                if raised.is_some() {
                    continue; // waiting for the work to end
                }
                let said = Python::attach(|py| {
                    py.check_signals()?;
                    received.map_or(Ok(()), |news| report(py, news))
                });
                if let Err(error) = said {
                    stop.store(true, Ordering::Relaxed);
                    raised = Some(error);
                }
            }
            (worker.join().unwrap_or_else(|_| Err(internal("a worker thread was lost"))), raised)
        })
    });
    match (outcome?, raised) {
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
