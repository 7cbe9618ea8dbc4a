//! `[CLS] pieces [SEP]`, entities and windows.

use biorel::config::TooLong;
use biorel::encode::{Features, Tokenizer};

use super::{UNCASED, instance, open, span};

#[test]
fn features_are_cls_pieces_sep() {
    let tokenizer = open(UNCASED);
    let instance = instance("@DRUG$ increases @DRUG$ .", ["@DRUG$", "@DRUG$"]);
    let features = tokenizer.features(&instance, 128, TooLong::Error).expect("features").expect("kept");
    let ids: Vec<&str> = features.ids.iter().map(|id| tokenizer.token(*id).expect("id")).collect();
    assert_eq!(ids, ["[CLS]", "@", "drug", "$", "increase", "##s", "@", "drug", "$", ".", "[SEP]"]);
    assert_eq!(features.entities, [span(1, 4), span(6, 9)]);
    let words = [None, Some(0), Some(0), Some(0), Some(1), Some(1), Some(2), Some(2), Some(2), Some(3), None];
    assert_eq!(features.words, words);
    assert_eq!(features.spans[0], span(0, 0));
    assert_eq!(features.spans[4], span(7, 15));
    assert_eq!(features.spans[10], span(25, 25));
    assert_eq!((features.cut, features.label), (0, Some(1)));
}

/// Entities in the middle of pieces that reach over them, and a merged overlap (the same span
/// twice).
#[test]
fn entity_pieces_are_all_that_touch_the_entity() {
    let tokenizer = open(UNCASED);
    let nested = instance("the inhibition of caf", ["hibit", "caf"]);
    let features = tokenizer.features(&nested, 128, TooLong::Error).expect("features").expect("kept");
    assert_eq!(features.entities[0], span(2, 3));
    let mut merged = instance("the @DRUG-DRUG$ increases @DRUG$", ["@DRUG-DRUG$", "@DRUG$"]);
    merged.entities[1] = merged.entities[0];
    let features = tokenizer.features(&merged, 128, TooLong::Error).expect("features").expect("kept");
    assert_eq!(features.entities, [span(2, 7), span(2, 7)]);
}

#[test]
fn an_entity_without_a_place_or_a_piece_is_an_error() {
    let tokenizer = open(UNCASED);
    let mut outside = instance("the drug the", ["the", "the"]);
    outside.entities[1] = span(9, 13);
    let message = tokenizer.features(&outside, 128, TooLong::Drop).expect_err("outside").to_string();
    assert!(
        message.contains("d1.s0.p0") && message.contains("9..13") && message.contains("12 characters"),
        "{message}"
    );
    let ignored = instance("the \u{200b} drug", ["the", "\u{200b}"]);
    let message = tokenizer.features(&ignored, 128, TooLong::Drop).expect_err("ignored").to_string();
    assert!(message.contains("d1.s0.p0") && message.contains("no word piece"), "{message}");
    assert!(tokenizer.features(&ignored, 3, TooLong::Drop).expect_err("too short").to_string().contains("max_length"));
}

fn kept(tokenizer: &Tokenizer, features: &Features) -> String {
    let inner = &features.ids[1..features.ids.len() - 1];
    inner.iter().map(|id| tokenizer.token(*id).expect("id")).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_window_keeps_both_entities_in_its_middle_and_whole_words() {
    let tokenizer = open(UNCASED);
    // 5 + 3 + 2 + 3 + 6 pieces.
    let long = instance("of of of of of @DRUG$ increases @DRUG$ the the inhibits inhibits", ["@DRUG$", "@DRUG$"]);
    let fit = |max_length| tokenizer.features(&long, max_length, TooLong::Error).expect("features").expect("kept");
    let features = fit(14);
    assert_eq!(kept(&tokenizer, &features), "of of @ drug $ increase ##s @ drug $ the the");
    assert_eq!(features.entities, [span(3, 6), span(8, 11)]);
    assert_eq!(features.cut, 19 - 12);
    assert_eq!(features.words[1], Some(3), "words are counted in the whole text");
    // With room for five more the right edge would cut `inhibits`: it goes as a whole.
    let features = fit(15);
    assert_eq!(kept(&tokenizer, &features), "of of @ drug $ increase ##s @ drug $ the the");
    assert_eq!(fit(21).cut, 0);
    assert_eq!(fit(10).ids.len(), 10);
    assert!(tokenizer.features(&long, 9, TooLong::Error).is_err());
}

#[test]
fn an_instance_that_cannot_fit_is_an_error_dropped_or_joined() {
    let tokenizer = open(UNCASED);
    let far = instance("the @DRUG$ of of of of of of of of of of @DRUG$ the", ["@DRUG$", "@DRUG$"]);
    let message = tokenizer.features(&far, 12, TooLong::Error).expect_err("too long").to_string();
    assert!(message.contains("need 16 pieces") && message.contains("max_length=12 leaves room for 10"), "{message}");
    assert_eq!(tokenizer.features(&far, 12, TooLong::Drop).expect("dropped"), None);
    let joined = tokenizer.features(&far, 12, TooLong::Join).expect("joined").expect("kept");
    assert_eq!(kept(&tokenizer, &joined), "the @ drug $ of of @ drug $ the");
    assert_eq!(joined.entities, [span(2, 5), span(7, 10)]);
    assert_eq!(joined.cut, 18 - 10);
    // Not even the entities themselves.
    assert_eq!(tokenizer.features(&far, 7, TooLong::Join).expect("dropped"), None);
    assert!(tokenizer.features(&far, 7, TooLong::Error).is_err());

    let near = instance("@DRUG$ of @DRUG$", ["@DRUG$", "@DRUG$"]);
    let all = [near.clone(), far.clone(), near.clone()];
    let encoded = tokenizer.encode_all(&all, 12, TooLong::Drop).expect("encoded");
    assert_eq!((&encoded.kept[..], encoded.cut, encoded.features.len()), (&[0, 2][..], 0, 2));
    assert_eq!(encoded.dropped.len(), 1);
    assert_eq!((encoded.dropped[0].index, encoded.dropped[0].id.as_str()), (1, "d1.s0.p0"));
    assert_eq!(encoded.lost(3, Some(0)), [0, 1, 0]);
    assert_eq!(encoded.lost(3, Some(1)), [0, 0, 0]);
    let encoded = tokenizer.encode_all(&all, 12, TooLong::Join).expect("encoded");
    assert_eq!((encoded.kept, encoded.cut, encoded.dropped.len()), (vec![0, 1, 2], 1, 0));
    assert!(tokenizer.encode_all(&all, 12, TooLong::Error).is_err());
}

/// Document scope: all pairs of a document use the same windows, and a pair keeps the mentions that
/// are in its own.
#[test]
fn a_pair_of_concepts_is_in_the_window_of_most_of_its_mentions() {
    let tokenizer = open(UNCASED);
    // 20 words of one piece, each its own mention.
    let text = ["of"; 20].join(" ");
    let word = |number: usize| span(3 * number, 3 * number + 2);
    let with = |mentions: &[[usize; 2]]| {
        let mut document = instance(&text, ["of", "of"]);
        let mentions: Vec<_> = mentions.iter().map(|pair| pair.map(word)).collect();
        document.entities = mentions[0];
        document.further = mentions[1..].to_vec();
        document.concepts = Some(["a".into(), "b".into()]);
        document.copied = vec![biorel::encode::Copied { marked: 0, original: 0, length: text.len() }];
        document
    };
    let fit = |document: &biorel::encode::Instance| {
        tokenizer.features(document, 10, TooLong::Join).expect("features").expect("kept")
    };
    // Windows of 8 words start at 0, 4, 8, 12 and 16. The second of them has most of the mentions.
    let features = fit(&with(&[[5, 7], [4, 8], [9, 10], [0, 1]]));
    assert_eq!((features.words[1], features.cut, features.ids.len()), (Some(4), 12, 10));
    assert_eq!(features.entities, [span(2, 3), span(4, 5)]);
    assert_eq!(features.further, [[span(1, 2), span(5, 6)], [span(6, 7), span(7, 8)]]);
    assert_eq!(fit(&with(&[[5, 7], [0, 1]])).words[1], Some(0), "of equal windows the first");
    // Another pair of the same window has the same text.
    assert_eq!(fit(&with(&[[8, 11], [4, 5]])).words, features.words);
    // No window has both: one around each mention.
    let joined = fit(&with(&[[1, 15], [1, 2]]));
    assert_eq!(joined.cut, 12);
    assert!(joined.words.contains(&Some(1)) && joined.words.contains(&Some(15)));
    assert_eq!(joined.further.len(), 1, "both windows are read");
    // A document that fits is encoded as a whole.
    let whole = tokenizer.features(&with(&[[1, 15], [3, 19]]), 22, TooLong::Join).expect("features").expect("kept");
    assert_eq!((whole.cut, whole.ids.len(), whole.further.len()), (0, 22, 1));
    let mut outside = with(&[[1, 2], [3, 4]]);
    outside.further[0][1] = span(58, 61);
    let message = tokenizer.features(&outside, 22, TooLong::Drop).expect_err("outside").to_string();
    assert!(message.contains("58..61") && message.contains("59 characters"), "{message}");
}

#[test]
fn instances_of_one_text_have_the_features_that_each_has_alone() {
    let tokenizer = open(UNCASED);
    let mut items = vec![instance("@DRUG$ increases the @DRUG$ .", ["@DRUG$", "@DRUG$"])];
    items.push(instance("the inhibition of caf", ["hibit", "caf"]));
    items.push(instance("the inhibition of caf", ["the", "of"]));
    items.push(items[1].clone());
    items.push(items[0].clone());
    let encoded = tokenizer.encode_all(&items, 128, TooLong::Error).expect("encoded");
    for (item, features) in items.iter().zip(&encoded.features) {
        assert_eq!(Some(features), tokenizer.features(item, 128, TooLong::Error).expect("features").as_ref());
    }
}
