//! Every parameter of a small model with each head: the written-out backward against finite
//! differences, in f64. All elements of the small parameters; of the larger ones a random choice.

use biorel::config::{Freeze, HeadKind};
use biorel::corpus::Span;
use biorel::encode::{Batch, Features, Masking, Padding};
use biorel::model::encoder::{ForwardContext, Frozen};
use biorel::model::{EncoderConfig, Loss, MaskedLm, Network, ParamSpec, Source, Weights};
use biorel::ops::{Cpu, Ops, Reference};
use biorel::rng::{Purpose, Stream};
use biorel::train::Objective;
use candle_core::{DType, Device, Tensor};

fn config() -> EncoderConfig {
    serde_json::from_str(
        r#"{"vocab_size": 11, "hidden_size": 6, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 10, "max_position_embeddings": 9}"#,
    )
    .unwrap()
}

/// Three sentences of 5, 3 and 7 pieces; id 4 occurs in all of them, position 0 three times.
fn batch() -> Batch {
    Batch::of_ids(&[2, 4, 5, 4, 3, 2, 4, 3, 2, 6, 7, 8, 4, 10, 3], &[0, 5, 8, 15], vec![1, 0, 2])
}

/// Weights far from symmetric: no gradient is small by accident.
fn weights(specs: Vec<ParamSpec>) -> Weights {
    let mut weights = Weights::initial(specs, 5);
    for (index, values) in weights.values.iter_mut().enumerate() {
        let mut stream = Stream::new(6, Purpose::Init, index as u32);
        values.iter_mut().for_each(|value| *value += (0.3 * stream.normal()) as f32);
    }
    weights
}

/// The relative error of a central difference in f64 with this step is about 1e-10 plus rounding;
/// 1e-6 leaves room for the curvature of the GELU and the softmax.
const STEP: f64 = 1e-5;
const TOLERANCE: f64 = 1e-6;
/// Elements checked of each parameter.
const ELEMENTS: usize = 12;

fn check(head: HeadKind, pass: &ForwardContext, loss: &Loss<'_>) {
    let network =
        Network { encoder: config(), head, labels: 3, padding: None, marker_types: 0, source: Source::Engine };
    check_network(&network, &batch(), pass, loss);
}

fn check_network(network: &Network, batch: &Batch, pass: &ForwardContext, loss: &Loss<'_>) {
    check_objective(network, &weights(network.specs()), network.head.name(), batch, pass, loss);
}

fn check_objective<M: Objective>(
    model: &M,
    weights: &Weights,
    head: &str,
    batch: &Batch,
    pass: &ForwardContext,
    loss: &Loss<'_>,
) {
    let ops = Reference::new(Device::Cpu, DType::F64);
    let params = weights.upload(&ops).unwrap();
    let (_, gradients) = model.gradient(&ops, &params, batch, pass, loss).unwrap();
    assert_eq!(gradients.len(), weights.specs.len());
    for (index, spec) in weights.specs.iter().enumerate() {
        let Some(gradient) = &gradients[index] else { panic!("{head}: no gradient for {}", spec.name) };
        let gradient: Vec<f64> = gradient.flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(gradient.len(), spec.elements(), "{}", spec.name);
        assert!(gradient.iter().any(|g| g.abs() > 1e-9), "{head}: no gradient for {}", spec.name);
        let values: Vec<f64> = params[index].flatten_all().unwrap().to_vec1().unwrap();
        let mut elements: Vec<usize> = (0..values.len()).collect();
        Stream::new(7, Purpose::Sample, index as u32).shuffle(&mut elements);
        elements.truncate(ELEMENTS);
        // With the encoder frozen the loss is the same, and its backward is left out.
        let forward =
            ForwardContext { frozen: Frozen::new(Some(Freeze::Layers(model.encoder().num_hidden_layers))), ..*pass };
        for at in elements {
            let loss_at = |delta: f64| {
                let mut moved = values.clone();
                moved[at] += delta;
                let mut params = params.clone();
                params[index] = Tensor::from_vec(moved, spec.shape.as_slice(), &Device::Cpu).unwrap();
                model.gradient(&ops, &params, batch, &forward, loss).unwrap().0.to_vec1::<f64>().unwrap()[0]
            };
            let numeric = (loss_at(STEP) - loss_at(-STEP)) / (2.0 * STEP);
            let difference = (numeric - gradient[at]).abs();
            assert!(
                difference < TOLERANCE * (1.0 + numeric.abs()),
                "{head}: {}[{at}]: numeric {numeric}, backward {}",
                spec.name,
                gradient[at]
            );
        }
    }
}

#[test]
fn every_parameter_with_every_head() {
    for head in HeadKind::ALL {
        check(head, &ForwardContext::without_dropout(), &Loss::mean(3));
    }
}

/// Without dropout, when a head computes each instance alone, as in prediction.
#[test]
fn the_cpu_engine_has_the_gradients_of_the_reference() {
    fn gradients<O: Ops>(ops: &O, network: &Network) -> Vec<Vec<f32>> {
        let params = weights(network.specs()).upload(ops).unwrap();
        let pass = ForwardContext::without_dropout();
        let (_, gradients) = network.gradient(ops, &params, &batch(), &pass, &Loss::mean(3)).unwrap();
        gradients.iter().map(|gradient| ops.download(gradient.as_ref().unwrap()).unwrap()).collect()
    }
    for head in HeadKind::ALL {
        let network =
            Network { encoder: config(), head, labels: 3, padding: None, marker_types: 0, source: Source::Engine };
        let [ours, expected] = [gradients(&Cpu::new(), &network), gradients(&Reference::cpu(), &network)];
        for ((spec, ours), expected) in network.specs().iter().zip(&ours).zip(&expected) {
            for (x, y) in ours.iter().zip(expected) {
                assert!((x - y).abs() <= 1e-4 * (1.0 + y.abs()), "{head} {}: {x} is not {y}", spec.name);
            }
            let zero = |values: &[f32]| values.iter().all(|value| *value == 0.0);
            assert_eq!(zero(ours), zero(expected), "{head} {}", spec.name);
        }
    }
}

/// With the labels in groups, the loss is that of a network with the labels of the group alone.
#[test]
fn labels_in_groups() {
    let ops = Reference::cpu();
    let own = Network {
        encoder: config(),
        head: HeadKind::Attention,
        labels: 3,
        padding: None,
        marker_types: 0,
        source: Source::Engine,
    };
    let both = Network { labels: 5, ..own.clone() };
    let whole = weights(both.specs());
    let pass = ForwardContext::without_dropout();
    let count = both.specs().len();
    for (groups, first) in [([3, 2], 0), ([2, 3], 2)] {
        let mut labelled = batch();
        labelled.labels.iter_mut().for_each(|label| *label += first as u32);
        let params = whole.upload(&ops).unwrap();
        let (loss, gradients) =
            both.gradient_in_groups(&ops, &params, &labelled, &pass, &Loss::mean(3), &groups).unwrap();
        let mut part = Weights { specs: own.specs(), values: whole.values.clone() };
        for (values, spec) in part.values.iter_mut().zip(&part.specs).skip(count - 2) {
            let width = spec.elements() / 3;
            *values = values[first * width..(first + 3) * width].to_vec();
        }
        let params = part.upload(&ops).unwrap();
        let (expected_loss, expected) = own.gradient(&ops, &params, &batch(), &pass, &Loss::mean(3)).unwrap();
        assert_close("loss", &ops.download(&loss).unwrap(), &ops.download(&expected_loss).unwrap());
        for (index, (gradient, expected)) in gradients.iter().zip(&expected).enumerate() {
            let mut gradient = ops.download(gradient.as_ref().unwrap()).unwrap();
            if index >= count - 2 {
                let width = gradient.len() / 5;
                let outside = gradient.iter().enumerate().filter(|(at, _)| !(first..first + 3).contains(&(at / width)));
                assert!(outside.into_iter().all(|(_, value)| *value == 0.0));
                gradient = gradient[first * width..(first + 3) * width].to_vec();
            }
            let expected = ops.download(expected.as_ref().unwrap()).unwrap();
            assert_close(&own.specs()[index].name, &gradient, &expected);
        }
    }
}

fn assert_close(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (x, y) in found.iter().zip(expected) {
        assert!((x - y).abs() <= 1e-6 * (1.0 + y.abs()), "{what}: {x} is not {y}");
    }
}

/// Three pairs of one text and one of another, with levitated markers of two types.
#[test]
fn every_parameter_with_levitated_markers() {
    let features = |ids: &[u32], entities: [(usize, usize); 2], label| Features {
        ids: ids.to_vec(),
        spans: vec![],
        words: vec![],
        entities: entities.map(|(start, end)| Span { start, end }),
        further: vec![],
        marker_types: Some([1, 0]),
        cut: 0,
        label: Some(label),
    };
    let text = [2, 6, 7, 8, 4, 10, 3];
    let items = [
        features(&text, [(1, 3), (4, 5)], 1),
        features(&text, [(4, 5), (1, 3)], 0),
        features(&text, [(2, 5), (3, 4)], 2),
        features(&[2, 4, 5, 3], [(1, 2), (2, 3)], 0),
    ];
    let dropout = ForwardContext { hidden: 0.2, attention: 0.3, head: 0.1, ..ForwardContext::without_dropout() };
    for head in [HeadKind::Entity, HeadKind::EntityAttention] {
        let network =
            Network { encoder: config(), head, labels: 3, padding: None, marker_types: 2, source: Source::Engine };
        let batch = network.pack(&items);
        for pass in [ForwardContext::without_dropout(), dropout] {
            check_network(&network, &batch, &pass, &Loss::mean(4));
        }
    }
}

/// Pairs of concepts of one text with one, two and three pairs of mentions.
#[test]
fn every_parameter_with_several_mentions() {
    let text = [2, 6, 7, 8, 4, 10, 3];
    let spans = |pair: [(usize, usize); 2]| pair.map(|(start, end)| Span { start, end });
    let features = |mentions: &[[(usize, usize); 2]], label| Features {
        ids: text.to_vec(),
        spans: vec![],
        words: vec![],
        entities: spans(mentions[0]),
        further: mentions[1..].iter().map(|pair| spans(*pair)).collect(),
        marker_types: Some([1, 0]),
        cut: 0,
        label: Some(label),
    };
    let items = [
        features(&[[(1, 3), (4, 5)], [(5, 6), (4, 5)]], 1),
        features(&[[(4, 5), (1, 3)]], 0),
        features(&[[(2, 5), (3, 4)], [(1, 2), (3, 4)], [(2, 5), (5, 6)]], 2),
    ];
    for head in [HeadKind::Entity, HeadKind::EntityAttention] {
        let network =
            Network { encoder: config(), head, labels: 3, padding: None, marker_types: 2, source: Source::Engine };
        let batch = network.pack(&items);
        assert_eq!(batch.tokens(), text.len() + 6 * 4);
        check_network(&network, &batch, &ForwardContext::without_dropout(), &Loss::mean(3));
    }
}

/// The language model, whose decoder is the word embedding: its gradient has two parts.
#[test]
fn every_parameter_of_the_masked_language_model() {
    let masking = Masking { rate: 0.4, mask: 1, vocabulary: 11, seed: 1 };
    let model = MaskedLm { encoder: config(), masking };
    let text = |ids: &[u32], words: &[u32]| Features {
        ids: ids.to_vec(),
        spans: vec![],
        words: [None].into_iter().chain(words.iter().map(|word| Some(*word))).chain([None]).collect(),
        entities: [Span { start: 0, end: 0 }; 2],
        further: vec![],
        marker_types: None,
        cut: 0,
        label: None,
    };
    let batch = model.pack(&[text(&[2, 6, 7, 8, 4, 10, 3], &[0, 1, 1, 2, 3]), text(&[2, 4, 5, 9, 3], &[0, 1, 2])], 0);
    assert!(batch.len() >= 3, "{batch:?}");
    let weights = weights(model.specs());
    let dropout = ForwardContext { hidden: 0.2, attention: 0.3, ..ForwardContext::without_dropout() };
    for pass in [ForwardContext::without_dropout(), dropout] {
        check_objective(&model, &weights, "masked language model", &batch, &pass, &Loss::mean(batch.len()));
    }
    let reference = Reference::new(Device::Cpu, DType::F64);
    let of_reference = model.loss(&reference, &weights.upload(&reference).unwrap(), &batch).unwrap();
    let cpu = Cpu::new();
    let of_cpu = model.loss(&cpu, &weights.upload(&cpu).unwrap(), &batch).unwrap();
    assert!((of_reference - of_cpu).abs() < 1e-4 * of_reference, "{of_reference} and {of_cpu}");
}

/// The heads of the paper's code: `cls` with the pooler, and LSTMs with Keras's initial values.
#[test]
fn every_parameter_with_the_heads_of_the_papers_code() {
    let padding = Some(Padding { length: 9, id: 0 });
    for head in [HeadKind::Cls, HeadKind::Lstm, HeadKind::LstmAllCls] {
        let network = Network { encoder: config(), head, labels: 3, padding, marker_types: 0, source: Source::Engine };
        let pooler = network.head_specs().iter().filter(|spec| spec.name.contains("pooler")).count();
        assert_eq!(pooler, if head == HeadKind::Cls { 2 } else { 0 });
        check_network(&network, &batch(), &ForwardContext::without_dropout(), &Loss::mean(3));
    }
}

/// Logits with the pooler: `C tanh(W h + b) + c`, for the `h_CLS` that `cls` classifies without it.
#[test]
fn the_pooler_is_a_tanh_layer() {
    let plain = Network {
        encoder: config(),
        head: HeadKind::Cls,
        labels: 3,
        padding: None,
        marker_types: 0,
        source: Source::Engine,
    };
    let pooled = Network { padding: Some(Padding { length: 9, id: 0 }), ..plain.clone() };
    let ops = Reference::new(Device::Cpu, DType::F64);
    let weights = weights(pooled.specs());
    let params = weights.upload(&ops).unwrap();
    let encoder = params.len() - 4; // pooler and classifier
    // The plain head with an identity for its classifier gives h_CLS itself.
    let states = Network { labels: 6, ..plain };
    let identity = Tensor::eye(6, DType::F64, &Device::Cpu).unwrap();
    let zeros = Tensor::zeros(6, DType::F64, &Device::Cpu).unwrap();
    let own = [&params[..encoder], &[identity, zeros]].concat();
    let h = states.predict(&ops, &own, &batch()).unwrap().logits;
    let [w, b, c, d] = &params[encoder..] else { panic!("four parameters") };
    let linear = |x: &Tensor, w: &Tensor, b: &Tensor| x.matmul(&w.t().unwrap()).unwrap().broadcast_add(b).unwrap();
    let expected = linear(&linear(&h, w, b).tanh().unwrap(), c, d);
    let logits = pooled.predict(&ops, &params, &batch()).unwrap().logits;
    let difference = (expected - logits).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
    assert!(difference < 1e-12, "{difference}");
}

/// Masks are a function of the step, so a loss with dropout can be differentiated like any other.
#[test]
fn every_parameter_with_dropout() {
    let pass = ForwardContext {
        seed: 3,
        step: 2,
        hidden: 0.2,
        attention: 0.3,
        head: 0.25,
        ..ForwardContext::without_dropout()
    };
    for head in [HeadKind::Attention, HeadKind::LstmAllCls] {
        check(head, &pass, &Loss::mean(3));
    }
}

#[test]
fn weighted_and_focal_losses() {
    let loss = Loss { weights: Some(&[0.5, 2.0, 3.0]), focal_gamma: 2.0, total: 5.5 };
    check(HeadKind::AttentionNoCls, &ForwardContext::without_dropout(), &loss);
}

/// Frozen parameters have no gradient, and the others the same one as without.
#[test]
fn frozen_layers_do_not_change_the_other_gradients() {
    let network = Network {
        encoder: config(),
        head: HeadKind::Attention,
        labels: 3,
        padding: None,
        marker_types: 0,
        source: Source::Engine,
    };
    let ops = Reference::new(Device::Cpu, DType::F64);
    let params = weights(network.specs()).upload(&ops).unwrap();
    let gradients = |frozen| {
        let pass = ForwardContext { frozen, ..ForwardContext::without_dropout() };
        network.gradient(&ops, &params, &batch(), &pass, &Loss::mean(3)).unwrap().1
    };
    let all = gradients(Frozen::new(None));
    assert!(all.iter().all(Option::is_some));
    for (layers, first) in [(0, 5), (1, 17), (2, 29)] {
        let some = gradients(Frozen::new(Some(Freeze::Layers(layers))));
        for (index, (some, all)) in some.iter().zip(&all).enumerate() {
            assert_eq!(some.is_some(), index >= first, "parameter {index} with {layers} layers frozen");
            if let (Some(some), Some(all)) = (some, all) {
                let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f64>().unwrap();
                assert_eq!(values(some), values(all));
            }
        }
    }
}

/// Recomputed activations are the same, dropout and frozen layers included.
#[test]
fn recomputed_layers_give_the_same_bits() {
    let network = Network {
        encoder: config(),
        head: HeadKind::LstmAllCls,
        labels: 3,
        padding: None,
        marker_types: 0,
        source: Source::Engine,
    };
    let ops = Cpu::new();
    let params = weights(network.specs()).upload(&ops).unwrap();
    for frozen in [Frozen::new(None), Frozen::new(Some(Freeze::Layers(1)))] {
        let gradients = |recompute| {
            let pass = ForwardContext {
                seed: 3,
                step: 2,
                hidden: 0.2,
                attention: 0.3,
                head: 0.25,
                ..ForwardContext::without_dropout()
            };
            let pass = ForwardContext { frozen, recompute, ..pass };
            let (loss, gradients) = network.gradient(&ops, &params, &batch(), &pass, &Loss::mean(3)).unwrap();
            let values = gradients.iter().map(|gradient| gradient.as_ref().map(|g| ops.download(g).unwrap()));
            (ops.download(&loss).unwrap(), values.collect::<Vec<_>>())
        };
        assert_eq!(gradients(false), gradients(true));
    }
}
