//! The one door between Python and the core: it releases the interpreter's lock while the core works, looks for Ctrl-C,
//! and turns a panic into an exception, so that none ever reaches Python.

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

/// How often Ctrl-C is looked for while the core has no news.
const PATIENCE: Duration = Duration::from_millis(50);

/// The process that imported the extension.
static HOME: OnceLock<u32> = OnceLock::new();

/// The process whose computations started candle's own threads; 0 before any.
static COMPUTED: AtomicU32 = AtomicU32::new(0);

/// Remember the process; called once, on import.
pub fn settle() {
    HOME.get_or_init(std::process::id);
}

/// Run `work`, which is short, without the interpreter's lock.
///
/// # Errors
/// The core's error, mapped; a panic becomes a `BiorelError` that asks for a report.
pub fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    py.detach(|| guarded(work))?.map_err(PyErr::from)
}

/// What long work came to: its result, and what was raised meanwhile.
pub struct Outcome<T> {
    /// The result; of work that was stopped early, what it had by then.
    pub value: T,
    /// `KeyboardInterrupt`, or what the report raised.
    pub raised: Option<PyErr>,
}

/// Run long `work` in a thread of its own. `work` receives a function for its news, to be called often: it answers
/// [`Error::Interrupted`] once the work should stop. Python lets only the calling thread handle signals, so that thread
/// waits here, calls `report` with the news and handles Ctrl-C within [`PATIENCE`].
///
/// # Errors
/// The core's error, or what was raised meanwhile if the core could make nothing of it; else as [`detached`].
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
                    work(&mut move |news| {
                        // The receiver outlives the worker.
                        let _ = sender.send(news);
                        if stop.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
                    })
                })
            });
            loop {
                let news = match receiver.recv_timeout(PATIENCE) {
                    Ok(news) => Some(news),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => break,
                };
                if raised.is_some() {
                    continue;
                }
                let said = Python::attach(|py| {
                    py.check_signals()?;
                    news.map_or(Ok(()), |news| report(py, news))
                });
                if let Err(error) = said {
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

/// [`reporting`] for work that has nothing to show for itself when stopped early.
///
/// # Errors
/// As [`reporting`], and what was raised meanwhile.
pub fn interruptible<T: Send>(
    py: Python<'_>,
    work: impl FnOnce(&mut (dyn FnMut(usize) -> Result<()> + Send)) -> Result<T> + Send,
) -> PyResult<T> {
    let outcome = reporting(py, |_, _: usize| Ok(()), work)?;
    match outcome.raised {
        Some(raised) => Err(raised),
        None => Ok(outcome.value),
    }
}

/// Call `work`; a panic comes back as an exception.
fn guarded<T: Send>(work: impl FnOnce() -> T + Send) -> PyResult<T> {
    // Nothing that `work` had borrowed is looked at after a panic: the values are dropped with the error.
    catch_unwind(AssertUnwindSafe(|| at_home(work))).unwrap_or_else(|payload| {
        let message = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("a panic without a message");
        Err(internal(message))
    })
}

/// candle, which computes the heads, keeps threads of its own for large tensors, for the life of a process and without a
/// way to start them again. In the child of a process that had started them, the first large tensor would wait for ever.
/// With `CANDLE_NUM_THREADS=1` it never starts any.
fn refuse_after_fork() -> PyResult<()> {
    let this = std::process::id();
    let before = COMPUTED.swap(this, Ordering::Relaxed);
    let alone = std::env::var("CANDLE_NUM_THREADS").is_ok_and(|threads| threads.trim() == "1");
    if before == 0 || before == this || alone {
        return Ok(());
    }
    COMPUTED.store(before, Ordering::Relaxed);
    Err(PyRuntimeError::new_err(
        "biorel cannot compute in a forked process after its parent did: their threads are not there. Start processes with \
         multiprocessing.get_context(\"spawn\"), or set the environment variable CANDLE_NUM_THREADS=1 before biorel's \
         first computation",
    ))
}

/// After `os.fork` (multiprocessing's way on Linux until Python 3.14) rayon's own pool is there in name only: its threads
/// stayed with the parent, and who gives it work waits for ever. There, `work` gets a pool for itself.
fn at_home<T: Send>(work: impl FnOnce() -> T + Send) -> PyResult<T> {
    if HOME.get().is_none_or(|home| *home == std::process::id()) {
        return Ok(work());
    }
    let pool = rayon::ThreadPoolBuilder::new().build();
    let pool = pool.map_err(|error| internal(&format!("no threads could be started after a fork: {error}")))?;
    Ok(pool.install(work))
}
