//! Prediction on any number of documents. They are read and split into word pieces while the engine
//! computes; memory is bounded by the size of a part.
//!
//! ```text
//! reader: files -> records -> documents -> pairs -> Features --(1 part)--> engine: probabilities --(1 part)--> caller
//! ```
//!
//! Where a part ends depends on the documents alone, so that a run that resumes at the start of a
//! part gives the same parts, bit for bit. A document that cannot be used is a [`Failure`], and the
//! run continues.

mod parts;
mod prepare;
mod reader;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rayon::ThreadPoolBuilder;
use rayon::prelude::*;

use crate::corpus::documents::{Document, Input};
use crate::model::RelationModel;
use crate::ops::Ops;
use crate::ops::compute::KeptJob;
use crate::predict::{OnBatch, Predict, predict};
use crate::{Error, Result};
use prepare::{Prepared, Read, failure, prepare};
use reader::Reader;

pub use parts::{Failure, Part, Position, Row, StreamSettings};

/// The computation over all parts, with the weights uploaded once.
struct Classify<'a> {
    model: &'a RelationModel,
    parts: Receiver<Prepared>,
    stop: &'a AtomicBool,
    send: &'a SyncSender<Result<Part>>,
}

impl KeptJob for Classify<'_> {
    type Output = ();

    fn load<O: Ops>(&self, ops: &O) -> Result<Vec<O::Buffer>> {
        self.model.weights.upload(ops)
    }

    fn bytes(&self) -> usize {
        self.model.weights.bytes()
    }

    fn run_with<O: Ops>(self, ops: &O, params: &[O::Buffer]) -> Result<()> {
        let network = &self.model.network;
        let stop = self.stop;
        for prepared in self.parts {
            let mut on_batch = |_| if stop.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) };
            let predictions = predict(ops, network, params, &prepared.features, &mut on_batch)?;
            if self.send.send(Ok(prepared.finish(predictions))).is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// A running prediction. Dropping it stops it.
pub struct DocumentStream {
    parts: Option<Receiver<Result<Part>>>,
    stop: Arc<AtomicBool>,
    worker: Option<JoinHandle<()>>,
}

impl DocumentStream {
    /// Start at a position in the files.
    ///
    /// # Errors
    /// [`Error::Config`] for a setting out of range.
    pub fn start(
        model: Arc<RelationModel>,
        inputs: Vec<Input>,
        start: Position,
        settings: StreamSettings,
    ) -> Result<Self> {
        settings.validate()?;
        let pool = ThreadPoolBuilder::new()
            .num_threads(settings.compute.threads().unwrap_or(0))
            .thread_name(|number| format!("biorel-reader-{number}"))
            .build()
            .map_err(|error| Error::config("threads", format!("the thread pool could not be started: {error}")))?;
        let (send, parts) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let work = move || {
            let (model, settings, stop) = (&*model, &settings, &*stopped);
            let (prepared_send, prepared) = sync_channel(1);
            let outcome = std::thread::scope(|scope| {
                scope.spawn(move || {
                    let (send, part) = (&prepared_send, Prepared::empty(start));
                    let inputs = &inputs;
                    Reader { inputs, start, model, settings, stop, send, pool, part, done: 0 }.run()
                });
                let compute = Classify { model, parts: prepared, stop, send: &send };
                settings.compute.execute_kept(&model.kept, model.weights.clone(), compute)
            });
            if let Err(error) = outcome {
                // The receiver may have been dropped.
                let _ = send.send(Err(error));
            }
        };
        let worker = std::thread::Builder::new().name("biorel-stream".into()).spawn(work);
        let worker = worker.map_err(Error::io("a thread"))?;
        Ok(Self { parts: Some(parts), stop, worker: Some(worker) })
    }

    /// The next part; `Ok(None)` at the end, `Err(Timeout)` if it is not ready.
    ///
    /// # Errors
    /// The error that stopped the computation.
    pub fn next(&mut self, timeout: Duration) -> std::result::Result<Result<Option<Part>>, Timeout> {
        let Some(parts) = &self.parts else { return Ok(Ok(None)) };
        match parts.recv_timeout(timeout) {
            Ok(part) => Ok(part.map(Some)),
            Err(RecvTimeoutError::Timeout) => Err(Timeout),
            Err(RecvTimeoutError::Disconnected) => {
                self.parts = None;
                // The channel closes when the worker ends, also by a panic.
                match self.worker.take().map(JoinHandle::join) {
                    Some(Err(_)) => Ok(Err(Error::Tensor(candle_core::Error::Msg("a worker thread panicked".into())))),
                    _ => Ok(Ok(None)),
                }
            }
        }
    }
}

/// The next part is not ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeout;

impl Drop for DocumentStream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.parts = None;
        if let Some(worker) = self.worker.take() {
            // A panic of the worker has been reported by `next`, or nobody will ask for it.
            let _ = worker.join();
        }
    }
}

/// Classify documents in memory, all of them as one part.
///
/// # Errors
/// [`Error::Corpus`] for a document that cannot be used, unless `keep_failures` collects it, and
/// whatever `on_batch` returns.
pub fn predict_documents(
    model: &RelationModel,
    documents: Vec<Document>,
    settings: &StreamSettings,
    keep_failures: bool,
    on_batch: OnBatch<'_>,
) -> Result<Part> {
    settings.validate()?;
    let names: Vec<String> = documents.iter().map(|document| document.id.clone()).collect();
    let read: Vec<Result<Read>> = settings
        .compute
        .within(|| Ok(documents.into_par_iter().map(|document| prepare(document, model, settings)).collect()))?;
    let mut prepared = Prepared::empty(Position::default());
    for (one, name) in read.into_iter().zip(names) {
        match one {
            Err(error) if !keep_failures => return Err(error),
            one => prepared.add(one.map_err(|error| Failure { document: Some(name), ..failure(error) })),
        }
    }
    let RelationModel { network, weights, kept, .. } = model;
    let job = Predict { network, weights, features: &prepared.features, on_batch };
    let predictions = settings.compute.execute_kept(kept, weights.clone(), job)?;
    Ok(prepared.finish(predictions))
}
