//! The JSON files of a model directory: `config.json` of an encoder, `biorel.json` of a saved
//! model.
#![no_main]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use biorel::config::TrainingSettings;
use biorel::corpus::Task;
use biorel::encode::Marking;
use biorel::model::{EncoderConfig, Pretrained, RelationModel};
use harness::{folder, write};
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| folder("configs"));
/// A directory with a saved model, whose two JSON files the inputs replace.
static MODEL: LazyLock<PathBuf> = LazyLock::new(|| {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data");
    let encoder = FOLDER.join("encoder");
    for (folder, name) in [("checkpoint/reference", "config.json"), ("checkpoint/reference", "model.safetensors")] {
        write(&encoder, name, &std::fs::read(source.join(folder).join(name)).expect("the tests' data"));
    }
    write(&encoder, "vocab.txt", b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##b\n");
    write(&encoder, "tokenizer_config.json", br#"{"do_lower_case": true}"#);
    let pretrained = Pretrained::open(&encoder, None).expect("our own encoder");
    let settings = TrainingSettings { max_length: 8, ..TrainingSettings::default() };
    let task = Task::ppi();
    let (network, weights) = pretrained.with_head(&settings, &task, Marking::Typed).expect("our own head");
    let about = ("tiny".to_owned(), None, 0);
    let model = RelationModel::new(&pretrained, network, weights, settings, (task, Marking::Typed), about);
    let saved = FOLDER.join("saved");
    model.save(&saved).expect("our own model");
    saved
});
static FILES: LazyLock<[Vec<u8>; 2]> =
    LazyLock::new(|| ["config.json", "biorel.json"].map(|name| std::fs::read(MODEL.join(name)).expect("our own file")));

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    let [config, card] = &*FILES;
    match choice % 3 {
        0 => {
            let directory = FOLDER.join("config");
            write(&directory, "config.json", rest);
            if let Ok(config) = EncoderConfig::open(&directory) {
                assert!(config.longest() > 0);
            }
        }
        1 => {
            write(&MODEL, "config.json", rest);
            write(&MODEL, "biorel.json", card);
            let _ = RelationModel::load(&MODEL);
        }
        _ => {
            write(&MODEL, "config.json", config);
            write(&MODEL, "biorel.json", rest);
            let _ = RelationModel::load(&MODEL);
        }
    }
});
