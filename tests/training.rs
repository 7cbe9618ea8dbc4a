//! The training loop: it learns, it repeats itself to the bit, it stops when asked, and it notices divergence.

use biorel::Error;
use biorel::config::{Engine, HeadKind, TrainingSettings};
use biorel::corpus::Span;
use biorel::encode::Features;
use biorel::eval::predict::{Predict, Prediction};
use biorel::model::{EncoderConfig, Network, Weights};
use biorel::ops::engine;
use biorel::rng::{Purpose, Stream};
use biorel::train::{Finetune, StepRecord, Trained};

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
    let job = Finetune { network: &network, weights: &weights, features: &features, settings, on_step };
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
        let job = Finetune { network: &network, weights: &weights, features: &features, settings: &settings, on_step };
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
    let job = Finetune { network: &network, weights: &weights, features: &[], settings: &settings, on_step };
    assert!(engine::run(Engine::Cpu, None, job).unwrap_err().to_string().contains("no training instances"));
    let mut unlabelled = features(3, 0);
    unlabelled[1].label = None;
    let on_step = &mut |_: &StepRecord| Ok(());
    let job = Finetune { network: &network, weights: &weights, features: &unlabelled, settings: &settings, on_step };
    assert!(engine::run(Engine::Cpu, None, job).unwrap_err().to_string().contains("label"));
    let job = Predict { network: &network, weights: &weights, features: &[], on_batch: &mut |_| Ok(()) };
    assert!(engine::run(Engine::Cpu, None, job).unwrap().is_empty());
}
