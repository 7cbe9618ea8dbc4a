//! What `tokenizer_config.json` and `added_tokens.json` say of a tokenizer.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::casing::Casing;
use crate::{Error, Result};

/// The strings that a vocabulary uses for BERT's special tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SpecialTokens {
    pub(super) cls: String,
    pub(super) sep: String,
    pub(super) unk: String,
    pub(super) pad: String,
    pub(super) mask: String,
}

/// `tokenizer_config.json`, or nothing.
pub(super) struct Settings {
    pub(super) file: PathBuf,
    pub(super) values: Map<String, Value>,
}

impl Settings {
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>> {
        match self.values.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(Error::checkpoint(&self.file, format!("`{name}` must be true or false, not {other}"))),
        }
    }

    /// A special token's string, which may be given as an object with `content`. If it is not given, the
    /// usual one that the vocabulary has: BERT's, else RoBERTa's.
    fn token(&self, name: &str, usual: [&str; 2], has: &impl Fn(&str) -> bool) -> Result<String> {
        let of_roberta = || !has(usual[0]) && has(usual[1]);
        match self.values.get(name) {
            None | Some(Value::Null) => Ok(usual[usize::from(of_roberta())].to_owned()),
            Some(Value::String(token)) => Ok(token.clone()),
            Some(value) => match value.get("content").and_then(Value::as_str) {
                Some(token) => Ok(token.to_owned()),
                None => Err(Error::checkpoint(&self.file, format!("`{name}` is not a token: {value}"))),
            },
        }
    }

    /// The special tokens of a vocabulary; `has` says whether a piece is in it.
    pub(super) fn special_tokens(&self, has: impl Fn(&str) -> bool) -> Result<SpecialTokens> {
        Ok(SpecialTokens {
            cls: self.token("cls_token", ["[CLS]", "<s>"], &has)?,
            sep: self.token("sep_token", ["[SEP]", "</s>"], &has)?,
            unk: self.token("unk_token", ["[UNK]", "<unk>"], &has)?,
            pad: self.token("pad_token", ["[PAD]", "<pad>"], &has)?,
            mask: self.token("mask_token", ["[MASK]", "<mask>"], &has)?,
        })
    }

    pub(super) fn casing(&self) -> Result<Option<Casing>> {
        let casing = |lower| if lower { Casing::Uncased } else { Casing::Cased };
        Ok(self.flag("do_lower_case")?.map(casing))
    }
}

pub(super) fn read_object(file: &Path) -> Result<Map<String, Value>> {
    let bytes = std::fs::read(file).map_err(Error::io(file))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::checkpoint(file, format!("is not a JSON object: {error}")))
}

/// `added_tokens.json`, as older releases keep tokens that were added to a `vocab.txt`; in order of
/// their ids.
pub(super) fn read_added(file: &Path) -> Result<Vec<(u64, String)>> {
    if !file.is_file() {
        return Ok(Vec::new());
    }
    let mut added = Vec::new();
    for (token, id) in read_object(file)? {
        let Some(id) = id.as_u64() else {
            return Err(Error::checkpoint(file, format!("the id of `{token}` is not a whole number: {id}")));
        };
        added.push((id, token));
    }
    added.sort();
    Ok(added)
}

pub(super) fn missing_special_token(file: &Path, special: &SpecialTokens, there: impl Fn(&str) -> bool) -> Error {
    let missing: Vec<_> = [&special.cls, &special.sep, &special.unk]
        .into_iter()
        .filter(|token| !there(token))
        .map(String::as_str)
        .collect();
    let message = format!(
        "the vocabulary has no {}; a BERT vocabulary has [CLS], [SEP] and [UNK], one of RoBERTa <s>, </s> and <unk> (or \
         tokenizer_config.json names them)",
        missing.join(", ")
    );
    Error::checkpoint(file, message)
}
