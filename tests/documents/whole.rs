//! Document scope: the whole text of a document, with pairs of concepts.

use biorel::corpus::documents::{Document, Mention, Passage};
use biorel::corpus::{Corpus, CorpusKind, FindingKind, ReadOptions, Scope, Span};

use super::gold::findings;
use super::{data, read as all};

fn options() -> ReadOptions {
    ReadOptions { scope: Scope::Document, ..ReadOptions::default() }
}

fn read(text: &str, options: &ReadOptions) -> biorel::Result<Corpus> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    std::fs::write(&path, text).unwrap();
    Corpus::read(CorpusKind::Pubtator, &[path], options)
}

/// The two concepts and the label of each pair.
fn pairs(corpus: &Corpus) -> Vec<(String, String, String)> {
    let pairs = corpus.sentences().flat_map(|sentence| &sentence.pairs);
    let show = |pair: &biorel::corpus::Pair| {
        let [first, second] = pair.concepts.as_ref().unwrap().names.clone();
        (first, second, corpus.task.labels[pair.label].clone())
    };
    pairs.map(show).collect()
}

fn is(found: &[(String, String, String)], expected: &[(&str, &str, &str)]) {
    let found: Vec<_> = found.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_pair_joins_two_concepts_wherever_they_are() {
    let corpus = Corpus::read(CorpusKind::Pubtator, &[data("pubtator")], &options()).unwrap();
    assert_eq!((corpus.task.scope, corpus.task.max_mentions), (Scope::Document, 4));
    is(
        &pairs(&corpus),
        &[
            ("MESH:C000001", "MESH:D001919", "CID"),
            ("MESH:C000001", "MESH:D006261", "CID"), // never in one sentence
            ("MESH:C000001", "MESH:D012893", "none"),
            ("@97-105", "MESH:D001919", "none"), // mentions without an identifier are concepts of their own
            ("@115-123", "MESH:D001919", "none"),
            ("@97-105", "MESH:D006261", "none"),
            ("@97-105", "MESH:D012893", "none"),
            ("@115-123", "MESH:D006261", "none"),
            ("@115-123", "MESH:D012893", "none"),
            ("MESH:C000002", "MESH:D000001", "Association"),
        ],
    );
    assert_eq!(findings(&corpus), [("lost", "9000001.R3", "a gold relation of a concept without a mention")]);
    let sentence = &corpus.splits[0].sentences[0];
    assert_eq!((sentence.id.as_str(), sentence.document.as_str()), ("9000001", "9000001"));
    assert!(sentence.text.starts_with("𝛼-Testol lowers heart rate. Testol (𝛼-testol) caused"));
    let statistics = corpus.statistics();
    assert_eq!((statistics[0].documents, statistics[0].sentences, statistics[0].lost), (4, 4, 1));
}

#[test]
fn the_nearest_mentions_stand_for_a_pair() {
    // A at 0, 10, 90; B at 12, 60.
    let mut text = "1|t|".to_owned() + &"x".repeat(100) + "\n1|a|\n";
    for (start, name) in [(0, "A1"), (10, "A1"), (90, "A1"), (12, "B1"), (60, "B1")] {
        text += &format!("1\t{start}\t{}\tx\tT{}\t{name}\n", start + 1, &name[..1]);
    }
    text += "1\trelated\tA1\tB1\n";
    let mentions = |max_mentions| {
        let corpus = read(&text, &ReadOptions { max_mentions, ..options() }).unwrap();
        let sentence = &corpus.splits[0].sentences[0];
        let start = |entity: usize| sentence.entities[entity].bounding_span().start;
        let [pair] = sentence.pairs.as_slice() else { panic!("{:?}", sentence.pairs) };
        let further = pair.concepts.as_ref().unwrap().further.iter();
        [&(pair.entity1, pair.entity2)]
            .into_iter()
            .chain(further)
            .map(|&(a, b)| (start(a), start(b)))
            .collect::<Vec<_>>()
    };
    // Each mention with its nearest partner, nearest first.
    assert_eq!(mentions(None), [(10, 12), (0, 12), (90, 60)]);
    assert_eq!(mentions(Some(2)), [(10, 12), (0, 12)]);
    assert_eq!(mentions(Some(1)), [(10, 12)]);
    let refused = |options: ReadOptions| read(&text, &options).unwrap_err().to_string();
    assert!(
        refused(ReadOptions { max_mentions: Some(0), ..options() }).starts_with("max_mentions: must be at least 1")
    );
    let sentences = ReadOptions { max_mentions: Some(2), ..ReadOptions::default() };
    assert!(refused(sentences).starts_with("max_mentions: is for scope=\"document\""));
}

#[test]
fn every_relation_labels_a_pair_or_has_a_finding() {
    let mut text = "1|t|Testol or placebol, KINA, asthma, fever.\n1|a|\n".to_owned();
    for (start, end, mention, kind, id) in [
        (0, 18, "Testol or placebol", "Chemical", "C1|C2"),
        (20, 24, "KINA", "Gene", "7"),
        (26, 32, "asthma", "Disease", "D1"),
        (34, 39, "fever", "Disease", "D2"),
    ] {
        text += &format!("1\t{start}\t{end}\t{mention}\t{kind}\t{id}\n");
    }
    for (kind, first, second) in [
        ("joint", "C1", "C2"), // one mention of both
        ("cause", "C1", "D1"),
        ("cause", "D1", "C1"), // the same in the other order
        ("cure", "C1", "D1"),  // a second label of the pair
        ("cause", "D2", "C2"), // in the other order
        ("joint", "7", "7"),
        ("joint", "7", "9"),
    ] {
        text += &format!("1\t{kind}\t{first}\t{second}\n");
    }
    let corpus = read(&text, &options()).unwrap();
    let gold: Vec<_> = pairs(&corpus).into_iter().filter(|(.., label)| label != "none").collect();
    let expected = [("C1", "C2", "joint"), ("C1", "D1", "cause"), ("C1", "D1", "cure"), ("C2", "D2", "cause")];
    is(&gold, &expected);
    assert_eq!(
        findings(&corpus),
        [
            ("skipped", "1.R3", "the same gold relation is stated twice"),
            ("repaired", "1.R5", "both orders of its types are candidates: its direction is not kept"),
            ("lost", "1.R6", "a gold relation of a concept with itself"),
            ("lost", "1.R7", "a gold relation of a concept without a mention"),
        ]
    );
    assert_eq!(corpus.lost("all").count(), 2);
    let shared = &corpus.splits[0].sentences[0].pairs[0];
    assert_eq!(shared.entity1, shared.entity2, "both concepts have one mention");
    let only = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter().map(|(first, second)| ((*first).to_owned(), (*second).to_owned()));
        ReadOptions { pairs: Some(pairs.collect()), ..options() }
    };
    let few = read(&text, &only(&[("Chemical", "Disease")])).unwrap();
    assert!(findings(&few).contains(&("lost", "1.R1", "a gold relation between types that are not candidates")));
    let error = Corpus::read(CorpusKind::Ddi, &[data("pubtator")], &options()).unwrap_err().to_string();
    assert!(error.starts_with("scope: ddi does not take it; leave it out (it is for biored, bc5cdr,"), "{error}");
}

#[test]
fn an_identifier_of_two_types_is_a_concept_of_each() {
    let text = "1|t|KINA in mice, asthma.\n1|a|\n1\t0\t4\tKINA\tGene\t9606\n1\t8\t12\tmice\tSpecies\t9606\n\
                1\t14\t20\tasthma\tDisease\tD1\n1\tcause\t9606\tD1\n";
    let corpus = read(text, &options()).unwrap();
    is(&pairs(&corpus), &[("9606", "D1", "cause"), ("9606", "D1", "cause")]);
    let sentence = &corpus.splits[0].sentences[0];
    assert_eq!([sentence.pairs[0].entity1, sentence.pairs[1].entity1], [0, 1]);
}

#[test]
fn a_corpus_comes_back_from_bytes() {
    let corpus = Corpus::read(CorpusKind::Pubtator, &[data("pubtator")], &options()).unwrap();
    let again = Corpus::from_bytes(&corpus.to_bytes().unwrap()).unwrap();
    assert_eq!(again, corpus);
    let fewer = ReadOptions { max_mentions: Some(1), ..options() };
    let fewer = Corpus::read(CorpusKind::Pubtator, &[data("pubtator")], &fewer).unwrap();
    assert_ne!(fewer.content_hash(), corpus.content_hash(), "the mentions of a pair are part of the content");
}

#[test]
fn all_formats_give_a_whole_text() {
    // Some files of the field are refused.
    let all = ["pubtator", "bioc", "brat", "field"].map(|folder| all(&data(folder)));
    let documents: Vec<Document> = all.into_iter().flatten().filter_map(Result::ok).collect();
    assert!(documents.len() > 10, "{}", documents.len());
    for document in documents {
        let (whole, _) = document.whole_text();
        whole.sentence.check().unwrap();
        let characters: Vec<char> = whole.sentence.text.chars().collect();
        for (entity, &index) in whole.sentence.entities.iter().zip(&whole.mentions) {
            let bounds = entity.bounding_span();
            let own: String = characters[bounds.start..bounds.end].iter().collect();
            assert_eq!(Some(own.as_str()), document.slice(document.mentions[index].bounding_span()), "{}", document.id);
        }
    }
}

proptest::proptest! {
    /// Passages anywhere, mentions anywhere in them.
    #[test]
    fn every_mention_keeps_its_text(
        passages in proptest::collection::vec(("[ A-Cβ𝛼.]{1,30}", 0_usize..5), 1..4),
        mentions in proptest::collection::vec((0_usize..4, 0_usize..30, 1_usize..6, 0_usize..3), 0..9),
    ) {
        let (mut parts, mut at) = (Vec::new(), 7);
        for (text, gap) in &passages {
            parts.push(Passage { passage_type: String::new(), start: at, text: text.clone(), sentence: false });
            at += text.chars().count() + gap;
        }
        let mention = |(number, &(passage, start, length, concept)): (usize, &(usize, usize, usize, usize))| {
            let own = &parts[passage % parts.len()];
            let size = own.text.chars().count();
            let start = start % size;
            Mention {
                id: format!("T{number}"),
                entity_type: "x".into(),
                text: String::new(),
                identifiers: if concept == 0 { vec![] } else { vec![format!("C{concept}")] },
                spans: vec![Span::new(own.start + start, own.start + (start + length).min(size))],
                passage: None,
            }
        };
        let mentions: Vec<Mention> = mentions.iter().enumerate().map(mention).collect();
        let document = Document::new("d".into(), parts.clone(), mentions, vec![]).unwrap();
        let (whole, findings) = document.whole_text();
        proptest::prop_assert!(findings.is_empty());
        proptest::prop_assert_eq!(whole.mentions.len(), document.mentions.len());
        let characters: Vec<char> = whole.sentence.text.chars().collect();
        for (entity, &index) in whole.sentence.entities.iter().zip(&whole.mentions) {
            let bounds = entity.bounding_span();
            let own: String = characters[bounds.start..bounds.end].iter().collect();
            proptest::prop_assert_eq!(&own, &document.mentions[index].text);
        }
        // Every pair of different concepts, with mentions of the two, none twice.
        let candidates = whole.candidates(&biorel::corpus::Candidates::default(), 3);
        proptest::prop_assert_eq!(candidates.len(), whole.concepts.len() * whole.concepts.len().saturating_sub(1) / 2);
        for candidate in candidates {
            let mut pairs = candidate.pair.further.clone();
            pairs.push(candidate.mentions);
            proptest::prop_assert!(pairs.len() <= 3);
            let [first, second] = [candidate.concepts.0, candidate.concepts.1].map(|at| &whole.concepts[at].mentions);
            proptest::prop_assert!(pairs.iter().all(|(one, other)| first.contains(one) && second.contains(other)));
            pairs.sort_unstable();
            let count = pairs.len();
            pairs.dedup();
            proptest::prop_assert_eq!(pairs.len(), count);
        }
    }
}

/// The relations of BioRED and BC5CDR by split: documents, mentions, concepts, pairs, relations; and
/// those that are lost, all of one kind. The pairs and concepts were counted by another program.
#[test]
fn no_published_relation_is_lost_but_for_stated_reasons() {
    let Some(folder) = std::env::var_os("BIOREL_CORPORA") else {
        println!("skipped: BIOREL_CORPORA is not set");
        return;
    };
    let folder = std::path::Path::new(&folder);
    let itself = "a gold relation of a concept with itself";
    let missing = "a gold relation of a concept without a mention";
    for (files, expected) in [
        (
            &["biored/Train.PubTator", "biored/Dev.PubTator", "biored/Test.PubTator"][..],
            &[
                (400, 13_351, 23_259, 4_175, 3, itself),
                (100, 3_533, 6_956, 1_161, 1, itself),
                (100, 3_535, 7_789, 1_163, 0, ""),
            ][..],
        ),
        (
            &["bc5cdr/CDR_TrainingSet.PubTator.PubTator.txt", "bc5cdr/CDR_DevelopmentSet.PubTator.txt"],
            &[(500, 9_385, 5_649, 1_037, 1, missing), (500, 9_591, 5_401, 1_012, 0, "")],
        ),
    ] {
        let files: Vec<_> = files.iter().map(|file| folder.join(file)).collect();
        let corpus = Corpus::read(CorpusKind::Pubtator, &files, &options()).unwrap();
        for (row, &(documents, mentions, pairs, relations, lost, reason)) in corpus.statistics().iter().zip(expected) {
            assert_eq!((row.documents, row.sentences, row.entities), (documents, documents, mentions), "{}", row.split);
            let positives: usize = row.labels.iter().skip(1).map(|(_, count)| count).sum();
            assert_eq!((row.pairs, positives, row.lost), (pairs, relations, lost), "{}", row.split);
            assert!(corpus.lost(&row.split).all(|finding| finding.reason == reason), "{}", row.split);
        }
        let twice = corpus.report.findings.iter().filter(|finding| finding.kind == FindingKind::Skipped);
        assert_eq!(twice.count(), 0);
    }
}
