//! Time from the published files to word pieces, and the cost of packing a batch.

use std::path::PathBuf;

use biorel::config::TooLong;
use biorel::corpus::{Corpus, CorpusKind};
use biorel::encode::{Batch, Instance, Marking, Tokenizer, instances};
use serde_json::{Value, json};

use crate::{median, seconds};

/// `BIOREL_MINILM` is the folder of MiniLM's tokenizer.
pub fn measure() -> Value {
    let folder = |name: &str| PathBuf::from(std::env::var_os(name).unwrap_or_else(|| panic!("set {name}")));
    let (corpora, minilm) = (folder("BIOREL_CORPORA"), folder("BIOREL_MINILM"));
    let tokenizer = Tokenizer::open(minilm, None).unwrap();
    let mut rows = Vec::new();
    let mut packing = 0.0;
    for (kind, path) in [
        (CorpusKind::Aimed, "aimed/aimed_pairs.tsv"),
        (CorpusKind::Ddi, "ddi/DDICorpus-2013.zip"),
        (CorpusKind::Chemprot, "chemprot"),
    ] {
        let paths = [corpora.join(path)];
        let read = || Corpus::read(kind, &paths, &Default::default()).unwrap();
        let corpus = read();
        let mark = || -> Vec<Instance> {
            let of = |split: &biorel::corpus::Split| instances(&split.sentences, &corpus.task, Marking::Typed).unwrap();
            corpus.splits.iter().flat_map(of).collect()
        };
        let all = mark();
        let encode = || tokenizer.encode_all(&all, 128, TooLong::Join).unwrap();
        let encoded = encode();
        let pieces: usize = encoded.features.iter().map(|item| item.ids.len()).sum();
        if kind == CorpusKind::Aimed {
            let batches = encoded.features.chunks(32).count();
            let pack = || encoded.features.chunks(32).map(|chunk| Batch::pack(chunk).tokens()).sum::<usize>();
            packing = median((0..9).map(|_| seconds(pack)).collect()) / batches as f64;
        }
        rows.push(json!({
            "corpus": kind.name(),
            "pairs": all.len(),
            "pieces": pieces,
            "reading": median((0..3).map(|_| seconds(read)).collect()),
            "marking": median((0..3).map(|_| seconds(mark)).collect()),
            "tokenising": median((0..3).map(|_| seconds(encode)).collect()),
        }));
    }
    json!({"corpora": rows, "packing_seconds_a_batch": packing})
}
