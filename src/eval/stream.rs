//! Prediction on documents of any number: reading and cutting into word pieces goes on beside the computation, and what
//! is in memory at a time is bounded by the size of a part.
//!
//! ```text
//! reader: files -> records -> documents -> pairs -> Features --(1 part)--> engine: probabilities --(1 part)--> caller
//! ```
//!
//! Where a part ends depends on the documents alone, so that a run that goes on at the start of a part gives the same
//! parts, to the bit. A document that cannot be used is a [`Failure`] and stops nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::predict::{Prediction, predict};
use crate::corpus::documents::{Document, Input, Record, RecordResult, Records};
use crate::encode::{Features, mark_arguments};
use crate::model::RelationModel;
use crate::ops::Ops;
use crate::ops::engine::{Compute, Job};
use crate::{Error, Result};

/// Documents that are parsed together, in parallel.
const CHUNK: usize = 64;
/// Bytes of documents that are parsed together.
const CHUNK_BYTES: usize = 4 << 20;
/// With so many files for each shard, whole files are dealt out, so that no shard reads them all.
const FILES_PER_SHARD: usize = 8;

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

/// A part on its way to the engine.
struct Prepared {
    part: Part,
    /// Of the rows that fit; `fits[i]` is the row of `features[i]`.
    features: Vec<Features>,
    fits: Vec<usize>,
}

/// One document on its way.
struct Read {
    document: Document,
    rows: Vec<Row>,
    features: Vec<Option<Features>>,
    counts: BTreeMap<String, usize>,
}

/// Types of the files and the model's names for them.
struct Types<'a> {
    given: &'a BTreeMap<String, String>,
    known: BTreeSet<&'a str>,
}

impl<'a> Types<'a> {
    fn new(model: &'a RelationModel, given: &'a BTreeMap<String, String>) -> Self {
        let rules = &model.card.task.candidates.rules;
        let known = rules.iter().flat_map(|(first, second)| first.iter().chain(second)).map(String::as_str).collect();
        Self { given, known }
    }

    /// The model's name: the given one, the same, or the only one that differs in capitals alone.
    fn resolve(&self, kind: &'a str) -> &'a str {
        if let Some(given) = self.given.get(kind) {
            return given;
        }
        if self.known.contains(kind) {
            return kind;
        }
        let mut alike = self.known.iter().filter(|known| known.eq_ignore_ascii_case(kind));
        match (alike.next(), alike.next()) {
            (Some(only), None) => only,
            _ => kind,
        }
    }
}

/// The pairs of a document as word pieces.
fn prepare(document: Document, model: &RelationModel, settings: &StreamSettings) -> Result<Read> {
    let card = &model.card;
    let types = Types::new(model, &settings.types);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut count = |what: String| *counts.entry(what).or_default() += 1;
    let (mut sentences, findings) = document.sentences();
    for finding in document.findings.iter().chain(&findings) {
        count(format!("{}: {}", finding.kind.name(), finding.reason));
    }
    let fail = |message: String| {
        let Document { id, origin, .. } = &document;
        Error::Corpus {
            path: origin.path.clone(),
            line: (origin.line > 0).then_some(origin.line),
            message: format!("document {id}: {message}"),
        }
    };
    let mut pairs = Vec::new();
    for (number, sentence) in sentences.iter_mut().enumerate() {
        for (entity, &index) in sentence.sentence.entities.iter_mut().zip(&sentence.mentions) {
            let kind = types.resolve(&document.mentions[index].kind);
            if !card.task.candidates.know(kind) {
                count(format!("skipped: an entity of type {kind:?}, which the model does not know, forms no pair"));
            }
            kind.clone_into(&mut entity.kind);
        }
        if pairs.len() + card.task.candidates.count(&sentence.sentence) > settings.max_pairs {
            let message = format!("more than {} pairs; raise max_pairs to have them classified", settings.max_pairs);
            return Err(fail(message));
        }
        pairs.extend(sentence.candidates(&card.task.candidates).into_iter().map(|pair| (number, pair)));
    }
    let (mut rows, mut features) = (Vec::with_capacity(pairs.len()), Vec::with_capacity(pairs.len()));
    for (number, arguments) in pairs {
        let sentence = &sentences[number];
        let encode = || {
            let instance = mark_arguments(&sentence.sentence, arguments, "", None, &card.task, card.marking)?;
            model.tokenizer.features(&instance, card.training.max_length, card.training.too_long)
        };
        let encoded = encode().map_err(|error| match error {
            // Its place is the instance, which the user has never seen.
            Error::Corpus { message, .. } => fail(message),
            error => error,
        })?;
        match &encoded {
            None => count("skipped: a pair whose entities do not fit into the model's length is not classified".into()),
            Some(features) if features.cut > 0 => count("repaired: a long sentence is cut to a window".into()),
            Some(_) => {}
        }
        let mentions = [sentence.mentions[arguments.0], sentence.mentions[arguments.1]];
        rows.push(Row { document: 0, sentence: number, mentions, probabilities: None });
        features.push(encoded);
    }
    Ok(Read { document, rows, features, counts })
}

/// Parse and prepare.
fn parse(record: Record, model: &RelationModel, settings: &StreamSettings) -> std::result::Result<Read, Failure> {
    let mut name = None;
    let read = Document::parse(record).and_then(|mut document| {
        if !settings.keep_raw {
            document.origin.raw = None;
        }
        name = Some(document.id.clone());
        prepare(document, model, settings)
    });
    read.map_err(|error| Failure { document: name, ..failure(error) })
}

fn failure(error: Error) -> Failure {
    match error {
        Error::Corpus { path, line, message } => Failure { path, line, document: None, reason: message },
        Error::Io { path, source } => Failure { path, line: None, document: None, reason: source.to_string() },
        error => Failure { path: PathBuf::new(), line: None, document: None, reason: error.to_string() },
    }
}

impl Prepared {
    fn empty(next: Position) -> Self {
        Self { part: Part { next, ..Part::default() }, features: Vec::new(), fits: Vec::new() }
    }

    fn documents(&self) -> usize {
        self.part.documents.len() + self.part.failures.len()
    }

    fn add(&mut self, read: std::result::Result<Read, Failure>) {
        match read {
            Err(failure) => self.part.failures.push(failure),
            Ok(Read { document, rows, features, counts }) => {
                let number = self.part.documents.len();
                for (row, features) in rows.into_iter().zip(features) {
                    if let Some(features) = features {
                        self.fits.push(self.part.rows.len());
                        self.features.push(features);
                    }
                    self.part.rows.push(Row { document: number, ..row });
                }
                self.part.documents.push(document);
                for (what, count) in counts {
                    *self.part.counts.entry(what).or_default() += count;
                }
            }
        }
    }

    fn finish(self, predictions: Vec<Prediction>) -> Part {
        let mut part = self.part;
        for (row, prediction) in self.fits.into_iter().zip(predictions) {
            part.rows[row].probabilities = Some(prediction.probabilities);
        }
        part
    }
}

/// The reader: hands parts on until the files end or nobody wants them.
struct Reader<'a> {
    inputs: &'a [Input],
    start: Position,
    model: &'a RelationModel,
    settings: &'a StreamSettings,
    stop: &'a AtomicBool,
    send: &'a SyncSender<Prepared>,
    pool: ThreadPool,
    part: Prepared,
    /// Bytes of the files that are done.
    done: u64,
}

impl Reader<'_> {
    /// Whether this shard reads a file, and whether it takes all of it.
    fn takes(&self, file: usize) -> (bool, bool) {
        let (own, shards) = self.settings.shard;
        match self.inputs.len() >= FILES_PER_SHARD * shards {
            true => (file % shards == own, true),
            false => (true, shards == 1),
        }
    }

    /// False once nobody wants more.
    fn run(mut self) -> bool {
        let inputs = self.inputs;
        for (file, input) in inputs.iter().enumerate() {
            let (takes, whole) = self.takes(file);
            if !takes {
                continue;
            }
            if file >= self.start.file && !self.file(file, input, whole) {
                return false;
            }
            self.done += std::fs::metadata(&input.path).map_or(0, |metadata| metadata.len());
        }
        self.flush(Position { file: inputs.len(), record: 0 }, 0)
    }

    fn file(&mut self, file: usize, input: &Input, whole: bool) -> bool {
        let first = if file == self.start.file { self.start.record } else { 0 };
        let (own, shards) = self.settings.shard;
        let mut records = match Records::open(input) {
            Ok(records) => records,
            Err(error) => {
                let lost = vec![(first + 1, Err(error))];
                return self.take(file, lost, 0);
            }
        };
        let mut number = 0;
        loop {
            let (mut chunk, mut bytes): (Vec<(usize, RecordResult)>, usize) = (Vec::new(), 0);
            while chunk.len() < CHUNK && bytes < CHUNK_BYTES {
                let Some(record) = records.next() else { break };
                number += 1;
                if number > first && (whole || (file + number - 1) % shards == own) {
                    bytes += record.as_ref().map_or(0, |record| record.raw.len());
                    chunk.push((number, record));
                } else if number % 1024 == 0 && self.stop.load(Ordering::Relaxed) {
                    return false;
                }
            }
            if chunk.is_empty() {
                return true;
            }
            if !self.take(file, chunk, records.bytes_read()) {
                return false;
            }
        }
    }

    /// Add documents, and hand on what is full.
    fn take(&mut self, file: usize, chunk: Vec<(usize, RecordResult)>, bytes: u64) -> bool {
        let (model, settings) = (self.model, self.settings);
        let read: Vec<_> = self.pool.install(|| {
            let parse = |(number, record): (usize, RecordResult)| {
                (number, record.map_err(failure).and_then(|record| parse(record, model, settings)))
            };
            chunk.into_par_iter().map(parse).collect()
        });
        for (number, read) in read {
            let pairs = read.as_ref().map_or(0, |read| read.rows.len());
            let before = Position { file, record: number - 1 };
            let full = self.part.documents() >= settings.part_documents
                || (self.part.documents() > 0 && self.part.part.rows.len() + pairs > settings.part_pairs);
            if full && !self.flush(before, bytes) {
                return false;
            }
            self.part.add(read);
        }
        !self.stop.load(Ordering::Relaxed)
    }

    /// Hand the part on; the next one starts at `next`.
    fn flush(&mut self, next: Position, bytes: u64) -> bool {
        let mut part = std::mem::replace(&mut self.part, Prepared::empty(next));
        part.part.next = next;
        part.part.bytes = self.done + bytes;
        part.documents() == 0 || self.send.send(part).is_ok()
    }
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
                settings.compute.run(compute)
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
    on_batch: super::predict::OnBatch<'_>,
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
    let job = super::predict::Predict { network, weights, features: &prepared.features, on_batch };
    let predictions = settings.compute.run(job)?;
    Ok(prepared.finish(predictions))
}
