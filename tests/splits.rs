//! Folds and leakage: no document on both sides, every instance tested once, every near-duplicate
//! found.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use biorel::corpus::{Corpus, CorpusKind, ReadOptions, Sentence, Span};
use biorel::encode::{
    Fold, FoldUnit, Instance, Leakage, divide, fold_numbers, folds_by_document, folds_by_instance, folds_given,
    hold_out,
};
use proptest::prelude::*;

/// Instances from the number of pairs of each document.
fn instances(sizes: &[usize]) -> Vec<Instance> {
    let one = |document: usize, pair: usize| Instance {
        id: format!("d{document}.p{pair}"),
        document: format!("d{document}"),
        sentence: format!("d{document}.s{}", pair / 3),
        text: "@DRUG$ @DRUG$".into(),
        entities: [Span { start: 0, end: 6 }, Span { start: 7, end: 13 }],
        mentions: ["a".into(), "b".into()],
        copied: Vec::new(),
        marker_types: None,
        label: Some(pair % 2),
        row: None,
        concepts: None,
        further: vec![],
    };
    sizes.iter().enumerate().flat_map(|(document, size)| (0..*size).map(move |pair| one(document, pair))).collect()
}

/// Every instance is in exactly one test fold and in the training data of all others, in order.
fn check_partition(folds: &[Fold], count: usize) {
    let mut tested = vec![0; count];
    for fold in folds {
        assert!(!fold.test.is_empty() && !fold.train.is_empty());
        assert!(fold.test.is_sorted() && fold.train.is_sorted());
        fold.test.iter().for_each(|index| tested[*index] += 1);
        let both: BTreeSet<usize> = fold.train.iter().chain(&fold.test).copied().collect();
        assert_eq!((both.len(), fold.train.len() + fold.test.len()), (count, count));
    }
    assert!(tested.iter().all(|times| *times == 1));
}

fn documents<'a>(instances: &'a [Instance], indices: &[usize]) -> BTreeSet<&'a str> {
    indices.iter().map(|index| instances[*index].document.as_str()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_document_is_on_both_sides(
        sizes in prop::collection::vec(1_usize..40, 2..60), k in 2_usize..12, seed in any::<u64>(), rotate in 0_usize..1000,
    ) {
        let mut all = instances(&sizes);
        let k = k.min(sizes.len());
        let folds = folds_by_document(&all, k, seed).expect("folds");
        prop_assert_eq!(folds.len(), k);
        check_partition(&folds, all.len());
        for fold in &folds {
            prop_assert!(documents(&all, &fold.train).is_disjoint(&documents(&all, &fold.test)));
        }
        // Greedy assignment: two folds differ by no more than the largest document.
        let loads: Vec<usize> = folds.iter().map(|fold| fold.test.len()).collect();
        let (least, most) = (loads.iter().min().expect("folds"), loads.iter().max().expect("folds"));
        prop_assert!(most - least <= *sizes.iter().max().expect("sizes"));
        // The folds do not depend on the order of the instances.
        let of = |all: &[Instance], folds: &[Fold]| -> BTreeMap<String, usize> {
            folds.iter().flat_map(|fold| fold.test.iter().map(|index| (all[*index].document.clone(), fold.number))).collect()
        };
        let before = of(&all, &folds);
        let middle = rotate % all.len();
        all.rotate_left(middle);
        prop_assert_eq!(before, of(&all, &folds_by_document(&all, k, seed).expect("folds")));
    }

    #[test]
    fn folds_by_instance_are_equal_in_size(count in 2_usize..300, k in 2_usize..12, seed in any::<u64>()) {
        let all = instances(&vec![7; count.div_ceil(7)])[..count].to_vec();
        let k = k.min(count);
        let folds = folds_by_instance(&all, k, seed).expect("folds");
        prop_assert_eq!(folds.len(), k);
        check_partition(&folds, count);
        prop_assert!(folds.iter().all(|fold| fold.test.len() == count / k || fold.test.len() == count.div_ceil(k)));
    }

    #[test]
    fn given_folds_are_kept(numbers in prop::collection::vec(0_usize..5, 2..40)) {
        let all = instances(&vec![2; numbers.len()]);
        let given: HashMap<String, usize> =
            numbers.iter().enumerate().map(|(document, fold)| (format!("d{document}"), *fold)).collect();
        let different: BTreeSet<usize> = numbers.iter().copied().collect();
        let folds = folds_given(&all, &given);
        if different.len() < 2 {
            prop_assert!(folds.is_err());
        } else {
            let folds = folds.expect("folds");
            check_partition(&folds, all.len());
            prop_assert_eq!(folds.iter().map(|fold| fold.number).collect::<BTreeSet<_>>(), different);
            for fold in &folds {
                prop_assert!(fold.test.iter().all(|index| given[&all[*index].document] == fold.number));
            }
        }
    }

    /// The index finds the same pairs as an exhaustive comparison.
    #[test]
    fn every_near_duplicate_is_found(
        train in prop::collection::vec(few_words(), 0..12), test in prop::collection::vec(few_words(), 0..12),
        threshold in prop_oneof![Just(0.8), Just(0.5), Just(1.0), Just(2.0 / 3.0), 0.01..1.0_f64],
    ) {
        let make = |side: &str, texts: &[String]| -> Vec<Sentence> {
            texts.iter().enumerate().map(|(number, text)| sentence(&format!("{side}{number}"), side, text)).collect()
        };
        let (train, test) = (make("a", &train), make("b", &test));
        let report = Leakage::between(&train.iter().collect::<Vec<_>>(), &test.iter().collect::<Vec<_>>(), threshold)
            .expect("report");
        let mut same = BTreeSet::new();
        let mut near = BTreeSet::new();
        for a in &train {
            for b in &test {
                let (words_a, words_b): (Vec<&str>, Vec<&str>) = (a.text.split(' ').collect(), b.text.split(' ').collect());
                let (set_a, set_b): (BTreeSet<_>, BTreeSet<_>) = (words_a.iter().collect(), words_b.iter().collect());
                let similarity = set_a.intersection(&set_b).count() as f64 / set_a.union(&set_b).count() as f64;
                if words_a == words_b {
                    same.insert((a.id.clone(), b.id.clone()));
                } else if similarity >= threshold {
                    near.insert((a.id.clone(), b.id.clone()));
                }
            }
        }
        prop_assert_eq!(report.sentences.into_iter().collect::<BTreeSet<_>>(), same);
        let found: BTreeSet<_> = report.near_duplicates.into_iter().map(|pair| (pair.train, pair.test)).collect();
        prop_assert_eq!(found, near);
    }
}

fn few_words() -> impl Strategy<Value = String> {
    let word = prop_oneof![Just("a"), Just("b"), Just("c"), Just("d"), Just("e"), Just("f"), Just("g")];
    prop::collection::vec(word, 1..9).prop_map(|words| words.join(" "))
}

fn sentence(id: &str, document: &str, text: &str) -> Sentence {
    Sentence { id: id.into(), document: document.into(), text: text.into(), entities: Vec::new(), pairs: Vec::new() }
}

#[test]
fn seeds_differ_and_repeat() {
    let all = instances(&[5; 40]);
    let folds = |seed| folds_by_document(&all, 4, seed).expect("folds");
    assert_eq!(folds(1), folds(1));
    assert_ne!(folds(1), folds(2));
    let folds = |seed| folds_by_instance(&all, 4, seed).expect("folds");
    assert_eq!(folds(1), folds(1));
    assert_ne!(folds(1), folds(2));
}

#[test]
fn impossible_folds_are_refused() {
    let all = instances(&[3, 4]);
    for k in [0, 1, 3] {
        let message = folds_by_document(&all, k, 1).expect_err("refused").to_string();
        assert_eq!(message, format!("folds: must be at least 2 and at most the number of documents (2), not {k}"));
    }
    assert!(folds_by_instance(&all, 8, 1).is_err());
    let message = folds_given(&all, &HashMap::from([("d0".to_owned(), 1)])).expect_err("refused").to_string();
    assert!(message.contains("1 documents have no fold, the first is `d1`"), "{message}");
    assert!(folds_by_document(&[], 2, 1).is_err() && folds_given(&[], &HashMap::new()).is_err());
}

#[test]
fn a_leak_is_reported_and_a_clean_split_is_clean() {
    let a = sentence("d1.s0", "d1", "Aspirin increases the effect of warfarin in most patients .");
    let b = sentence("d1.s1", "d1", "No interaction was seen.");
    let c = sentence("d2.s0", "d2", "aspirin increases the effect of warfarin in most patients.");
    let d = sentence("d3.s0", "d3", "Aspirin increases the effect of warfarin in some patients.");
    let report = Leakage::between(&[&a, &b], &[&b, &c, &d], Leakage::THRESHOLD).expect("report");
    assert_eq!(report.documents, ["d1"]);
    let pair = |train: &str, test: &str| (train.to_owned(), test.to_owned());
    assert_eq!(report.sentences, [pair("d1.s1", "d1.s1"), pair("d1.s0", "d2.s0")]);
    let near = &report.near_duplicates[..];
    assert_eq!(near.len(), 1);
    assert_eq!((near[0].train.as_str(), near[0].test.as_str()), ("d1.s0", "d3.s0"));
    // Eight of ten words.
    assert!((near[0].similarity - 8.0 / 10.0).abs() < 1e-12);
    assert!(!report.is_clean());
    assert!(Leakage::between(&[&b], &[&c, &d], 0.8).expect("report").is_clean());
    assert!(Leakage::between(&[], &[], 0.8).expect("report").is_clean());
    for threshold in [0.0, 1.1, f64::NAN] {
        assert!(Leakage::between(&[&a], &[&c], threshold).is_err());
    }
}

/// A corpus in brat's format: `d` and `e` with one pair, `d.1` with one pair and two gold positives
/// across sentences, `x`, `y` and `z` with such a gold positive alone.
fn with_lost_positives(folder: &std::path::Path) -> Corpus {
    let documents = [
        ("d", "Aspirin raises warfarin.", "R1\traises Arg1:T1 Arg2:T2\n"),
        ("e", "Aspirin raises warfarin.", "R1\traises Arg1:T1 Arg2:T2\n"),
        (
            "d.1",
            "Aspirin raises warfarin. Ibuprofen came later.",
            "R1\traises Arg1:T1 Arg2:T2\nR2\traises Arg1:T1 Arg2:T3\nR3\traises Arg1:T2 Arg2:T3\n",
        ),
        ("x", "Aspirin came first. Warfarin rose.", "R1\traises Arg1:T1 Arg2:T2\n"),
        ("y", "Aspirin came first. Warfarin rose.", "R1\traises Arg1:T1 Arg2:T2\n"),
        ("z", "Aspirin came first. Warfarin rose.", "R1\traises Arg1:T1 Arg2:T2\n"),
    ];
    for (name, text, relations) in documents {
        let mut annotations = String::new();
        let drugs = ["aspirin", "warfarin", "ibuprofen"].into_iter();
        let lower = text.to_lowercase();
        for (number, (start, drug)) in drugs.filter_map(|drug| Some((lower.find(drug)?, drug))).enumerate() {
            let end = start + drug.len();
            annotations += &format!("T{}\tdrug {start} {end}\t{}\n", number + 1, &text[start..end]);
        }
        std::fs::write(folder.join(format!("{name}.txt")), text).expect("written");
        std::fs::write(folder.join(format!("{name}.ann")), annotations + relations).expect("written");
    }
    Corpus::read(CorpusKind::Brat, &[folder.to_owned()], &ReadOptions::default()).expect("read")
}

/// `d` begins `d.1`: a finding belongs to the document that it names, not to one whose name begins
/// its identifier.
#[test]
fn lost_positives_follow_their_document() {
    let folder = tempfile::tempdir().expect("a folder");
    let corpus = with_lost_positives(folder.path());
    let part = |name: &str, documents: &[&str]| (name.to_owned(), documents.iter().map(|d| (*d).to_owned()).collect());
    for _ in 0..20 {
        // A hash table has another order each time.
        let divided = divide(&corpus, &[part("train", &["d", "x"]), part("test", &["d.1"])]).expect("divided");
        assert_eq!((divided.lost("train").count(), divided.lost("test").count()), (1, 2));
    }
    let without = divide(&corpus, &[part("train", &["d"]), part("test", &["e"])]).expect("divided");
    assert_eq!(without.lost("train").count() + without.lost("test").count(), 0);
    // Instances that were left out are not in the folds.
    let fold = hold_out(&without, 0, 2, FoldUnit::Document, 1).expect("a fold");
    assert_eq!(fold.lost("train").count() + fold.lost("test").count(), 0);
}

/// Every gold positive is counted in one fold, also those of documents without a pair, whatever the
/// folds keep together.
#[test]
fn every_lost_positive_is_a_miss_in_one_fold() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut corpus = with_lost_positives(folder.path());
    corpus.folds = Some([("d", 1), ("e", 2), ("d.1", 2), ("x", 1), ("z", 7)].map(|(d, n)| (d.to_owned(), n)).into());
    for unit in [FoldUnit::Document, FoldUnit::Given, FoldUnit::Instance] {
        for seed in 0..5 {
            let numbers = fold_numbers(&corpus, 2, unit, seed).expect("folds");
            let mut tested = Vec::new();
            for number in &numbers {
                let part = hold_out(&corpus, *number as i64, 2, unit, seed).expect("a fold");
                assert_eq!(part, hold_out(&corpus, *number as i64, 2, unit, seed).expect("a fold"));
                assert_eq!(part.lost("train").count() + part.lost("test").count(), 5);
                tested.extend(part.lost("test").map(|finding| finding.id.clone()));
            }
            tested.sort();
            assert_eq!(tested, ["d.1.R2", "d.1.R3", "x.R1", "y.R1", "z.R1"], "{unit:?}");
        }
    }
    let given = hold_out(&corpus, 1, 2, FoldUnit::Given, 1).expect("a fold");
    assert!(given.lost("test").any(|finding| finding.id == "x.R1"), "as the corpus states it");
}

/// The ten published folds: their sizes, their positives, and no document on two sides. Needs
/// `BIOREL_CORPORA`.
#[test]
fn the_published_folds_of_aimed() {
    let Some(corpora) = std::env::var_os("BIOREL_CORPORA") else {
        println!("skipped: BIOREL_CORPORA is not set");
        return;
    };
    let path = std::path::Path::new(&corpora).join("aimed/aimed_pairs.tsv");
    let table = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|row| row.split('\t').collect()).collect();
    let mut all = instances(&vec![1; rows.len()]);
    let mut given = HashMap::new();
    let mut sentences = BTreeMap::new();
    for (instance, row) in all.iter_mut().zip(&rows) {
        instance.document = row[1].to_owned();
        instance.sentence = row[2].to_owned();
        instance.label = Some(usize::from(row[4] == "positive"));
        given.insert(row[1].to_owned(), row[0].parse().expect("a fold"));
        sentences.insert(row[2], sentence(row[2], row[1], row[11]));
    }
    let folds = folds_given(&all, &given).expect("folds");
    check_partition(&folds, 5834);
    let positives = |fold: &Fold| fold.test.iter().filter(|index| all[**index].label == Some(1)).count();
    let sizes: Vec<(usize, usize)> =
        folds.iter().map(|fold| (positives(fold), fold.test.len() - positives(fold))).collect();
    let published = [
        (105, 516),
        (97, 449),
        (102, 491),
        (102, 485),
        (89, 434),
        (124, 475),
        (151, 454),
        (102, 614),
        (59, 432),
        (69, 484),
    ];
    assert_eq!(sizes, published);
    let leakage = |fold: &Fold| {
        let of = |indices: &[usize]| -> Vec<&Sentence> {
            let ids: BTreeSet<&str> = indices.iter().map(|index| rows[*index][2]).collect();
            ids.into_iter().map(|id| &sentences[id]).collect()
        };
        Leakage::between(&of(&fold.train), &of(&fold.test), Leakage::THRESHOLD).expect("report")
    };
    for fold in &folds {
        assert_eq!(leakage(fold).documents, Vec::<String>::new());
    }
    // Ours are more even, and folds by instance leak nearly every document of the test side.
    let ours = folds_by_document(&all, 10, 1).expect("folds");
    assert!(ours.iter().all(|fold| fold.test.len().abs_diff(583) <= 1));
    let by_instance = folds_by_instance(&all, 10, 1).expect("folds");
    let report = leakage(&by_instance[0]);
    let tested = documents(&all, &by_instance[0].test).len();
    assert!(report.documents.len() * 10 > tested * 9 && report.sentences.len() > 100);
}
