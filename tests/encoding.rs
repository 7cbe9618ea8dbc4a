//! Tokenizer, features and word weights on small hand-written vocabularies; on the real ones in `tokenizer_golden.rs`.

use std::path::Path;

use biorel::attention::word_weights;
use biorel::corpus::Span;
use biorel::encode::{Casing, Copied, Features, Instance, Tokenizer, TooLong};
use proptest::prelude::*;

const UNCASED: &str = "tests/data/encoding/uncased";
const CASED: &str = "tests/data/encoding/cased";

fn open(directory: &str) -> Tokenizer {
    Tokenizer::open(directory, None).expect(directory)
}

/// Write files into a fresh directory.
fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("temporary directory");
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).expect(name);
    }
    directory
}

fn refusal(directory: &Path, casing: Option<Casing>) -> String {
    match Tokenizer::open(directory, casing) {
        Ok(_) => panic!("{} was opened", directory.display()),
        Err(error) => error.to_string(),
    }
}

fn span(start: usize, end: usize) -> Span {
    Span { start, end }
}

/// An instance whose entities are the first occurrences of two strings, and whose other text was copied from place 0.
fn instance(text: &str, entities: [&str; 2]) -> Instance {
    let place = |entity: &str, from: usize| {
        let byte = from + text[from..].find(entity).expect(entity);
        let start = text[..byte].chars().count();
        (span(start, start + entity.chars().count()), byte + entity.len())
    };
    let (first, end) = place(entities[0], 0);
    let (second, _) = place(entities[1], end);
    let length = text.chars().count();
    let mut copied = Vec::new();
    for (from, to) in [(0, first.start), (first.end, second.start), (second.end, length)] {
        if from < to {
            copied.push(Copied { marked: from, original: from, length: to - from });
        }
    }
    Instance {
        id: "d1.s0.p0".into(),
        document: "d1".into(),
        sentence: "d1.s0".into(),
        text: text.into(),
        entities: [first, second],
        mentions: entities.map(str::to_owned),
        copied,
        label: Some(1),
    }
}

fn texts(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
    tokenizer.pieces(text).expect(text).into_iter().map(|piece| piece.text).collect()
}

fn words(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.pieces(text).expect(text).into_iter().map(|piece| piece.word).collect()
}

#[test]
fn cuts_text_into_pieces_with_their_characters_and_words() {
    let tokenizer = open(UNCASED);
    let text = "Café increases the inhibition.";
    assert_eq!(texts(&tokenizer, text), ["cafe", "increase", "##s", "the", "inhibit", "##ion", "."]);
    assert_eq!(words(&tokenizer, text), [0, 1, 1, 2, 3, 3, 4]);
    let chars: Vec<char> = text.chars().collect();
    let covered: Vec<String> = tokenizer
        .pieces(text)
        .expect("pieces")
        .iter()
        .map(|piece| chars[piece.span.start..piece.span.end].iter().collect())
        .collect();
    assert_eq!(covered, ["Café", "increase", "s", "the", "inhibit", "ion", "."]);
}

/// A decomposed accent, a control character and a capital that lower-cases to two characters: offsets stay right.
#[test]
fn offsets_survive_normalisation() {
    let tokenizer = open(UNCASED);
    let text = "Cafe\u{301} \u{7}i\u{200b}ncrease İncrease Α";
    let pieces = tokenizer.pieces(text).expect("pieces");
    let chars: Vec<char> = text.chars().collect();
    let covered: Vec<(String, String)> = pieces
        .iter()
        .map(|piece| (piece.text.clone(), chars[piece.span.start..piece.span.end].iter().collect()))
        .collect();
    let expected = [("cafe", "Cafe"), ("increase", "i\u{200b}ncrease"), ("increase", "İncrease"), ("α", "Α")];
    assert_eq!(covered.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect::<Vec<_>>(), expected);
}

#[test]
fn a_tag_or_marker_is_one_word() {
    let tokenizer = open(UNCASED);
    let text = "anti-@DRUG$s [E1] the [/E1]";
    let expected = ["anti", "-", "@", "drug", "$", "##s", "[", "e1", "]", "the", "[", "/", "e1", "]"];
    let expected: Vec<&str> = expected.iter().map(|piece| if *piece == "##s" { "s" } else { piece }).collect();
    assert_eq!(texts(&tokenizer, text), expected);
    assert_eq!(words(&tokenizer, text), [0, 1, 2, 2, 2, 3, 4, 4, 4, 5, 6, 6, 6, 6]);
    // A vocabulary that has the tag keeps it whole.
    let vocabulary = std::fs::read_to_string(format!("{UNCASED}/vocab.txt")).expect("vocab.txt");
    let with_tag = directory(&[("vocab.txt", &format!("{vocabulary}@DRUG$\n"))]);
    let tokenizer = Tokenizer::open(with_tag.path(), None).expect("with a tag");
    assert_eq!(texts(&tokenizer, "anti-@DRUG$s"), ["anti", "-", "@DRUG$", "s"]);
}

#[test]
fn casing_comes_from_the_vocabulary() {
    assert_eq!(open(UNCASED).casing(), Casing::Uncased);
    assert_eq!(open(CASED).casing(), Casing::Cased);
    assert_eq!(texts(&open(CASED), "The drug inhibits IL"), ["The", "drug", "inhibit", "##s", "IL"]);
    assert_eq!(texts(&open(CASED), "THE"), ["[UNK]"]);
}

#[test]
fn a_contradictory_casing_is_refused() {
    let message = refusal(Path::new(CASED), Some(Casing::Uncased));
    assert!(message.contains("`uncased` was asked for") && message.contains("are cased"), "{message}");
    let message = refusal(Path::new(UNCASED), Some(Casing::Cased));
    assert!(message.contains("`cased` was asked for") && message.contains("are uncased"), "{message}");
    // The well-known trap: a cased vocabulary beside a configuration that lower-cases.
    let vocabulary = std::fs::read_to_string(format!("{CASED}/vocab.txt")).expect("vocab.txt");
    let trap = directory(&[("vocab.txt", &vocabulary), ("tokenizer_config.json", r#"{"do_lower_case": true}"#)]);
    let message = refusal(trap.path(), None);
    assert!(message.contains("tokenizer_config.json") && message.contains("casing=\"cased\""), "{message}");
    // The caller, borne out by the vocabulary, overrules the file.
    let tokenizer = Tokenizer::open(trap.path(), Some(Casing::Cased)).expect("overruled");
    assert_eq!(texts(&tokenizer, "The"), ["The"]);
}

#[test]
fn casing_that_nothing_tells_is_asked_for() {
    let special = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n1\n2\n";
    let silent = directory(&[("vocab.txt", special)]);
    assert!(refusal(silent.path(), None).contains("state casing"));
    assert!(Tokenizer::open(silent.path(), Some(Casing::Cased)).is_ok());
    let stated = directory(&[("vocab.txt", special), ("tokenizer_config.json", r#"{"do_lower_case": false}"#)]);
    assert_eq!(Tokenizer::open(stated.path(), None).expect("stated").casing(), Casing::Cased);
    assert!(refusal(stated.path(), Some(Casing::Uncased)).contains("was asked for"));
}

#[test]
fn bad_vocabularies_are_refused_with_the_reason() {
    let special = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n";
    for (vocabulary, reason) in [
        ("".to_owned(), "is empty"),
        ("\n\n".to_owned(), "is empty"),
        (format!("{special}the\nof\nthe\n"), "lines 5 and 7 both hold `the`"),
        (format!("{special}the\n\nof\n\nand\n"), "lines 6 and 8 both hold ``"),
        ("[PAD]\nthe\n".to_owned(), "no [CLS], [SEP]"),
        ("[PAD]\n[CLS]\n[SEP]\nthe\n".to_owned(), "no [UNK]"),
    ] {
        let directory = directory(&[("vocab.txt", &vocabulary)]);
        let message = refusal(directory.path(), None);
        assert!(message.contains(reason) && message.contains("vocab.txt"), "{message}");
    }
    let directory = tempfile::tempdir().expect("temporary directory");
    assert!(refusal(directory.path(), None).contains("neither tokenizer.json nor vocab.txt"));
    assert!(matches!(Tokenizer::open(directory.path().join("no"), None), Err(biorel::Error::Io { .. })));
    std::fs::write(directory.path().join("vocab.txt"), b"[UNK]\n\xff\xfe\n").expect("vocab.txt");
    assert!(refusal(directory.path(), None).contains("line 2 is not UTF-8"));
}

#[test]
fn bad_tokenizer_files_are_refused_with_the_reason() {
    let good = {
        let saved = tempfile::tempdir().expect("temporary directory");
        open(UNCASED).save(saved.path()).expect("saved");
        std::fs::read_to_string(saved.path().join("tokenizer.json")).expect("tokenizer.json")
    };
    let value: serde_json::Value = serde_json::from_str(&good).expect("json");
    let with = |pointer: &str, to: serde_json::Value| {
        let mut value = value.clone();
        *value.pointer_mut(pointer).expect(pointer) = to;
        value.to_string()
    };
    for (text, reason) in [
        ("{".to_owned(), "not a JSON object"),
        ("[]".to_owned(), "not a JSON object"),
        ("{}".to_owned(), "has no `model`"),
        (with("/model/type", "BPE".into()), "is a BPE tokenizer"),
        (with("/model/vocab/the", 3.into()), "same id 3"),
        (with("/model/vocab/the", 9999.into()), "without gaps or doubles"),
        (with("/model/vocab/the", "x".into()), "without gaps or doubles"),
        (with("/model/unk_token", "[what]".into()), "no [what]"),
        (with("/normalizer/lowercase", "yes".into()), "must be true or false"),
        (with("/normalizer/type", "Prepend".into()), "`Prepend`"),
        (with("/pre_tokenizer/type", "ByteLevel".into()), "`ByteLevel`"),
        (with("/added_tokens/0/id", 500.into()), "the next free id"),
        (with("/added_tokens/0/content", "the".into()), "which is `[PAD]`"),
        (with("/version", "9".into()), "cannot be used as a tokenizer"),
    ] {
        let directory = directory(&[("tokenizer.json", &text)]);
        let message = refusal(directory.path(), None);
        assert!(message.contains(reason) && message.contains("tokenizer.json"), "{message}");
    }
}

#[test]
fn special_ids_are_those_of_the_vocabulary() {
    let tokenizer = open(CASED);
    // Not in the usual places, as in SciBERT.
    assert_eq!((tokenizer.unk_id(), tokenizer.cls_id(), tokenizer.sep_id()), (4, 5, 6));
    assert_eq!((tokenizer.pad_id(), tokenizer.mask_id()), (Some(0), None));
    assert_eq!(tokenizer.token(5), Some("[CLS]"));
    assert_eq!(tokenizer.token(tokenizer.vocab_size() as u32), None);
}

#[test]
fn padding_and_truncation_of_a_tokenizer_file_are_not_ours() {
    let saved = tempfile::tempdir().expect("temporary directory");
    open(UNCASED).save(saved.path()).expect("saved");
    let file = saved.path().join("tokenizer.json");
    let mut value: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).expect("read")).expect("json");
    value["truncation"] =
        serde_json::json!({"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"});
    value["padding"] = serde_json::json!({"strategy": {"Fixed": 128}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"});
    std::fs::write(&file, value.to_string()).expect("written");
    let tokenizer = Tokenizer::open(saved.path(), None).expect("opened");
    assert_eq!(texts(&tokenizer, "the the the the the"), ["the"; 5]);
}

#[test]
fn a_saved_tokenizer_opens_as_the_same_one() {
    for source in [UNCASED, CASED] {
        let tokenizer = open(source);
        let saved = tempfile::tempdir().expect("temporary directory");
        tokenizer.save(saved.path()).expect("saved");
        let text = "The Café inhibits @DRUG$ \u{7} IL-2.";
        for drop in ["", "tokenizer.json", "tokenizer_config.json"] {
            if !drop.is_empty() {
                std::fs::remove_file(saved.path().join(drop)).expect(drop);
            }
            let again = Tokenizer::open(saved.path(), None).expect("opened again");
            assert_eq!(again.pieces(text).expect("pieces"), tokenizer.pieces(text).expect("pieces"));
            assert_eq!(again.casing(), tokenizer.casing());
            assert_eq!((again.vocab_size(), again.cls_id()), (tokenizer.vocab_size(), tokenizer.cls_id()));
        }
        assert_eq!(
            std::fs::read_to_string(saved.path().join("vocab.txt")).expect("vocab.txt"),
            std::fs::read_to_string(format!("{source}/vocab.txt")).expect("vocab.txt")
        );
    }
}

/// transformers adds a special token that the vocabulary lacks, unless it is told that there is none.
#[test]
fn a_saved_tokenizer_names_no_token_that_it_has_not() {
    let saved = tempfile::tempdir().expect("temporary directory");
    open(CASED).save(saved.path()).expect("saved");
    let settings = std::fs::read(saved.path().join("tokenizer_config.json")).expect("read");
    let settings: serde_json::Value = serde_json::from_slice(&settings).expect("json");
    assert_eq!((&settings["mask_token"], &settings["pad_token"]), (&serde_json::Value::Null, &"[PAD]".into()));
    assert_eq!(settings["do_lower_case"], false);
}

/// Tokens that an older release added to a vocab.txt, and special tokens with names of their own.
#[test]
fn added_and_renamed_tokens_are_known() {
    let vocabulary = "<pad>\n<unk>\n<s>\n</s>\nthe\ndrug\n";
    let settings =
        r#"{"cls_token": "<s>", "sep_token": {"content": "</s>"}, "unk_token": "<unk>", "pad_token": "<pad>"}"#;
    let files =
        [("vocab.txt", vocabulary), ("tokenizer_config.json", settings), ("added_tokens.json", r#"{"IFN-g": 6}"#)];
    let folder = directory(&files);
    let tokenizer = Tokenizer::open(folder.path(), None).expect("opened");
    assert_eq!((tokenizer.cls_id(), tokenizer.sep_id(), tokenizer.unk_id(), tokenizer.vocab_size()), (2, 3, 1, 7));
    assert_eq!(texts(&tokenizer, "the IFN-g drug of"), ["the", "IFN-g", "drug", "<unk>"]);
    let saved = tempfile::tempdir().expect("temporary directory");
    tokenizer.save(saved.path()).expect("saved");
    let again = Tokenizer::open(saved.path(), None).expect("opened again");
    assert_eq!(again.pieces("the IFN-g of").expect("pieces"), tokenizer.pieces("the IFN-g of").expect("pieces"));
    for (added, reason) in
        [(r#"{"x": 9}"#, "next free id is 6"), (r#"{"x": "y"}"#, "not a whole number"), ("[", "JSON")]
    {
        std::fs::write(folder.path().join("added_tokens.json"), added).expect("written");
        assert!(refusal(folder.path(), None).contains(reason), "{added}");
    }
}

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

/// Entities in the middle of pieces that reach over them, and a merged overlap (the same span twice).
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
    assert!(tokenizer.features(&far, 7, TooLong::Join).is_err());

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
            Ok(None) => prop_assert_eq!(choice, TooLong::Drop),
            Err(_) => prop_assert!(choice != TooLong::Drop),
            Ok(Some(features)) => {
                let n = features.ids.len();
                prop_assert!(n <= max_length && features.spans.len() == n && features.words.len() == n);
                let all = tokenizer.pieces(&case.text).expect("pieces").len();
                prop_assert_eq!(n - 2 + features.cut, all);
                prop_assert!((features.cut == 0) == (all + 2 <= max_length));
                for (range, entity) in features.entities.iter().zip(case.entities) {
                    prop_assert!(range.start >= 1 && range.end < n);
                    prop_assert_eq!(features.spans[range.start].start, entity.start);
                    prop_assert_eq!(features.spans[range.end - 1].end, entity.end);
                    let word = features.words[range.start];
                    prop_assert!((range.start..range.end).all(|piece| features.words[piece] == word));
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

    /// A tokenizer.json with any part replaced by anything is opened or refused, and then cuts text or refuses it.
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

/// Texts with everything that moves offsets: accents, control and zero-width characters, CJK, emoji, tags.
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
