//! WordPiece: text to vocabulary ids, with the characters and the word of every piece.
//!
//! The `tokenizers` crate does the splitting, so ids and offsets are those of transformers'
//! `BertTokenizer` (`tests/golden/tokenizer`). Entity tags (`@DRUG$`) and markers (`[E1]`) are
//! ordinary text and are split like any other, as in the paper's code: a new vocabulary entry would
//! start with a random embedding. Only a `vocab.txt` that lists such a tag, or a `tokenizer.json`
//! that declares it as an added token, keeps it whole. A *word* is a unit of BERT's pre-tokenizer
//! (a run without white space and punctuation, or one punctuation mark), except that a tag or a
//! marker is one word.

use std::fmt;
use std::path::Path;

use serde_json::json;

use super::vocabulary::{self, Casing, Definition, SpecialTokens};
use crate::atomic;
use crate::corpus::Span;
use crate::corpus::find_tags;
use crate::{Error, Result};

/// One word piece of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The piece as the vocabulary has it: `acetyl`, `##transferase`, `[UNK]`.
    pub text: String,
    /// Its vocabulary id.
    pub id: u32,
    /// Its characters in the text.
    pub span: Span,
    /// Its word, counted from 0 in the text.
    pub word: u32,
}

/// A BERT model's tokenizer. Without `[CLS]` and `[SEP]`: `Tokenizer::features` adds them.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    tokens: Vec<String>,
    special: SpecialTokens,
    casing: Casing,
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
    /// Open the tokenizer of a model directory: its `tokenizer.json`, or else its `vocab.txt`. The
    /// casing follows from the model's files and its vocabulary. If `casing` is given, it must
    /// agree with the vocabulary, and overrides the files. Any other contradiction is an
    /// [`Error::Checkpoint`].
    pub fn open(directory: impl AsRef<Path>, casing: Option<Casing>) -> Result<Self> {
        let Definition { description, tokens, special, casing, file } = vocabulary::read(directory.as_ref(), casing)?;
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
        let mut tags = tags.into_iter().peekable();
        let mut word = 0;
        let mut previous = None;
        let parts = encoding.get_tokens().iter().zip(encoding.get_ids()).zip(encoding.get_offsets());
        let pieces = parts.zip(encoding.get_word_ids()).map(|(((token, id), (start, end)), run)| {
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

    /// Write `tokenizer.json`, `tokenizer_config.json` and `vocab.txt`, from which
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
        let settings = json!({
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": self.casing == Casing::Uncased,
            "strip_accents": normalizer.get("strip_accents"),
            "tokenize_chinese_chars": normalizer.get("handle_chinese_chars").unwrap_or(&json!(true)),
            "cls_token": self.special.cls,
            "sep_token": self.special.sep,
            "unk_token": self.special.unk,
            // Null if there is none: transformers would add one, with an id beyond the embedding.
            "pad_token": self.pad.map(|_| &self.special.pad),
            "mask_token": self.mask.map(|_| &self.special.mask),
        });
        write(&directory.join("tokenizer_config.json"), &format!("{settings:#}\n"))?;
        let mut vocabulary = self.tokens.join("\n");
        vocabulary.push('\n');
        write(&directory.join("vocab.txt"), &vocabulary)
    }
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
