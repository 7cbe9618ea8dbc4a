//! Text to vocabulary ids, with the characters and the word of every piece: WordPiece, byte-level BPE
//! and SentencePiece's unigram model.
//!
//! The `tokenizers` crate does the splitting, so ids and offsets are those of transformers' tokenizers
//! (`tests/golden/tokenizer`), except that the characters of a piece are without the white space around
//! it. Where a character has several pieces, one for each of its bytes, each of them has the character.
//! Entity tags (`@DRUG$`) and markers (`[E1]`) are
//! ordinary text and are split like any other, as in the paper's code: a new vocabulary entry would
//! start with a random embedding. Only a `vocab.txt` that lists such a tag, or a `tokenizer.json`
//! that declares it as an added token, keeps it whole. A *word* is a unit of BERT's pre-tokenizer
//! (a run without white space and punctuation, or one punctuation mark), whatever the tokenizer,
//! except that a tag or a marker is one word. A piece of another tokenizer may reach over several
//! words, such as `).`; it belongs to the first, or where it is white space alone, to the next.

use std::fmt;
use std::path::Path;

use serde_json::json;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use super::casing::Casing;
use super::tokenizer_settings::SpecialTokens;
use super::vocabulary::{self, Definition, Method};
use crate::atomic;
use crate::corpus::Span;
use crate::corpus::find_tags;
use crate::{Error, Result};

/// One word piece of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The piece as the vocabulary has it: `acetyl`, `##transferase`, `[UNK]`, `\u{120}binds`.
    pub text: String,
    /// Its vocabulary id.
    pub id: u32,
    /// Its characters in the text.
    pub span: Span,
    /// Its word, counted from 0 in the text.
    pub word: u32,
}

/// An encoder's tokenizer. Without `[CLS]` and `[SEP]`: `Tokenizer::features` adds them. These names
/// stand for whatever the vocabulary calls its special tokens: `<s>`, `</s>`, `<mask>` in RoBERTa.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    tokens: Vec<String>,
    special: SpecialTokens,
    casing: Casing,
    method: Method,
    cls: u32,
    sep: u32,
    unk: u32,
    pad: Option<u32>,
    mask: Option<u32>,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokenizer({} pieces, {})", self.tokens.len(), self.casing.name())
    }
}

impl Tokenizer {
    /// Open the tokenizer of a model directory: its `tokenizer.json`, or else its `vocab.txt`, or else its
    /// `vocab.json` and `merges.txt`. The casing follows from the model's files and its vocabulary. If `casing` is given, it must
    /// agree with the vocabulary, and overrides the files. Any other contradiction is an
    /// [`Error::Checkpoint`].
    pub fn open(directory: impl AsRef<Path>, casing: Option<Casing>) -> Result<Self> {
        let Definition { description, tokens, special, casing, method, file } =
            vocabulary::read(directory.as_ref(), casing)?;
        let inner = serde_json::to_vec(&description)
            .map_err(|error| error.to_string())
            .and_then(|bytes| tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| error.to_string()));
        let inner =
            inner.map_err(|error| Error::checkpoint(&file, format!("cannot be used as a tokenizer: {error}")))?;
        let id = |token: &str| inner.token_to_id(token);
        let need =
            |token: &str| id(token).ok_or_else(|| Error::checkpoint(&file, format!("the vocabulary has no {token}")));
        Ok(Self {
            cls: need(&special.cls)?,
            sep: need(&special.sep)?,
            unk: need(&special.unk)?,
            pad: id(&special.pad),
            mask: id(&special.mask),
            inner,
            tokens,
            special,
            casing,
            method,
        })
    }

    /// Number of ids, added tokens included: the rows that the word embedding must have at least.
    pub fn vocab_size(&self) -> usize {
        self.tokens.len()
    }

    /// Whether capitals are kept.
    pub fn casing(&self) -> Casing {
        self.casing
    }

    /// Id of `[CLS]`.
    pub fn cls_id(&self) -> u32 {
        self.cls
    }

    /// Id of `[SEP]`.
    pub fn sep_id(&self) -> u32 {
        self.sep
    }

    /// Id of `[UNK]`, for words that the vocabulary cannot represent.
    pub fn unk_id(&self) -> u32 {
        self.unk
    }

    /// Id of `[PAD]`, if there is one; biorel pads only on request.
    pub fn pad_id(&self) -> Option<u32> {
        self.pad
    }

    /// Id of `[MASK]`, if there is one.
    pub fn mask_id(&self) -> Option<u32> {
        self.mask
    }

    /// The piece with this id.
    pub fn token(&self, id: u32) -> Option<&str> {
        self.tokens.get(usize::try_from(id).ok()?).map(String::as_str)
    }

    /// The id of a piece, written as the vocabulary writes it.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The pieces of a text, without `[CLS]` and `[SEP]`. As in transformers, a special token that
    /// is written in the text (`[MASK]`) is that token.
    pub fn pieces(&self, text: &str) -> Result<Vec<Piece>> {
        self.pieces_with_tags(text, find_tags(text))
    }

    /// The pieces of a text in which each of `tags` (sorted, disjoint) is one word.
    pub(super) fn pieces_with_tags(&self, text: &str, tags: Vec<Span>) -> Result<Vec<Piece>> {
        let encoding = self
            .inner
            .encode_char_offsets(text, false)
            .map_err(|error| Error::config("text", format!("cannot be cut into pieces: {error}")))?;
        let offsets: Vec<(usize, usize)>;
        let words: Vec<Option<u32>>;
        let (offsets, words) = match self.method {
            Method::WordPiece => (encoding.get_offsets(), encoding.get_word_ids()),
            Method::ByteLevelBpe | Method::Unigram => {
                let characters: Vec<char> = text.chars().collect();
                let parts = encoding.get_offsets().iter().zip(encoding.get_tokens());
                offsets = parts.map(|(offsets, piece)| characters_of(piece, &characters, *offsets)).collect();
                words = words_at(text, offsets.iter().map(|(start, _)| *start))?;
                (&*offsets, &*words)
            }
        };
        let mut tags = tags.into_iter().peekable();
        let mut word = 0;
        let mut previous = None;
        let parts = encoding.get_tokens().iter().zip(encoding.get_ids()).zip(offsets);
        let pieces = parts.zip(words).map(|(((token, id), (start, end)), run)| {
            while tags.next_if(|tag| tag.end <= *start).is_some() {}
            let source = match tags.peek() {
                Some(tag) if tag.start < *end => WordSource::Tag(tag.start),
                _ => WordSource::Run(*run),
            };
            if previous.is_some_and(|previous| previous != source) {
                word += 1;
            }
            previous = Some(source);
            Piece { text: token.clone(), id: *id, span: Span { start: *start, end: *end }, word }
        });
        Ok(pieces.collect())
    }

    /// Write `tokenizer.json`, `tokenizer_config.json` and, of WordPiece, `vocab.txt`, from which
    /// [`Tokenizer::open`] and transformers' `AutoTokenizer` load the same tokenizer.
    pub fn save(&self, directory: impl AsRef<Path>) -> Result<()> {
        let directory = directory.as_ref();
        std::fs::create_dir_all(directory).map_err(Error::io(directory))?;
        let description = self
            .inner
            .to_string(true)
            .map_err(|error| Error::checkpoint(directory, format!("the tokenizer cannot be written: {error}")))?;
        write(&directory.join("tokenizer.json"), &description)?;
        let normalizer: serde_json::Value = serde_json::to_value(self.inner.get_normalizer()).unwrap_or_default();
        let mut settings = json!({
            "cls_token": self.special.cls,
            "sep_token": self.special.sep,
            "unk_token": self.special.unk,
            // Null if there is none: transformers would add one, with an id beyond the embedding.
            "pad_token": self.pad.map(|_| &self.special.pad),
            "mask_token": self.mask.map(|_| &self.special.mask),
        });
        if self.method != Method::WordPiece {
            // The class that takes tokenizer.json as it is.
            settings["tokenizer_class"] = json!("PreTrainedTokenizerFast");
            settings["model_input_names"] = json!(["input_ids", "attention_mask"]);
            return write(&directory.join("tokenizer_config.json"), &format!("{settings:#}\n"));
        }
        settings["tokenizer_class"] = json!("BertTokenizer");
        settings["do_lower_case"] = json!(self.casing == Casing::Uncased);
        settings["strip_accents"] = json!(normalizer.get("strip_accents"));
        settings["tokenize_chinese_chars"] = normalizer.get("handle_chinese_chars").cloned().unwrap_or(json!(true));
        write(&directory.join("tokenizer_config.json"), &format!("{settings:#}\n"))?;
        let mut vocabulary = self.tokens.join("\n");
        vocabulary.push('\n');
        write(&directory.join("vocab.txt"), &vocabulary)
    }
}

/// The characters of a piece without the white space around it; nothing at its end if it has no other.
/// A space that SentencePiece writes before the first word, as U+2581, is none of the text's characters,
/// and the library gives it the word's first.
fn characters_of(piece: &str, text: &[char], (start, end): (usize, usize)) -> (usize, usize) {
    let characters = text.get(start..end).unwrap_or_default();
    let Some(first) = characters.iter().position(|c| !c.is_whitespace()) else { return (end, end) };
    if piece == "\u{2581}" && characters[first] != '\u{2581}' {
        return (start + first, start + first);
    }
    let last = characters.iter().rposition(|c| !c.is_whitespace()).unwrap_or(first);
    (start + first, start + last + 1)
}

/// For each piece, by where it starts, the unit of BERT's pre-tokenizer there or next.
fn words_at(text: &str, starts: impl Iterator<Item = usize>) -> Result<Vec<Option<u32>>> {
    let mut split = PreTokenizedString::from(text);
    BertPreTokenizer
        .pre_tokenize(&mut split)
        .map_err(|error| Error::config("text", format!("cannot be cut into words: {error}")))?;
    let words = split.get_splits(OffsetReferential::Original, OffsetType::Char);
    let of = |start| words.partition_point(|(_, (_, end), _)| *end <= start).min(words.len().saturating_sub(1)) as u32;
    Ok(starts.map(|start| Some(of(start))).collect())
}

/// The word that a piece is part of: neighbouring pieces of the same source are one word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WordSource {
    /// The tag that starts at this character.
    Tag(usize),
    /// A run of the pre-tokenizer.
    Run(Option<u32>),
}

fn write(file: &Path, text: &str) -> Result<()> {
    atomic::write_file(file, |partial| std::fs::write(partial, text).map_err(Error::io(partial)))
}
