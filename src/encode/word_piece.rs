//! The description of a WordPiece tokenizer from BERT's `vocab.txt`.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::casing::{Casing, decide_casing};
use super::tokenizer_settings::{Settings, missing_special_token};
use crate::corpus::is_tag;
use crate::{Error, Result};

/// A `vocab.txt` in the form of `tokenizer.json`, as BERT's own tokenizer treats it.
pub(super) fn describe(
    file: &Path,
    pieces: &[String],
    added: &[(u64, String)],
    settings: &Settings,
    requested: Option<Casing>,
) -> Result<Map<String, Value>> {
    let id = |token: &str| pieces.iter().position(|piece| piece == token);
    let special = settings.special_tokens(|token| id(token).is_some())?;
    let casing = decide_casing(file, requested, &[(&settings.file, settings.casing()?)], pieces)?;
    let (Some(cls), Some(sep)) = (id(&special.cls), id(&special.sep)) else {
        return Err(missing_special_token(file, &special, |token| id(token).is_some()));
    };
    let entry = |id: u64, token: &str, special: bool| {
        json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": special})
    };
    let names = [&special.pad, &special.unk, &special.cls, &special.sep, &special.mask];
    let mut tokens: Vec<Value> = Vec::new();
    for (id, piece) in pieces.iter().enumerate() {
        let special = names.contains(&piece);
        // A tag or marker in the vocabulary is meant as one piece, but WordPiece alone would never find it.
        if special || is_tag(piece) {
            tokens.push(entry(id as u64, piece, special));
        }
    }
    tokens.extend(added.iter().map(|(id, token)| entry(*id, token, false)));
    let vocabulary: Map<String, Value> =
        pieces.iter().enumerate().map(|(id, piece)| (piece.clone(), id.into())).collect();
    let template = |token: &str, id: usize| json!({"id": token, "ids": [id], "tokens": [token]});
    let special_piece = |token: &str, side: u8| json!({"SpecialToken": {"id": token, "type_id": side}});
    let sequence = |name: &str, side: u8| json!({"Sequence": {"id": name, "type_id": side}});
    let (first, second) = (sequence("A", 0), sequence("B", 1));
    let (start, end) = (special_piece(&special.cls, 0), special_piece(&special.sep, 0));
    let mut templates = Map::new();
    templates.insert(special.cls.clone(), template(&special.cls, cls));
    templates.insert(special.sep.clone(), template(&special.sep, sep));
    let description = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": tokens,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": true,
            "handle_chinese_chars": settings.flag("tokenize_chinese_chars")?.unwrap_or(true),
            "strip_accents": settings.flag("strip_accents")?,
            "lowercase": casing == Casing::Uncased,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [&start, &first, &end],
            "pair": [&start, &first, &end, &second, special_piece(&special.sep, 1)],
            "special_tokens": templates,
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece", "unk_token": special.unk, "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary,
        },
    });
    match description {
        Value::Object(description) => Ok(description),
        other => Err(Error::checkpoint(file, format!("cannot be described: {other}"))),
    }
}

/// One piece per line; its id is the line's number from 0. An empty line is an id that never occurs
/// in a text (SciBERT's 30,106); empty lines at the end are ignored.
pub(super) fn read_vocabulary(file: &Path) -> Result<Vec<String>> {
    let bytes = std::fs::read(file).map_err(Error::io(file))?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        Error::checkpoint(file, format!("line {line} is not UTF-8"))
    })?;
    // Split at line feeds alone: other Unicode line breaks may be pieces.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        return Err(Error::checkpoint(file, "is empty"));
    }
    let mut lines = HashMap::new();
    let mut pieces = Vec::new();
    for (id, piece) in text.split('\n').enumerate() {
        let piece = piece.strip_suffix('\r').unwrap_or(piece);
        if let Some(first) = lines.insert(piece, id) {
            let message = format!("lines {} and {} are both `{piece}`", first + 1, id + 1);
            return Err(Error::checkpoint(file, message));
        }
        pieces.push(piece.to_owned());
    }
    Ok(pieces)
}
