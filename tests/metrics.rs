//! Scores computed by hand, as fractions, and compared with scikit-learn's
//! (`tests/golden/metrics/make_golden.py`).

use biorel::corpus::Averaging;
use biorel::eval::{Confusion, MeanSd, Prf, Scores};
use serde_json::Value;

fn labels(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A matrix from its rows.
fn confusion(names: &[&str], negative: Option<usize>, rows: &[&[u64]]) -> Confusion {
    let mut confusion = Confusion::new(&labels(names), negative).expect("labels");
    for (gold, row) in rows.iter().enumerate() {
        for (predicted, times) in row.iter().enumerate() {
            confusion.add(gold, predicted, *times).expect("in range");
        }
    }
    confusion
}

fn assert_close(actual: f64, expected: f64, what: &str) {
    assert!((actual - expected).abs() <= 1e-12, "{what}: {actual} instead of {expected}");
}

fn assert_prf(actual: Prf, expected: [f64; 3], what: &str) {
    assert_close(actual.precision, expected[0], &format!("precision, {what}"));
    assert_close(actual.recall, expected[1], &format!("recall, {what}"));
    assert_close(actual.f1, expected[2], &format!("F1, {what}"));
}

/// Rows are gold: none, effect, mechanism, int.
fn example() -> Confusion {
    confusion(
        &["none", "effect", "mechanism", "int"],
        Some(0),
        &[&[50, 3, 1, 0], &[4, 8, 2, 0], &[1, 1, 5, 0], &[2, 0, 0, 0]],
    )
}

#[test]
fn scores_of_a_small_matrix() {
    let scores = example().scores();
    // Of 12 effects predicted 8 are right, of 14 gold effects 8 are found.
    assert_prf(scores.classes[1].prf, [8.0 / 12.0, 8.0 / 14.0, 16.0 / 26.0], "effect");
    assert_prf(scores.classes[2].prf, [5.0 / 8.0, 5.0 / 7.0, 10.0 / 15.0], "mechanism");
    assert_prf(scores.classes[3].prf, [0.0, 0.0, 0.0], "int, never predicted");
    assert_prf(scores.classes[0].prf, [50.0 / 57.0, 50.0 / 54.0, 100.0 / 111.0], "none");
    assert_prf(scores.micro, [13.0 / 20.0, 13.0 / 23.0, 26.0 / 43.0], "micro");
    let macro_f1 = (16.0 / 26.0 + 10.0 / 15.0 + 0.0) / 3.0;
    assert_prf(
        scores.macro_positive,
        [(8.0 / 12.0 + 5.0 / 8.0) / 3.0, (8.0 / 14.0 + 5.0 / 7.0) / 3.0, macro_f1],
        "macro",
    );
    assert_close(scores.macro_all.f1, (3.0 * macro_f1 + 100.0 / 111.0) / 4.0, "macro over all");
    // An effect that was predicted as a mechanism is still a relation: 16 of 20, of 23.
    assert_prf(scores.binary.expect("binary"), [16.0 / 20.0, 16.0 / 23.0, 32.0 / 43.0], "binary");
    assert_close(scores.accuracy, 63.0 / 77.0, "accuracy");
    assert_eq!((scores.instances, scores.lost), (77, 0));
    assert_eq!((scores.classes[1].support, scores.classes[1].predicted, scores.classes[1].correct), (14, 12, 8));
    assert!(scores.classes[0].negative && !scores.classes[1].negative);
}

#[test]
fn lost_positives_are_misses() {
    let scores = example().with_lost(&[0, 2, 0, 1]).expect("lost").scores();
    assert_prf(scores.classes[1].prf, [8.0 / 12.0, 8.0 / 16.0, 16.0 / 28.0], "effect");
    assert_prf(scores.micro, [13.0 / 20.0, 13.0 / 26.0, 26.0 / 46.0], "micro");
    assert_prf(scores.binary.expect("binary"), [16.0 / 20.0, 16.0 / 26.0, 32.0 / 46.0], "binary");
    assert_close(scores.accuracy, 63.0 / 80.0, "accuracy");
    assert_eq!((scores.classes[3].support, scores.instances, scores.lost), (3, 77, 3));
    // The negative class keeps its precision: nothing was predicted for lost positives.
    assert_close(scores.classes[0].prf.precision, 50.0 / 57.0, "precision of none");
}

#[test]
fn an_empty_matrix_scores_zero() {
    let scores = Confusion::new(&labels(&["none", "a"]), Some(0)).expect("labels").scores();
    for averaging in [Averaging::Micro, Averaging::Macro, Averaging::MacroAll, Averaging::Binary] {
        assert_eq!(scores.by(averaging), Some(Prf { precision: 0.0, recall: 0.0, f1: 0.0 }));
    }
    assert_eq!(scores.accuracy, 0.0);
    // A task whose only label is the negative one has no positive to average over.
    let scores = confusion(&["none"], Some(0), &[&[3]]).scores();
    assert_eq!((scores.macro_positive.f1, scores.micro.f1, scores.accuracy), (0.0, 0.0, 1.0));
}

#[test]
fn the_protocol_describes_the_score() {
    let mut ddi = Confusion::new(&labels(&["false", "effect", "mechanism", "advise", "int"]), Some(0)).expect("labels");
    ddi.add(0, 0, 5716).expect("added");
    let protocol = |averaging| ddi.scores().protocol(averaging, "test");
    assert_eq!(protocol(Averaging::Micro), "micro-F1 over the 4 positive classes, test, 5,716 pairs");
    assert_eq!(protocol(Averaging::Macro), "macro-F1 over the 4 positive classes, test, 5,716 pairs");
    assert_eq!(
        protocol(Averaging::MacroAll),
        "macro-F1 over all 5 classes, the negative one included, test, 5,716 pairs"
    );
    assert_eq!(protocol(Averaging::Binary), "binary F1, any relation against none, test, 5,716 pairs");
    let lost = ddi.clone().with_lost(&[0, 1000, 234, 0, 0]).expect("lost").scores();
    assert_eq!(
        lost.protocol(Averaging::Micro, "test"),
        "micro-F1 over the 4 positive classes, test, 5,716 pairs and 1,234 gold positives lost before, counted as misses"
    );
    let aimed = confusion(&["negative", "positive"], Some(0), &[&[10, 2], &[3, 4]]).scores();
    let expected = "F1 of the positive class `positive`, 10 folds, pooled, 19 pairs";
    assert_eq!(aimed.protocol(Averaging::Micro, "10 folds, pooled"), expected);
    assert_eq!(aimed.protocol(Averaging::Binary, "10 folds, pooled"), expected);
    let open = confusion(&["a", "b"], None, &[&[1, 0], &[0, 1]]).scores();
    assert_eq!(open.protocol(Averaging::Micro, "dev"), "micro-F1 over all 2 classes, dev, 2 pairs");
    assert_eq!(open.binary, None);
}

#[test]
fn invalid_counts_are_refused() {
    let names = labels(&["none", "a"]);
    assert!(Confusion::new(&[], None).is_err());
    assert!(Confusion::new(&names, Some(2)).is_err());
    let refused = |gold: &[usize], predicted: &[usize]| {
        Confusion::count(&names, Some(0), gold, predicted).expect_err("refused").to_string()
    };
    assert_eq!(refused(&[0, 1], &[0]), "predicted: 1 predictions for 2 gold labels");
    assert_eq!(refused(&[0, 2], &[0, 1]), "gold: label 2 is not one of 0 to 1");
    assert_eq!(refused(&[0, 1], &[0, 7]), "predicted: label 7 is not one of 0 to 1");
    assert!(example().with_lost(&[1, 0, 0, 0]).is_err(), "a lost negative");
    assert!(example().with_lost(&[0, 1]).is_err());
}

#[test]
fn mean_and_sample_standard_deviation() {
    let three = MeanSd::of(&[2.0 / 3.0, 2.0 / 3.0, 0.0]).expect("three values");
    assert_close(three.mean, 4.0 / 9.0, "mean");
    // Variance: (2 (2/9)^2 + (4/9)^2) / 2 = 12/81.
    assert_close(three.sd.expect("sd"), (12.0_f64 / 81.0).sqrt(), "sd");
    assert_eq!(MeanSd::of(&[0.5]), Some(MeanSd { mean: 0.5, sd: None }));
    assert_eq!(MeanSd::of(&[]), None);
}

#[test]
fn counting_equals_adding() {
    let counted = Confusion::count(&labels(&["none", "a"]), Some(0), &[0, 1, 1, 0], &[0, 0, 1, 0]).expect("counted");
    assert_eq!(counted, confusion(&["none", "a"], Some(0), &[&[2, 0], &[1, 1]]));
    assert_eq!(counted.rows().collect::<Vec<_>>(), [&[2, 0][..], &[1, 1]]);
    assert_eq!((counted.get(1, 0), counted.get(2, 0)), (1, 0));
}

fn triple(value: &Value) -> [f64; 3] {
    [0, 1, 2].map(|at| value[at].as_f64().expect("a number"))
}

fn assert_golden(scores: &Scores, golden: &Value, case: usize) {
    let classes = golden["classes"].as_array().expect("classes");
    assert_eq!(scores.classes.len(), classes.len());
    for (class, expected) in scores.classes.iter().zip(classes) {
        assert_prf(class.prf, triple(expected), &format!("case {case}, class {}", class.label));
        assert_eq!(Some(class.support), expected[3].as_u64(), "support, case {case}");
    }
    assert_prf(scores.micro, triple(&golden["micro"]), &format!("case {case}, micro"));
    assert_prf(scores.macro_positive, triple(&golden["macro"]), &format!("case {case}, macro"));
    assert_prf(scores.macro_all, triple(&golden["macro_all"]), &format!("case {case}, macro over all"));
    assert_close(scores.accuracy, golden["accuracy"].as_f64().expect("accuracy"), &format!("case {case}, accuracy"));
    match (scores.binary, &golden["binary"]) {
        (None, Value::Null) => {}
        (Some(binary), expected) => assert_prf(binary, triple(expected), &format!("case {case}, binary")),
        (None, expected) => panic!("case {case}: no binary score instead of {expected}"),
    }
}

#[test]
fn scores_equal_those_of_scikit_learn() {
    let golden: Value = serde_json::from_str(include_str!("golden/metrics/golden.json")).expect("golden.json");
    let cases = golden["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 120);
    for (number, case) in cases.iter().enumerate() {
        let rows: Vec<Vec<u64>> = serde_json::from_value(case["counts"].clone()).expect("counts");
        let rows: Vec<&[u64]> = rows.iter().map(Vec::as_slice).collect();
        let lost: Vec<u64> = serde_json::from_value(case["lost"].clone()).expect("lost");
        let names: Vec<String> = (0..rows.len()).map(|label| format!("label {label}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let negative = case["negative"].as_u64().map(|negative| negative as usize);
        let confusion = confusion(&names, negative, &rows);
        assert_golden(&confusion.scores(), &case["scores"], number);
        assert_golden(&confusion.with_lost(&lost).expect("lost").scores(), &case["scores_with_lost"], number);
    }
}
