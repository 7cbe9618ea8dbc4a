//! What holds for any text, any entities, and any damage to a tokenizer.json.

use biorel::attention::word_weights;
use biorel::config::TooLong;
use biorel::encode::{Casing, Copied, Tokenizer};
use proptest::prelude::*;

use super::{CASED, UNCASED, directory, instance, open, span};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_has_pieces_in_order_and_in_bounds(text in any_text()) {
        for tokenizer in [open(UNCASED), open(CASED)] {
            let pieces = tokenizer.pieces(&text).expect("pieces");
            let length = text.chars().count();
            let mut next_word = 0;
            let mut last = span(0, 0);
            for piece in &pieces {
                prop_assert!(piece.span.start <= piece.span.end && piece.span.end <= length);
                prop_assert!(piece.span.start >= last.start && piece.span.end >= last.end);
                prop_assert!(piece.word == next_word || piece.word + 1 == next_word);
                prop_assert!((piece.id as usize) < tokenizer.vocab_size());
                next_word = piece.word + 1;
                last = piece.span;
            }
            prop_assert_eq!(pieces.first().map_or(0, |piece| piece.word), 0);
        }
    }

    #[test]
    fn any_two_entities_survive_or_are_refused(
        before in any_text(), between in any_text(), after in any_text(),
        max_length in 4_usize..40,
        choice in prop_oneof![Just(TooLong::Error), Just(TooLong::Drop), Just(TooLong::Join)],
    ) {
        let tokenizer = open(UNCASED);
        let (before, between, after) = (format!("{before} "), format!(" {between} "), format!(" {after}"));
        let text = format!("{before}@DRUG${between}@GENE${after}");
        let start = before.chars().count();
        let second = start + 6 + between.chars().count();
        let mut case = instance("@DRUG$ @GENE$", ["@DRUG$", "@GENE$"]);
        case.copied = vec![
            Copied { marked: 0, original: 0, length: start },
            Copied { marked: start + 6, original: start + 9, length: second - start - 6 },
            Copied { marked: second + 6, original: second + 20, length: after.chars().count() },
        ];
        case.text = text;
        case.entities = [span(start, start + 6), span(second, second + 6)];
        match tokenizer.features(&case, max_length, choice) {
            Ok(None) => prop_assert!(choice != TooLong::Error),
            Err(_) => prop_assert_eq!(choice, TooLong::Error),
            Ok(Some(features)) => {
                let n = features.ids.len();
                prop_assert!(n <= max_length && features.spans.len() == n && features.words.len() == n);
                let all_pieces = tokenizer.pieces(&case.text).expect("pieces");
                let all = all_pieces.len();
                prop_assert_eq!(n - 2 + features.cut, all);
                prop_assert!((features.cut == 0) == (all + 2 <= max_length));
                for (range, entity) in features.entities.iter().zip(case.entities) {
                    prop_assert!(range.start >= 1 && range.end < n);
                    prop_assert_eq!(features.spans[range.start].start, entity.start);
                    prop_assert_eq!(features.spans[range.end - 1].end, entity.end);
                    let word = features.words[range.start];
                    prop_assert!((range.start..range.end).all(|piece| features.words[piece] == word));
                }
                // No word is cut at the edge of a window.
                for word in features.words.iter().flatten() {
                    let whole = all_pieces.iter().filter(|piece| piece.word == *word).count();
                    prop_assert_eq!(features.words.iter().filter(|kept| *kept == &Some(*word)).count(), whole);
                }
                let weights: Vec<f32> = (0..n - 2).map(|piece| (piece + 1) as f32).collect();
                let total: f32 = weights.iter().sum();
                let weights: Vec<f32> = weights.iter().map(|weight| weight / total).collect();
                let words = word_weights(&features, &case, &weights).expect("weights");
                prop_assert!((words.iter().map(|word| word.weight).sum::<f64>() - 1.0).abs() < 1e-6);
                prop_assert!(words.windows(2).all(|pair| pair[0].word < pair[1].word));
                for word in &words {
                    prop_assert_eq!(word.is_entity, word.distance.contains(&0));
                    if let Some(original) = word.original {
                        prop_assert_eq!(original.end - original.start, word.span.end - word.span.start);
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A tokenizer.json with any part replaced by anything is opened or refused, and then cuts text
    /// or refuses it.
    #[test]
    fn a_damaged_tokenizer_file_never_panics(steps in prop::collection::vec(any::<u32>(), 1..6), value in any_json()) {
        let mut description: serde_json::Value = serde_json::from_str(saved_description()).expect("json");
        let mut place = &mut description;
        for step in steps {
            let children = match &*place {
                serde_json::Value::Object(map) => map.len(),
                serde_json::Value::Array(items) => items.len(),
                _ => 0,
            };
            if children == 0 {
                break;
            }
            let child = step as usize % children;
            place = match place {
                serde_json::Value::Object(map) => map.values_mut().nth(child).expect("a child"),
                serde_json::Value::Array(items) => &mut items[child],
                _ => break,
            };
        }
        *place = value;
        let folder = directory(&[("tokenizer.json", &description.to_string())]);
        for casing in [None, Some(Casing::Uncased), Some(Casing::Cased)] {
            if let Ok(tokenizer) = Tokenizer::open(folder.path(), casing) {
                let _ = tokenizer.pieces("The inhibition of @DRUG$ [MASK] caf\u{e9}.");
            }
        }
    }
}

/// The small uncased vocabulary as a tokenizer.json.
fn saved_description() -> &'static str {
    static TEXT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    TEXT.get_or_init(|| {
        let saved = tempfile::tempdir().expect("temporary directory");
        open(UNCASED).save(saved.path()).expect("saved");
        std::fs::read_to_string(saved.path().join("tokenizer.json")).expect("tokenizer.json")
    })
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::json;
    prop_oneof![
        any::<i64>().prop_map(|number| json!(number)),
        any::<f64>().prop_map(|number| json!(number)),
        "\\PC{0,8}".prop_map(|text| json!(text)),
        prop_oneof![
            Just(json!(null)),
            Just(json!(true)),
            Just(json!([])),
            Just(json!({})),
            Just(json!("")),
            Just(json!(0)),
            Just(json!({"type": "Lowercase"})),
            Just(json!({"type": "Sequence", "normalizers": []})),
            Just(json!([null])),
        ],
    ]
}

/// Texts with everything that moves offsets: accents, control and zero-width characters, CJK,
/// emoji, tags.
fn any_text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "\\PC{0,6}",
        any::<char>().prop_map(String::from),
        prop_oneof![
            Just("the "),
            Just("inhibits"),
            Just(" İΑΣ"),
            Just("e\u{301}"),
            Just("\u{200b}"),
            Just("\u{7}\t"),
            Just("日本"),
            Just("@DRUG$"),
            Just("[E1]"),
            Just("[/E2]"),
            Just("[MASK]"),
            Just("[CLS]"),
            Just(" "),
            Just("ﬁ"),
            Just("@"),
        ]
        .prop_map(str::to_owned),
    ];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}
