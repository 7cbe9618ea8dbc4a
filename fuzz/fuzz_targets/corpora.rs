//! Every corpus reader: unified XML and pairs of AIMed, XML of DDI, tables of ChemProt, a user's
//! table, zip archives.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use biorel::corpus::{Corpus, CorpusKind, ReadOptions};
use harness::{check_corpus, folder, parts, write};
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| folder("corpora"));

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    let files = parts(rest);
    let one = |name: &str| vec![write(&FOLDER, name, files[0])];
    let (kind, paths) = match choice % 10 {
        0 => (CorpusKind::Aimed, one("corpus.xml")),
        1 => (CorpusKind::Aimed, one("corpus.tsv")),
        2 => (CorpusKind::Ddi, one("Train/DrugBank/one_ddi.xml")),
        3 => (CorpusKind::Table, one("table.tsv")),
        4 => (CorpusKind::Table, one("table.csv")),
        5 => (CorpusKind::Table, one("table.jsonl")),
        6 => {
            let names = ["abstracts", "entities", "gold_standard", "relations"];
            let directory = FOLDER.join("chemprot");
            let _ = fs::remove_dir_all(&directory);
            for (name, bytes) in names.iter().zip(&files) {
                write(&directory, &format!("chemprot_training_{name}.tsv"), bytes);
            }
            (CorpusKind::Chemprot, vec![directory])
        }
        7 => (CorpusKind::Ddi, one("corpus.zip")),
        8 => (CorpusKind::Aimed, one("corpus.zip")),
        _ => (CorpusKind::Chemprot, one("corpus.zip")),
    };
    if let Ok(corpus) = Corpus::read(kind, &paths, &ReadOptions::default()) {
        check_corpus(&corpus);
    }
});
