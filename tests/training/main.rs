//! The training loop: learning, reproducibility to the bit, and divergence; interruption and
//! held-out data in their own files.

mod held_out;
mod interruption;
#[path = "../suite/toy_task.rs"]
mod toy_task;

use biorel::Error;
use biorel::config::{Backend, ClassWeights, Freeze, HeadKind, Precision, TrainingSettings};
use biorel::corpus::{Span, Task};
use biorel::encode::{Features, Instance};
use biorel::model::head::Weighs;
use biorel::model::source::Cache;
use biorel::model::{Network, Source, Weights};
use biorel::ops::compute::{Compute, Job};
use biorel::predict::{Predict, Prediction};
use biorel::train::{CheckpointPlan, Dev, Event, OnEvent, Trained, TrainingRun, fewer_negatives};
use toy_task::features;

fn network(head: HeadKind) -> Network {
    toy_task::network(head, 16, 32)
}

fn settings(head: HeadKind) -> TrainingSettings {
    TrainingSettings { head, learning_rate: 5e-3, batch_size: 8, max_steps: Some(20), ..Default::default() }
}

const ENGINES: [Backend; 2] = [Backend::Cpu, Backend::Reference];

/// A run without held-out data that saves no checkpoint.
fn finetune<'a>(
    network: &'a Network,
    weights: &'a Weights,
    features: &'a [Features],
    settings: &'a TrainingSettings,
    on_event: OnEvent<'a>,
) -> TrainingRun<'a> {
    TrainingRun { network, weights, instances: features.into(), settings, dev: None, checkpoint: None, on_event }
}

/// Interrupts at a step.
fn stop_at(step: Option<usize>) -> impl FnMut(Event) -> biorel::Result<()> + Send {
    move |event| match event {
        Event::Step(record) if Some(record.step) == step => Err(Error::Interrupted),
        _ => Ok(()),
    }
}

/// Run a job in f32.
fn execute<J: Job>(backend: Backend, threads: Option<usize>, job: J) -> biorel::Result<J::Output> {
    Compute::new(backend, Precision::F32, threads)?.execute(job)
}

fn train(
    engine: Backend,
    threads: usize,
    settings: &TrainingSettings,
    on_event: OnEvent<'_>,
) -> biorel::Result<Trained> {
    let network = network(settings.head);
    let weights = Weights::initial(network.specs(), settings.seed);
    let features = features(256, 0);
    let job = finetune(&network, &weights, &features, settings, on_event);
    execute(engine, Some(threads), job)
}

fn predict(engine: Backend, head: HeadKind, weights: &Weights, features: &[Features]) -> Vec<Prediction> {
    let job = Predict { network: &network(head), weights, features, on_batch: &mut |_| Ok(()) };
    execute(engine, Some(2), job).unwrap()
}

/// Concurrent trainings, each with its own threads, have the results of consecutive ones: what they
/// share (candle's threads, caches of plans and instruction sets) does not affect them.
#[test]
fn concurrent_trainings_give_the_bits_of_consecutive_ones() {
    let jobs = [
        (HeadKind::Attention, Precision::F32, 1),
        (HeadKind::Lstm, Precision::Bf16, 2),
        (HeadKind::AttentionAllCls, Precision::F32, 3),
        (HeadKind::LstmAllCls, Precision::Bf16, 1),
    ];
    let run = |(head, precision, threads): (HeadKind, Precision, usize)| {
        let (network, settings, features) = (network(head), settings(head), features(256, 0));
        let weights = Weights::initial(network.specs(), settings.seed);
        let mut on_event = |_| Ok(());
        let job = finetune(&network, &weights, &features, &settings, &mut on_event);
        Compute::new(Backend::Cpu, precision, Some(threads)).unwrap().execute(job).unwrap().weights
    };
    let alone = jobs.map(run);
    for _ in 0..3 {
        let together: Vec<Weights> = std::thread::scope(|scope| {
            let threads: Vec<_> = jobs.iter().map(|job| scope.spawn(|| run(*job))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for ((job, alone), together) in jobs.iter().zip(&alone).zip(&together) {
            assert!(alone == together, "{job:?}");
        }
    }
}

#[test]
fn every_head_learns_and_predicts() {
    for head in HeadKind::ALL {
        let settings =
            TrainingSettings { max_steps: Some(150), learning_rate: 3e-3, bias_correction: true, ..settings(head) };
        let trained = train(Backend::Cpu, 2, &settings, &mut |_| Ok(())).unwrap();
        assert_eq!(trained.history.len(), 150);
        assert!(!trained.interrupted);
        let unseen = features(200, 1);
        let predictions = predict(Backend::Cpu, head, &trained.weights, &unseen);
        let right = unseen.iter().zip(&predictions).filter(|(f, p)| f.label == Some(p.label())).count();
        assert!(right > 180, "{head}: {right} of 200");
        for (features, prediction) in unseen.iter().zip(&predictions) {
            assert!((prediction.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            assert_eq!(prediction.pieces.is_some(), head.weighs() == Weighs::Words, "{head}");
            assert_eq!(prediction.layers.is_some(), head.weighs() == Weighs::Layers, "{head}");
            if let Some(weights) = &prediction.pieces {
                assert_eq!(weights.len(), features.ids.len());
                assert_eq!((weights[0], weights[weights.len() - 1]), (0.0, 0.0), "[CLS] and [SEP] have no weight");
                assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            }
        }
    }
}

/// A model trained in bf16 is as good when it predicts in f32, and the reverse.
#[test]
fn bf16_learns_as_f32_does() {
    for head in [HeadKind::Attention, HeadKind::Lstm] {
        let settings =
            TrainingSettings { max_steps: Some(150), learning_rate: 3e-3, bias_correction: true, ..settings(head) };
        let (network, features, unseen) = (network(head), features(256, 0), features(200, 1));
        let weights = Weights::initial(network.specs(), settings.seed);
        let compute = |precision| Compute::new(Backend::Cpu, precision, Some(2)).unwrap();
        let trained = [Precision::F32, Precision::Bf16].map(|precision| {
            let mut on_event = |_| Ok(());
            compute(precision).execute(finetune(&network, &weights, &features, &settings, &mut on_event)).unwrap()
        });
        // The first steps differ by rounding only.
        for (a, b) in trained[0].history.iter().zip(&trained[1].history).take(3) {
            assert!((a.loss - b.loss).abs() < 2e-2 * a.loss, "{head}: {} {}", a.loss, b.loss);
        }
        assert_ne!(trained[0].weights, trained[1].weights);
        for trained in &trained {
            for precision in [Precision::F32, Precision::Bf16] {
                let job = Predict {
                    network: &network,
                    weights: &trained.weights,
                    features: &unseen,
                    on_batch: &mut |_| Ok(()),
                };
                let predictions = compute(precision).execute(job).unwrap();
                let right = unseen.iter().zip(&predictions).filter(|(f, p)| f.label == Some(p.label())).count();
                assert!(right > 180, "{head} {precision:?}: {right} of 200");
            }
        }
    }
}

/// `auto` is one of the two; the reference computes in f32 only.
#[test]
fn precision_is_chosen_by_the_machine() {
    let precision = |engine, precision| Compute::new(engine, precision, None).map(|compute| compute.precision());
    assert_eq!(precision(Backend::Cpu, Precision::F32).unwrap(), Precision::F32);
    assert_eq!(precision(Backend::Cpu, Precision::Bf16).unwrap(), Precision::Bf16);
    assert_eq!(precision(Backend::Reference, Precision::Auto).unwrap(), Precision::F32);
    assert_ne!(precision(Backend::Cpu, Precision::Auto).unwrap(), Precision::Auto);
    let message = precision(Backend::Reference, Precision::Bf16).unwrap_err().to_string();
    assert!(message.starts_with("precision"), "{message}");
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
fn the_same_seed_gives_the_same_bits_and_another_seed_does_not() {
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
/// Encoder, head, loss and optimizer together, in f32 and in bf16.
#[test]
fn the_number_of_threads_changes_no_bit() {
    for (head, precision) in
        HeadKind::ALL.into_iter().flat_map(|head| [(head, Precision::F32), (head, Precision::Bf16)])
    {
        let settings = TrainingSettings { max_steps: Some(6), ..settings(head) };
        let network = network(head);
        let weights = Weights::initial(network.specs(), settings.seed);
        let features = features(256, 0);
        let on = |threads: usize| {
            let compute = Compute::new(Backend::Cpu, precision, Some(threads)).unwrap();
            compute.execute(finetune(&network, &weights, &features, &settings, &mut |_| Ok(()))).unwrap().weights
        };
        let expected = on(1);
        for threads in 2..=7 {
            assert!(on(threads) == expected, "{head} {precision:?} on {threads} threads");
        }
    }
}

#[test]
fn engines_can_be_used_in_turn() {
    for head in HeadKind::ALL {
        let settings = TrainingSettings { max_steps: Some(10), learning_rate: 1e-3, ..settings(head) };
        let [fast, reference] = ENGINES.map(|engine| train(engine, 2, &settings, &mut |_| Ok(())).unwrap());
        for (a, b) in fast.history.iter().zip(&reference.history) {
            assert!((a.loss - b.loss).abs() < 1e-4, "{head} step {}: {} {}", a.step, a.loss, b.loss);
            assert!((a.gradient_norm / b.gradient_norm - 1.0).abs() < 1e-3, "{head} step {}: {a:?} {b:?}", a.step);
        }
    }
}

/// Dropout off, because the micro-batches of a step have different masks.
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
    let parts = TrainingSettings { batch_size: 4, gradient_accumulation_steps: 4, ..whole.clone() };
    let [whole, parts] = [whole, parts].map(|s| train(Backend::Cpu, 2, &s, &mut |_| Ok(())).unwrap());
    for (a, b) in whole.history.iter().zip(&parts.history) {
        assert_eq!((a.instances, a.tokens), (b.instances, b.tokens));
        assert!((a.loss - b.loss).abs() < 1e-4, "step {}: {} {}", a.step, a.loss, b.loss);
    }
}

#[test]
fn balanced_weights_are_inverse_frequencies() {
    let given = |settings: &TrainingSettings, class_weights| {
        let settings = TrainingSettings { class_weights, max_steps: Some(4), ..settings.clone() };
        train(Backend::Cpu, 2, &settings, &mut |_| Ok(()))
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
        let trained = train(Backend::Cpu, 2, settings, &mut |_| Ok(())).unwrap();
        let change =
            |(a, b): (&Vec<f32>, &Vec<f32>)| a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
        trained.weights.values.iter().zip(&start.values).map(change).collect()
    };
    let plain =
        TrainingSettings { max_steps: Some(4), warmup_ratio: 0.0, weight_decay: 0.0, ..settings(HeadKind::Attention) };
    assert!(moved(&plain).iter().all(|change| *change > 0.0));
    let frozen = moved(&TrainingSettings { freeze: Some(Freeze::Layers(1)), ..plain.clone() });
    for (index, change) in frozen.iter().enumerate() {
        assert_eq!(*change > 0.0, index >= 17, "{} {change}", start.specs[index].name);
    }
    // Adam's steps have the size of the rate: the first layer and the embeddings move 100 and 10,000 times less.
    let slow = moved(&TrainingSettings { layerwise_lr_decay: 0.01, ..plain.clone() });
    let largest = |range: std::ops::Range<usize>| slow[range].iter().copied().fold(0.0, f64::max);
    let (embeddings, first, last, head) = (largest(0..5), largest(5..17), largest(17..29), largest(29..slow.len()));
    for (lower, upper) in [(embeddings, first), (first, last), (last, head)] {
        assert!((0.003..0.03).contains(&(lower / upper)), "{embeddings} {first} {last} {head}");
    }
    let too_many = TrainingSettings { freeze: Some(Freeze::Layers(3)), ..plain };
    let message = train(Backend::Cpu, 2, &too_many, &mut |_| Ok(())).unwrap_err().to_string();
    assert!(message.starts_with("freeze") && message.contains("2 layers"), "{message}");
}

#[test]
fn divergence_names_the_step() {
    let mut settings = settings(HeadKind::Cls);
    settings.learning_rate = 1.0;
    settings.max_grad_norm = 0.0;
    settings.warmup_ratio = 0.0;
    let network = network(HeadKind::Cls);
    let mut weights = Weights::initial(network.specs(), 1);
    let last = weights.values.len() - 2;
    weights.values[last].fill(f32::MAX);
    let features = features(64, 0);
    for engine in ENGINES {
        let on_event = &mut |_| Ok(());
        let job = finetune(&network, &weights, &features, &settings, on_event);
        match execute(engine, Some(1), job) {
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
    let on_event = &mut |_| Ok(());
    let job = finetune(&network, &weights, &[], &settings, on_event);
    assert!(execute(Backend::Cpu, None, job).unwrap_err().to_string().contains("no training instances"));
    let mut unlabelled = features(3, 0);
    unlabelled[1].label = None;
    let job = finetune(&network, &weights, &unlabelled, &settings, on_event);
    assert!(execute(Backend::Cpu, None, job).unwrap_err().to_string().contains("label"));
    let job = Predict { network: &network, weights: &weights, features: &[], on_batch: &mut |_| Ok(()) };
    assert!(execute(Backend::Cpu, None, job).unwrap().is_empty());
}

#[test]
fn negatives_are_sampled_by_seed_and_positives_kept() {
    let instance =
        |index: usize| Instance { id: index.to_string(), label: Some(usize::from(index.is_multiple_of(7))), ..blank() };
    let all: Vec<Instance> = (0..700).map(instance).collect();
    let draw = |ratio, seed| fewer_negatives(&all, Some(0), ratio, seed).unwrap();
    let drawn = draw(2.5, 1);
    let count = |label| drawn.iter().filter(|instance| instance.label == Some(label)).count();
    assert_eq!((count(1), count(0)), (100, 250));
    let order: Vec<usize> = drawn.iter().map(|instance| instance.id.parse().unwrap()).collect();
    assert!(order.is_sorted() && order.windows(2).all(|pair| pair[0] != pair[1]));
    assert_eq!(draw(2.5, 1), drawn);
    assert_ne!(draw(2.5, 2), drawn);
    assert_eq!(draw(100.0, 1), all, "with fewer negatives than that, all are kept");
    assert!(fewer_negatives(&all, None, 1.0, 1).unwrap_err().to_string().starts_with("negative_ratio"));
}

fn blank() -> Instance {
    Instance {
        id: String::new(),
        document: String::new(),
        sentence: String::new(),
        text: String::new(),
        entities: [Span { start: 0, end: 0 }; 2],
        mentions: [String::new(), String::new()],
        copied: vec![],
        marker_types: None,
        label: None,
        row: None,
        concepts: None,
        further: vec![],
    }
}
