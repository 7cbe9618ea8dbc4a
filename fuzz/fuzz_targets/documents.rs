//! Every document reader: PubTator, BioC in JSON and XML, brat, each also with gzip; as documents,
//! as a training corpus, and written and read back.
#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use biorel::corpus::documents::{
    Document, DocumentFormat, Input, Predicted, Records, relation_lines, write_collection, write_document,
};
use biorel::corpus::{Corpus, CorpusKind, ReadOptions};
use harness::{check_corpus, folder, parts, write};
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| folder("documents"));

/// The documents of a file that can be read.
fn read(path: &Path, format: DocumentFormat) -> Vec<Document> {
    let input = Input { path: path.to_owned(), format };
    let Ok(records) = Records::open(&input) else { return vec![] };
    records.filter_map(|record| record.and_then(Document::parse).ok()).collect()
}

fn check(document: &Document) {
    document.check().expect("a guarantee of the reader");
    for mention in &document.mentions {
        let inside = mention.spans.iter().all(|&span| document.slice(span).is_some());
        assert!(inside || mention.passage.is_none(), "{mention:?}");
    }
    let (sentences, findings) = document.sentences();
    let mut found = 0;
    for one in &sentences {
        one.sentence.check().expect("a sentence of a document");
        assert_eq!(one.sentence.entities.len(), one.mentions.len());
        for (entity, &index) in one.sentence.entities.iter().zip(&one.mentions) {
            for (span, there) in entity.spans.iter().zip(&document.mentions[index].spans) {
                assert_eq!(span.start + one.start, there.start);
            }
        }
        found += one.mentions.len();
    }
    // No mention is dropped silently.
    assert!(found + findings.len() >= document.mentions.len());
}

/// Write the documents in their own format with an added relation, and read them again: the
/// mentions are the same, and no relation is lost.
fn round_trip(documents: &[Document], format: DocumentFormat, directory: &Path) {
    let predicted = |document: &Document| match document.mentions.len() {
        0 | 1 => vec![],
        count => vec![Predicted { label: "new", mentions: [0, count - 1], concepts: None, probability: 0.5, model: "m@1" }],
    };
    let written = |document: &Document| {
        let _ = relation_lines(document, &predicted(document), "\n");
        for other in DocumentFormat::ALL {
            let _ = write_document(document, &predicted(document), other);
        }
        write_document(document, &predicted(document), format)
    };
    let texts: Vec<Option<String>> = documents.iter().map(|document| written(document).ok()).collect();
    let Some(texts) = texts.into_iter().collect::<Option<Vec<String>>>() else { return };
    let again = match (format, documents) {
        (_, []) => return,
        (DocumentFormat::Brat, [document]) => {
            let path = write(directory, "again.ann", texts[0].as_bytes());
            write(directory, "again.txt", document.text().as_bytes());
            read(&path, format)
        }
        _ => {
            let content = write_collection(format, &documents[0].origin.header, &texts);
            read(&write(directory, "again", content.as_bytes()), format)
        }
    };
    assert_eq!(again.len(), documents.len(), "documents are lost");
    for (one, other) in documents.iter().zip(&again) {
        let positions = |document: &Document| -> Vec<_> {
            document.mentions.iter().map(|mention| (mention.entity_type.clone(), mention.spans.clone())).collect()
        };
        assert_eq!(one.text(), other.text());
        assert_eq!(positions(one), positions(other));
        assert!(other.relations.len() >= one.relations.len(), "relations are lost");
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    let files = parts(rest);
    let directory = FOLDER.join("one");
    let _ = fs::remove_dir_all(&directory);
    let (format, kind, name) = match choice % 8 {
        0 | 4 => (DocumentFormat::Pubtator, CorpusKind::Pubtator, "train.txt"),
        1 | 5 => (DocumentFormat::BiocJson, CorpusKind::Bioc, "train.json"),
        2 | 6 => (DocumentFormat::BiocXml, CorpusKind::Bioc, "train.xml"),
        _ => (DocumentFormat::Brat, CorpusKind::Brat, "train.ann"),
    };
    let path = write(&directory, name, files[0]);
    if format == DocumentFormat::Brat {
        write(&directory, "train.txt", files.get(1).copied().unwrap_or_default());
    }
    let documents = read(&path, format);
    documents.iter().for_each(check);
    if choice % 8 < 4 {
        round_trip(&documents, format, &FOLDER.join("again"));
    } else if let Ok(corpus) = Corpus::read(kind, &[directory], &ReadOptions::default()) {
        check_corpus(&corpus);
    }
});
