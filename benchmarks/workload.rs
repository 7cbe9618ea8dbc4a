//! What the Rust benchmarks compute on: encoders with random weights, a batch with the spread of AIMed's sentences.

use biorel::encode::Batch;
use biorel::model::EncoderConfig;
use biorel::rng::{Purpose, Stream};

/// The sizes of MiniLM or of BERT-base.
pub fn config(name: &str) -> EncoderConfig {
    let (hidden, layers, feed_forward) = match name {
        "minilm" => (384, 6, 1536),
        "base" => (768, 12, 3072),
        name => panic!("`{name}` is not an encoder of this benchmark; choose minilm or base"),
    };
    let json = format!(
        r#"{{"vocab_size": 30522, "hidden_size": {hidden}, "num_hidden_layers": {layers}, "num_attention_heads": 12,
            "intermediate_size": {feed_forward}, "max_position_embeddings": 512}}"#
    );
    serde_json::from_str(&json).unwrap()
}

/// 32 sentences with the spread of AIMed's: 12 to 128 word pieces, 56 on average; every fourth is positive.
pub fn batch(vocabulary: usize) -> Batch {
    let mut stream = Stream::new(5, Purpose::Sample, 0);
    let mut batch = Batch { ids: vec![], positions: vec![], starts: vec![0], labels: vec![], keys: None };
    for sentence in 0..32 {
        let length = (52.0 * (0.45 * stream.normal()).exp()).clamp(12.0, 128.0) as usize;
        batch.ids.extend((0..length).map(|_| stream.below(vocabulary) as u32));
        batch.positions.extend(0..length as u32);
        batch.starts.push(batch.ids.len());
        batch.labels.push(u32::from(sentence % 4 == 0));
    }
    batch
}
