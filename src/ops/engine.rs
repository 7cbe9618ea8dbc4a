//! The choice of an engine at run time, and the threads it computes on.

use rayon::ThreadPoolBuilder;

use super::cpu::bf16::Unit;
use super::{Cpu, Ops, Reference};
use crate::config::{Engine, Precision};
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

/// What computes: an engine, the numbers of its products, and its threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compute {
    engine: Engine,
    bf16: Option<Unit>,
    threads: Option<usize>,
}

impl Compute {
    /// `threads`: one per core if not given.
    ///
    /// # Errors
    /// [`Error::Config`] for a number of threads that cannot be had, or a precision that the engine does not compute in.
    pub fn new(engine: Engine, precision: Precision, threads: Option<usize>) -> Result<Self> {
        if let Some(threads) = threads
            && !(1..=1024).contains(&threads)
        {
            return Err(Error::config("threads", format!("{threads} is out of range; it must be from 1 to 1024")));
        }
        let bf16 = match (engine, precision) {
            (_, Precision::F32) | (Engine::Reference, Precision::Auto) => None,
            (Engine::Cpu, Precision::Auto) => Some(Unit::detect()).filter(|unit| *unit != Unit::Portable),
            (Engine::Cpu, Precision::Bf16) => Some(Unit::detect()),
            (Engine::Reference, Precision::Bf16) => {
                return Err(Error::config("precision", "the reference engine computes in f32 only"));
            }
        };
        Ok(Self { engine, bf16, threads })
    }

    /// The numbers of the products: [`Precision::F32`] or [`Precision::Bf16`].
    pub fn precision(&self) -> Precision {
        if self.bf16.is_some() { Precision::Bf16 } else { Precision::F32 }
    }

    /// The instructions that compute, in words.
    pub fn instructions(&self) -> String {
        match (self.engine, self.bf16) {
            (Engine::Reference, _) => "plain".into(),
            (Engine::Cpu, None) => Cpu::new().level().name().into(),
            (Engine::Cpu, Some(unit)) => format!("{}, {}", Cpu::new().level().name(), unit.name()),
        }
    }

    /// Run `job` in a thread pool of its own.
    ///
    /// # Errors
    /// [`Error::Config`] when the threads cannot be had; whatever the job returns.
    pub fn run<J: Job>(&self, job: J) -> Result<J::Output> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(self.threads.unwrap_or(0)) // 0: RAYON_NUM_THREADS, else one per core
            .thread_name(|i| format!("biorel-{i}"))
            .build()
            .map_err(|e| Error::config("threads", format!("the thread pool could not be started: {e}")))?;
        pool.install(|| match (self.engine, self.bf16) {
            (Engine::Cpu, None) => job.run(&Cpu::new()),
            (Engine::Cpu, Some(unit)) => job.run(&Cpu::with_bf16(unit)?),
            (Engine::Reference, _) => job.run(&Reference::cpu()),
        })
    }
}

/// Run `job` on the engine in f32, in a thread pool of its own: `threads` threads, or one per core.
///
/// # Errors
/// As [`Compute::new`] and [`Compute::run`].
pub fn run<J: Job>(engine: Engine, threads: Option<usize>, job: J) -> Result<J::Output> {
    Compute::new(engine, Precision::F32, threads)?.run(job)
}
