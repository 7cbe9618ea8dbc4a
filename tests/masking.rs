//! Masking words: which words each ranking masks, and that the prediction is that of the masked
//! instance.

use biorel::attention::{Explain, MaskWords, Masked, Masking, Ranking};
use biorel::config::{Backend, HeadKind, Precision};
use biorel::corpus::Span;
use biorel::encode::{Features, Instance};
use biorel::model::{EncoderConfig, Network, Source, Weights};
use biorel::ops::compute::Compute;
use biorel::predict::{Predict, Prediction};
use biorel::rng::{Purpose, Stream};

const MASK: u32 = 1;

/// `@A$ rises , falls and stays with @B$ .`: nine words, of which `falls` has two pieces.
const TEXT: &str = "@A$ rises , falls and stays with @B$ .";

fn instance() -> (Instance, Features) {
    let spans: Vec<Span> =
        [(0, 3), (4, 9), (10, 11), (12, 15), (15, 17), (18, 21), (22, 27), (28, 32), (33, 36), (37, 38)]
            .map(|(start, end)| Span { start, end })
            .to_vec();
    let words = [0, 1, 2, 3, 3, 4, 5, 6, 7, 8];
    let nowhere = Span { start: 0, end: 0 };
    let features = Features {
        ids: [2].into_iter().chain(4..14).chain([3]).collect(),
        spans: [nowhere].into_iter().chain(spans).chain([nowhere]).collect(),
        words: [None].into_iter().chain(words.map(Some)).chain([None]).collect(),
        entities: [Span { start: 1, end: 2 }, Span { start: 9, end: 10 }],
        further: vec![],
        marker_types: None,
        cut: 0,
        label: Some(1),
    };
    let instance = Instance {
        id: "i".into(),
        document: "d".into(),
        sentence: "s".into(),
        text: TEXT.into(),
        entities: [Span { start: 0, end: 3 }, Span { start: 33, end: 36 }],
        mentions: ["a".into(), "b".into()],
        copied: vec![],
        marker_types: None,
        label: Some(1),
        row: None,
        concepts: None,
        further: vec![],
    };
    (instance, features)
}

fn network(head: HeadKind) -> (Network, Weights) {
    let encoder: EncoderConfig = serde_json::from_str(
        r#"{"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 12, "max_position_embeddings": 16}"#,
    )
    .unwrap();
    let network = Network { encoder, head, labels: 3, padding: None, marker_types: 0, source: Source::Engine };
    let mut weights = Weights::initial(network.specs(), 3);
    for (index, values) in weights.values.iter_mut().enumerate() {
        let mut stream = Stream::new(4, Purpose::Init, index as u32);
        values.iter_mut().for_each(|value| *value += (0.5 * stream.normal()) as f32);
    }
    (network, weights)
}

fn predict(network: &Network, weights: &Weights, features: &[Features]) -> Vec<Prediction> {
    Compute::new(Backend::Cpu, Precision::F32, Some(1))
        .unwrap()
        .execute(Predict { network, weights, features, on_batch: &mut |_| Ok(()) })
        .unwrap()
}

fn mask(network: &Network, weights: &Weights, words: &[usize], skip: Option<usize>) -> biorel::Result<Vec<Masked>> {
    let (instance, features) = instance();
    let instances = vec![(&instance, &features), (&instance, &features)];
    let on_batch: &mut (dyn FnMut(f64) -> biorel::Result<()> + Send) = &mut |_| Ok(());
    let masking = Masking { words, n_random: 40, seed: 5, related: skip.is_some(), limit: None };
    let job = MaskWords { network, weights, instances, mask: MASK, masking, negative: skip, on_batch };
    Compute::new(Backend::Cpu, Precision::F32, Some(1)).unwrap().execute(job)
}

/// The words that may be masked: neither entities nor punctuation.
const MASKABLE: [u32; 5] = [1, 3, 4, 5, 6];

#[test]
fn the_words_that_a_ranking_puts_first_are_masked() {
    let (network, weights) = network(HeadKind::Attention);
    let (_, features) = instance();
    let explain = Explain {
        network: &network,
        weights: &weights,
        features: std::slice::from_ref(&features),
        on_batch: &mut |_| Ok(()),
    };
    let explained = Compute::new(Backend::Cpu, Precision::F32, Some(1)).unwrap().execute(explain).unwrap().remove(0);
    let unmasked = &predict(&network, &weights, std::slice::from_ref(&features))[0];
    let label = unmasked.label();
    let results = mask(&network, &weights, &[1, 2, 9], None).unwrap();
    assert_eq!(results.len(), 2 * 4 * 3);
    assert_eq!(results[..12].iter().map(|r| r.instance).max(), Some(0));
    for result in &results {
        assert_eq!(result.label, label);
        assert!((result.before - f64::from(unmasked.probabilities[label])).abs() < 1e-6);
        assert_eq!(result.masked, result.words.min(MASKABLE.len()));
        let values = match result.ranking {
            Ranking::Attention => explained.prediction.pieces.as_ref().unwrap(),
            Ranking::Encoder => &explained.encoder,
            Ranking::Gradient => &explained.gradient,
            Ranking::Random => continue,
        };
        let mut order = MASKABLE;
        let sum = |word: u32| -> f32 {
            let pieces = features.words.iter().zip(values);
            pieces.filter(|(of, _)| **of == Some(word)).map(|(_, value)| value).sum()
        };
        order.sort_by(|a, b| sum(*b).total_cmp(&sum(*a)));
        let mut copy = features.clone();
        for (id, word) in copy.ids.iter_mut().zip(&features.words) {
            if word.is_some_and(|word| order[..result.masked].contains(&word)) {
                *id = MASK;
            }
        }
        let after = &predict(&network, &weights, &[copy])[0];
        assert!((result.after - f64::from(after.probabilities[label])).abs() < 1e-6, "{:?}", result.ranking);
        assert_eq!(result.changed, f64::from(u8::from(after.label() != label)), "{:?}", result.ranking);
    }
    // Random words with the same number of pieces: `falls` has two, and may be masked in part.
    for result in &results {
        assert_eq!(result.matched.is_some(), result.ranking != Ranking::Random);
        if result.ranking == Ranking::Random {
            let mean = [6.0 / 5.0, 12.0 / 5.0, 6.0][[1, 2, 9].iter().position(|k| *k == result.words).unwrap()];
            assert!((result.pieces - mean).abs() < 0.5, "{} words: {} pieces", result.words, result.pieces);
        } else {
            assert!(result.pieces == result.masked as f64 || result.pieces == result.masked as f64 + 1.0);
        }
    }
    // Where every word is masked, the order does not matter, and all random choices are equal.
    let all: Vec<f64> = results.iter().filter(|result| result.words == 9).map(|result| result.after).collect();
    assert!(all.iter().all(|after| (after - all[0]).abs() < 1e-6), "{all:?}");
    let matched = results.iter().filter(|result| result.words == 9).filter_map(|result| result.matched);
    assert!(matched.into_iter().all(|matched| (matched.after - all[0]).abs() < 1e-6));
}

/// One random piece: the mean over many choices is close to the mean over the first pieces of all
/// words.
#[test]
fn matched_pieces_are_chosen_uniformly() {
    let (network, weights) = network(HeadKind::Attention);
    let (_, features) = instance();
    let copies: Vec<Features> = MASKABLE
        .into_iter()
        .map(|word| {
            let mut copy = features.clone();
            let first = features.words.iter().position(|of| *of == Some(word)).unwrap();
            copy.ids[first] = MASK;
            copy
        })
        .collect();
    let label = predict(&network, &weights, std::slice::from_ref(&features))[0].label();
    let each: Vec<f64> =
        predict(&network, &weights, &copies).iter().map(|copy| f64::from(copy.probabilities[label])).collect();
    let mean = each.iter().sum::<f64>() / 5.0;
    let variance = each.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 5.0;
    let results = mask(&network, &weights, &[1], None).unwrap();
    let single: Vec<_> = results.iter().filter(|one| one.ranking != Ranking::Random && one.pieces == 1.0).collect();
    assert!(!single.is_empty());
    for result in single {
        let after = result.matched.unwrap().after;
        assert!((after - mean).abs() < 4.0 * (variance / 40.0).sqrt() + 1e-6, "{after} against {mean}");
    }
}

/// One random word: the mean over many choices is close to the mean over the five words.
#[test]
fn random_words_are_chosen_uniformly() {
    let (network, weights) = network(HeadKind::Cls);
    let (_, features) = instance();
    let masked = |word: u32| {
        let mut copy = features.clone();
        for (id, of) in copy.ids.iter_mut().zip(&features.words) {
            if *of == Some(word) {
                *id = MASK;
            }
        }
        copy
    };
    let copies: Vec<Features> = MASKABLE.into_iter().map(masked).collect();
    let label = predict(&network, &weights, std::slice::from_ref(&features))[0].label();
    let each: Vec<f64> =
        predict(&network, &weights, &copies).iter().map(|copy| f64::from(copy.probabilities[label])).collect();
    let mean = each.iter().sum::<f64>() / 5.0;
    let variance = each.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 5.0;
    let results = mask(&network, &weights, &[1], None).unwrap();
    // A head without attention has no such ranking.
    assert_eq!(results.iter().map(|result| result.ranking).collect::<Vec<_>>()[..3], Ranking::ALL[1..]);
    let random: Vec<f64> =
        results.iter().filter(|result| result.ranking == Ranking::Random).map(|result| result.after).collect();
    assert_eq!(random.len(), 2);
    assert_ne!(random[0], random[1], "each instance has random words of its own");
    for after in random {
        assert!((after - mean).abs() < 4.0 * (variance / 40.0).sqrt(), "{after} against {mean}");
    }
}

#[test]
fn skipped_labels_and_refused_settings() {
    let (network, weights) = network(HeadKind::Attention);
    let label = mask(&network, &weights, &[1], None).unwrap()[0].label;
    assert!(mask(&network, &weights, &[1], Some(label)).unwrap().is_empty());
    assert_eq!(mask(&network, &weights, &[1], Some((label + 1) % 3)).unwrap().len(), 8);
    assert!(mask(&network, &weights, &[0], None).unwrap_err().to_string().contains("words"));
    assert!(mask(&network, &weights, &[], None).unwrap_err().to_string().contains("words"));
}
