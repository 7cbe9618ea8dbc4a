//! The choice of an engine at run time, and the threads that it computes on.

use rayon::ThreadPoolBuilder;

use super::cpu::bf16::Bf16Isa;
use super::cuda::gpus::usable;
use super::kept::{Kept, Origin};
use super::resolved::Resolved;
use super::{Cpu, Ops, Reference};
use crate::config::{Backend, Precision};
use crate::{Error, Result};

pub use super::kept::KeptJob;

/// A computation that any engine can run.
pub trait Job: Send {
    /// The result.
    type Output: Send;
    /// Run on `ops`.
    ///
    /// # Errors
    /// Errors of the computation.
    fn run<O: Ops>(self, ops: &O) -> Result<Self::Output>;
}

impl<J: KeptJob> Job for J {
    type Output = J::Output;

    fn run<O: Ops>(self, ops: &O) -> Result<J::Output> {
        let arrays = self.load(ops)?;
        self.run_with(ops, &arrays)
    }
}

/// An engine, the precision of its matrix products, and its threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compute {
    backend: Resolved,
    threads: Option<usize>,
}

impl Compute {
    /// `threads`: `None` for one per core.
    ///
    /// # Errors
    /// [`Error::Config`] for a number of threads that cannot be started, or a precision that the
    /// engine does not support; [`Error::Device`] for a GPU that cannot be used.
    pub fn new(backend: Backend, precision: Precision, threads: Option<usize>) -> Result<Self> {
        if let Some(threads) = threads
            && !(1..=1024).contains(&threads)
        {
            return Err(Error::config("threads", format!("{threads} is out of range; it must be from 1 to 1024")));
        }
        let backend = match backend {
            Backend::Auto if usable(0).is_ok() => Backend::Cuda(0),
            Backend::Auto => Backend::Cpu,
            chosen => chosen,
        };
        let backend = match (backend, precision) {
            (Backend::Auto | Backend::Cpu, Precision::F32) => Resolved::Cpu(None),
            (Backend::Auto | Backend::Cpu, Precision::Auto) => {
                Resolved::Cpu(Some(Bf16Isa::detect()).filter(|isa| *isa != Bf16Isa::Portable))
            }
            (Backend::Auto | Backend::Cpu, Precision::Bf16) => Resolved::Cpu(Some(Bf16Isa::detect())),
            (Backend::Cuda(index), _) => {
                usable(index)?;
                Resolved::Cuda { index, bf16: precision != Precision::F32 }
            }
            (Backend::Reference, Precision::Auto | Precision::F32) => Resolved::Reference,
            (Backend::Reference, Precision::Bf16) => {
                return Err(Error::config("precision", "the reference engine computes in f32 only"));
            }
        };
        Ok(Self { backend, threads })
    }

    /// The backend: never [`Backend::Auto`].
    pub fn backend(&self) -> Backend {
        match self.backend {
            Resolved::Cpu(_) => Backend::Cpu,
            Resolved::Cuda { index, .. } => Backend::Cuda(index),
            Resolved::Reference => Backend::Reference,
        }
    }

    /// Its threads; one per core if `None`.
    pub fn threads(&self) -> Option<usize> {
        self.threads
    }

    /// The precision of the matrix products: [`Precision::F32`] or [`Precision::Bf16`].
    pub fn precision(&self) -> Precision {
        match self.backend {
            Resolved::Cpu(Some(_)) | Resolved::Cuda { bf16: true, .. } => Precision::Bf16,
            Resolved::Cpu(None) | Resolved::Cuda { bf16: false, .. } | Resolved::Reference => Precision::F32,
        }
    }

    /// Describe the instructions that compute.
    pub fn instructions(&self) -> String {
        match self.backend {
            Resolved::Cpu(None) => Cpu::new().level().name().into(),
            Resolved::Cpu(Some(isa)) => format!("{}, {}", Cpu::new().level().name(), isa.name()),
            Resolved::Cuda { index, .. } => usable(index).unwrap_or_else(|error| error.to_string()),
            Resolved::Reference => "plain".into(),
        }
    }

    /// Run `job` on the engine, on its threads.
    ///
    /// # Errors
    /// [`Error::Config`] when the threads cannot be started; errors of the job.
    pub fn execute<J: Job>(&self, job: J) -> Result<J::Output> {
        self.within(|| match self.backend {
            Resolved::Cpu(None) => job.run(&Cpu::new()),
            Resolved::Cpu(Some(isa)) => job.run(&Cpu::with_bf16(isa)?),
            Resolved::Cuda { index, bf16 } => on_gpu(index, bf16, job),
            Resolved::Reference => job.run(&Reference::cpu()),
        })
    }

    /// As [`Compute::execute`], on the engine that an earlier call left in `kept` with the arrays of
    /// `origin`, if there is one.
    ///
    /// # Errors
    /// As [`Compute::execute`].
    pub fn execute_kept<J: KeptJob>(&self, kept: &Kept, origin: Origin, job: J) -> Result<J::Output> {
        let of = self.backend;
        self.within(|| match of {
            Resolved::Cpu(None) => kept.run(of, origin, job, || Ok(Cpu::new())),
            Resolved::Cpu(Some(isa)) => kept.run(of, origin, job, || Cpu::with_bf16(isa)),
            Resolved::Cuda { index, bf16 } => kept_on_gpu(index, bf16, (kept, of, origin), job),
            Resolved::Reference => kept.run(of, origin, job, || Ok(Reference::cpu())),
        })
    }

    /// Run work that precedes a job, such as tokenising, in a pool with as many threads.
    ///
    /// # Errors
    /// [`Error::Config`] when the threads cannot be started; errors of the work.
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
fn open_gpu(index: usize, bf16: bool) -> Result<super::cuda::Cuda<super::cuda::Nvidia>> {
    use super::cuda::device::Dtype;
    use super::cuda::{Cuda, Nvidia};
    Ok(Cuda::new(Nvidia::open(index)?, if bf16 { Dtype::Bf16 } else { Dtype::F32 }))
}

#[cfg(feature = "cuda")]
fn explained<T>(index: usize, result: Result<T>) -> Result<T> {
    result.map_err(|error| super::cuda::nvidia::driver::explain(&Backend::Cuda(index).to_string(), error))
}

#[cfg(feature = "cuda")]
fn on_gpu<J: Job>(index: usize, bf16: bool, job: J) -> Result<J::Output> {
    let ops = open_gpu(index, bf16)?;
    explained(index, job.run(&ops))
}

#[cfg(feature = "cuda")]
fn kept_on_gpu<J: KeptJob>(
    index: usize,
    bf16: bool,
    (kept, of, origin): (&Kept, Resolved, Origin),
    job: J,
) -> Result<J::Output> {
    explained(index, kept.run(of, origin, job, || open_gpu(index, bf16)))
}

#[cfg(not(feature = "cuda"))]
fn kept_on_gpu<J: KeptJob>(index: usize, bf16: bool, _: (&Kept, Resolved, Origin), job: J) -> Result<J::Output> {
    on_gpu(index, bf16, job)
}

#[cfg(not(feature = "cuda"))]
fn on_gpu<J: Job>(index: usize, _: bool, _: J) -> Result<J::Output> {
    // Without CUDA, `Compute::new` has already refused every GPU.
    Err(usable(index).err().unwrap_or_else(|| Error::device("cuda", "this build of biorel has no CUDA part")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_before_a_job_is_bounded_by_the_threads_too() {
        for threads in [1, 3] {
            let compute = Compute::new(Backend::Cpu, Precision::F32, Some(threads)).unwrap();
            assert_eq!(compute.within(|| Ok(rayon::current_num_threads())).unwrap(), threads);
        }
    }
}
