//! Prediction on documents of any number: reading and cutting into word pieces goes on beside the computation, and what
//! is in memory at a time is bounded by the size of a part.
//!
//! ```text
//! reader: files -> records -> documents -> pairs -> Features --(1 part)--> engine: probabilities --(1 part)--> caller
//! ```
//!
//! Where a part ends depends on the documents alone, so that a run that goes on at the start of a part gives the same
//! parts, to the bit. A document that cannot be used is a [`Failure`] and stops nothing.

mod prepare;
mod reader;

use std::collections::BTreeMap;
use std::path::PathBuf;
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
use crate::ops::compute::{Compute, Job};
use crate::predict::predict;
use crate::{Error, Result};
use prepare::{Prepared, Read, failure, prepare};
use reader::Reader;

/// How documents become pairs, and pairs parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSettings {
    /// The model's name of a type of the files, where they differ in more than capitals.
    pub types: BTreeMap<String, String>,
    /// Documents in a part, at most.
    pub part_documents: usize,
    /// Pairs in a part; only a part of a single document may have more.
    pub part_pairs: usize,
    /// A document with more pairs is a failure.
    pub max_pairs: usize,
    /// Which share of the documents: number `.0`, from 0, of `.1`.
    pub shard: (usize, usize),
    /// Whether documents keep what they were read from, to be written again.
    pub keep_raw: bool,
    /// What computes. As many threads as it has are there for reading.
    pub compute: Compute,
}

impl StreamSettings {
    /// The usual sizes.
    pub fn new(compute: Compute) -> Self {
        Self {
            types: BTreeMap::new(),
            part_documents: 1000,
            part_pairs: 16_384,
            max_pairs: 100_000,
            shard: (0, 1),
            keep_raw: false,
            compute,
        }
    }

    /// # Errors
    /// [`Error::Config`] for a setting out of range.
    fn validate(&self) -> Result<()> {
        let positive = [
            ("part_documents", self.part_documents),
            ("part_pairs", self.part_pairs),
            ("max_pairs", self.max_pairs),
            ("shard", self.shard.1),
        ];
        if let Some((field, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(Error::config(*field, "must be at least 1"));
        }
        if self.shard.0 >= self.shard.1 {
            let message = format!("{} of {} does not exist", self.shard.0 + 1, self.shard.1);
            return Err(Error::config("shard", message));
        }
        Ok(())
    }
}

/// Where a run goes on: a file, and how many of its documents are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub struct Position {
    /// Index of the file.
    pub file: usize,
    /// Documents of it that are done, those of other shards included.
    pub record: usize,
}

/// A document that could not be used, or a file that could not be read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The file.
    pub path: PathBuf,
    /// The line, where it is known.
    pub line: Option<usize>,
    /// The document, where it is known.
    pub document: Option<String>,
    /// Why.
    pub reason: String,
}

/// A candidate pair of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Index in [`Part::documents`].
    pub document: usize,
    /// Number of the sentence in the document.
    pub sentence: usize,
    /// Indices of the document's mentions.
    pub mentions: [usize; 2],
    /// Probability of every label; `None` for a pair whose mentions do not fit into the model's length.
    pub probabilities: Option<Vec<f32>>,
}

/// Some documents with their pairs.
#[derive(Debug, Default)]
pub struct Part {
    /// Those that could be used.
    pub documents: Vec<Document>,
    /// Their pairs, in order.
    pub rows: Vec<Row>,
    /// Those that could not.
    pub failures: Vec<Failure>,
    /// How often something was left out or read otherwise, by what it was.
    pub counts: BTreeMap<String, usize>,
    /// Where the next part starts.
    pub next: Position,
    /// Bytes of the files of this shard that are read, packed as they are.
    pub bytes: u64,
}

/// The computation over all parts, with the weights uploaded once.
struct Classify<'a> {
    model: &'a RelationModel,
    parts: Receiver<Prepared>,
    stop: &'a AtomicBool,
    send: &'a SyncSender<Result<Part>>,
}

impl Job for Classify<'_> {
    type Output = ();

    fn run<O: Ops>(self, ops: &O) -> Result<()> {
        let RelationModel { network, weights, .. } = self.model;
        let params = network.upload(ops, weights)?;
        let stop = self.stop;
        for prepared in self.parts {
            let mut on_batch = |_| if stop.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) };
            let predictions = predict(ops, network, &params, &prepared.features, &mut on_batch)?;
            if self.send.send(Ok(prepared.finish(predictions))).is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// A running prediction. Dropping it stops it.
pub struct Stream {
    parts: Option<Receiver<Result<Part>>>,
    stop: Arc<AtomicBool>,
    worker: Option<JoinHandle<()>>,
}

impl Stream {
    /// Start at a position of the files.
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
                settings.compute.execute(compute)
            });
            if let Err(error) = outcome {
                // Nobody may be listening any more.
                let _ = send.send(Err(error));
            }
        };
        let worker = std::thread::Builder::new().name("biorel-stream".into()).spawn(work);
        let worker = worker.map_err(Error::io("a thread"))?;
        Ok(Self { parts: Some(parts), stop, worker: Some(worker) })
    }

    /// The next part; `Ok(None)` at the end, `Err(Timeout)` if there is none yet.
    ///
    /// # Errors
    /// What stopped the computation.
    pub fn next(&mut self, patience: Duration) -> std::result::Result<Result<Option<Part>>, Timeout> {
        let Some(parts) = &self.parts else { return Ok(Ok(None)) };
        match parts.recv_timeout(patience) {
            Ok(part) => Ok(part.map(Some)),
            Err(RecvTimeoutError::Timeout) => Err(Timeout),
            Err(RecvTimeoutError::Disconnected) => {
                self.parts = None;
                // The channel closes when the worker ends, by a panic as well.
                match self.worker.take().map(JoinHandle::join) {
                    Some(Err(_)) => Ok(Err(Error::Tensor(candle_core::Error::Msg("a worker thread panicked".into())))),
                    _ => Ok(Ok(None)),
                }
            }
        }
    }
}

/// There is no part yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeout;

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.parts = None;
        if let Some(worker) = self.worker.take() {
            // A panic there has been told by `next`, or nobody asks any more.
            let _ = worker.join();
        }
    }
}

/// Classify documents in memory, all of them as one part.
///
/// # Errors
/// [`Error::Corpus`] for a document that cannot be used, unless it is to be kept among the failures, and whatever
/// `on_batch` returns.
pub fn predict_documents(
    model: &RelationModel,
    documents: Vec<Document>,
    settings: &StreamSettings,
    keep_failures: bool,
    on_batch: crate::predict::OnBatch<'_>,
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
    let RelationModel { network, weights, .. } = model;
    let job = crate::predict::Predict { network, weights, features: &prepared.features, on_batch };
    let predictions = settings.compute.execute(job)?;
    Ok(prepared.finish(predictions))
}
