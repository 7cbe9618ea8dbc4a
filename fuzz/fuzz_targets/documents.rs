//! Every document reader: PubTator, BioC in JSON and XML, brat, BioNLP, DrugProt, the exports of
//! annotation tools, each also with gzip; as documents, as a training corpus, and written and read
//! back; with the entities of a dictionary.
#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use biorel::corpus::documents::{
    Dictionary, Document, DocumentFormat, Input, Predicted, Records, Term, TermCase, relation_lines, write_collection,
    write_document, write_files,
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
        count => {
            vec![Predicted { label: "new", mentions: [0, count - 1], concepts: None, probability: 0.5, model: "m@1" }]
        }
    };
    let written = |document: &Document| {
        let _ = relation_lines(document, &predicted(document), "\n");
        for other in DocumentFormat::ALL {
            let _ = write_document(document, &predicted(document), other);
            let _ = write_files(document, &predicted(document), other);
        }
        write_document(document, &predicted(document), format)
    };
    // Of several files, formats with one file per document are read back; some are only read.
    if matches!(format, DocumentFormat::Bionlp | DocumentFormat::Drugprot | DocumentFormat::Inception) {
        documents.iter().for_each(|document| drop(written(document)));
        return;
    }
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
    // 0 to 3 and 4 to 7 have been the first four formats for long, in the round trip and in training;
    // the others follow in the same two groups.
    let number = choice % 20;
    let (format, kind, name) = match number {
        0 | 4 => (DocumentFormat::Pubtator, CorpusKind::Pubtator, "train.txt"),
        1 | 5 => (DocumentFormat::BiocJson, CorpusKind::Bioc, "train.json"),
        2 | 6 => (DocumentFormat::BiocXml, CorpusKind::Bioc, "train.xml"),
        3 | 7 => (DocumentFormat::Brat, CorpusKind::Brat, "train.ann"),
        8 | 14 => (DocumentFormat::Bionlp, CorpusKind::Bionlp, "train.a1"),
        9 | 15 => (DocumentFormat::Drugprot, CorpusKind::Drugprot, "train_abstracs.tsv"),
        10 | 16 => (DocumentFormat::Prodigy, CorpusKind::Prodigy, "train.jsonl"),
        11 | 17 => (DocumentFormat::Bigbio, CorpusKind::Bigbio, "train.jsonl"),
        12 | 18 => (DocumentFormat::LabelStudio, CorpusKind::LabelStudio, "train.json"),
        _ => (DocumentFormat::Inception, CorpusKind::Inception, "train.json"),
    };
    let path = write(&directory, name, files[0]);
    let others: &[&str] = match format {
        DocumentFormat::Brat => &["train.txt"],
        DocumentFormat::Bionlp => &["train.txt", "train.a2"],
        DocumentFormat::Drugprot => &["train_entities.tsv", "train_relations.tsv"],
        _ => &[],
    };
    for (number, other) in others.iter().enumerate() {
        write(&directory, other, files.get(number + 1).copied().unwrap_or_default());
    }
    let documents = read(&path, format);
    documents.iter().for_each(check);
    for document in &documents {
        let text: String = document.text().chars().take(20).collect();
        let term = Term { text, entity_type: "term".into(), identifier: String::new(), place: String::new() };
        if let Ok(dictionary) = Dictionary::new(&[term], TermCase::Auto) {
            check(&dictionary.annotate(document).expect("entities inside the text"));
        }
    }
    if number < 4 || (8..14).contains(&number) {
        round_trip(&documents, format, &FOLDER.join("again"));
    } else if let Ok(corpus) = Corpus::read(kind, &[directory], &ReadOptions::default()) {
        check_corpus(&corpus);
    }
});
