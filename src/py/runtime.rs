//! The runtime guard between Python and the core. Every call into the core goes through it: it
//! releases the interpreter's lock while the core works, handles Ctrl-C, and turns a panic into an
//! exception.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::error::internal;
use crate::{Error, Result};

/// How often signals are checked while the core reports nothing.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

/// The process that imported the extension.
static IMPORTED_BY: OnceLock<u32> = OnceLock::new();

/// The process whose computations started candle's own threads; 0 before any.
static COMPUTED_IN: AtomicU32 = AtomicU32::new(0);

/// Remember the process; called once, on import.
pub fn init() {
    IMPORTED_BY.get_or_init(std::process::id);
}

/// Run `work`, which is short, without the interpreter's lock.
///
/// # Errors
/// The core's error, mapped; a panic becomes a `BiorelError` that asks for a report.
pub fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    py.detach(|| guarded(work))?.map_err(PyErr::from)
}

/// The result of long work, and what was raised in the meantime.
pub struct Outcome<T> {
    /// The result, or the partial result of work that was stopped early.
    pub value: T,
    /// `KeyboardInterrupt`, or what the report raised.
    pub raised: Option<PyErr>,
}

/// Run long `work` in a separate thread. `work` receives a callback for its events and must call
/// it often: the callback returns [`Error::Interrupted`] once the work should stop. Python lets
/// only the calling thread handle signals. That thread therefore waits here, calls `report` with
/// each event, and handles Ctrl-C within [`SIGNAL_INTERVAL`].
///
/// # Errors
/// What was raised in the meantime, if the core has no result without the rest of its work; else as
/// [`detached`].
pub fn reporting<T: Send, N: Send>(
    py: Python<'_>,
    mut report: impl FnMut(Python<'_>, N) -> PyResult<()> + Send,
    work: impl FnOnce(&mut (dyn FnMut(N) -> Result<()> + Send)) -> Result<T> + Send,
) -> PyResult<Outcome<T>> {
    refuse_after_fork()?;
    let stop = AtomicBool::new(false);
    let mut raised: Option<PyErr> = None;
    let outcome = py.detach(|| {
        thread::scope(|scope| {
            let (sender, receiver) = channel();
            let stop = &stop;
            let worker = scope.spawn(move || {
                guarded(|| {
                    work(&mut move |event| {
                        // The receiver outlives the worker.
                        let _ = sender.send(event);
                        if stop.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
                    })
                })
            });
            loop {
                let event = match receiver.recv_timeout(SIGNAL_INTERVAL) {
                    Ok(event) => Some(event),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => break,
                };
                if raised.is_some() {
                    continue;
                }
                let reported = Python::attach(|py| {
                    py.check_signals()?;
                    event.map_or(Ok(()), |event| report(py, event))
                });
                if let Err(error) = reported {
                    raised = Some(error);
                    stop.store(true, Ordering::Relaxed);
                }
            }
            worker.join().unwrap_or_else(|_| Err(internal("a worker thread was lost")))
        })
    })?;
    match (outcome, raised) {
        (Ok(value), raised) => Ok(Outcome { value, raised }),
        (Err(Error::Interrupted), Some(raised)) => Err(raised),
        (Err(error), _) => Err(error.into()),
    }
}

/// [`reporting`] for work that has no result when stopped early. `report`, if there is one, is
/// called with the finished share of the work.
///
/// # Errors
/// As [`reporting`], and what was raised in the meantime.
pub fn interruptible<T: Send>(
    py: Python<'_>,
    report: Option<Py<PyAny>>,
    work: impl FnOnce(&mut (dyn FnMut(f64) -> Result<()> + Send)) -> Result<T> + Send,
) -> PyResult<T> {
    let tell = |py: Python<'_>, share: f64| report.as_ref().map_or(Ok(()), |call| call.call1(py, (share,)).map(drop));
    let outcome = reporting(py, tell, work)?;
    match outcome.raised {
        Some(raised) => Err(raised),
        None => Ok(outcome.value),
    }
}

/// Call `work`; a panic becomes an exception.
fn guarded<T: Send>(work: impl FnOnce() -> T + Send) -> PyResult<T> {
    // Nothing that `work` borrows is used after a panic.
    catch_unwind(AssertUnwindSafe(|| fork_safe(work))).unwrap_or_else(|payload| {
        let message = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("a panic without a message");
        Err(internal(message))
    })
}

/// candle, which computes the heads, has threads of its own for large tensors. They live as long as
/// the process and cannot be started again: in the forked child of a process that had started them,
/// the first large tensor would wait forever. With `CANDLE_NUM_THREADS=1` candle starts none.
fn refuse_after_fork() -> PyResult<()> {
    let this = std::process::id();
    let before = COMPUTED_IN.swap(this, Ordering::Relaxed);
    let alone = std::env::var("CANDLE_NUM_THREADS").is_ok_and(|threads| threads.trim() == "1");
    if before == 0 || before == this || alone {
        return Ok(());
    }
    COMPUTED_IN.store(before, Ordering::Relaxed);
    Err(PyRuntimeError::new_err(
        "biorel cannot compute in a forked process after its parent did: the threads do not exist there. Start processes with \
         multiprocessing.get_context(\"spawn\"), or set the environment variable CANDLE_NUM_THREADS=1 before biorel's \
         first computation",
    ))
}

/// Run `work` on a pool that has threads. After `os.fork` (the default of multiprocessing on Linux
/// until Python 3.14) the threads of rayon's global pool are only in the parent, and work given to
/// it would wait forever: `work` then has its own pool.
fn fork_safe<T: Send>(work: impl FnOnce() -> T + Send) -> PyResult<T> {
    if IMPORTED_BY.get().is_none_or(|importer| *importer == std::process::id()) {
        return Ok(work());
    }
    let pool = rayon::ThreadPoolBuilder::new().build();
    let pool = pool.map_err(|error| internal(&format!("no threads could be started after a fork: {error}")))?;
    Ok(pool.install(work))
}
