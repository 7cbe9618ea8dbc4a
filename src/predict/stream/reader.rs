//! The thread that reads the files of a shard while the engine computes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;

use rayon::ThreadPool;
use rayon::prelude::*;

use super::parts::{Position, StreamSettings};
use super::prepare::{Prepared, failure, parse};
use crate::corpus::documents::{Input, RecordResult, Records};
use crate::model::RelationModel;

/// Documents that are parsed together, in parallel.
const CHUNK: usize = 64;
/// Bytes of documents that are parsed together.
const CHUNK_BYTES: usize = 4 << 20;
/// With at least this many files per shard, every file belongs to one shard, so that no shard has
/// to read all of them.
const FILES_PER_SHARD: usize = 8;

/// The reader. It sends parts until the files end or the receiver is dropped.
pub(super) struct Reader<'a> {
    pub inputs: &'a [Input],
    pub start: Position,
    pub model: &'a RelationModel,
    pub settings: &'a StreamSettings,
    pub stop: &'a AtomicBool,
    pub send: &'a SyncSender<Prepared>,
    pub pool: ThreadPool,
    pub part: Prepared,
    /// Bytes of the finished files.
    pub done: u64,
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

    /// Read all files. Returns false once the receiver is dropped.
    pub fn run(mut self) -> bool {
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

    /// Add documents to the part, and send it when it is full.
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

    /// Send the part; the next one starts at `next`.
    fn flush(&mut self, next: Position, bytes: u64) -> bool {
        let mut part = std::mem::replace(&mut self.part, Prepared::empty(next));
        part.part.next = next;
        part.part.bytes = self.done + bytes;
        part.documents() == 0 || self.send.send(part).is_ok()
    }
}
