//! Ten steps of training with every head: the CUDA engine follows the CPU's, dropout included, and repeats itself.

use std::sync::Arc;

use biorel::config::{Engine, HeadKind, TrainingSettings};
use biorel::corpus::Span;
use biorel::encode::Features;
use biorel::model::{EncoderConfig, Network, Weights};
use biorel::ops::cuda::device::Element;
use biorel::ops::engine::{self, Job};
use biorel::rng::{Purpose, Stream};
use biorel::train::{Finetune, Trained};

use crate::engine as cuda;
use crate::host::{Schedule, Shim};

/// Two layers with two heads of 32, which run on the kernels for tensor cores where products are in bf16.
fn network(head: HeadKind) -> Network {
    let encoder: EncoderConfig = serde_json::from_str(
        r#"{"vocab_size": 30, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 96, "max_position_embeddings": 16}"#,
    )
    .unwrap();
    Network { encoder, head, labels: 2, padding: None }
}

/// Sentences of 5 to 12 pieces; the label is whether id 7 is among them.
fn features() -> Vec<Features> {
    let mut stream = Stream::new(1, Purpose::Sample, 0);
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
    (0..96).map(sentence).collect()
}

/// Train on the CUDA engine, or on the CPU's.
fn train(shim: Option<(&Arc<Shim>, Element, Schedule)>, head: HeadKind) -> Trained {
    let settings =
        TrainingSettings { head, learning_rate: 1e-3, batch_size: 8, max_steps: Some(10), ..Default::default() };
    let network = network(head);
    let weights = Weights::initial(network.specs(), settings.seed);
    let features = features();
    let on_news = &mut |_| Ok(());
    let job = Finetune {
        network: &network,
        weights: &weights,
        features: &features,
        settings: &settings,
        dev: None,
        state: None,
        on_news,
    };
    match shim {
        Some((shim, products, schedule)) => job.run(&cuda(shim.clone(), products, schedule)).unwrap(),
        None => engine::run(Engine::Cpu, Some(2), job).unwrap(),
    }
}

#[test]
fn training_follows_the_cpu() {
    let Some(shim) = Shim::get() else { return };
    for head in HeadKind::ALL {
        let expected = train(None, head);
        for (products, loss, norm) in [(Element::F32, 1e-4, 1e-3), (Element::Bf16, 2e-2, 5e-2)] {
            // The heads compute in f32 but for the LSTM.
            if products == Element::Bf16 && !matches!(head, HeadKind::Cls | HeadKind::Lstm | HeadKind::LstmAllCls) {
                continue;
            }
            let ours = train(Some((&shim, products, Schedule::Forward)), head);
            assert_eq!(ours.history.len(), 10);
            for (a, b) in ours.history.iter().zip(&expected.history) {
                assert!((a.loss - b.loss).abs() < loss, "{head} step {}: {} {}", a.step, a.loss, b.loss);
                let ratio = a.gradient_norm / b.gradient_norm;
                assert!((ratio - 1.0).abs() < norm, "{head} step {}: {ratio}", a.step);
            }
        }
    }
}

#[test]
fn training_repeats_itself_to_the_bit() {
    let Some(shim) = Shim::get() else { return };
    for products in [Element::F32, Element::Bf16] {
        let one = train(Some((&shim, products, Schedule::Forward)), HeadKind::Lstm);
        let two = train(Some((&shim, products, Schedule::Random)), HeadKind::Lstm);
        assert_eq!(one.weights, two.weights, "{products:?}");
    }
}
