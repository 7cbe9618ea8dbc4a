//! The choice of an engine at run time, and the threads it computes on.

use rayon::ThreadPoolBuilder;

use super::{Cpu, Ops, Reference};
use crate::config::Engine;
use crate::{Error, Result};

/// A computation that any engine can run.
pub trait Job: Send {
    /// What it returns.
    type Output: Send;
    /// Run on `ops`.
    ///
    /// # Errors
    /// Whatever the computation returns.
    fn run<O: Ops>(self, ops: &O) -> Result<Self::Output>;
}

/// Run `job` on the engine, in a thread pool of its own: `threads` threads, or one per core.
///
/// # Errors
/// [`Error::Config`] for a number of threads that cannot be had; whatever the job returns.
pub fn run<J: Job>(engine: Engine, threads: Option<usize>, job: J) -> Result<J::Output> {
    if let Some(threads) = threads
        && !(1..=1024).contains(&threads)
    {
        return Err(Error::config("threads", format!("{threads} is out of range; it must be from 1 to 1024")));
    }
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads.unwrap_or(0)) // 0: RAYON_NUM_THREADS, else one per core
        .thread_name(|i| format!("biorel-{i}"))
        .build()
        .map_err(|e| Error::config("threads", format!("the thread pool could not be started: {e}")))?;
    pool.install(|| match engine {
        Engine::Cpu => job.run(&Cpu::new()),
        Engine::Reference => job.run(&Reference::cpu()),
    })
}
