//! Models on disk: opening, saving, loading, refusing.

use std::path::Path;

use biorel::Error;
use biorel::config::{Backend, Compat, HeadKind, Precision, TooLong, TrainingSettings};
use biorel::corpus::{Entity, Pair, Sentence, Span, Task};
use biorel::encode::{Features, Marking, mark};
use biorel::model::checkpoint::{self, Extra};
use biorel::model::params::encoder_specs;
use biorel::model::{EncoderConfig, Pretrained, RelationModel, Weights};
use biorel::ops::compute::Compute;
use biorel::predict::{Predict, Prediction};

const VOCABULARY: &str =
    "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n@\n$\ndrug\nwith\nand\nno\ninteracts\n.\n##s\ne\n1\n2\n[\n]\n/\n";

/// A tiny uncased encoder with a pooler.
fn encoder(directory: &Path) {
    let config: EncoderConfig = serde_json::from_str(
        r#"{"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 12, "max_position_embeddings": 32, "classifier_dropout": null}"#,
    )
    .unwrap();
    std::fs::write(directory.join("config.json"), serde_json::to_string(&config).unwrap()).unwrap();
    std::fs::write(directory.join("vocab.txt"), VOCABULARY).unwrap();
    std::fs::write(directory.join("tokenizer_config.json"), r#"{"do_lower_case": true}"#).unwrap();
    let weights = Weights::initial(encoder_specs(&config), 4);
    let pooler = [("pooler.dense.weight", vec![8, 8]), ("pooler.dense.bias", vec![8])].map(|(name, shape)| Extra {
        name: name.into(),
        values: (0..shape.iter().product()).map(|i: usize| i as f32).collect(),
        shape,
    });
    checkpoint::write(&directory.join("model.safetensors"), &weights, &pooler).unwrap();
}

fn model(directory: &Path, head: HeadKind) -> RelationModel {
    let pretrained = Pretrained::open(directory, None).unwrap();
    let task = Task::ddi();
    let training = TrainingSettings {
        head,
        max_length: 24,
        too_long: TooLong::Drop,
        learning_rate: 1e-5 / 3.0,
        ..Default::default()
    };
    let (network, weights) = pretrained.with_head(&training, &task, Marking::Typed).unwrap();
    RelationModel::new(&pretrained, network, weights, training, (task, Marking::Typed), ("tiny".into(), None, 0))
}

/// The pooler of the paper's code is that of the checkpoint, and is saved and read again.
#[test]
fn the_pooler_is_initialised_from_the_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    encoder(directory.path());
    let pretrained = Pretrained::open(directory.path(), None).unwrap();
    let training =
        TrainingSettings { head: HeadKind::Cls, max_length: 24, compat: Some(Compat::Su2020), ..Default::default() };
    let task = Task::ddi();
    let (network, weights) = pretrained.with_head(&training, &task, Marking::Typed).unwrap();
    let stored: Vec<f32> = (0..64).map(|i| i as f32).collect();
    assert_eq!(weights.get("head.pooler.weight").unwrap(), stored);
    assert_eq!(weights.get("head.pooler.bias").unwrap(), &stored[..8]);
    let model =
        RelationModel::new(&pretrained, network, weights, training, (task, Marking::Typed), ("tiny".into(), None, 0));
    model.save(&directory.path().join("model")).unwrap();
    let loaded = RelationModel::load(&directory.path().join("model")).unwrap();
    assert_eq!(loaded.weights, model.weights);
    // Without a pooler in the checkpoint, its weights are initialised like any others.
    let (network, without) = Pretrained { extras: vec![], ..pretrained }
        .with_head(&model.card.training, &Task::ddi(), Marking::Typed)
        .unwrap();
    let drawn = without.get("head.pooler.weight").unwrap();
    assert!(drawn.iter().all(|x| x.abs() <= 0.04) && drawn.iter().any(|x| *x != 0.0));
    assert_eq!(network.head_specs()[0].name, "head.pooler.weight");
}

fn features(model: &RelationModel) -> Vec<Features> {
    let text = "Drug interacts with drug and no drugs.";
    let entity = |id: &str, start: usize, end: usize| Entity {
        id: id.into(),
        entity_type: "drug".into(),
        text: text[start..end].into(),
        spans: vec![Span { start, end }],
    };
    let sentence = Sentence {
        id: "s".into(),
        document: "d".into(),
        text: text.into(),
        entities: vec![entity("e0", 0, 4), entity("e1", 20, 24), entity("e2", 32, 37)],
        pairs: vec![],
    };
    let pairs = [(0, 1), (0, 2), (1, 2)].map(|(entity1, entity2)| Pair {
        id: "p".into(),
        entity1,
        entity2,
        label: 0,
        row: None,
        concepts: None,
    });
    let card = &model.card;
    let features = |pair: &Pair| {
        let instance = mark(&sentence, pair, &card.task, card.marking).unwrap();
        model.tokenizer.features(&instance, card.training.max_length, card.training.too_long).unwrap().unwrap()
    };
    pairs.iter().map(features).collect()
}

fn predict(model: &RelationModel, features: &[Features]) -> Vec<Prediction> {
    let job = Predict { network: &model.network, weights: &model.weights, features, on_batch: &mut |_| Ok(()) };
    Compute::new(Backend::Cpu, Precision::F32, Some(1)).unwrap().execute(job).unwrap()
}

#[test]
fn a_saved_model_predicts_the_same() {
    let directory = tempfile::tempdir().unwrap();
    encoder(directory.path());
    for head in HeadKind::ALL {
        let model = model(directory.path(), head);
        let saved = directory.path().join("deep/er").join(head.name());
        model.save(&saved).unwrap();
        let loaded = RelationModel::load(&saved).unwrap();
        assert_eq!((&loaded.card, &loaded.network.head), (&model.card, &head));
        assert_eq!(loaded.weights, model.weights);
        assert_eq!(loaded.extras, model.extras, "the pooler is kept");
        assert!(loaded.network.encoder.other.contains_key("classifier_dropout"), "other settings are kept");
        assert_eq!(predict(&loaded, &features(&loaded)), predict(&model, &features(&model)));
        // The encoder of a saved model is an encoder.
        let again = Pretrained::open(&saved, None).unwrap();
        assert!(again.report.unused.iter().all(|name| name.starts_with("head.")), "{:?}", again.report);
        let left: Vec<_> =
            std::fs::read_dir(saved.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{left:?}");
    }
}

/// The weights have the permissions of the configuration.
#[cfg(unix)]
#[test]
fn all_files_of_a_model_have_the_same_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    encoder(directory.path());
    let saved = directory.path().join("model");
    model(directory.path(), HeadKind::Cls).save(&saved).unwrap();
    let mode = |name: &str| std::fs::metadata(saved.join(name)).unwrap().permissions().mode();
    for name in ["model.safetensors", "tokenizer.json", "biorel.json"] {
        assert_eq!(mode(name), mode("config.json"), "{name}");
    }
}

#[test]
fn an_earlier_model_is_replaced_and_nothing_else_is() {
    let directory = tempfile::tempdir().unwrap();
    encoder(directory.path());
    let (one, two) = (model(directory.path(), HeadKind::Cls), model(directory.path(), HeadKind::Attention));
    let saved = directory.path().join("model");
    std::fs::create_dir(&saved).unwrap();
    one.save(&saved).unwrap();
    two.save(&saved).unwrap();
    assert_eq!(RelationModel::load(&saved).unwrap().network.head, HeadKind::Attention);
    let other = directory.path().join("thesis");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("chapter1.tex"), "precious").unwrap();
    let message = one.save(&other).unwrap_err().to_string();
    assert!(message.contains("thesis") && message.contains("not a biorel model"), "{message}");
    assert_eq!(std::fs::read_dir(&other).unwrap().count(), 1);
    let file = directory.path().join("file");
    std::fs::write(&file, "x").unwrap();
    assert!(one.save(&file).is_err());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "x");
}

/// The directory is never missing, not even between two system calls: after a kill it is one of the
/// two models.
#[cfg(any(target_os = "linux", target_os = "macos"))]
#[test]
fn a_model_can_be_loaded_while_it_is_replaced() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let directory = tempfile::tempdir().unwrap();
    encoder(directory.path());
    let (one, two) = (model(directory.path(), HeadKind::Cls), model(directory.path(), HeadKind::Attention));
    let saved = directory.path().join("model");
    one.save(&saved).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut missing = 0;
            while !done.load(Ordering::Relaxed) {
                missing += usize::from(!saved.join("biorel.json").exists());
            }
            missing
        });
        for _ in 0..100 {
            two.save(&saved).unwrap();
            one.save(&saved).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        assert_eq!(watcher.join().unwrap(), 0);
    });
}

/// The state after a kill between two renames, on systems that cannot exchange two directories.
#[test]
fn a_model_that_was_moved_aside_is_loaded_and_replaced() {
    let directory = tempfile::tempdir().unwrap();
    encoder(directory.path());
    let (one, two) = (model(directory.path(), HeadKind::Cls), model(directory.path(), HeadKind::Attention));
    let (saved, aside) = (directory.path().join("model"), directory.path().join(".model.old-4711"));
    one.save(&saved).unwrap();
    std::fs::rename(&saved, &aside).unwrap();
    assert_eq!(RelationModel::place(&saved), aside);
    assert_eq!(RelationModel::load(&saved).unwrap().network.head, HeadKind::Cls);
    two.save(&saved).unwrap();
    assert_eq!(RelationModel::load(&saved).unwrap().network.head, HeadKind::Attention);
}

#[test]
fn directories_that_are_not_models() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    assert!(matches!(RelationModel::load(&path.join("nowhere")), Err(Error::Io { .. })));
    assert!(matches!(Pretrained::open(&path.join("nowhere"), None), Err(Error::Io { .. })));
    let refused = |expected: &str| {
        let message = RelationModel::load(path).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    };
    refused("not a model that biorel saved");
    encoder(path);
    refused("fine-tune it first");
    let saved = path.join("saved");
    model(path, HeadKind::Lstm).save(&saved).unwrap();
    let card = std::fs::read_to_string(saved.join("biorel.json")).unwrap();
    let broken = |from: &str, to: &str, expected: &str| {
        assert!(card.contains(from), "{from}");
        std::fs::write(saved.join("biorel.json"), card.replace(from, to)).unwrap();
        let message = RelationModel::load(&saved).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    };
    broken("{", "", "not a model card");
    broken("\"format\": 2", "\"format\": 3", "newer biorel");
    broken("\"format\": 2", "\"format\": 1", "earlier biorel");
    broken("\"head\": \"lstm\"", "\"head\": \"attention\"", "head.attention.weight");
    broken("\"advise\",", "", "head.classifier.weight");
    broken("\"max_length\": 24", "\"max_length\": 0", "max_length");
}

#[test]
fn a_vocabulary_of_another_model_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    encoder(directory.path());
    std::fs::write(directory.path().join("vocab.txt"), format!("{VOCABULARY}too\nmany\n")).unwrap();
    let message = Pretrained::open(directory.path(), None).unwrap_err().to_string();
    assert!(message.contains("22") && message.contains("vocab_size is 20"), "{message}");
}
