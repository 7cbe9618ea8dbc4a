//! The training loop: it learns, it repeats itself to the bit, it stops when asked, and it notices divergence.

use biorel::Error;
use biorel::config::{ClassWeights, Engine, HeadKind, TrainingSettings};
use biorel::corpus::Span;
use biorel::encode::Features;
use biorel::eval::predict::{Predict, Prediction};
use biorel::model::{EncoderConfig, Network, Weights};
use biorel::ops::engine;
use biorel::rng::{Purpose, Stream};
use biorel::train::{Finetune, StatePlan, StepRecord, Trained};

fn network(head: HeadKind) -> Network {
    let encoder: EncoderConfig = serde_json::from_str(
        r#"{"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 32, "max_position_embeddings": 16}"#,
    )
    .unwrap();
    Network { encoder, head, labels: 2 }
}

/// Sentences of 5 to 12 pieces; the label is whether id 7 is among them.
fn features(count: usize, index: u32) -> Vec<Features> {
    let mut stream = Stream::new(1, Purpose::Sample, index);
    let sentence = |_| {
        let words = 3 + stream.below(8);
        let mut ids: Vec<u32> = (0..words).map(|_| 8 + stream.below(20) as u32).collect();
        let label = stream.below(2);
        if label == 1 {
            ids[stream.below(words)] = 7;
        }
        let ids: Vec<u32> = [2].into_iter().chain(ids).chain([3]).collect();
        let words = (0..ids.len()).map(|i| (i > 0 && i + 1 < ids.len()).then(|| i as u32 - 1)).collect();
        let span = Span { start: 1, end: 2 };
        Features { spans: vec![span; ids.len()], words, entities: [span, span], cut: 0, label: Some(label), ids }
    };
    (0..count).map(sentence).collect()
}

fn settings(head: HeadKind) -> TrainingSettings {
    TrainingSettings { head, learning_rate: 5e-3, batch_size: 8, max_steps: Some(20), ..Default::default() }
}

const ENGINES: [Engine; 2] = [Engine::Cpu, Engine::Reference];

fn train(
    engine: Engine,
    threads: usize,
    settings: &TrainingSettings,
    on_step: &mut (dyn FnMut(&StepRecord) -> biorel::Result<()> + Send),
) -> biorel::Result<Trained> {
    let network = network(settings.head);
    let weights = Weights::initial(network.specs(), settings.seed);
    let features = features(256, 0);
    let job = Finetune { network: &network, weights: &weights, features: &features, settings, state: None, on_step };
    engine::run(engine, Some(threads), job)
}

fn predict(engine: Engine, head: HeadKind, weights: &Weights, features: &[Features]) -> Vec<Prediction> {
    let job = Predict { network: &network(head), weights, features, on_batch: &mut |_| Ok(()) };
    engine::run(engine, Some(2), job).unwrap()
}

#[test]
fn every_head_learns_and_predicts() {
    for head in HeadKind::ALL {
        let settings =
            TrainingSettings { max_steps: Some(150), learning_rate: 3e-3, bias_correction: true, ..settings(head) };
        let trained = train(Engine::Cpu, 2, &settings, &mut |_| Ok(())).unwrap();
        assert_eq!(trained.history.len(), 150);
        assert!(!trained.interrupted);
        let unseen = features(200, 1);
        let predictions = predict(Engine::Cpu, head, &trained.weights, &unseen);
        let right = unseen.iter().zip(&predictions).filter(|(f, p)| f.label == Some(p.label())).count();
        assert!(right > 180, "{head}: {right} of 200");
        for (features, prediction) in unseen.iter().zip(&predictions) {
            assert!((prediction.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            assert_eq!(prediction.pieces.is_some(), head.weighs_words(), "{head}");
            assert_eq!(prediction.layers.is_some(), head == HeadKind::AttentionAllCls, "{head}");
            if let Some(weights) = &prediction.pieces {
                assert_eq!(weights.len(), features.ids.len());
                assert_eq!((weights[0], weights[weights.len() - 1]), (0.0, 0.0), "[CLS] and [SEP] have no weight");
                assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            }
        }
    }
}

#[test]
fn an_instance_alone_is_predicted_as_in_a_batch() {
    for engine in ENGINES {
        let weights = Weights::initial(network(HeadKind::Attention).specs(), 1);
        let features = features(40, 0);
        let together = predict(engine, HeadKind::Attention, &weights, &features);
        for (index, expected) in together.iter().enumerate() {
            let alone = predict(engine, HeadKind::Attention, &weights, &features[index..=index]);
            for (a, b) in alone[0].probabilities.iter().zip(&expected.probabilities) {
                assert!((a - b).abs() < 1e-6, "{engine:?} {index}: {a} {b}");
            }
        }
    }
}

#[test]
fn same_seed_same_bits_and_another_seed_others() {
    for engine in ENGINES {
        for head in [HeadKind::Attention, HeadKind::Lstm] {
            let settings = TrainingSettings { max_steps: Some(12), ..settings(head) };
            let run = |settings: &TrainingSettings| train(engine, 2, settings, &mut |_| Ok(())).unwrap();
            let (one, two) = (run(&settings), run(&settings));
            assert_eq!(one.weights, two.weights, "{engine:?} {head}");
            let losses = |t: &Trained| t.history.iter().map(|r| r.loss).collect::<Vec<_>>();
            assert_eq!(losses(&one), losses(&two));
            assert_ne!(one.weights, run(&TrainingSettings { seed: 2, ..settings.clone() }).weights);
        }
    }
}

/// Same masks, same order, same arithmetic: the engines follow each other, dropout included.
#[test]
fn engines_follow_each_other() {
    for head in HeadKind::ALL {
        let settings = TrainingSettings { max_steps: Some(10), learning_rate: 1e-3, ..settings(head) };
        let [fast, reference] = ENGINES.map(|engine| train(engine, 2, &settings, &mut |_| Ok(())).unwrap());
        for (a, b) in fast.history.iter().zip(&reference.history) {
            assert!((a.loss - b.loss).abs() < 1e-4, "{head} step {}: {} {}", a.step, a.loss, b.loss);
            assert!((a.gradient_norm / b.gradient_norm - 1.0).abs() < 1e-3, "{head} step {}: {a:?} {b:?}", a.step);
        }
    }
}

/// Dropout off, since the parts of a step draw masks of their own.
#[test]
fn accumulated_batches_are_one_large_batch() {
    let whole = TrainingSettings {
        batch_size: 16,
        max_steps: Some(8),
        dropout: Some(0.0),
        head_dropout: 0.0,
        class_weights: Some(ClassWeights::Balanced),
        ..settings(HeadKind::Attention)
    };
    let parts = TrainingSettings { batch_size: 4, accumulation: 4, ..whole.clone() };
    let [whole, parts] = [whole, parts].map(|s| train(Engine::Cpu, 2, &s, &mut |_| Ok(())).unwrap());
    for (a, b) in whole.history.iter().zip(&parts.history) {
        assert_eq!((a.instances, a.tokens), (b.instances, b.tokens));
        assert!((a.loss - b.loss).abs() < 1e-4, "step {}: {} {}", a.step, a.loss, b.loss);
    }
}

#[test]
fn balanced_weights_are_inverse_frequencies() {
    let given = |settings: &TrainingSettings, class_weights| {
        let settings = TrainingSettings { class_weights, max_steps: Some(4), ..settings.clone() };
        train(Engine::Cpu, 2, &settings, &mut |_| Ok(()))
    };
    let settings = settings(HeadKind::Cls);
    let positives = features(256, 0).iter().filter(|f| f.label == Some(1)).count() as f64;
    let weights = vec![256.0 / (2.0 * (256.0 - positives)), 256.0 / (2.0 * positives)];
    let balanced = given(&settings, Some(ClassWeights::Balanced)).unwrap();
    assert_eq!(balanced.weights, given(&settings, Some(ClassWeights::Given(weights))).unwrap().weights);
    assert_ne!(balanced.weights, given(&settings, None).unwrap().weights);
    let message = given(&settings, Some(ClassWeights::Given(vec![1.0]))).unwrap_err().to_string();
    assert!(message.contains("1 weights for 2 labels"), "{message}");
}

#[test]
fn frozen_parameters_stay_and_lower_layers_learn_slower() {
    let network = network(HeadKind::Attention);
    let start = Weights::initial(network.specs(), 1);
    let moved = |settings: &TrainingSettings| -> Vec<f64> {
        let trained = train(Engine::Cpu, 2, settings, &mut |_| Ok(())).unwrap();
        let change =
            |(a, b): (&Vec<f32>, &Vec<f32>)| a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
        trained.weights.values.iter().zip(&start.values).map(change).collect()
    };
    let plain =
        TrainingSettings { max_steps: Some(4), warmup: 0.0, weight_decay: 0.0, ..settings(HeadKind::Attention) };
    assert!(moved(&plain).iter().all(|change| *change > 0.0));
    let frozen = moved(&TrainingSettings { freeze: Some(1), ..plain.clone() });
    for (index, change) in frozen.iter().enumerate() {
        assert_eq!(*change > 0.0, index >= 17, "{} {change}", start.specs[index].name);
    }
    // Adam's steps have the size of the rate: the first layer and the embeddings move 100 and 10,000 times less.
    let slow = moved(&TrainingSettings { layer_decay: 0.01, ..plain.clone() });
    let largest = |range: std::ops::Range<usize>| slow[range].iter().copied().fold(0.0, f64::max);
    let (embeddings, first, last, head) = (largest(0..5), largest(5..17), largest(17..29), largest(29..slow.len()));
    for (lower, upper) in [(embeddings, first), (first, last), (last, head)] {
        assert!((0.003..0.03).contains(&(lower / upper)), "{embeddings} {first} {last} {head}");
    }
    let too_many = TrainingSettings { freeze: Some(3), ..plain };
    let message = train(Engine::Cpu, 2, &too_many, &mut |_| Ok(())).unwrap_err().to_string();
    assert!(message.starts_with("freeze") && message.contains("2 layers"), "{message}");
}

#[test]
fn a_stopped_run_goes_on_to_the_same_bits() {
    let directory = tempfile::tempdir().unwrap();
    for (engine, freeze) in [(Engine::Cpu, None), (Engine::Cpu, Some(1)), (Engine::Reference, None)] {
        let path = directory.path().join(format!("{engine:?}{freeze:?}.state"));
        let network = network(HeadKind::Lstm);
        let settings = TrainingSettings { max_steps: Some(40), freeze, ..settings(HeadKind::Lstm) };
        let weights = Weights::initial(network.specs(), settings.seed);
        let run = |settings: &TrainingSettings, path: Option<&std::path::Path>, stop: Option<usize>| {
            let features = features(256, 0);
            let on_step = &mut |record: &StepRecord| match stop {
                Some(step) if step == record.step => Err(Error::Interrupted),
                _ => Ok(()),
            };
            let state = path.map(|path| StatePlan { path, every: 4 });
            let job = Finetune { network: &network, weights: &weights, features: &features, settings, state, on_step };
            biorel::ops::engine::run(engine, Some(2), job)
        };
        let whole = run(&settings, None, None).unwrap();
        // Stopped in the first epoch (32 steps) and in the second.
        assert!(run(&settings, Some(&path), Some(5)).unwrap().interrupted);
        assert!(run(&settings, Some(&path), Some(33)).unwrap().interrupted);
        let resumed = run(&settings, Some(&path), None).unwrap();
        assert_eq!(resumed.weights, whole.weights, "{engine:?}");
        let losses = |trained: &Trained| trained.history.iter().map(|r| (r.step, r.loss)).collect::<Vec<_>>();
        assert_eq!(losses(&resumed), losses(&whole));
        // A finished run is not repeated.
        assert_eq!(run(&settings, Some(&path), Some(1)).unwrap().weights, whole.weights);

        let other = TrainingSettings { seed: 2, ..settings.clone() };
        let message = run(&other, Some(&path), None).unwrap_err().to_string();
        assert!(message.contains("other settings"), "{message}");
        let bytes = std::fs::read(&path).unwrap();
        for damaged in [&bytes[..bytes.len() / 2], &bytes[..9], b"".as_slice()] {
            std::fs::write(&path, damaged).unwrap();
            let message = run(&settings, Some(&path), None).unwrap_err().to_string();
            assert!(message.contains("not a training state"), "{message}");
        }
        std::fs::remove_file(&path).unwrap();
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "no partial files are left");
}

#[test]
fn a_request_to_stop_ends_the_run_after_the_step() {
    let stop_at = |record: &StepRecord| if record.step == 5 { Err(Error::Interrupted) } else { Ok(()) };
    let stopped = train(Engine::Cpu, 1, &settings(HeadKind::Cls), &mut { stop_at }).unwrap();
    assert!(stopped.interrupted);
    assert_eq!(stopped.history.len(), 5);
    assert!(stopped.weights.values.iter().flatten().all(|value| value.is_finite()));
}

#[test]
fn divergence_names_the_step() {
    let mut settings = settings(HeadKind::Cls);
    settings.learning_rate = 1.0;
    settings.max_grad_norm = 0.0;
    settings.warmup = 0.0;
    let network = network(HeadKind::Cls);
    let mut weights = Weights::initial(network.specs(), 1);
    let last = weights.values.len() - 2;
    weights.values[last].fill(f32::MAX);
    let features = features(64, 0);
    for engine in ENGINES {
        let on_step = &mut |_: &StepRecord| Ok(());
        let job = Finetune {
            network: &network,
            weights: &weights,
            features: &features,
            settings: &settings,
            state: None,
            on_step,
        };
        match engine::run(engine, Some(1), job) {
            Err(Error::Training { step: 1, message }) => assert!(message.contains("learning_rate"), "{message}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn nothing_to_train_on_is_an_error() {
    let network = network(HeadKind::Cls);
    let weights = Weights::initial(network.specs(), 1);
    let settings = settings(HeadKind::Cls);
    let on_step = &mut |_: &StepRecord| Ok(());
    let job =
        Finetune { network: &network, weights: &weights, features: &[], settings: &settings, state: None, on_step };
    assert!(engine::run(Engine::Cpu, None, job).unwrap_err().to_string().contains("no training instances"));
    let mut unlabelled = features(3, 0);
    unlabelled[1].label = None;
    let on_step = &mut |_: &StepRecord| Ok(());
    let job = Finetune {
        network: &network,
        weights: &weights,
        features: &unlabelled,
        settings: &settings,
        state: None,
        on_step,
    };
    assert!(engine::run(Engine::Cpu, None, job).unwrap_err().to_string().contains("label"));
    let job = Predict { network: &network, weights: &weights, features: &[], on_batch: &mut |_| Ok(()) };
    assert!(engine::run(Engine::Cpu, None, job).unwrap().is_empty());
}
