//! Opening, refusing, cutting, saving.

use std::path::Path;

use biorel::encode::{Casing, Tokenizer};

use super::{CASED, UNCASED, directory, open, refusal, texts, words};

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

/// A decomposed accent, a control character and a capital that lower-cases to two characters:
/// offsets stay right.
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
        (format!("{special}the\nof\nthe\n"), "lines 5 and 7 are both `the`"),
        (format!("{special}the\n\nof\n\nand\n"), "lines 6 and 8 are both ``"),
        ("[PAD]\nthe\n".to_owned(), "no [CLS], [SEP]"),
        ("[PAD]\n[CLS]\n[SEP]\nthe\n".to_owned(), "no [UNK]"),
    ] {
        let directory = directory(&[("vocab.txt", &vocabulary)]);
        let message = refusal(directory.path(), None);
        assert!(message.contains(reason) && message.contains("vocab.txt"), "{message}");
    }
    let special = r#"{"<s>": 0, "</s>": 1, "<unk>": 2, "a": 3, "b": 4, "ab": 5}"#;
    for (vocabulary, merges, reason) in [
        (special, "#version: 0.2\na b\na\n", "merges.txt: line 3 is not a pair of pieces: `a`"),
        (special, "a b c\n", "merges.txt: line 1 is not a pair of pieces: `a b c`"),
        (special, "a c\n", "vocab.json: cannot be used as a tokenizer"),
        (r#"{"<s>": 0, "a": 1}"#, "", "vocab.json: the vocabulary has no [SEP], [UNK]; a BERT vocabulary"),
        (r#"{"<s>": 0, "</s>": 2, "<unk>": 3}"#, "", "vocab.json: `<unk>` has the id 3"),
    ] {
        let directory = directory(&[("vocab.json", vocabulary), ("merges.txt", merges)]);
        let message = refusal(directory.path(), None);
        assert!(message.contains(reason), "{message}");
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
        (with("/model/type", "BPE".into()), "a BPE tokenizer is supported with `ByteLevel` only"),
        (with("/model/type", "WordLevel".into()), "is a WordLevel tokenizer; WordPiece, BPE and Unigram are"),
        (with("/model/vocab/the", 3.into()), "same id 3"),
        (with("/model/vocab/the", 9999.into()), "without gaps or duplicates"),
        (with("/model/vocab/the", "x".into()), "without gaps or duplicates"),
        (with("/model/unk_token", "[what]".into()), "no [what]"),
        (with("/normalizer/lowercase", "yes".into()), "must be true or false"),
        (with("/normalizer/type", "Unheard".into()), "`Unheard`"),
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

/// transformers adds a special token that the vocabulary lacks, unless it is told that there is
/// none.
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
