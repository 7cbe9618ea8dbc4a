//! Engines that stay open between computations, with the arrays of a model on them.
//!
//! A model has a [`Kept`]. A call takes the engine out and puts it back, so a concurrent call opens
//! one of its own, and one that fails leaves none. All models of a process together keep
//! [`LIMIT`] bytes of arrays; what was used least recently is dropped first.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::Ops;
use super::resolved::Resolved;
use crate::Result;

/// Bytes of arrays that are kept: those of four models of BERT-base's size. The last one is kept
/// whatever its size.
const LIMIT: usize = 2 << 30;

/// A computation over arrays that stay on the engine: see [`execute_kept`](super::compute::Compute::execute_kept).
pub trait KeptJob: Send {
    /// The result.
    type Output: Send;
    /// Copy the arrays to the engine.
    ///
    /// # Errors
    /// When the engine refuses, for instance for lack of memory.
    fn load<O: Ops>(&self, ops: &O) -> Result<Vec<O::Buffer>>;
    /// Bytes of the arrays.
    fn bytes(&self) -> usize;
    /// Run on `ops`, which has the arrays.
    ///
    /// # Errors
    /// Errors of the computation.
    fn run_with<O: Ops>(self, ops: &O, arrays: &[O::Buffer]) -> Result<Self::Output>;
}

/// What arrays are copies of. It stays alive, and unchanged, as long as they do.
pub type Origin = Arc<dyn Any + Send + Sync>;

/// The engines of a model, with its arrays: one for each device and precision. Dropping it frees
/// them; a clone starts without.
pub struct Kept {
    engines: Arc<Engines>,
    all: &'static All,
}

impl Default for Kept {
    fn default() -> Self {
        static ALL: All = All { known: Mutex::new(VecDeque::new()), limit: LIMIT };
        Self { engines: Arc::default(), all: &ALL }
    }
}

impl Clone for Kept {
    fn clone(&self) -> Self {
        Self { engines: Arc::default(), all: self.all }
    }
}

/// Its content does not affect results.
impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

#[derive(Default)]
struct Engines(Mutex<Vec<Entry>>);

struct Entry {
    of: Resolved,
    origin: Origin,
    /// The process that opened it.
    process: u32,
    /// An [`Open`].
    engine: ManuallyDrop<Box<dyn Any + Send>>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        // A forked process has neither the threads nor the device's context of its parent.
        if self.process == std::process::id() {
            // SAFETY: dropped here only, and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.engine) };
        }
    }
}

/// Dropped in this order: memory goes back to an engine that is still there.
struct Open<O: Ops> {
    arrays: Vec<O::Buffer>,
    ops: O,
}

/// What all models of the process keep, the one that was used last at the end.
struct All {
    known: Mutex<VecDeque<Record>>,
    limit: usize,
}

struct Record {
    engines: Weak<Engines>,
    of: Resolved,
    bytes: usize,
}

fn lock<T>(values: &Mutex<T>) -> MutexGuard<'_, T> {
    // The lock only guards lists that no panic leaves half-changed.
    values.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kept {
    /// Run `job` on the engine that is kept for `of` with the arrays of `origin`, or on a new one.
    pub(super) fn run<O: Ops + 'static, J: KeptJob>(
        &self,
        of: Resolved,
        origin: Origin,
        job: J,
        open: impl FnOnce() -> Result<O>,
    ) -> Result<J::Output> {
        let open = match self.take::<O>(of, &origin) {
            Some(open) => open,
            None => {
                let ops = open()?;
                Open { arrays: job.load(&ops)?, ops }
            }
        };
        let bytes = job.bytes();
        let output = job.run_with(&open.ops, &open.arrays)?;
        open.ops.trim();
        let engine = ManuallyDrop::new(Box::new(open) as Box<dyn Any + Send>);
        self.put(Entry { of, origin, process: std::process::id(), engine }, bytes);
        Ok(output)
    }

    fn take<O: Ops + 'static>(&self, of: Resolved, origin: &Origin) -> Option<Open<O>> {
        let mut entries = lock(&self.engines.0);
        let entry = entries.iter().position(|entry| entry.of == of).map(|index| entries.swap_remove(index))?;
        drop(entries);
        if entry.process != std::process::id() || !Arc::ptr_eq(&entry.origin, origin) {
            return None;
        }
        let mut entry = ManuallyDrop::new(entry);
        // SAFETY: the entry is not dropped, so its engine is taken once; its origin is dropped once, here.
        let (engine, origin) =
            unsafe { (ManuallyDrop::take(&mut entry.engine), std::ptr::read(&raw const entry.origin)) };
        drop(origin);
        engine.downcast().ok().map(|open| *open)
    }

    fn put(&self, entry: Entry, bytes: usize) {
        let of = entry.of;
        let mut entries = lock(&self.engines.0);
        // A concurrent call may have been faster.
        let surplus = match entries.iter().any(|other| other.of == of) {
            true => Some(entry),
            false => {
                entries.push(entry);
                None
            }
        };
        drop(entries);
        drop(surplus);
        // Memory is freed without the locks.
        drop(self.all.used(&self.engines, of, bytes));
    }
}

impl All {
    /// The entries to be dropped now that this one was used.
    fn used(&self, engines: &Arc<Engines>, of: Resolved, bytes: usize) -> Vec<Entry> {
        let mut known = lock(&self.known);
        let this = Arc::downgrade(engines);
        known.retain(|other| other.engines.strong_count() > 0 && (other.of != of || !other.engines.ptr_eq(&this)));
        known.push_back(Record { engines: this, of, bytes });
        let mut total: usize = known.iter().map(|record| record.bytes).sum();
        let mut dropped = Vec::new();
        while total > self.limit && known.len() > 1 {
            let Some(oldest) = known.pop_front() else { break };
            total -= oldest.bytes;
            if let Some(engines) = oldest.engines.upgrade() {
                let mut entries = lock(&engines.0);
                let found = entries.iter().position(|entry| entry.of == oldest.of);
                dropped.extend(found.map(|index| entries.swap_remove(index)));
            }
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::Error;
    use crate::ops::Cpu;

    const CPU: Resolved = Resolved::Cpu(None);

    /// Copies 1,000 numbers to the engine, counts how often, and returns the first.
    struct First<'a> {
        value: f32,
        loads: &'a AtomicUsize,
    }

    impl KeptJob for First<'_> {
        type Output = f32;

        fn load<O: Ops>(&self, ops: &O) -> Result<Vec<O::Buffer>> {
            self.loads.fetch_add(1, Ordering::Relaxed);
            Ok(vec![ops.upload(&[self.value; 1000], &[1000])?])
        }

        fn bytes(&self) -> usize {
            4000
        }

        fn run_with<O: Ops>(self, ops: &O, arrays: &[O::Buffer]) -> Result<f32> {
            let first = ops.download(&arrays[0])?[0];
            if first < 0.0 { Err(Error::Interrupted) } else { Ok(first) }
        }
    }

    struct Model {
        kept: Kept,
        weights: Arc<f32>,
        cpu: Cpu,
        loads: AtomicUsize,
    }

    impl Model {
        fn new(value: f32, all: Option<&'static All>) -> Self {
            let kept = Kept::default();
            let kept = Kept { all: all.unwrap_or(kept.all), ..kept };
            Self { kept, weights: Arc::new(value), cpu: Cpu::new(), loads: AtomicUsize::new(0) }
        }

        fn run(&self, of: Resolved) -> Result<f32> {
            let job = First { value: *self.weights, loads: &self.loads };
            self.kept.run(of, self.weights.clone(), job, || Ok(self.cpu.clone()))
        }

        fn loads(&self) -> usize {
            self.loads.load(Ordering::Relaxed)
        }

        /// Bytes of its engine's arrays.
        fn live(&self) -> usize {
            self.cpu.memory().0
        }
    }

    fn all(limit: usize) -> Option<&'static All> {
        Some(Box::leak(Box::new(All { known: Mutex::default(), limit })))
    }

    #[test]
    fn arrays_are_copied_once_for_each_engine_and_freed_with_the_model() {
        let model = Model::new(2.0, all(100_000));
        for (of, loads) in [(CPU, 1), (CPU, 1), (Resolved::Reference, 2), (CPU, 2), (Resolved::Reference, 2)] {
            assert_eq!((model.run(of).unwrap(), model.loads()), (2.0, loads));
        }
        let (live, idle) = model.cpu.memory();
        assert!(live >= 4000 && idle == 0, "{live} {idle}");
        let copy = Model { kept: model.kept.clone(), ..Model::new(3.0, None) };
        assert_eq!((copy.run(CPU).unwrap(), copy.loads()), (3.0, 1));
        let Model { kept, cpu, .. } = model;
        drop(kept);
        assert_eq!(cpu.memory().0, 0);
    }

    #[test]
    fn other_weights_are_never_those_of_before() {
        let mut model = Model::new(2.0, all(100_000));
        model.run(CPU).unwrap();
        *Arc::make_mut(&mut model.weights) = 5.0;
        assert_eq!(model.run(CPU).unwrap(), 5.0);
        model.weights = Arc::new(7.0);
        assert_eq!((model.run(CPU).unwrap(), model.loads()), (7.0, 3));
    }

    #[test]
    fn an_engine_that_failed_is_not_used_again() {
        let model = Model::new(-1.0, all(100_000));
        assert!(model.run(CPU).is_err() && model.run(CPU).is_err());
        assert_eq!((model.loads(), model.live()), (2, 0));
    }

    #[test]
    fn the_models_that_were_used_least_recently_make_room() {
        let limited = all(9000);
        let models = [1.0, 2.0, 3.0].map(|value| Model::new(value, limited));
        for (model, value) in [(0, 1.0), (1, 2.0), (0, 1.0), (2, 3.0), (0, 1.0)] {
            assert_eq!(models[model].run(CPU).unwrap(), value);
        }
        assert_eq!(models.each_ref().map(Model::loads), [1, 1, 1]);
        assert_eq!(models.each_ref().map(|model| model.live() > 0), [true, false, true]);
        let single = Model::new(4.0, all(100));
        assert_eq!((single.run(CPU).unwrap(), single.run(CPU).unwrap(), single.loads()), (4.0, 4.0, 1));
    }

    #[test]
    fn calls_at_the_same_time_have_an_engine_each() {
        /// Runs `First` of a model inside of its own run.
        struct Nested<'a>(&'a Model);

        impl KeptJob for Nested<'_> {
            type Output = f32;

            fn load<O: Ops>(&self, ops: &O) -> Result<Vec<O::Buffer>> {
                First { value: 1.0, loads: &self.0.loads }.load(ops)
            }

            fn bytes(&self) -> usize {
                4000
            }

            fn run_with<O: Ops>(self, ops: &O, arrays: &[O::Buffer]) -> Result<f32> {
                Ok(self.0.run(CPU)? + ops.download(&arrays[0])?[0])
            }
        }
        let model = Model::new(1.0, all(100_000));
        let run = || model.kept.run(CPU, model.weights.clone(), Nested(&model), || Ok(model.cpu.clone()));
        assert_eq!((run().unwrap(), model.loads()), (2.0, 2));
        assert!((4000..8000).contains(&model.live()), "one of them is kept: {}", model.live());
    }

    #[test]
    fn what_another_process_opened_is_neither_used_nor_freed() {
        let model = Model::new(2.0, all(100_000));
        model.run(CPU).unwrap();
        lock(&model.kept.engines.0)[0].process += 1;
        assert_eq!((model.run(CPU).unwrap(), model.loads()), (2.0, 2));
        assert!(model.live() >= 8000, "{}", model.live());
    }
}
