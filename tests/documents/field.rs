//! What was found in published files of the field, reproduced in hand-written files.

use std::path::Path;

use biorel::corpus::documents::Document;
use biorel::corpus::{Corpus, CorpusKind, ReadOptions};

use super::gold::{findings, is, pairs};
use super::{data, documents};

fn read(kind: CorpusKind, path: &Path, skip_errors: bool) -> biorel::Result<Corpus> {
    Corpus::read(kind, &[path.to_owned()], &ReadOptions { skip_errors, ..ReadOptions::default() })
}

#[test]
fn variants_stay_whole_and_composite_mentions_are_split() {
    let corpus = read(CorpusKind::Pubtator, &data("field/concepts.pubtator"), false).unwrap();
    let found: Vec<_> = pairs(&corpus, "all").into_iter().filter(|(_, _, label)| label != "none").collect();
    is(
        &found,
        &[
            ("Q192R", "asthma", "Association"),
            ("Q192R", "asthma", "Association"),
            ("Prednisolone", "nausea and vomiting", "CID"),
            ("Prednisolone", "nausea", "CID"),
            ("Prednisolone", "hepatic and renal failure", "CID"),
            ("KINA and KINB", "p.V600E", "Association"),
        ],
    );
    let none = pairs(&corpus, "all").into_iter().filter(|(_, _, label)| label == "none");
    assert!(none.clone().any(|(first, second, _)| (first.as_str(), second.as_str()) == ("192RR", "asthma")));
    let reason =
        "one of its mentions refers to several concepts: another relation gives the same label to a pair of it";
    assert_eq!(
        findings(&corpus),
        [("repaired", "7002.R2", reason), ("lost", "7003.R2", "a gold relation of a concept without a mention")]
    );
}

#[test]
fn reasons_say_why_a_relation_forms_no_pair() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    let mentions = [
        (0, 8, "Testodol", "Chemical", "D000001"),
        (16, 22, "asthma", "Disease", "D000002"),
        (35, 52, "fever and malaise", "Disease", "D000003|D000004"),
        (16, 22, "asthma", "Disease", "D000005"),
    ];
    let rows =
        mentions.map(|(start, end, text, kind, id)| format!("1\t{start}\t{end}\t{text}\t{kind}\t{id}\n")).concat();
    let relations = [
        ("CID", "D000001", "D000002"),
        ("CID", "D000002", "D000001"),
        ("Related", "D000003", "D000004"),
        ("Related", "D000002", "D000005"),
        ("Related", "D000002", "D000003"),
        ("Related", "D000002", "D000004"),
    ];
    let relations = relations.map(|(kind, first, second)| format!("1\t{kind}\t{first}\t{second}\n")).concat();
    let text = "1|t|Testodol causes asthma, colds, and fever and malaise.\n";
    std::fs::write(&path, text.to_owned() + &rows + &relations).unwrap();
    let corpus = read(CorpusKind::Pubtator, &path, false).unwrap();
    assert_eq!(
        findings(&corpus),
        [
            ("skipped", "1.R2", "the same gold relation is stated twice"),
            ("lost", "1.R3", "a gold relation of two concepts that share a mention, and no other sentence"),
            ("lost", "1.R4", "a gold relation of a mention with itself, listed twice"),
            (
                "repaired",
                "1.R6",
                "one of its mentions refers to several concepts: another relation gives the same label to a pair of it"
            ),
        ]
    );
}

/// The text at the offsets of each mention.
fn slices(document: &Document) -> Vec<String> {
    let slice = |mention: &biorel::corpus::documents::Mention| {
        mention.spans.iter().map(|&span| document.slice(span).unwrap()).collect::<Vec<_>>().join("+")
    };
    document.mentions.iter().map(slice).collect()
}

#[test]
fn offsets_of_escaped_xml_are_converted_to_the_text() {
    let all = documents(&data("field/escaped.xml"));
    let [e1, e2, e3, e4] = all.as_slice() else { panic!("{}", all.len()) };
    let disease = "Parkinson's disease";
    assert_eq!(slices(e1), [disease, disease, "testodopa", disease]);
    assert_eq!(slices(e2), [disease, disease, "testodopa", disease]);
    assert_eq!(slices(e3), [disease, "testodopa", disease]);
    assert_eq!(slices(e4), ["Testodopa", "alpha+blockers"]);
    // In all of them each passage starts one character after the previous one.
    for document in [e1, e2, e3] {
        assert_eq!(document.passages[1].start, document.passages[0].text.chars().count() + 1, "{}", document.id);
    }
    let notes = |document: &Document| -> Vec<(String, String)> {
        document.findings.iter().map(|finding| (finding.id.clone(), finding.reason.clone())).collect()
    };
    let escaped = "offsets count characters of escaped XML; converted to characters of the text";
    for (document, id) in [(e1, "e1.offsets"), (e3, "e3.offsets")] {
        assert_eq!(notes(document), [(id.to_owned(), escaped.to_owned())]);
    }
    let other = "an annotation is listed in another passage than its offsets; the offsets are used";
    assert_eq!(notes(e2), [("e2.offsets".to_owned(), escaped.to_owned()), ("e2.1".to_owned(), other.to_owned())]);
    let apart = "one location covers a mention in several segments, which are found by its text";
    assert_eq!(notes(e4), [("e4.1".to_owned(), apart.to_owned())]);
    // The corpus and its findings have all of it.
    let corpus = read(CorpusKind::Bioc, &data("field/escaped.xml"), false).unwrap();
    let gold = pairs(&corpus, "all").into_iter().filter(|(_, _, label)| label == "CID").count();
    assert_eq!(gold, 2 + 2 + 1 + 1);
    assert_eq!(corpus.report.findings.iter().filter(|finding| finding.reason == escaped).count(), 3);
}

#[test]
fn a_mention_that_fits_nowhere_is_an_error_or_skips_its_document() {
    let path = data("field/unfit.xml");
    let error = read(CorpusKind::Bioc, &path, false).unwrap_err().to_string();
    assert!(error.contains("unfit.xml:15: document e5: annotation 0 has offsets 3-12"), "{error}");
    let corpus = read(CorpusKind::Bioc, &path, true).unwrap();
    assert_eq!(corpus.statistics()[0].documents, 1);
    let left = corpus.report.findings.iter().find(|finding| finding.kind.name() == "skipped").unwrap();
    assert!(left.id.ends_with("unfit.xml:15") && left.split.as_deref() == Some("all"), "{left:?}");
    assert!(left.reason.starts_with("a document that cannot be read: document e5: annotation 0"), "{left:?}");
}

#[test]
fn files_without_documents_are_skipped_in_folders_and_refused_if_given_directly() {
    let folder = tempfile::tempdir().unwrap();
    let stray = folder.path().join("readme.txt");
    std::fs::write(&stray, "These files are described elsewhere.\n").unwrap();
    std::fs::copy(data("field/concepts.pubtator"), folder.path().join("a.PubTator.txt")).unwrap();
    let corpus = read(CorpusKind::Pubtator, folder.path(), false).unwrap();
    let first = &corpus.report.findings[0];
    assert_eq!((first.kind.name(), first.id.as_str()), ("skipped", stray.display().to_string().as_str()));
    assert_eq!(first.reason, "not a file of documents, by its first lines");
    assert!(read(CorpusKind::Pubtator, &stray, false).unwrap_err().to_string().contains("readme.txt:1: "));
    // A file of documents with an error in it is still one.
    std::fs::write(folder.path().join("b.txt"), "9|t|Title\n9\t0\t5\tOther\tX\n\n7001|t|Again\n").unwrap();
    assert!(read(CorpusKind::Pubtator, folder.path(), false).unwrap_err().to_string().contains("b.txt:2: document 9"));
    let corpus = read(CorpusKind::Pubtator, folder.path(), true).unwrap();
    let found: Vec<&str> = corpus.report.findings[1..3].iter().map(|finding| finding.reason.as_str()).collect();
    assert!(found[0].starts_with("a document that cannot be read: document 9: a mention has offsets"), "{found:?}");
    assert_eq!(found[1], "a document that cannot be read: document 7001 appears twice");
    let options = ReadOptions { skip_errors: true, ..ReadOptions::default() };
    let error = Corpus::read(CorpusKind::Ddi, &[stray], &options).unwrap_err().to_string();
    assert!(error.starts_with("errors: ddi does not take it; leave it out (it is for biored, bc5cdr,"), "{error}");
}
