//! Frozen encoders: those that candle-transformers computes, compared with transformers, and heads that
//! are trained on cached hidden states. `tests/golden/make_frozen.py` writes the golden files.

mod noise;
#[path = "suite/toy_task.rs"]
mod toy_task;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use biorel::config::{Backend, Compat, Freeze, HeadKind, Precision, TrainingSettings};
use biorel::corpus::{Corpus, CorpusKind, ReadOptions};
use biorel::encode::{Batch, Marking, instances};
use biorel::model::candle_encoder::stored_specs;
use biorel::model::encoder::OutputSpec;
use biorel::model::source::Cache;
use biorel::model::{EncoderConfig, Init, Network, ParamSpec, Pretrained, RelationModel, Source, Weights, checkpoint};
use biorel::ops::compute::Compute;
use biorel::ops::{Cpu, Ops, Reference};
use biorel::predict::{Prediction, classify_instances};
use biorel::train::{Event, FineTune, FineTuned, HeldOut, TrainingData, TrainingRun, fine_tune};
use biorel::{Error, Result};
use candle_core::{DType, Device, Tensor};

type Golden = HashMap<String, Tensor>;

const LAYERS: OutputSpec = OutputSpec { cls_of_layers: true, ..OutputSpec::TOKENS };

fn golden_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/frozen")
}

/// An architecture in a shape each.
fn folders() -> Vec<PathBuf> {
    let mut folders: Vec<_> = golden_folder().read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 6, "{folders:?}");
    folders
}

/// Numbers from -0.35 to 0.35, a function of the name; those of scales around 1.
fn values(spec: &ParamSpec) -> Vec<f32> {
    let is_scale = matches!(spec.init, Init::Candle(candle_nn::Init::Const(1.0)));
    let shift = if is_scale { 1.0 } else { 0.0 };
    let uniform = noise::uniform(&spec.name, spec.elements()).into_iter();
    uniform.map(|value| shift + (0.7 * (value - 0.5)) as f32).collect()
}

fn weights(config: &EncoderConfig) -> Weights {
    let specs = stored_specs(config).unwrap();
    Weights { values: specs.iter().map(values).collect(), specs }
}

fn source(config: &EncoderConfig) -> Source {
    let mut weights = weights(config);
    let count = weights.specs.len();
    let source = Source::take(config, &mut weights, count).unwrap();
    assert_eq!((source.candle().is_some(), weights.specs.len()), (true, 0));
    source
}

fn batch(golden: &Golden) -> Batch {
    let numbers =
        |name: &str| golden[&format!("batch.0.{name}")].to_dtype(DType::U32).unwrap().to_vec1::<u32>().unwrap();
    let starts: Vec<usize> = numbers("starts").into_iter().map(|start| start as usize).collect();
    Batch::of_ids(&numbers("ids"), &starts, numbers("labels"))
}

/// The largest difference, relative to the largest value.
fn difference(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    let largest = |values: &mut dyn Iterator<Item = f32>| values.fold(0.0, |most: f32, value| most.max(value.abs()));
    largest(&mut ours.iter().zip(theirs).map(|(a, b)| a - b)) / largest(&mut theirs.iter().copied()).max(1e-6)
}

fn compare_states<O: Ops>(ops: &O, folder: &Path) {
    let config = EncoderConfig::open(folder).unwrap();
    let golden = candle_core::safetensors::load(folder.join("expected.safetensors"), &Device::Cpu).unwrap();
    let (batch, top) = (batch(&golden), config.num_hidden_layers - 1);
    let expected = |layer: usize| golden[&format!("layer.{layer}")].clone();
    let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let output = source(&config).forward(ops, &config, &[], &batch, LAYERS).unwrap();
    let found = difference(&ops.download(&output.last).unwrap(), &flat(&expected(top)));
    assert!(found <= 1e-5, "{}: hidden states differ by {found}", folder.display());
    assert_eq!(output.cls.len(), config.num_hidden_layers);
    let first: Vec<u32> = batch.first_tokens().iter().map(|token| *token as u32).collect();
    let first = Tensor::new(first, &Device::Cpu).unwrap();
    for (layer, cls) in output.cls.iter().enumerate() {
        let theirs = flat(&expected(layer).index_select(&first, 0).unwrap());
        let found = difference(&ops.download(cls).unwrap(), &theirs);
        assert!(found <= 1e-5, "{}: [CLS] of layer {layer} differs by {found}", folder.display());
    }
}

#[test]
fn states_are_those_of_transformers() {
    for folder in folders() {
        compare_states(&Cpu::new(), &folder);
        compare_states(&Reference::cpu(), &folder);
    }
}

/// What is read and written are the tensors of transformers' files.
#[test]
fn every_tensor_is_accounted_for() {
    for folder in folders() {
        let config = EncoderConfig::open(&folder).unwrap();
        let file = std::fs::read(folder.join("tensors.json")).unwrap();
        let theirs: BTreeMap<String, Vec<usize>> = serde_json::from_slice(&file).unwrap();
        let specs = stored_specs(&config).unwrap();
        assert_eq!(specs.len(), theirs.len());
        let ours: BTreeMap<_, _> = specs.into_iter().map(|spec| (spec.name, spec.shape)).collect();
        assert_eq!(ours, theirs, "{}", folder.display());
    }
}

#[test]
fn other_sentences_do_not_change_a_sentence() {
    for folder in folders() {
        let config = EncoderConfig::open(&folder).unwrap();
        let golden = candle_core::safetensors::load(folder.join("expected.safetensors"), &Device::Cpu).unwrap();
        let (all, ops, source) = (batch(&golden), Cpu::new(), source(&config));
        let of = |batch: &Batch| {
            let output = source.forward(&ops, &config, &[], batch, LAYERS).unwrap();
            (ops.download(&output.last).unwrap(), ops.download(&output.cls[0]).unwrap())
        };
        let (together, first) = of(&all);
        for (sentence, bounds) in all.cu_seqlens.windows(2).enumerate() {
            // Next to a longer one of other words, and to one of the same length.
            let own = &all.ids[bounds[0]..bounds[1]];
            let other: Vec<u32> = own.iter().rev().copied().collect();
            let ids = [own, &other, &all.ids[..7]].concat();
            let alone = Batch::of_ids(&ids, &[0, own.len(), 2 * own.len(), ids.len()], vec![0; 3]);
            let (last, cls) = of(&alone);
            let hidden = config.hidden_size;
            let found = difference(&last[..own.len() * hidden], &together[bounds[0] * hidden..bounds[1] * hidden]);
            assert!(found <= 1e-5, "{}: {found}", folder.display());
            assert!(difference(&cls[..hidden], &first[sentence * hidden..][..hidden]) <= 1e-5);
        }
    }
}

/// Changes of a configuration that candle-transformers does not compute, or not as transformers does.
#[test]
fn what_is_not_computed_is_refused() {
    let cases = [
        ("deberta-v2-a", "conv_kernel_size", serde_json::json!(3)),
        ("deberta-v2-a", "embedding_size", serde_json::json!(8)),
        ("deberta-v2-a", "attention_head_size", serde_json::json!(4)),
        ("deberta-v2-a", "pos_att_type", serde_json::json!("c2p|p2p")),
        ("deberta-v2-a", "position_buckets", serde_json::json!(1u64 << 62)),
        ("deberta-v2-a", "max_relative_positions", serde_json::json!(-2)),
        ("deberta-v2-a", "hidden_act", serde_json::json!("gelu_new")),
        ("nomic_bert-a", "hidden_act", serde_json::json!("gelu")),
        ("nomic_bert-a", "activation_function", serde_json::json!("geglu")),
        ("nomic_bert-a", "prenorm", serde_json::json!(true)),
        ("nomic_bert-a", "rotary_emb_fraction", serde_json::json!(0.5)),
        ("nomic_bert-a", "rotary_emb_interleaved", serde_json::json!(true)),
        ("nomic_bert-a", "num_experts", serde_json::json!(8)),
        ("nomic_bert-a", "head_dim", serde_json::json!(4)),
        ("nomic_bert-a", "rope_parameters", serde_json::json!({"rope_type": "yarn", "rope_theta": 1e4})),
    ];
    for (folder, key, value) in cases {
        let mut config = EncoderConfig::open(&golden_folder().join(folder)).unwrap();
        match key {
            "hidden_act" => config.hidden_act = value.as_str().unwrap().into(),
            _ => drop(config.other.insert(key.into(), value)),
        }
        let message = config.validate(Path::new("config.json")).unwrap_err().to_string();
        assert!(message.contains(key), "{message}");
    }
}

/// The keys of NomicBERT's published files.
#[test]
fn published_keys_of_nomic_bert() {
    let folder = tempfile::tempdir().unwrap();
    let text = r#"{"model_type": "nomic_bert", "vocab_size": 30, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_inner": 24,
        "n_positions": 8192, "max_trained_positions": 2048, "layer_norm_epsilon": 1e-5, "rotary_emb_base": 500,
        "rotary_emb_fraction": 1.0, "rotary_scaling_factor": null, "activation_function": "swiglu", "prenorm": false,
        "num_experts": 0}"#;
    std::fs::write(folder.path().join("config.json"), text).unwrap();
    let config = EncoderConfig::open(folder.path()).unwrap();
    let sizes = (config.hidden_size, config.num_hidden_layers, config.num_attention_heads, config.intermediate_size);
    assert_eq!((sizes, config.longest(), config.layer_norm_eps), ((16, 2, 2, 24), 2048, 1e-5));
    let same = EncoderConfig::open(&golden_folder().join("nomic_bert-a")).unwrap();
    assert_eq!(stored_specs(&config).unwrap(), stored_specs(&same).unwrap());
}

/// Ten steps of each head on a BERT of which nothing is trained: with the engine's dropout-free forward
/// in every step, from the cache, and with a cache that has room for few sentences.
#[test]
fn a_head_on_cached_states_is_that_on_frozen_layers() {
    for head in HeadKind::ALL {
        let plain = toy_task::network(head, 16, 32);
        let weights = Weights::initial(plain.specs(), 1);
        let features = toy_task::features(64, 0);
        let train = |network: &Network, freeze: Freeze| {
            let settings = TrainingSettings {
                head,
                learning_rate: 5e-3,
                batch_size: 8,
                max_steps: Some(10),
                dropout: Some(0.0),
                freeze: Some(freeze),
                ..Default::default()
            };
            let on_event = &mut |_| Ok(());
            let run = TrainingRun {
                network,
                weights: &weights,
                instances: (&features).into(),
                settings: &settings,
                dev: None,
                checkpoint: None,
                on_event,
            };
            Compute::new(Backend::Cpu, Precision::F32, Some(2)).unwrap().execute(run).unwrap()
        };
        let frozen = train(&plain, Freeze::Layers(2));
        for cache in [Cache::default(), Cache::with_capacity(1000)] {
            let cached = Network { source: Source::Engine.cached(cache), ..plain.clone() };
            let found = train(&cached, Freeze::All);
            for ((spec, ours), theirs) in weights.specs.iter().zip(&found.weights.values).zip(&frozen.weights.values) {
                let most = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(most <= 1e-5, "{head}: {} differs by {most}", spec.name);
            }
            assert_ne!(found.weights, weights, "{head}");
        }
    }
}

const VOCABULARY: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n@\n$\ngene\ndisease\ncauses\nspares\noften\nrarely\n.\n";

/// A directory with a frozen encoder of a golden folder's shape.
fn encoder(directory: &Path, folder: &str) -> Pretrained {
    let mut config = EncoderConfig::open(&golden_folder().join(folder)).unwrap();
    config.max_position_embeddings = 24;
    std::fs::write(directory.join("config.json"), serde_json::to_string(&config).unwrap()).unwrap();
    std::fs::write(directory.join("vocab.txt"), VOCABULARY).unwrap();
    std::fs::write(directory.join("tokenizer_config.json"), r#"{"do_lower_case": true}"#).unwrap();
    checkpoint::write(&directory.join("model.safetensors"), &weights(&config), &[]).unwrap();
    Pretrained::open(directory, None).unwrap()
}

/// 60 pairs to train on and 20 to test on. The verb is the label.
fn corpus(directory: &Path) -> Corpus {
    let mut rows = String::from(
        "id\tdocument\ttext\tlabel\tentity1_start\tentity1_end\tentity2_start\tentity2_end\tentity1_type\tentity2_type\tsplit\n",
    );
    for number in 0..80 {
        let (label, verb) = if number % 3 == 0 { ("causes", "causes") } else { ("none", "spares") };
        let adverb = if number % 2 == 0 { "often" } else { "rarely" };
        let text = format!("G{number:03} {adverb} {verb} gout.");
        let (start, split) = (text.find("gout").unwrap(), if number < 60 { "train" } else { "test" });
        let end = start + 4;
        rows += &format!("p{number}\td{number}\t{text}\t{label}\t0\t4\t{start}\t{end}\tgene\tdisease\t{split}\n");
    }
    let path = directory.join("pairs.tsv");
    std::fs::write(&path, rows).unwrap();
    Corpus::read(CorpusKind::Table, &[path], &ReadOptions::default()).unwrap()
}

fn settings(head: HeadKind) -> TrainingSettings {
    TrainingSettings {
        head,
        max_length: 24,
        learning_rate: 2e-2,
        batch_size: 8,
        epochs: 15,
        bias_correction: true,
        freeze: Some(Freeze::All),
        ..Default::default()
    }
}

fn compute() -> Compute {
    Compute::new(Backend::Cpu, Precision::F32, Some(2)).unwrap()
}

fn train(encoder: &Pretrained, corpus: &Corpus, marking: Marking, settings: &TrainingSettings) -> Result<FineTuned> {
    let of = |split: &str| instances(&corpus.split(split).unwrap().sentences, &corpus.task, marking).unwrap();
    let (train, test) = (of("train"), of("test"));
    let run = FineTune {
        encoder,
        encoder_name: "tiny",
        data: TrainingData { instances: &train, task: &corpus.task, marking, hash: None },
        held_out: Some(HeldOut { instances: &test, lost: &[0, 0] }),
        settings,
        compute: compute(),
        checkpoint: None,
    };
    fine_tune(run, &mut |_| Ok(()))
}

fn predict(model: &RelationModel, corpus: &Corpus) -> Vec<Prediction> {
    let test = instances(&corpus.split("test").unwrap().sentences, &corpus.task, Marking::default()).unwrap();
    classify_instances(model, &test, compute(), &mut |_| Ok(())).unwrap().1
}

/// Every head learns on frozen states, and a saved model predicts as before.
#[test]
fn heads_on_frozen_encoders_are_trained_and_saved() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = corpus(folder.path());
    for (name, heads) in [("deberta-v2-a", HeadKind::ALL.as_slice()), ("nomic_bert-c", &[HeadKind::Attention])] {
        let encoder = encoder(folder.path(), name);
        for head in heads {
            let tuned = train(&encoder, &corpus, Marking::default(), &settings(*head)).unwrap();
            let best = tuned.evaluations.iter().map(|evaluation| evaluation.f1).fold(0.0, f64::max);
            // The vectors of the entities say little about the verb where the encoder is random.
            assert!(best >= if head.reads_entities() { 0.5 } else { 0.9 }, "{name} {head}: {best}");
            let model = tuned.model;
            // The head alone was trained, and nothing of the cache is kept.
            assert!(model.weights.specs.iter().all(|spec| spec.name.starts_with("head.")));
            assert!(matches!(model.network.source, Source::Candle(_)));
            let saved = folder.path().join("saved");
            model.save(&saved).unwrap();
            let loaded = RelationModel::load(&saved).unwrap();
            assert_eq!(loaded.weights, model.weights);
            assert_eq!(loaded.content_hash(), model.content_hash());
            assert_eq!(predict(&loaded, &corpus), predict(&model, &corpus));
            // It is an encoder too, with the same states.
            let reopened = Pretrained::open(&saved, None).unwrap();
            let own = |encoder: &Pretrained| encoder.source.candle().unwrap().weights().unwrap();
            assert_eq!(own(&reopened), own(&encoder));
        }
    }
}

/// The identity of a model covers the encoder that is no parameter of it.
#[test]
fn another_encoder_is_another_model() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = corpus(folder.path());
    let untrained = TrainingSettings { max_steps: Some(0), ..settings(HeadKind::Cls) };
    let encoder = encoder(folder.path(), "nomic_bert-a");
    let model = train(&encoder, &corpus, Marking::default(), &untrained).unwrap().model;
    let config = &encoder.config;
    let mut own = weights(config);
    own.values[0][0] += 1.0;
    let count = own.specs.len();
    let other = Source::take(config, &mut own, count).unwrap();
    let network = Network { source: other.clone(), ..model.network.clone() };
    assert_ne!(RelationModel { network, ..model.clone() }.content_hash(), model.content_hash());
    assert_ne!(Pretrained { source: other, ..encoder.clone() }.content_hash(), encoder.content_hash());
}

#[test]
fn errors_name_the_setting_and_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let (encoder, corpus) = (encoder(folder.path(), "deberta-v2-a"), corpus(folder.path()));
    let plain = settings(HeadKind::Attention);
    let entity = TrainingSettings { max_length: 16, ..settings(HeadKind::Entity) };
    let cases = [
        (TrainingSettings { freeze: None, ..plain.clone() }, Marking::default(), "freeze", "freeze=\"all\""),
        (TrainingSettings { freeze: Some(Freeze::Layers(2)), ..plain.clone() }, Marking::default(), "freeze", "all"),
        (entity, Marking::Levitated, "marking", "deberta-v2"),
        (TrainingSettings { compat: Some(Compat::Su2020), ..plain.clone() }, Marking::default(), "compat", "padding"),
        (TrainingSettings { max_length: 25, ..plain }, Marking::default(), "max_length", "24"),
    ];
    for (settings, marking, field, part) in cases {
        let message = train(&encoder, &corpus, marking, &settings).unwrap_err().to_string();
        assert!(message.starts_with(field) && message.contains(part), "{message}");
    }
    let texts = ["often ".repeat(22), "often ".repeat(23)];
    let states = |texts: &[String]| biorel::predict::hidden_states(&encoder, texts, compute(), &mut |_| Ok(()));
    assert_eq!(states(&texts[..1]).unwrap()[0].len(), 24 * encoder.config.hidden_size);
    let message = states(&texts).unwrap_err().to_string();
    assert!(message.contains("text 1 has 25 pieces") && message.contains("takes 24"), "{message}");
}

/// A request to stop is obeyed while hidden states are computed.
#[test]
fn the_computation_of_states_can_be_interrupted() {
    let network = toy_task::network(HeadKind::Attention, 16, 32);
    let network = Network { source: Source::Engine.cached(Cache::default()), ..network };
    let weights = Weights::initial(network.specs(), 1);
    let features = toy_task::features(64, 0);
    let settings = settings(HeadKind::Attention);
    let on_event = &mut |event| match event {
        Event::Encoded { done, total } => {
            assert!(done > 0 && done <= total && total == features.len(), "{done} of {total}");
            Err(Error::Interrupted)
        }
        _ => Ok(()),
    };
    let (dev, checkpoint) = (None, None);
    let run = TrainingRun {
        network: &network,
        weights: &weights,
        instances: (&features).into(),
        settings: &settings,
        dev,
        checkpoint,
        on_event,
    };
    let stopped = compute().execute(run).unwrap();
    assert!(stopped.interrupted && stopped.history.is_empty());
    assert_eq!(stopped.weights, weights);
}
