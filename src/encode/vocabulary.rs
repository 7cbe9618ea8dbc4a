//! The description of a tokenizer in a model directory: vocabulary, special tokens and casing.
//!
//! `tokenizer.json` is preferred; from a `vocab.txt` (WordPiece), or `vocab.json` and `merges.txt`
//! (byte-level BPE), the same description is built, so that there is one path from here on.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::casing::{Casing, casing_of_normalizer, decide_casing, type_of};
use super::tokenizer_settings::{Settings, SpecialTokens, missing_special_token, read_added, read_object};
use super::{byte_level, word_piece};
use crate::{Error, Result};

/// How a tokenizer divides words (Wu et al. 2016; Radford et al. 2019; Kudo 2018).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// The longest pieces of the vocabulary from the left, as in BERT.
    WordPiece,
    /// Pairs of bytes or pieces are merged, as in RoBERTa. A space belongs to the piece after it.
    ByteLevelBpe,
    /// The most probable pieces, as in XLM-RoBERTa (SentencePiece). A space belongs to the piece after
    /// it.
    Unigram,
}

impl Method {
    /// The method of a description, or a message if it is another one.
    fn of(model: &Map<String, Value>, pre_tokenizer: Option<&Value>) -> std::result::Result<Self, String> {
        // The oldest files do not state the type.
        let model_type = model.get("type").map_or("WordPiece", |model_type| model_type.as_str().unwrap_or("unknown"));
        let (method, splits) = match model_type {
            "WordPiece" => (Self::WordPiece, "BertPreTokenizer"),
            "BPE" => (Self::ByteLevelBpe, "ByteLevel"),
            "Unigram" => (Self::Unigram, "Metaspace"),
            other => return Err(format!("is a {other} tokenizer; WordPiece, BPE and Unigram are supported")),
        };
        let steps = pre_tokenizer.and_then(|value| value.get("pretokenizers")?.as_array());
        let is = |step: &Value| type_of(Some(step)) == Some(splits);
        // BERT's is the whole of it: what else splits words would change them.
        let among_steps = method != Self::WordPiece && steps.is_some_and(|steps| steps.iter().any(is));
        if pre_tokenizer.is_some_and(is) || among_steps {
            return Ok(method);
        }
        let other = type_of(pre_tokenizer).unwrap_or("none");
        Err(format!("splits words by `{other}`; a {model_type} tokenizer is supported with `{splits}` only"))
    }
}

/// A checked description of a tokenizer.
#[derive(Debug)]
pub(super) struct Definition {
    /// In the form of `tokenizer.json`, without truncation and padding.
    pub(super) description: Value,
    /// Every token by its id, added tokens included.
    pub(super) tokens: Vec<String>,
    pub(super) special: SpecialTokens,
    pub(super) casing: Casing,
    pub(super) method: Method,
    /// The file that it was read from.
    pub(super) file: PathBuf,
}

/// Read the description in `directory`; `requested` is the casing that the caller states, if any.
pub(super) fn read(directory: &Path, requested: Option<Casing>) -> Result<Definition> {
    std::fs::metadata(directory).map_err(Error::io(directory))?;
    let settings_file = directory.join("tokenizer_config.json");
    let settings = Settings {
        values: if settings_file.is_file() { read_object(&settings_file)? } else { Map::new() },
        file: settings_file,
    };
    let (description_file, vocabulary_file) = (directory.join("tokenizer.json"), directory.join("vocab.txt"));
    if description_file.is_file() {
        let description = read_object(&description_file)?;
        check_description(description_file, description, &settings, requested)
    } else if vocabulary_file.is_file() {
        let pieces = word_piece::read_vocabulary(&vocabulary_file)?;
        let added = read_added(&directory.join("added_tokens.json"))?;
        let description = word_piece::describe(&vocabulary_file, &pieces, &added, &settings, requested)?;
        check_description(vocabulary_file, description, &settings, requested)
    } else if directory.join("vocab.json").is_file() {
        let file = directory.join("vocab.json");
        let description = byte_level::describe(&file, &settings)?;
        check_description(file, description, &settings, requested)
    } else {
        let message = "has neither tokenizer.json nor vocab.txt, nor vocab.json and merges.txt; from another form, such as \
                       sentencepiece.bpe.model, transformers' AutoTokenizer writes a tokenizer.json with save_pretrained";
        Err(Error::checkpoint(directory, message))
    }
}

/// Check a tokenizer in the form of `tokenizer.json`, and remove its truncation and padding.
fn check_description(
    file: PathBuf,
    mut description: Map<String, Value>,
    settings: &Settings,
    requested: Option<Casing>,
) -> Result<Definition> {
    let fail = |message: String| Err(Error::checkpoint(&file, message));
    // Windows are ours (features.rs), and packed batches have no padding.
    description.insert("truncation".into(), Value::Null);
    description.insert("padding".into(), Value::Null);

    let model = description.get("model").and_then(Value::as_object);
    let Some(model) = model else { return fail("has no `model`; it is not a tokenizer".into()) };
    let method = Method::of(model, description.get("pre_tokenizer")).map_err(|m| Error::checkpoint(&file, m))?;
    let pieces: Option<Vec<(&str, Option<u64>)>> = match model.get("vocab") {
        Some(Value::Object(pieces)) => Some(pieces.iter().map(|(piece, id)| (piece.as_str(), id.as_u64())).collect()),
        // Of a unigram model: pieces with their log probabilities, in order of their ids.
        Some(Value::Array(pieces)) => {
            pieces.iter().zip(0..).map(|(p, id)| Some((p.get(0)?.as_str()?, Some(id)))).collect()
        }
        _ => None,
    };
    let Some(pieces) = pieces else { return fail("has no `model.vocab`".into()) };
    let mut tokens: Vec<Option<&str>> = vec![None; pieces.len()];
    for (piece, id) in &pieces {
        let slot = id.and_then(|id| tokens.get_mut(usize::try_from(id).ok()?));
        let id = id.map_or_else(|| "none".to_owned(), |id| id.to_string());
        match slot {
            Some(slot @ None) => *slot = Some(piece),
            Some(Some(other)) => return fail(format!("`{other}` and `{piece}` have the same id {id}")),
            None => {
                let last = pieces.len().saturating_sub(1);
                return fail(format!(
                    "`{piece}` has the id {id}, but ids must be 0 to {last} without gaps or duplicates"
                ));
            }
        }
    }
    let mut tokens: Vec<String> = tokens.into_iter().flatten().map(str::to_owned).collect();
    if tokens.is_empty() {
        return fail("has an empty vocabulary".into());
    }
    let added = description.get("added_tokens").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let known: HashSet<&str> = added.iter().filter_map(|token| token.get("content")?.as_str()).collect();
    let known: HashSet<&str> = known.into_iter().chain(tokens.iter().map(String::as_str)).collect();
    let mut special = settings.special_tokens(|token| known.contains(token))?;
    let unk_of_unigram = || tokens.get(usize::try_from(model.get("unk_id")?.as_u64()?).ok()?).map(String::as_str);
    if let Some(unk) = model.get("unk_token").and_then(Value::as_str).or_else(unk_of_unigram) {
        special.unk = unk.to_owned();
    }
    let stated =
        casing_of_normalizer(description.get("normalizer")).map_err(|message| Error::checkpoint(&file, message))?;
    let casing = match method {
        Method::WordPiece => {
            let stated = [(file.as_path(), Some(stated)), (settings.file.as_path(), settings.casing()?)];
            decide_casing(&file, requested, &stated, &tokens)?
        }
        // Nothing but the normalizer decides: the files of these have no other way to lower-case.
        Method::ByteLevelBpe | Method::Unigram => requested.unwrap_or(stated),
    };
    if casing != stated {
        match description.get_mut("normalizer").and_then(|normalizer| normalizer.get_mut("lowercase")) {
            Some(lowercase) => *lowercase = Value::Bool(casing == Casing::Uncased),
            None => return fail(format!("is not {}, as requested, and cannot be changed", casing.name())),
        }
    }
    // In order of their ids, since the library gives each new token the next free id.
    if let Some(Value::Array(added)) = description.get_mut("added_tokens") {
        added.sort_by_key(|token| token.get("id").and_then(Value::as_u64));
        for entry in added.iter() {
            let (id, token) = (entry.get("id").and_then(Value::as_u64), entry.get("content").and_then(Value::as_str));
            let (Some(id), Some(token)) = (id.and_then(|id| usize::try_from(id).ok()), token) else {
                return fail(format!("an added token has no id or no content: {entry}"));
            };
            match tokens.get(id) {
                Some(known) if known == token => {}
                Some(known) => return fail(format!("added token `{token}` has the id {id}, which is `{known}`")),
                None if id == tokens.len() && !tokens.iter().any(|known| known == token) => {
                    tokens.push(token.to_owned())
                }
                None => {
                    let next = tokens.len();
                    return fail(format!("added token `{token}` has the id {id}; the next free id is {next}"));
                }
            }
        }
    }
    let breaks_line = |token: &&String| method == Method::WordPiece && token.contains(['\n', '\r']);
    if let Some(token) = tokens.iter().find(breaks_line) {
        return fail(format!(
            "the vocabulary has a piece with a line break, which vocab.txt cannot represent: {token:?}"
        ));
    }
    let there = |token: &str| tokens.iter().any(|known| known == token);
    if ![&special.cls, &special.sep, &special.unk].into_iter().all(|token| there(token)) {
        return Err(missing_special_token(&file, &special, there));
    }
    Ok(Definition { description: Value::Object(description), tokens, special, casing, method, file })
}
