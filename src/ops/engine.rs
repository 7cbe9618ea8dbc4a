//! The choice of an engine at run time, and the threads it computes on.

use rayon::ThreadPoolBuilder;

use super::cpu::bf16::Unit;
use super::cuda::gpus::usable;
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
    unit: Computing,
    threads: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Computing {
    /// In bf16 by the given unit, or in f32.
    Cpu(Option<Unit>),
    Cuda {
        index: usize,
        bf16: bool,
    },
    Reference,
}

impl Compute {
    /// `threads`: one per core if not given.
    ///
    /// # Errors
    /// [`Error::Config`] for a number of threads that cannot be had, or a precision that the engine does not compute in;
    /// [`Error::Device`] for a GPU that cannot be used.
    pub fn new(engine: Engine, precision: Precision, threads: Option<usize>) -> Result<Self> {
        if let Some(threads) = threads
            && !(1..=1024).contains(&threads)
        {
            return Err(Error::config("threads", format!("{threads} is out of range; it must be from 1 to 1024")));
        }
        let engine = match engine {
            Engine::Auto if usable(0).is_ok() => Engine::Cuda(0),
            Engine::Auto => Engine::Cpu,
            chosen => chosen,
        };
        let unit = match (engine, precision) {
            (Engine::Auto | Engine::Cpu, Precision::F32) => Computing::Cpu(None),
            (Engine::Auto | Engine::Cpu, Precision::Auto) => {
                Computing::Cpu(Some(Unit::detect()).filter(|unit| *unit != Unit::Portable))
            }
            (Engine::Auto | Engine::Cpu, Precision::Bf16) => Computing::Cpu(Some(Unit::detect())),
            (Engine::Cuda(index), _) => {
                usable(index)?;
                Computing::Cuda { index, bf16: precision != Precision::F32 }
            }
            (Engine::Reference, Precision::Auto | Precision::F32) => Computing::Reference,
            (Engine::Reference, Precision::Bf16) => {
                return Err(Error::config("precision", "the reference engine computes in f32 only"));
            }
        };
        Ok(Self { unit, threads })
    }

    /// The engine: never [`Engine::Auto`].
    pub fn engine(&self) -> Engine {
        match self.unit {
            Computing::Cpu(_) => Engine::Cpu,
            Computing::Cuda { index, .. } => Engine::Cuda(index),
            Computing::Reference => Engine::Reference,
        }
    }

    /// Its threads; one per core if `None`.
    pub fn threads(&self) -> Option<usize> {
        self.threads
    }

    /// The numbers of the products: [`Precision::F32`] or [`Precision::Bf16`].
    pub fn precision(&self) -> Precision {
        match self.unit {
            Computing::Cpu(Some(_)) | Computing::Cuda { bf16: true, .. } => Precision::Bf16,
            Computing::Cpu(None) | Computing::Cuda { bf16: false, .. } | Computing::Reference => Precision::F32,
        }
    }

    /// The instructions that compute, in words.
    pub fn instructions(&self) -> String {
        match self.unit {
            Computing::Cpu(None) => Cpu::new().level().name().into(),
            Computing::Cpu(Some(unit)) => format!("{}, {}", Cpu::new().level().name(), unit.name()),
            Computing::Cuda { index, .. } => usable(index).unwrap_or_else(|error| error.to_string()),
            Computing::Reference => "plain".into(),
        }
    }

    /// Run `job` on the engine, on its threads.
    ///
    /// # Errors
    /// [`Error::Config`] when the threads cannot be had; whatever the job returns.
    pub fn run<J: Job>(&self, job: J) -> Result<J::Output> {
        self.within(|| match self.unit {
            Computing::Cpu(None) => job.run(&Cpu::new()),
            Computing::Cpu(Some(unit)) => job.run(&Cpu::with_bf16(unit)?),
            Computing::Cuda { index, bf16 } => on_gpu(index, bf16, job),
            Computing::Reference => job.run(&Reference::cpu()),
        })
    }

    /// Run what comes before a job, such as tokenising, on the threads of this choice: a pool of their own.
    ///
    /// # Errors
    /// [`Error::Config`] when the threads cannot be had; whatever the work returns.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(self.threads.unwrap_or(0)) // 0: RAYON_NUM_THREADS, else one per core
            .thread_name(|i| format!("biorel-{i}"))
            .build()
            .map_err(|e| Error::config("threads", format!("the thread pool could not be started: {e}")))?;
        pool.install(work)
    }
}

#[cfg(feature = "cuda")]
fn on_gpu<J: Job>(index: usize, bf16: bool, job: J) -> Result<J::Output> {
    use super::cuda::device::Element;
    use super::cuda::nvidia::driver;
    use super::cuda::{Cuda, Nvidia};
    let ops = Cuda::new(Nvidia::open(index)?, if bf16 { Element::Bf16 } else { Element::F32 });
    job.run(&ops).map_err(|error| driver::explain(&Engine::Cuda(index).to_string(), error))
}

#[cfg(not(feature = "cuda"))]
fn on_gpu<J: Job>(index: usize, _: bool, _: J) -> Result<J::Output> {
    // A build without CUDA has no usable GPU: `Compute::new` has refused before.
    Err(usable(index).err().unwrap_or_else(|| Error::device("cuda", "this build of biorel has no CUDA part")))
}

/// Run `job` on the engine in f32, in a thread pool of its own: `threads` threads, or one per core.
///
/// # Errors
/// As [`Compute::new`] and [`Compute::run`].
pub fn run<J: Job>(engine: Engine, threads: Option<usize>, job: J) -> Result<J::Output> {
    Compute::new(engine, Precision::F32, threads)?.run(job)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_before_a_job_is_bounded_by_the_threads_too() {
        for threads in [1, 3] {
            let compute = Compute::new(Engine::Cpu, Precision::F32, Some(threads)).unwrap();
            assert_eq!(compute.within(|| Ok(rayon::current_num_threads())).unwrap(), threads);
        }
    }
}
