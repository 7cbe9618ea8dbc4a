//! Whether a tokenizer keeps capitals. It follows from the model's own files and from the vocabulary
//! itself, never from a default: BioBERT is published with a `vocab.txt` alone, and a loader that
//! lower-cases by default silently turns it into a different model.

use std::path::Path;

use serde_json::Value;
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

pub(super) fn type_of(part: Option<&Value>) -> Option<&str> {
    part?.get("type")?.as_str()
}

/// The casing of a normalizer, or a message if encoders do not have it.
pub(super) fn casing_of_normalizer(normalizer: Option<&Value>) -> std::result::Result<Casing, String> {
    let Some(normalizer) = normalizer.filter(|value| !value.is_null()) else { return Ok(Casing::Cased) };
    match type_of(Some(normalizer)) {
        Some("BertNormalizer") => match normalizer.get("lowercase").and_then(Value::as_bool) {
            Some(true) => Ok(Casing::Uncased),
            Some(false) => Ok(Casing::Cased),
            None => Err("`normalizer.lowercase` must be true or false".into()),
        },
        Some("Lowercase") => Ok(Casing::Uncased),
        // The other steps of SentencePiece and of byte-level tokenizers, and of BERT's.
        Some("Nmt" | "Precompiled" | "Prepend" | "Replace" | "ByteLevel") => Ok(Casing::Cased),
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
        other => Err(format!("normalizes text by `{}`, which no encoder does", other.unwrap_or("an unnamed step"))),
    }
}

/// The casing on which the caller, the model's files and its vocabulary agree. A caller who agrees
/// with the vocabulary overrides the files; any other contradiction is an error.
pub(super) fn decide_casing(
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
