//! Attention over words.

use biorel::attention::word_weights;
use biorel::config::TooLong;

use biorel::encode::Copied;

use super::{UNCASED, instance, open};

#[test]
fn weights_of_words_are_sums_over_pieces() {
    let tokenizer = open(UNCASED);
    let instance = instance("of @DRUG$ increases ( the @DRUG$ .", ["@DRUG$", "@DRUG$"]);
    let features = tokenizer.features(&instance, 128, TooLong::Error).expect("features").expect("kept");
    // of | @ drug $ | increase ##s | ( | the | @ drug $ | .
    let weights = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12].map(|share| share as f32 / 78.0);
    let words = word_weights(&features, &instance, &weights).expect("weights");
    let shown: Vec<(&str, f64, [u32; 2], bool)> = words
        .iter()
        .map(|word| (word.text.as_str(), (word.weight * 78.0).round(), word.distance, word.is_entity))
        .collect();
    assert_eq!(
        shown,
        [
            ("of", 1.0, [1, 4], false),
            ("@DRUG$", 9.0, [0, 3], true),
            ("increases", 11.0, [1, 2], false),
            ("(", 7.0, [2, 2], false),
            ("the", 8.0, [2, 1], false),
            ("@DRUG$", 30.0, [3, 0], true),
            (".", 12.0, [4, 1], false),
        ]
    );
    assert!((words.iter().map(|word| word.weight).sum::<f64>() - 1.0).abs() < 1e-12);
    assert_eq!(words[2].original, Some(words[2].span));
    assert_eq!(words[1].original, None);
    // The same with [CLS] and [SEP] at 0.
    let padded: Vec<f32> = [0.0].into_iter().chain(weights).chain([0.0]).collect();
    assert_eq!(word_weights(&features, &instance, &padded).expect("weights"), words);
}

#[test]
fn weights_that_are_no_distribution_are_refused() {
    let tokenizer = open(UNCASED);
    let instance = instance("@DRUG$ of @DRUG$", ["@DRUG$", "@DRUG$"]);
    let features = tokenizer.features(&instance, 128, TooLong::Error).expect("features").expect("kept");
    let refused = |weights: &[f32]| word_weights(&features, &instance, weights).expect_err("refused").to_string();
    assert!(refused(&[0.5; 7]).contains("sums to 3.5"));
    assert!(refused(&[f32::NAN; 7]).contains("NaN"));
    assert!(refused(&[-1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0]).contains("-1"));
    assert!(refused(&[0.2; 5]).contains("5 weights for 7 pieces"));
    assert!(refused(&[1.0 / 9.0; 9]).contains("[CLS]"));
    assert!(refused(&[]).contains("0 weights"));
}

/// Between two windows, the words that are not there still count as distance.
#[test]
fn distances_reach_over_a_gap() {
    let tokenizer = open(UNCASED);
    let far = instance("the @DRUG$ of of , of of of of of of of of @DRUG$ the", ["@DRUG$", "@DRUG$"]);
    let features = tokenizer.features(&far, 12, TooLong::Join).expect("joined").expect("kept");
    let inner = features.ids.len() - 2;
    let words = word_weights(&features, &far, &vec![1.0 / inner as f32; inner]).expect("weights");
    let last = words.last().expect("words");
    assert_eq!((last.text.as_str(), last.distance), ("the", [12, 1]));
}

/// `TNFα@DRUG$ αβ the`, rewritten as BLUE does: a word keeps its place in the sentence, a tag has
/// none.
#[test]
fn words_that_were_rewritten_keep_their_place() {
    let tokenizer = open(UNCASED);
    let mut case = instance("tnfa @DRUG$ alphab the @DRUG$", ["@DRUG$", "@DRUG$"]);
    // The sentence: `tnfα aspirin αb the warfarin`.
    case.copied = [(0, 0, 3), (4, 4, 1), (11, 12, 1), (17, 14, 6)]
        .map(|(marked, original, length)| Copied { marked, original, length })
        .to_vec();
    let features = tokenizer.features(&case, 128, TooLong::Error).expect("features").expect("kept");
    let inner = features.ids.len() - 2;
    let words = word_weights(&features, &case, &vec![1.0 / inner as f32; inner]).expect("weights");
    let places: Vec<(&str, Option<(usize, usize)>)> =
        words.iter().map(|word| (word.text.as_str(), word.original.map(|span| (span.start, span.end)))).collect();
    let expected = [
        ("tnfa", Some((0, 4))),
        ("@DRUG$", None),
        ("alphab", Some((13, 15))),
        ("the", Some((16, 19))),
        ("@DRUG$", None),
    ];
    assert_eq!(places, expected);
}
