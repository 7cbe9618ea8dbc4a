//! Models on disk: a pre-trained encoder as published, and a relation model as saved.
//!
//! A saved relation model is a directory that transformers opens as an encoder (`AutoModel`,
//! `AutoTokenizer`):
//!
//! ```text
//! config.json          the encoder's configuration, with id2label
//! model.safetensors    encoder (transformers' names), pooler if there was one, head.*
//!                      (embeddings of levitated markers: head.markers.weight)
//! tokenizer.json, tokenizer_config.json, vocab.txt (WordPiece)
//! biorel.json          task, labels, marking, training settings, hash of the training data
//! README.md            the model card for people and for the hub, if the caller wrote one
//! ```

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::atomic;
use crate::config::{Compat, Freeze, TrainingSettings};
use crate::corpus::{Scope, Task};
use crate::encode::{Casing, Encoded, Instance, Marking, Padding, Tokenizer};
use crate::model::checkpoint::{self, Extra, LoadReport, WEIGHTS_FILE};
use crate::model::source::Cache;
use crate::model::{EncoderConfig, Network, Source, Weights, markers};
use crate::ops::kept::Kept;
use crate::{Error, Result};

/// The file that makes a directory a relation model.
const CARD_FILE: &str = "biorel.json";
/// The hub shows it as the model's page.
const README_FILE: &str = "README.md";
/// Version of the directory's layout; raised when an older reader would misread it.
const FORMAT: u32 = 2;

/// A pre-trained encoder with its tokenizer.
#[derive(Debug, Clone)]
pub struct Pretrained {
    /// Where it was read from.
    pub directory: PathBuf,
    /// Sizes and rates.
    pub config: EncoderConfig,
    /// Text to word pieces.
    pub tokenizer: Tokenizer,
    /// Parameters of the encoder that can be trained.
    pub weights: Arc<Weights>,
    /// What computes its hidden states.
    pub source: Source,
    /// What is saved with it: the pooler, and the language model above an adapted encoder.
    pub extras: Vec<Extra>,
    /// Used, unused and missing tensors of the weight file.
    pub report: LoadReport,
    /// The engines that have its weights.
    pub kept: Kept,
}

impl Pretrained {
    /// Open a model directory. `casing` overrides what the directory's files say.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] naming the file or tensor; also when the vocabulary does not fit the
    /// word embedding.
    pub fn open(directory: &Path, casing: Option<Casing>) -> Result<Self> {
        if !directory.is_dir() {
            let source = std::io::Error::new(std::io::ErrorKind::NotFound, "no such directory");
            return Err(Error::Io { path: directory.to_path_buf(), source });
        }
        let config = EncoderConfig::open(directory)?;
        let tokenizer = Tokenizer::open(directory, casing)?;
        check_vocabulary(directory, &tokenizer, &config)?;
        let (mut weights, extras, report) = checkpoint::read(directory, &config, &[])?;
        let own = weights.specs.len();
        let source = Source::take(&config, &mut weights, own)?;
        let (directory, weights, kept) = (directory.to_path_buf(), Arc::new(weights), Kept::default());
        Ok(Self { directory, config, tokenizer, weights, source, extras, report, kept })
    }

    /// Write the encoder as files that [`Pretrained::open`] reads, into an existing directory.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, directory: &Path) -> Result<()> {
        let config = serde_json::to_value(&self.config).map_err(|e| unwritable(directory, &e))?;
        write_json(&directory.join("config.json"), &config)?;
        self.tokenizer.save(directory)?;
        checkpoint::write(&directory.join(WEIGHTS_FILE), &self.source.stored(&self.weights)?, &self.extras)
    }

    /// The network with a new head, and its parameters: the encoder's and freshly drawn ones for
    /// the head and for levitated markers. A frozen encoder has a cache of its hidden states.
    ///
    /// # Errors
    /// [`Error::Config`] for an encoder that cannot be trained and is not frozen, when the reference code's padding is requested and the vocabulary has no
    /// `[PAD]`, and for settings that do not fit levitated markers.
    pub fn with_head(&self, settings: &TrainingSettings, task: &Task, marking: Marking) -> Result<(Network, Weights)> {
        let frozen = settings.freeze == Some(Freeze::All);
        if !frozen && self.source.candle().is_some() {
            let message = format!(
                "an encoder of type `{}` is computed by candle-transformers and cannot be trained; freeze=\"all\" trains \
                 the head alone, on its hidden states",
                self.config.model_type
            );
            return Err(Error::config("freeze", message));
        }
        let source = if frozen { self.source.clone().cached(Cache::default()) } else { self.source.clone() };
        let network = network_of(self.config.clone(), settings, task, marking, &self.tokenizer, source)?;
        let mut weights = Weights::clone(&self.weights);
        if let Some(markers) = network.markers() {
            let values = markers::initial(&weights, &self.tokenizer, markers, settings.seed)?;
            markers::join(&mut weights, values);
        }
        let mut head = Weights::initial(network.head_specs(), settings.seed);
        for (spec, values) in head.specs.iter().zip(&mut head.values) {
            // The pooler of the paper's code is BERT's own, where the checkpoint has one.
            let stored = spec.name.strip_prefix("head.pooler.").map(|part| format!("pooler.dense.{part}"));
            let extra = stored.and_then(|name| self.extras.iter().find(|extra| extra.name == name));
            if let Some(extra) = extra.filter(|extra| extra.shape == spec.shape) {
                values.clone_from(&extra.values);
            }
        }
        weights.extend(head);
        Ok((network, weights))
    }
}

/// The architecture that settings, task and marking describe.
fn network_of(
    encoder: EncoderConfig,
    settings: &TrainingSettings,
    task: &Task,
    marking: Marking,
    tokenizer: &Tokenizer,
    source: Source,
) -> Result<Network> {
    if task.scope == Scope::Document && !marking.is_levitated() {
        let message = format!(
            "`{}` marks two mentions, and a pair of concepts has more; choose levitated-visible or levitated",
            marking.name()
        );
        return Err(Error::config("marking", message));
    }
    let marker_types = if marking.is_levitated() { markers::types_of(&encoder, settings, task)? } else { 0 };
    let padding = padding_of(settings, tokenizer)?;
    if padding.is_some() && !encoder.model_type.is_trainable() {
        let message =
            format!("su2020 pads, and an encoder of type `{}` is computed without padding", encoder.model_type);
        return Err(Error::config("compat", message));
    }
    Ok(Network { encoder, head: settings.head, labels: task.labels.len(), padding, marker_types, source })
}

fn padding_of(settings: &TrainingSettings, tokenizer: &Tokenizer) -> Result<Option<Padding>> {
    let Some(Compat::Su2020) = settings.compat else { return Ok(None) };
    match tokenizer.pad_id() {
        Some(id) => Ok(Some(Padding { length: settings.max_length, id })),
        None => Err(Error::config("compat", "su2020 pads, and this encoder's vocabulary has no [PAD]")),
    }
}

/// Refuse a vocabulary larger than the word embedding, which it would index outside. Many models
/// have a smaller one and padding rows.
fn check_vocabulary(directory: &Path, tokenizer: &Tokenizer, config: &EncoderConfig) -> Result<()> {
    if tokenizer.vocab_size() <= config.vocab_size {
        return Ok(());
    }
    let message = format!(
        "the vocabulary has {} pieces and config.json's vocab_size is {}: tokenizer and weights are of different models",
        tokenizer.vocab_size(),
        config.vocab_size
    );
    Err(Error::checkpoint(directory, message))
}

/// The description of a relation model, without its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Layout of the directory.
    pub format: u32,
    /// Version of biorel that wrote it.
    pub version: String,
    /// Labels, negative label, averaging, candidate pairs.
    pub task: Task,
    /// How entities are marked.
    pub marking: Marking,
    /// How it was trained; prediction uses `head` and `max_length` too.
    pub training: TrainingSettings,
    /// Name or path of the encoder it started from.
    pub encoder: String,
    /// SHA-256 of the training split's content.
    pub data: Option<String>,
    /// Optimizer steps taken.
    pub steps: usize,
}

/// A fine-tuned relation classifier: everything that prediction needs.
#[derive(Debug, Clone)]
pub struct RelationModel {
    /// Its description.
    pub card: Card,
    /// Architecture.
    pub network: Network,
    /// Parameters of encoder and head.
    pub weights: Arc<Weights>,
    /// The encoder's pooler, if it had one.
    pub extras: Vec<Extra>,
    /// Text to word pieces.
    pub tokenizer: Tokenizer,
    /// The engines that have its weights.
    pub kept: Kept,
}

impl RelationModel {
    /// A model from a finished training run.
    pub fn new(
        pretrained: &Pretrained,
        network: Network,
        weights: Weights,
        training: TrainingSettings,
        (task, marking): (Task, Marking),
        (encoder, data, steps): (String, Option<String>, usize),
    ) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_string();
        let card = Card { format: FORMAT, version, task, marking, training, encoder, data, steps };
        let extras = pretrained.extras.iter().filter(|extra| extra.is_pooler()).cloned().collect();
        let tokenizer = pretrained.tokenizer.clone();
        let network = Network { source: network.source.uncached(), ..network };
        Self { card, network, weights: Arc::new(weights), extras, tokenizer, kept: Kept::default() }
    }

    /// The word pieces of instances, truncated to the length that the model was trained with.
    ///
    /// # Errors
    /// As [`Tokenizer::encode_all`].
    pub fn encode(&self, instances: &[Instance]) -> Result<Encoded> {
        self.tokenizer.encode_all(instances, self.card.training.max_length, self.card.training.too_long)
    }

    /// Write the model as a directory, atomically; an earlier model in its place is replaced.
    ///
    /// # Errors
    /// [`Error::Config`] when `directory` exists and is not an earlier biorel model, or has other files;
    /// [`Error::Io`].
    pub fn save(&self, directory: &Path) -> Result<()> {
        self.save_with(directory, None)
    }

    /// As [`RelationModel::save`], with the text of a README in the directory.
    ///
    /// # Errors
    /// As [`RelationModel::save`].
    pub fn save_with(&self, directory: &Path, readme: Option<&str>) -> Result<()> {
        let occupied = directory.exists() && !directory.join(CARD_FILE).is_file() && !is_empty(directory);
        if occupied {
            let message = format!("{} exists and is not a biorel model; choose another name", directory.display());
            return Err(Error::config("directory", message));
        }
        atomic::check_replaceable(directory)?;
        atomic::write_directory(directory, |partial| self.write_files(partial, readme))
    }

    fn write_files(&self, directory: &Path, readme: Option<&str>) -> Result<()> {
        if let Some(text) = readme {
            let path = directory.join(README_FILE);
            std::fs::write(&path, text).map_err(Error::io(&path))?;
        }
        let labels = &self.card.task.labels;
        let ids = labels.iter().enumerate();
        let mut config = serde_json::to_value(&self.network.encoder).map_err(|e| unwritable(directory, &e))?;
        config["architectures"] = json!([self.network.encoder.model_type.names().class]);
        config["id2label"] = ids.clone().map(|(id, label)| (id.to_string(), json!(label))).collect();
        config["label2id"] = ids.map(|(id, label)| (label.clone(), json!(id))).collect();
        write_json(&directory.join("config.json"), &config)?;
        write_json(&directory.join(CARD_FILE), &self.card)?;
        self.tokenizer.save(directory)?;
        let path = directory.join(WEIGHTS_FILE);
        let weights = match self.network.markers() {
            Some(markers) => markers::split(&self.weights, markers),
            None => self.network.source.stored(&self.weights)?,
        };
        checkpoint::write(&path, &weights, &self.extras)
    }

    /// Where [`RelationModel::load`] reads from: `directory`, or, if there is none, an earlier
    /// model that a killed save had moved aside.
    pub fn place(directory: &Path) -> PathBuf {
        atomic::find(directory)
    }

    /// Read a model that [`RelationModel::save`] wrote.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when the directory is not a relation model or corrupt, [`Error::Io`].
    pub fn load(directory: &Path) -> Result<Self> {
        let directory = &Self::place(directory);
        let path = directory.join(CARD_FILE);
        if !directory.is_dir() {
            let source = std::io::Error::new(std::io::ErrorKind::NotFound, "no such directory");
            return Err(Error::Io { path: directory.clone(), source });
        }
        if !path.is_file() {
            let what = if directory.join("config.json").is_file() {
                "an encoder without a trained head: fine-tune it first"
            } else {
                "not a model that biorel saved"
            };
            return Err(Error::checkpoint(directory, format!("{what} (there is no {CARD_FILE})")));
        }
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        let format = serde_json::from_str::<serde_json::Value>(&text).ok().and_then(|card| card["format"].as_u64());
        match format.map(|format| format.cmp(&u64::from(FORMAT))) {
            Some(Ordering::Greater) => {
                return Err(Error::checkpoint(&path, "was written by a newer biorel; upgrade to read it"));
            }
            Some(Ordering::Less) => {
                let message = "was written by an earlier biorel, whose settings had other names; train the model again";
                return Err(Error::checkpoint(&path, message));
            }
            Some(Ordering::Equal) | None => {}
        }
        let card: Card =
            serde_json::from_str(&text).map_err(|e| Error::checkpoint(&path, format!("not a model card: {e}")))?;
        card.training.validate()?;
        let encoder = EncoderConfig::open(directory)?;
        let tokenizer = Tokenizer::open(directory, None)?;
        check_vocabulary(directory, &tokenizer, &encoder)?;
        let mut network = network_of(encoder, &card.training, &card.task, card.marking, &tokenizer, Source::default())?;
        let new = network.new_specs();
        let (mut weights, extras, _) = checkpoint::read(directory, &network.encoder, &new)?;
        let own = weights.specs.len() - new.len();
        network.source = Source::take(&network.encoder, &mut weights, own)?;
        if network.markers().is_some() {
            markers::rejoin(&mut weights);
        }
        Ok(Self { card, network, weights: Arc::new(weights), extras, tokenizer, kept: Kept::default() })
    }
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

fn unwritable(path: &Path, error: &serde_json::Error) -> Error {
    Error::checkpoint(path, format!("cannot be written: {error}"))
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| unwritable(path, &e))?;
    std::fs::write(path, text + "\n").map_err(Error::io(path))
}
