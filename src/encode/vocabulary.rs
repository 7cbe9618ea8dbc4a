//! The description of a tokenizer in a model directory: vocabulary, special tokens and casing.
//!
//! `tokenizer.json` is preferred; from a `vocab.txt` alone the same description is built, so that
//! there is one path from here on. The casing comes from the model's own files and from the
//! vocabulary itself, never from a default: BioBERT is published with a `vocab.txt` alone, and a
//! loader that lower-cases by default silently turns it into a different model.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use strum::{IntoStaticStr, VariantArray};

use crate::corpus::is_tag;
use crate::{Error, Result};

/// Whether a model distinguishes `A` from `a`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum Casing {
    /// Capitals are kept.
    Cased,
    /// Before splitting, the text is lower-cased and its accents are removed.
    Uncased,
}

impl Casing {
    /// The casing that the pieces of a vocabulary show: in a cased one many of the pieces with
    /// letters have a capital (BioBERT 29 %), in an uncased one almost none (SciBERT 0.1 %). `None`
    /// if unclear.
    fn shown_by<'a>(pieces: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let (mut letters, mut capitals) = (0_usize, 0_usize);
        for piece in pieces {
            let special = is_tag(piece) || (piece.starts_with('[') && piece.ends_with(']'));
            if !special && piece.chars().any(|c| c.is_lowercase() || c.is_uppercase()) {
                letters += 1;
                capitals += usize::from(piece.chars().any(char::is_uppercase));
            }
        }
        match (letters, capitals) {
            (0, _) => None,
            _ if 20 * capitals >= letters => Some(Self::Cased),
            _ if 100 * capitals <= letters => Some(Self::Uncased),
            _ => None,
        }
    }
}

named!(Casing, "casing");

/// The strings that a vocabulary uses for BERT's special tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SpecialTokens {
    pub(super) cls: String,
    pub(super) sep: String,
    pub(super) unk: String,
    pub(super) pad: String,
    pub(super) mask: String,
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
        let pieces = read_vocabulary(&vocabulary_file)?;
        let added = read_added(&directory.join("added_tokens.json"))?;
        let description = describe(&vocabulary_file, &pieces, &added, &settings, requested)?;
        check_description(vocabulary_file, description, &settings, requested)
    } else if directory.join("merges.txt").is_file() {
        Err(Error::checkpoint(
            directory,
            "has a byte-pair vocabulary (merges.txt), as RoBERTa has; only BERT's WordPiece is supported",
        ))
    } else {
        Err(Error::checkpoint(directory, "has neither tokenizer.json nor vocab.txt; one of them is needed"))
    }
}

/// `tokenizer_config.json`, or nothing.
struct Settings {
    file: PathBuf,
    values: Map<String, Value>,
}

impl Settings {
    fn flag(&self, name: &str) -> Result<Option<bool>> {
        match self.values.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(Error::checkpoint(&self.file, format!("`{name}` must be true or false, not {other}"))),
        }
    }

    /// A special token's string, which may be given as an object with `content`.
    fn token(&self, name: &str, usual: &str) -> Result<String> {
        match self.values.get(name) {
            None | Some(Value::Null) => Ok(usual.to_owned()),
            Some(Value::String(token)) => Ok(token.clone()),
            Some(value) => match value.get("content").and_then(Value::as_str) {
                Some(token) => Ok(token.to_owned()),
                None => Err(Error::checkpoint(&self.file, format!("`{name}` is not a token: {value}"))),
            },
        }
    }

    fn special_tokens(&self) -> Result<SpecialTokens> {
        Ok(SpecialTokens {
            cls: self.token("cls_token", "[CLS]")?,
            sep: self.token("sep_token", "[SEP]")?,
            unk: self.token("unk_token", "[UNK]")?,
            pad: self.token("pad_token", "[PAD]")?,
            mask: self.token("mask_token", "[MASK]")?,
        })
    }

    fn casing(&self) -> Result<Option<Casing>> {
        let casing = |lower| if lower { Casing::Uncased } else { Casing::Cased };
        Ok(self.flag("do_lower_case")?.map(casing))
    }
}

fn read_object(file: &Path) -> Result<Map<String, Value>> {
    let bytes = std::fs::read(file).map_err(Error::io(file))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::checkpoint(file, format!("is not a JSON object: {error}")))
}

/// One piece per line; its id is the line's number from 0. An empty line is an id that never occurs
/// in a text (SciBERT's 30,106); empty lines at the end are ignored.
fn read_vocabulary(file: &Path) -> Result<Vec<String>> {
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

/// `added_tokens.json`, as older releases keep tokens that were added to a `vocab.txt`; in order of
/// their ids.
fn read_added(file: &Path) -> Result<Vec<(u64, String)>> {
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

/// A `vocab.txt` in the form of `tokenizer.json`, as BERT's own tokenizer treats it.
fn describe(
    file: &Path,
    pieces: &[String],
    added: &[(u64, String)],
    settings: &Settings,
    requested: Option<Casing>,
) -> Result<Map<String, Value>> {
    let special = settings.special_tokens()?;
    let casing = decide_casing(file, requested, &[(&settings.file, settings.casing()?)], pieces)?;
    let id = |token: &str| pieces.iter().position(|piece| piece == token);
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
    // The oldest files do not state the type.
    let model_type = model.get("type").map_or("WordPiece", |model_type| model_type.as_str().unwrap_or("unknown"));
    if model_type != "WordPiece" {
        return fail(format!("is a {model_type} tokenizer; only BERT's WordPiece is supported"));
    }
    match type_of(description.get("pre_tokenizer")) {
        Some("BertPreTokenizer") => {}
        other => {
            let other = other.unwrap_or("none");
            return fail(format!("splits words by `{other}`; only BERT's own way (BertPreTokenizer) is supported"));
        }
    }
    let mut special = settings.special_tokens()?;
    if let Some(unk) = model.get("unk_token").and_then(Value::as_str) {
        special.unk = unk.to_owned();
    }
    let Some(vocabulary) = model.get("vocab").and_then(Value::as_object) else {
        return fail("has no `model.vocab`".into());
    };
    let mut tokens: Vec<Option<&str>> = vec![None; vocabulary.len()];
    for (piece, id) in vocabulary {
        let slot = id.as_u64().and_then(|id| tokens.get_mut(usize::try_from(id).ok()?));
        match slot {
            Some(slot @ None) => *slot = Some(piece),
            Some(Some(other)) => return fail(format!("`{other}` and `{piece}` have the same id {id}")),
            None => {
                let last = vocabulary.len().saturating_sub(1);
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
    let stated =
        casing_of_normalizer(description.get("normalizer")).map_err(|message| Error::checkpoint(&file, message))?;
    let casing =
        decide_casing(&file, requested, &[(&file, Some(stated)), (&settings.file, settings.casing()?)], &tokens)?;
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
    if let Some(token) = tokens.iter().find(|token| token.contains(['\n', '\r'])) {
        return fail(format!(
            "the vocabulary has a piece with a line break, which vocab.txt cannot represent: {token:?}"
        ));
    }
    let there = |token: &str| tokens.iter().any(|known| known == token);
    if ![&special.cls, &special.sep, &special.unk].into_iter().all(|token| there(token)) {
        return Err(missing_special_token(&file, &special, there));
    }
    Ok(Definition { description: Value::Object(description), tokens, special, casing, file })
}

fn missing_special_token(file: &Path, special: &SpecialTokens, there: impl Fn(&str) -> bool) -> Error {
    let missing: Vec<_> = [&special.cls, &special.sep, &special.unk]
        .into_iter()
        .filter(|token| !there(token))
        .map(String::as_str)
        .collect();
    let message = format!(
        "the vocabulary has no {}; a BERT vocabulary has [CLS], [SEP] and [UNK] (or names them in tokenizer_config.json)",
        missing.join(", ")
    );
    Error::checkpoint(file, message)
}

fn type_of(part: Option<&Value>) -> Option<&str> {
    part?.get("type")?.as_str()
}

/// The casing of a normalizer, or a message if BERT models do not have it.
fn casing_of_normalizer(normalizer: Option<&Value>) -> std::result::Result<Casing, String> {
    let Some(normalizer) = normalizer.filter(|value| !value.is_null()) else { return Ok(Casing::Cased) };
    match type_of(Some(normalizer)) {
        Some("BertNormalizer") => match normalizer.get("lowercase").and_then(Value::as_bool) {
            Some(true) => Ok(Casing::Uncased),
            Some(false) => Ok(Casing::Cased),
            None => Err("`normalizer.lowercase` must be true or false".into()),
        },
        Some("Lowercase") => Ok(Casing::Uncased),
        Some("NFC" | "NFD" | "NFKC" | "NFKD" | "StripAccents" | "Strip") => Ok(Casing::Cased),
        Some("Sequence") => {
            let steps = normalizer.get("normalizers").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let mut casing = Casing::Cased;
            for step in steps {
                if casing_of_normalizer(Some(step))? == Casing::Uncased {
                    casing = Casing::Uncased;
                }
            }
            Ok(casing)
        }
        other => Err(format!("normalizes text by `{}`, which no BERT does", other.unwrap_or("an unnamed step"))),
    }
}

/// The casing on which the caller, the model's files and its vocabulary agree. A caller who agrees
/// with the vocabulary overrides the files; any other contradiction is an error.
fn decide_casing(
    file: &Path,
    requested: Option<Casing>,
    stated: &[(&Path, Option<Casing>)],
    tokens: &[String],
) -> Result<Casing> {
    let shown = Casing::shown_by(tokens.iter().map(String::as_str));
    if let (Some(requested), Some(shown)) = (requested, shown) {
        if requested == shown {
            return Ok(requested);
        }
        let (requested, shown) = (requested.name(), shown.name());
        let message = format!("casing `{requested}` was asked for, but the pieces of the vocabulary are {shown}");
        return Err(Error::checkpoint(file, message));
    }
    let stated = stated.iter().filter_map(|(source, casing)| casing.map(|casing| (*source, casing)));
    let Some(decided) = requested.or(shown).or_else(|| stated.clone().next().map(|(_, casing)| casing)) else {
        let message = "it is unclear whether the model is cased: the vocabulary does not show it, and no tokenizer.json or \
                       tokenizer_config.json (`do_lower_case`) says so; state casing=\"cased\" or \"uncased\"";
        return Err(Error::checkpoint(file, message));
    };
    for (source, casing) in stated {
        if casing != decided {
            let (decided, casing) = (decided.name(), casing.name());
            let but = match (requested, shown) {
                (Some(_), _) => format!("{decided} was asked for; correct the one that is wrong"),
                (None, Some(_)) => format!(
                    "the pieces of the vocabulary are {decided}; correct the file, or state casing=\"{decided}\""
                ),
                (None, None) => format!("tokenizer.json says {decided}; correct the one that is wrong"),
            };
            let message = format!("says that the model is {casing}, but {but}");
            return Err(Error::checkpoint(source, message));
        }
    }
    Ok(decided)
}
