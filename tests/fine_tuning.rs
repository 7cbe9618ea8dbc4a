//! The library from Rust: a table of pairs and an encoder become a model, which predicts, is
//! explained, saved and loaded.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use biorel::Error;
use biorel::attention::{WeightSource, word_table};
use biorel::config::{Backend, HeadKind, Precision, TrainingSettings};
use biorel::corpus::{Corpus, CorpusKind, ReadOptions};
use biorel::encode::{Instance, Marking, instances};
use biorel::model::params::encoder_specs;
use biorel::model::{EncoderConfig, Network, Pretrained, RelationModel, Weights, checkpoint};
use biorel::ops::compute::Compute;
use biorel::ops::kept::Kept;
use biorel::predict::classify_instances;
use biorel::train::{CheckpointPlan, Event, FineTune, HeldOut, TrainingData, fine_tune};

const VOCABULARY: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n@\n$\ngene\ndisease\ncauses\nspares\noften\nrarely\n.\n";

/// An encoder of one layer with random weights.
fn encoder(directory: &Path) -> Pretrained {
    let config: EncoderConfig = serde_json::from_str(
        r#"{"vocab_size": 14, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 24, "max_position_embeddings": 32}"#,
    )
    .unwrap();
    std::fs::write(directory.join("config.json"), serde_json::to_string(&config).unwrap()).unwrap();
    std::fs::write(directory.join("vocab.txt"), VOCABULARY).unwrap();
    std::fs::write(directory.join("tokenizer_config.json"), r#"{"do_lower_case": true}"#).unwrap();
    let weights = Weights::initial(encoder_specs(&config), 1);
    checkpoint::write(&directory.join("model.safetensors"), &weights, &[]).unwrap();
    Pretrained::open(directory, None).unwrap()
}

/// 120 pairs to train on, a quarter of them positive, and 40 to test on. The verb is the label.
fn corpus(directory: &Path) -> Corpus {
    let mut rows = String::from(
        "id\tdocument\ttext\tlabel\tentity1_start\tentity1_end\tentity2_start\tentity2_end\tentity1_type\tentity2_type\tsplit\n",
    );
    for number in 0..160 {
        let (label, verb) = if number % 4 == 0 { ("causes", "causes") } else { ("none", "spares") };
        let adverb = if number % 3 == 0 { "often" } else { "rarely" };
        let (text, split) =
            (format!("G{number:03} {adverb} {verb} gout."), if number < 120 { "train" } else { "test" });
        let start = text.find("gout").unwrap();
        let end = start + 4;
        rows += &format!("p{number}\td{number}\t{text}\t{label}\t0\t4\t{start}\t{end}\tgene\tdisease\t{split}\n");
    }
    let path = directory.join("pairs.tsv");
    std::fs::write(&path, rows).unwrap();
    Corpus::read(CorpusKind::Table, &[path], &ReadOptions::default()).unwrap()
}

fn of_split(corpus: &Corpus, name: &str) -> Vec<Instance> {
    instances(&corpus.split(name).unwrap().sentences, &corpus.task, Marking::default()).unwrap()
}

struct Setting {
    folder: tempfile::TempDir,
    encoder: Pretrained,
    corpus: Corpus,
    train: Vec<Instance>,
    test: Vec<Instance>,
    compute: Compute,
}

impl Setting {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (encoder, corpus) = (encoder(folder.path()), corpus(folder.path()));
        let (train, test) = (of_split(&corpus, "train"), of_split(&corpus, "test"));
        let compute = Compute::new(Backend::Cpu, Precision::F32, Some(2)).unwrap();
        Self { folder, encoder, corpus, train, test, compute }
    }

    fn run<'a>(&'a self, settings: &'a TrainingSettings) -> FineTune<'a> {
        let data = TrainingData {
            instances: &self.train,
            task: &self.corpus.task,
            marking: Marking::default(),
            hash: Some("hash of the data"),
        };
        let (encoder, compute) = (&self.encoder, self.compute);
        FineTune { encoder, encoder_name: "tiny", data, held_out: None, settings, compute, checkpoint: None }
    }
}

fn settings(head: HeadKind) -> TrainingSettings {
    TrainingSettings {
        head,
        max_length: 24,
        learning_rate: 5e-3,
        batch_size: 8,
        max_steps: Some(40),
        bias_correction: true,
        ..TrainingSettings::default()
    }
}

/// The window of local attention is not one of the keys that all encoders have.
#[test]
fn the_hash_of_a_model_covers_its_architecture() {
    let here = Setting::new();
    let settings = TrainingSettings { max_steps: Some(0), ..settings(HeadKind::Cls) };
    let model = fine_tune(here.run(&settings), &mut |_| Ok(())).unwrap().model;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/architectures/modernbert-a");
    let encoder = EncoderConfig::open(&folder).unwrap();
    let mut wider = encoder.clone();
    wider.other.insert("local_attention".into(), 12.into());
    let hash = |encoder: &EncoderConfig| {
        let network = Network { encoder: encoder.clone(), ..model.network.clone() };
        RelationModel { network, ..model.clone() }.content_hash()
    };
    assert_ne!(hash(&encoder), hash(&wider));
    assert_eq!(hash(&encoder), hash(&encoder));
}

#[test]
fn from_a_table_to_a_model_with_predictions_and_word_weights() {
    let here = Setting::new();
    let settings =
        TrainingSettings { negative_ratio: Some(2.0), max_steps: Some(150), ..settings(HeadKind::Attention) };
    let lost = vec![0; here.corpus.task.labels.len()];
    let run = FineTune { held_out: Some(HeldOut { instances: &here.test, lost: &lost }), ..here.run(&settings) };
    let mut events = Vec::new();
    let tuned = fine_tune(run, &mut |event| {
        events.push(event);
        Ok(())
    })
    .unwrap();
    // 30 positives and two negatives for each of them; the other 30 negatives are left out.
    assert_eq!((tuned.counts.trained, tuned.counts.left_out), (90, 30));
    assert_eq!((tuned.counts.cut, tuned.counts.dropped, tuned.interrupted), (0, 0, false));
    assert_eq!(events[0], Event::Started { steps: 150 });
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Step(_))).count(), 150);
    assert_eq!(tuned.history.len(), 150);
    assert!(!tuned.evaluations.is_empty());
    assert_eq!(
        (tuned.model.card.encoder.as_str(), tuned.model.card.data.as_deref()),
        ("tiny", Some("hash of the data"))
    );
    assert_eq!(tuned.model.card.steps, tuned.step);

    let path: PathBuf = here.folder.path().join("model");
    tuned.model.save(&path).unwrap();
    let model = RelationModel::load(&path).unwrap();
    assert_eq!(model.content_hash(), tuned.model.content_hash());
    let (encoded, predictions) = classify_instances(&model, &here.test, here.compute, &mut |_| Ok(())).unwrap();
    assert_eq!(encoded.kept.len(), here.test.len());
    let right = here.test.iter().zip(&predictions).filter(|(one, p)| one.label == Some(p.label())).count();
    assert!(right >= 38, "{right} of 40 are right");

    for source in WeightSource::ALL {
        let rows = word_table(&model, &here.test, source, here.compute, &mut |_| Ok(())).unwrap();
        for (index, prediction) in predictions.iter().enumerate() {
            let own: Vec<_> = rows.iter().filter(|row| row.instance == index).collect();
            assert!((own.iter().map(|row| row.word.weight).sum::<f64>() - 1.0).abs() < 1e-6, "{}", source.name());
            assert!(own.iter().all(|row| row.predicted == prediction.label()));
            let verb = own.iter().find(|row| row.word.text == "causes" || row.word.text == "spares").unwrap();
            assert!(verb.stem == "caus" || verb.stem == "spare", "{}", verb.stem);
        }
    }
}

/// What a model keeps on an engine is never that of other weights.
#[test]
fn changed_weights_predict_anew() {
    let here = Setting::new();
    let mut model = fine_tune(here.run(&settings(HeadKind::Cls)), &mut |_| Ok(())).unwrap().model;
    let predict =
        |model: &RelationModel| classify_instances(model, &here.test, here.compute, &mut |_| Ok(())).unwrap().1;
    let before = predict(&model);
    let copy = model.clone();
    assert!(predict(&model) == before && predict(&copy) == before);
    Arc::make_mut(&mut model.weights).values.iter_mut().for_each(|values| values[0] += 1.0);
    let after = predict(&model);
    assert!(after != before && predict(&copy) == before);
    assert!(predict(&RelationModel { kept: Kept::default(), ..model }) == after);
}

#[test]
fn a_stopped_run_resumes_from_its_checkpoint_with_the_same_bits() {
    let here = Setting::new();
    let settings = settings(HeadKind::Lstm);
    let undisturbed = fine_tune(here.run(&settings), &mut |_| Ok(())).unwrap();
    let path = here.folder.path().join("checkpoint");
    let plan = Some(CheckpointPlan { path: &path, every: 7 });
    let stopped = fine_tune(FineTune { checkpoint: plan, ..here.run(&settings) }, &mut |event| match event {
        Event::Step(record) if record.step == 17 => Err(Error::Interrupted),
        _ => Ok(()),
    })
    .unwrap();
    assert!(stopped.interrupted && stopped.step < 40);
    let resumed = fine_tune(FineTune { checkpoint: plan, ..here.run(&settings) }, &mut |_| Ok(())).unwrap();
    assert_eq!(resumed.history.len(), 40);
    assert_eq!(resumed.model.weights, undisturbed.model.weights);
}

#[test]
fn mismatched_parameters_are_refused_by_name() {
    let here = Setting::new();
    let refused = |settings: &TrainingSettings| fine_tune(here.run(settings), &mut |_| Ok(())).unwrap_err().to_string();
    let long = TrainingSettings { max_length: 33, ..settings(HeadKind::Cls) };
    assert_eq!(refused(&long), "max_length: 33 is too long for this encoder; its limit is 32");
    let patience = TrainingSettings { patience: Some(1), ..settings(HeadKind::Cls) };
    assert!(refused(&patience).starts_with("patience: needs held-out data"), "{}", refused(&patience));
    let settings = settings(HeadKind::Cls);
    let model = fine_tune(here.run(&settings), &mut |_| Ok(())).unwrap().model;
    let head = word_table(&model, &here.test, WeightSource::Head, here.compute, &mut |_| Ok(())).unwrap_err();
    assert!(head.to_string().starts_with("head: `cls` does not weigh words"), "{head}");
    assert!("heads".parse::<WeightSource>().unwrap_err().to_string().contains("head, encoder, gradient"));
}
