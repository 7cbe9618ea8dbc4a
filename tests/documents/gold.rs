//! Documents as corpora: labels, candidate pairs, lost relations.

use biorel::corpus::{Corpus, CorpusKind, ReadOptions};

use super::data;

fn corpus(kind: CorpusKind, path: &str, options: ReadOptions) -> Corpus {
    Corpus::read(kind, &[data(path)], &options).unwrap()
}

/// First and second argument, label, of each pair of a split.
pub(super) fn pairs(corpus: &Corpus, split: &str) -> Vec<(String, String, String)> {
    let sentences = corpus.split(split).unwrap().sentences.iter();
    let show = |sentence: &biorel::corpus::Sentence| -> Vec<(String, String, String)> {
        let text = |entity: usize| sentence.entities[entity].text.clone();
        let label = |label: usize| corpus.task.labels[label].clone();
        sentence.pairs.iter().map(|pair| (text(pair.entity1), text(pair.entity2), label(pair.label))).collect()
    };
    sentences.flat_map(show).collect()
}

pub(super) fn is(found: &[(String, String, String)], expected: &[(&str, &str, &str)]) {
    let found: Vec<_> = found.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
    assert_eq!(found, expected);
}

pub(super) fn findings(corpus: &Corpus) -> Vec<(&'static str, &str, &str)> {
    let all = corpus.report.findings.iter();
    all.map(|found| (found.kind.name(), found.id.as_str(), found.reason.as_str())).collect()
}

#[test]
fn a_relation_of_concepts_labels_all_their_mentions_in_one_sentence() {
    let corpus = corpus(CorpusKind::Pubtator, "pubtator", ReadOptions::default());
    assert_eq!(corpus.task.labels, ["none", "Association", "CID"]);
    assert_eq!(corpus.task.candidates.rules, [(vec!["Chemical".to_owned()], vec!["Disease".to_owned()])]);
    is(
        &pairs(&corpus, "all"),
        &[
            ("Testol", "bradycardia", "CID"),
            ("𝛼-testol", "bradycardia", "CID"),
            ("Placebol", "headache and sleep loss", "none"),
            ("Placebol", "headache", "none"),
            ("ibutest", "asthmoma", "Association"),
        ],
    );
    assert_eq!(
        findings(&corpus),
        [
            ("lost", "9000001.R2", "a gold relation without two mentions in one sentence"),
            ("lost", "9000001.R3", "a gold relation of a concept without a mention"),
        ]
    );
    assert_eq!(corpus.lost("all").count(), 2);
}

#[test]
fn labels_negative_and_types_can_be_given() {
    let options = ReadOptions {
        labels: Some(vec!["no".into(), "CID".into(), "Association".into()]),
        negative: Some("no".into()),
        name: Some("cdr".into()),
        pairs: Some(vec![("Chemical".into(), "Chemical".into()), ("Chemical".into(), "Disease".into())]),
        ..ReadOptions::default()
    };
    let given = corpus(CorpusKind::Pubtator, "pubtator/edge_cases.txt", options.clone());
    assert_eq!((given.name.as_str(), given.task.negative), ("cdr", Some(0)));
    assert_eq!(given.task.labels, ["no", "CID", "Association"]);
    assert_eq!(pairs(&given, "all").len(), 7, "two pairs of chemicals more");
    let few = ReadOptions { labels: Some(vec!["CID".into()]), ..ReadOptions::default() };
    let error = Corpus::read(CorpusKind::Pubtator, &[data("pubtator/edge_cases.txt")], &few).unwrap_err().to_string();
    assert!(
        error.contains("edge_cases.txt:23: relation 9000004.R1 has the type `Association`; the labels are none, CID"),
        "{error}"
    );
    let wrong = ReadOptions { pairs: options.pairs, ..ReadOptions::default() };
    let error = Corpus::read(CorpusKind::Ddi, &[data("pubtator")], &wrong).unwrap_err().to_string();
    assert!(error.starts_with("pairs: ddi does not take it; leave it out (it is for pubtator, bioc, brat,"), "{error}");
}

#[test]
fn bioc_in_both_encodings() {
    let corpus = corpus(CorpusKind::Bioc, "bioc", ReadOptions::default());
    assert_eq!(
        corpus.task.labels,
        ["none", "Bind", "binds", "inhibits", "three"]
            .iter()
            .filter(|l| **l != "three")
            .map(|l| (*l).to_owned())
            .collect::<Vec<_>>()
    );
    let found = pairs(&corpus, "all");
    let positive: Vec<_> = found.iter().filter(|(_, _, label)| label != "none").cloned().collect();
    is(
        &positive,
        &[
            ("𝛽-testol", "KIN1", "inhibits"),
            ("it", "betatin", "binds"),
            ("DrugC", "FOX2", "inhibits"),
            ("Testol", "KIN1", "Bind"),
            ("𝛽-testol", "KIN1", "Bind"),
        ],
    );
    assert!(findings(&corpus).contains(&("lost", "bx1.R2", "a gold relation without two mentions in one sentence")));
}

#[test]
fn brat_with_splits_by_folder() {
    let corpus = corpus(CorpusKind::Brat, "brat", ReadOptions::default());
    assert_eq!(corpus.splits.iter().map(|split| split.name.as_str()).collect::<Vec<_>>(), ["train", "test"]);
    assert_eq!(corpus.task.labels, ["none", "Lowers", "Raises"]);
    is(
        &pairs(&corpus, "train"),
        &[("al\u{301}pha- blockers", "PGX", "Raises"), ("beta-blockers", "PGX", "Raises"), ("PGX", "QRS", "Lowers")],
    );
    is(&pairs(&corpus, "test"), &[("DRGA", "PGX strongly", "Raises")]);
    let found = findings(&corpus);
    for expected in [
        ("repaired", "one.T1", "a mention in several segments extends from its first to its last character"),
        ("skipped", "one.R4", "the same gold relation is stated twice"),
        ("lost", "one.R5", "a gold relation without two mentions in one sentence"),
        ("skipped", "one.E1", "an event; only relations of two mentions are read"),
    ] {
        assert!(found.contains(&expected), "{expected:?} is not in {found:?}");
    }
}

#[test]
fn a_direction_that_cannot_be_kept_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.txt"), "AA hits BB.").unwrap();
    std::fs::write(folder.path().join("a.ann"), "T1\tP 0 2\tAA\nT2\tP 8 10\tBB\nR1\tHits Arg1:T2 Arg2:T1\n").unwrap();
    let corpus = Corpus::read(CorpusKind::Brat, &[folder.path().to_owned()], &ReadOptions::default()).unwrap();
    is(&pairs(&corpus, "all"), &[("AA", "BB", "Hits")]);
    let reason = "both orders of its types are candidates: its direction is not kept";
    assert_eq!(findings(&corpus), [("repaired", "a.R1", reason)]);
}

#[test]
fn documents_without_training_data_are_refused() {
    let read = |name: &str, content: &str, kind| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), content).unwrap();
        Corpus::read(kind, &[folder.path().to_owned()], &ReadOptions::default()).unwrap_err().to_string()
    };
    let two = "1|t|A\n1|a|B\n\n1|t|A\n1|a|B\n";
    assert!(read("a.txt", two, CorpusKind::Pubtator).contains("a.txt:4: document 1 appears twice"));
    let none = "1|t|A\n1|a|B\n1\tCID\tC1\tD1\n";
    assert!(read("a.txt", none, CorpusKind::Pubtator).contains("no relation joins two mentions of one sentence"));
    assert!(read("a.pdf", "", CorpusKind::Bioc).contains("no file in the format bioc was found"));
}
