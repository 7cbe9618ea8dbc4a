//! The description of a byte-level BPE tokenizer (Radford et al. 2019) from `vocab.json` and
//! `merges.txt`, as RoBERTa and its successors were released.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::tokenizer_settings::{Settings, missing_special_token, read_added, read_object};
use crate::{Error, Result};

/// In the form of `tokenizer.json`, as transformers' `RobertaTokenizer` treats these files.
pub(super) fn describe(file: &Path, settings: &Settings) -> Result<Map<String, Value>> {
    let vocabulary = read_object(file)?;
    let merges = read_merges(&file.with_file_name("merges.txt"))?;
    let special = settings.special_tokens(|token| vocabulary.contains_key(token))?;
    let id = |token: &str| vocabulary.get(token).and_then(Value::as_u64);
    let (Some(cls), Some(sep)) = (id(&special.cls), id(&special.sep)) else {
        return Err(missing_special_token(file, &special, |token| id(token).is_some()));
    };
    let entry = |id: u64, token: &str, special: bool, lstrip: bool| {
        json!({"id": id, "content": token, "single_word": false, "lstrip": lstrip, "rstrip": false,
               "normalized": false, "special": special})
    };
    let names = [&special.cls, &special.pad, &special.sep, &special.unk, &special.mask];
    let mut tokens: Vec<Value> = Vec::new();
    for name in names {
        // The mask takes the space before it along.
        tokens.extend(id(name).map(|id| entry(id, name, true, *name == special.mask)));
    }
    let added = read_added(&file.with_file_name("added_tokens.json"))?;
    tokens.extend(added.iter().map(|(id, token)| entry(*id, token, false, false)));
    let prefix = settings.flag("add_prefix_space")?.unwrap_or(false);
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": true});
    let description = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": tokens,
        "normalizer": null,
        "pre_tokenizer": bytes,
        "post_processor": {
            "type": "RobertaProcessing", "sep": [special.sep, sep], "cls": [special.cls, cls],
            "trim_offsets": true, "add_prefix_space": prefix,
        },
        "decoder": bytes,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false,
            "vocab": vocabulary, "merges": merges,
        },
    });
    match description {
        Value::Object(description) => Ok(description),
        other => Err(Error::checkpoint(file, format!("cannot be described: {other}"))),
    }
}

/// The pairs to merge, one per line, the most frequent first.
fn read_merges(file: &Path) -> Result<Vec<[String; 2]>> {
    let text = std::fs::read_to_string(file).map_err(Error::io(file))?;
    let mut merges = Vec::new();
    // Split at line feeds alone: other Unicode line breaks may be pieces.
    for (number, line) in text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() || (number == 0 && line.starts_with("#version")) {
            continue;
        }
        match line.split_once(' ') {
            Some((first, second)) if !first.is_empty() && !second.is_empty() && !second.contains(' ') => {
                merges.push([first.to_owned(), second.to_owned()]);
            }
            _ => return Err(Error::checkpoint(file, format!("line {} is not a pair of pieces: `{line}`", number + 1))),
        }
    }
    Ok(merges)
}
