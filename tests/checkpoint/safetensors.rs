//! Weight files: names, element types, and everything that can be wrong with one.

use std::collections::HashMap;
use std::path::Path;

use biorel::model::{EncoderConfig, Weights, checkpoint, params::encoder_specs};
use candle_core::{DType, Device, Tensor};

fn config() -> EncoderConfig {
    serde_json::from_str(
        r#"{"vocab_size": 7, "hidden_size": 4, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 6, "max_position_embeddings": 8}"#,
    )
    .unwrap()
}

fn written(directory: &Path) -> Weights {
    let weights = Weights::initial(encoder_specs(&config()), 1);
    checkpoint::write(&directory.join("model.safetensors"), &weights, &[]).unwrap();
    weights
}

fn tensors(directory: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(directory.join("model.safetensors"), &Device::Cpu).unwrap()
}

fn refused(directory: &Path, tensors: &HashMap<String, Tensor>) -> String {
    candle_core::safetensors::save(tensors, directory.join("model.safetensors")).unwrap();
    checkpoint::read(directory, &config(), &[]).unwrap_err().to_string()
}

#[test]
fn written_models_are_read_to_the_bit_under_transformers_names() {
    let directory = tempfile::tempdir().unwrap();
    let weights = written(directory.path());
    let file = tensors(directory.path());
    assert_eq!(file["encoder.layer.1.attention.self.key.weight"].dims(), [4, 4]);
    assert_eq!(file["encoder.layer.0.intermediate.dense.weight"].dims(), [6, 4]);
    let (read, extras, report) = checkpoint::read(directory.path(), &config(), &[]).unwrap();
    assert_eq!(read, weights);
    assert!(extras.is_empty() && report.unused.is_empty());
}

#[test]
fn other_spellings_and_other_heads() {
    let directory = tempfile::tempdir().unwrap();
    let weights = written(directory.path());
    let mut renamed: HashMap<String, Tensor> = tensors(directory.path())
        .into_iter()
        .map(|(name, tensor)| {
            let name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
            (format!("bert.{name}"), tensor)
        })
        .collect();
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    renamed.insert("cls.predictions.bias".into(), zeros(&[7]));
    renamed.insert("bert.pooler.dense.weight".into(), zeros(&[4, 4]));
    renamed.insert("bert.embeddings.position_ids".into(), Tensor::zeros((1, 8), DType::I64, &Device::Cpu).unwrap());
    candle_core::safetensors::save(&renamed, directory.path().join("model.safetensors")).unwrap();
    let (read, extras, report) = checkpoint::read(directory.path(), &config(), &[]).unwrap();
    assert_eq!(read, weights);
    assert_eq!(extras.len(), 1);
    assert_eq!(report.unused, ["bert.embeddings.position_ids", "cls.predictions.bias"]);
    assert_eq!(report.missing, ["pooler.dense.bias"]);
}

#[test]
fn half_precision_is_widened() {
    let directory = tempfile::tempdir().unwrap();
    let weights = written(directory.path());
    for dtype in [DType::F16, DType::BF16, DType::F64] {
        written(directory.path());
        let half = tensors(directory.path()).into_iter().map(|(n, t)| (n, t.to_dtype(dtype).unwrap())).collect();
        candle_core::safetensors::save(&half, directory.path().join("model.safetensors")).unwrap();
        let (read, ..) = checkpoint::read(directory.path(), &config(), &[]).unwrap();
        for (a, b) in read.values.iter().flatten().zip(weights.values.iter().flatten()) {
            // bf16 keeps 8 bits.
            assert!((a - b).abs() <= b.abs() / 256.0 + 1e-7, "{dtype:?}: {a} {b}");
        }
    }
}

#[test]
fn errors_of_corrupt_files_name_the_tensor_or_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let message = checkpoint::read(directory, &config(), &[]).unwrap_err().to_string();
    assert!(message.contains("model.safetensors"), "{message}");

    written(directory);
    let good = tensors(directory);
    let name = "encoder.layer.1.output.dense.weight".to_string();
    let mut bad = good.clone();
    bad.remove(&name);
    let message = refused(directory, &bad);
    assert!(message.contains(&name) && message.contains("missing"), "{message}");

    let mut bad = good.clone();
    bad.insert(name.clone(), Tensor::zeros((6, 4), DType::F32, &Device::Cpu).unwrap());
    let message = refused(directory, &bad);
    assert!(message.contains(&name) && message.contains("[6, 4]") && message.contains("[4, 6]"), "{message}");

    for value in [f32::NAN, f32::INFINITY] {
        let mut bad = good.clone();
        bad.insert(name.clone(), Tensor::full(value, (4, 6), &Device::Cpu).unwrap());
        let message = refused(directory, &bad);
        assert!(message.contains(&name) && message.contains(&value.to_string()), "{message}");
    }

    let path = directory.join("model.safetensors");
    candle_core::safetensors::save(&good, &path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for bad in [&bytes[..bytes.len() - 5], &bytes[..6], b"PK\x03\x04 not safetensors"] {
        std::fs::write(&path, bad).unwrap();
        let message = checkpoint::read(directory, &config(), &[]).unwrap_err().to_string();
        assert!(message.contains("not a valid safetensors file"), "{message}");
    }
    // A header that declares more than any file has is refused before anything is allocated.
    let header = br#"{"x":{"dtype":"F32","shape":[4000000000000],"data_offsets":[0,16000000000000]}}"#;
    let mut huge = (header.len() as u64).to_le_bytes().to_vec();
    huge.extend(header);
    std::fs::write(&path, huge).unwrap();
    let started = std::time::Instant::now();
    assert!(checkpoint::read(directory, &config(), &[]).is_err());
    assert!(started.elapsed().as_secs() < 2);
}

#[test]
fn configurations_that_no_encoder_has() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    let refused = |text: &str, expected: &str| {
        std::fs::write(&path, text).unwrap();
        let message = EncoderConfig::open(directory.path()).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains("config.json"), "{message}");
    };
    let with = |key: &str, value: serde_json::Value| {
        let mut config = serde_json::to_value(config()).unwrap();
        config[key] = value;
        config.to_string()
    };
    refused("{", "not an encoder's configuration");
    refused("{}", "vocab_size");
    refused(&with("model_type", "deberta".into()), "`deberta` is not supported; bert, distilbert, electra, roberta");
    refused(&with("hidden_act", "relu".into()), "relu");
    refused(&with("position_embedding_type", "relative_key".into()), "relative_key");
    refused(&with("hidden_size", 5.into()), "multiple");
    refused(&with("hidden_size", 4_000_000_000u64.into()), "hidden_size");
    refused(&with("num_hidden_layers", 0.into()), "num_hidden_layers");
    refused(&with("hidden_dropout_prob", 1.0.into()), "hidden_dropout_prob");
    refused(&with("layer_norm_eps", (-1.0).into()), "layer_norm_eps");
    let mut roberta = serde_json::to_value(config()).unwrap();
    (roberta["model_type"], roberta["pad_token_id"]) = ("roberta".into(), roberta["max_position_embeddings"].clone());
    refused(&roberta.to_string(), "max_position_embeddings");
    std::fs::remove_file(&path).unwrap();
    let message = EncoderConfig::open(directory.path()).unwrap_err().to_string();
    assert!(message.contains("not a model directory"), "{message}");
}
