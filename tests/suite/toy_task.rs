//! A task that a small network learns within a few steps, for the tests of training.

use biorel::config::HeadKind;
use biorel::corpus::Span;
use biorel::encode::Features;
use biorel::model::{EncoderConfig, Network, Source};
use biorel::rng::{Purpose, Stream};

/// Two layers with two heads.
pub fn network(head: HeadKind, hidden: usize, inner: usize) -> Network {
    let json = format!(
        r#"{{"vocab_size": 30, "hidden_size": {hidden}, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": {inner}, "max_position_embeddings": 16}}"#
    );
    let encoder: EncoderConfig = serde_json::from_str(&json).unwrap();
    Network { encoder, head, labels: 2, padding: None, marker_types: 0, source: Source::Engine }
}

/// Sentences of 5 to 12 pieces; the label is whether id 7 is among them. `index`: which sample.
pub fn features(count: usize, index: u32) -> Vec<Features> {
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
        Features {
            spans: vec![span; ids.len()],
            words,
            entities: [span, span],
            further: vec![],
            marker_types: None,
            cut: 0,
            label: Some(label),
            ids,
        }
    };
    (0..count).map(sentence).collect()
}
