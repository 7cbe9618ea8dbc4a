//! A pre-trained encoder, all-MiniLM-L6-v2, compared with transformers and candle-transformers.
//!
//! Needs `BIOREL_MINILM`, the model's directory (`make test` sets it); without it the tests report
//! that they are skipped.

use std::path::PathBuf;

use biorel::encode::Batch;
use biorel::model::encoder::{self, OutputSpec};
use biorel::model::{EncoderConfig, checkpoint};
use biorel::ops::{Cpu, Ops, Reference};
use candle_core::{DType, Device, Tensor};

fn minilm() -> Option<PathBuf> {
    match std::env::var_os("BIOREL_MINILM") {
        Some(path) => Some(PathBuf::from(path)),
        None => {
            eprintln!("skipped: BIOREL_MINILM is not set");
            None
        }
    }
}

fn golden() -> (std::collections::HashMap<String, Tensor>, Batch) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/minilm/states.safetensors");
    let file = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let words = |name: &str| file[name].to_dtype(DType::U32).unwrap().to_vec1::<u32>().unwrap();
    let cu_seqlens: Vec<usize> = words("batch.starts").into_iter().map(|start| start as usize).collect();
    let batch = Batch::of_ids(&words("batch.ids"), &cu_seqlens, vec![]);
    (file, batch)
}

/// The sentences `range` of a packed batch as a separate batch.
fn part(batch: &Batch, range: std::ops::Range<usize>) -> Batch {
    let (start, end) = (batch.cu_seqlens[range.start], batch.cu_seqlens[range.end]);
    let cu_seqlens: Vec<usize> = batch.cu_seqlens[range.start..=range.end].iter().map(|s| s - start).collect();
    Batch::of_ids(&batch.ids[start..end], &cu_seqlens, vec![])
}

fn max_difference(a: &Tensor, b: &Tensor) -> f32 {
    (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

/// Largest difference allowed; f32 rounding gives 5e-6.
const TOLERANCE: f32 = 1e-4;

/// In batches of some sizes.
fn states<O: Ops>(ops: &O, directory: &std::path::Path, sizes: &[usize]) {
    let config = EncoderConfig::open(directory).unwrap();
    let (weights, extras, report) = checkpoint::read(directory, &config, &[]).unwrap();
    assert_eq!(report.unused, ["embeddings.position_ids"]);
    assert_eq!(extras.len(), 2, "the pooler is kept");
    let params: Vec<_> =
        weights.specs.iter().zip(&weights.values).map(|(s, v)| ops.upload(v, &s.shape).unwrap()).collect();
    let (file, batch) = golden();
    let encode = |batch: &Batch| {
        let (encoded, _) = encoder::forward(ops, &config, &params, batch, None, OutputSpec::TOKENS).unwrap();
        ops.to_candle(&encoded.last).unwrap()
    };
    for size in sizes {
        let parts = (0..batch.len()).step_by(*size).map(|i| encode(&part(&batch, i..i + size)));
        let last = Tensor::cat(&parts.collect::<Vec<_>>(), 0).unwrap(); // (T, H)
        let rows: Vec<u32> = batch.cu_seqlens[..batch.len()].iter().map(|s| *s as u32).collect();
        let cls = last.index_select(&Tensor::new(rows, &Device::Cpu).unwrap(), 0).unwrap();
        let projections = last.matmul(&file["probes"].t().unwrap()).unwrap();
        let norms = last.sqr().unwrap().sum(1).unwrap().sqrt().unwrap();
        for (name, ours) in [("cls", cls), ("projections", projections), ("norms", norms)] {
            let difference = max_difference(&ours, &file[name]);
            assert!(difference < TOLERANCE, "{name} in batches of {size}: {difference}");
        }
    }
}

#[test]
fn hidden_states_equal_transformers() {
    if let Some(directory) = minilm() {
        // The test below has the reference with single sentences.
        states(&Reference::cpu(), &directory, &[10]);
        states(&Cpu::new(), &directory, &[10, 1]);
    }
}

/// candle-transformers' BERT is an independent forward pass: the full states agree, not only their
/// projections.
#[test]
fn hidden_states_equal_candle_transformers() {
    use candle_transformers::models::bert;
    let Some(directory) = minilm() else { return };
    let config = EncoderConfig::open(&directory).unwrap();
    let (weights, ..) = checkpoint::read(&directory, &config, &[]).unwrap();
    let ops = Reference::cpu();
    let params: Vec<_> =
        weights.specs.iter().zip(&weights.values).map(|(s, v)| ops.upload(v, &s.shape).unwrap()).collect();
    let text = std::fs::read_to_string(directory.join("config.json")).unwrap();
    let theirs: bert::Config = serde_json::from_str(&text).unwrap();
    let file = candle_core::safetensors::load(directory.join("model.safetensors"), &Device::Cpu).unwrap();
    let theirs =
        bert::BertModel::load(candle_nn::VarBuilder::from_tensors(file, DType::F32, &Device::Cpu), &theirs).unwrap();
    let (_, batch) = golden();
    for sentence in 0..batch.len() {
        let alone = part(&batch, sentence..sentence + 1);
        let ids = Tensor::new(alone.ids.as_slice(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        let expected = theirs.forward(&ids, &ids.zeros_like().unwrap(), None).unwrap().squeeze(0).unwrap();
        let (encoded, _) = encoder::forward(&ops, &config, &params, &alone, None, OutputSpec::TOKENS).unwrap();
        let difference = max_difference(&encoded.last, &expected);
        assert!(difference < TOLERANCE, "sentence {sentence}: {difference}");
    }
}
