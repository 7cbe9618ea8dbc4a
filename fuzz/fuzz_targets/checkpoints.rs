//! Every format of weights: safetensors, PyTorch (zip and legacy), TensorFlow, Flax, in one file or
//! sharded.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use biorel::model::{EncoderConfig, checkpoint};
use harness::{folder, parts, write};
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| folder("checkpoints"));
/// The configuration of the tests' files.
static CONFIG: LazyLock<EncoderConfig> = LazyLock::new(|| {
    let text = br#"{"vocab_size": 7, "hidden_size": 4, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 6, "max_position_embeddings": 8}"#;
    write(&FOLDER, "config.json", text);
    EncoderConfig::open(&FOLDER).expect("our own configuration")
});

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    let files = parts(rest);
    let directory = FOLDER.join("model");
    let _ = fs::remove_dir_all(&directory);
    let names: &[&str] = match choice % 6 {
        0 => &["model.safetensors"],
        1 => &["pytorch_model.bin"],
        2 => &["model.ckpt.index", "model.ckpt.data-00000-of-00001"],
        3 => &["flax_model.msgpack"],
        4 => &["model.safetensors.index.json", "a.safetensors", "b.safetensors"],
        _ => &["pytorch_model.bin.index.json", "a.bin", "b.bin"],
    };
    for (name, bytes) in names.iter().zip(&files) {
        write(&directory, name, bytes);
    }
    if let Ok((weights, extras, _)) = checkpoint::read(&directory, &CONFIG, &[]) {
        for (spec, values) in weights.specs.iter().zip(&weights.values) {
            assert_eq!(spec.elements(), values.len());
        }
        for extra in &extras {
            assert_eq!(extra.shape.iter().product::<usize>(), extra.values.len());
        }
    }
});
