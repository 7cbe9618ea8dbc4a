//! Inputs of the Rust benchmarks: encoders with random weights, and batches.

use biorel::encode::Batch;
use biorel::model::EncoderConfig;
use biorel::ops::Cpu;
use biorel::ops::cpu::SimdLevel;
use biorel::ops::cpu::bf16::Bf16Isa;
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

/// The engine called `f32` or `bf16`, or the one in f32 with a fixed instruction set.
pub fn engine(name: &str) -> Cpu {
    match name {
        "f32" => Cpu::new(),
        "bf16" => Cpu::with_bf16(Bf16Isa::detect()).unwrap(),
        name => {
            let level = SimdLevel::ALL.into_iter().find(|level| level.name() == name);
            Cpu::with_level(level.expect("f32, bf16, portable, avx2 or avx512")).unwrap()
        }
    }
}

/// Sentences of the given lengths; every fourth is positive.
pub fn sentences(vocabulary: usize, lengths: impl IntoIterator<Item = usize>) -> Batch {
    let mut stream = Stream::new(5, Purpose::Sample, 1);
    let (mut ids, mut cu_seqlens, mut labels) = (vec![], vec![0], vec![]);
    for (sentence, length) in lengths.into_iter().enumerate() {
        ids.extend((0..length).map(|_| stream.below(vocabulary) as u32));
        cu_seqlens.push(ids.len());
        labels.push(u32::from(sentence % 4 == 0));
    }
    Batch::of_ids(&ids, &cu_seqlens, labels)
}

/// 32 sentences with lengths distributed like AIMed's: 12 to 128 word pieces, 56 on average.
pub fn batch(vocabulary: usize) -> Batch {
    let mut stream = Stream::new(5, Purpose::Sample, 0);
    sentences(vocabulary, (0..32).map(|_| (52.0 * (0.45 * stream.normal()).exp()).clamp(12.0, 128.0) as usize))
}
