//! Training checkpoints: a run resumes from any file at its path or reports why not, and its result
//! is usable.
#![no_main]

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use biorel::config::{Backend, HeadKind, Precision, TrainingSettings};
use biorel::corpus::{Span, Task};
use biorel::encode::Features;
use biorel::model::{EncoderConfig, Network, Source, Weights};
use biorel::ops::compute::Compute;
use biorel::train::{CheckpointPlan, Dev, Trained, TrainingRun};
use harness::{folder, write};
use libfuzzer_sys::fuzz_target;
use safetensors::SafeTensors;
use serde_json::Value;

/// Steps of a complete run; it is stopped after one to get a checkpoint.
const STEPS: usize = 2;
/// Key of the file's metadata with the progress of the run.
const HEADER: &str = "biorel.training";

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| folder("training_checkpoints"));
static NETWORK: LazyLock<Network> = LazyLock::new(|| {
    let text = br#"{"vocab_size": 7, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 4, "max_position_embeddings": 8}"#;
    write(&FOLDER, "config.json", text);
    let encoder = EncoderConfig::open(&FOLDER).expect("our own configuration");
    Network { encoder, head: HeadKind::Attention, labels: 2, padding: None, marker_types: 0, source: Source::Engine }
});
static FEATURES: LazyLock<Vec<Features>> = LazyLock::new(|| {
    let one = |label: usize| {
        let (ids, span) = (vec![2, 5 + label as u32, 4, 3], Span::new(1, 2));
        let words = vec![None, Some(0), Some(1), None];
        Features {
            spans: vec![span; 4],
            words,
            entities: [span, span],
            further: vec![],
            marker_types: None,
            cut: 0,
            label: Some(label),
            ids,
        }
    };
    vec![one(0), one(1)]
});
/// The checkpoint after one step.
static VALID: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let trained = run(true).expect("our own run");
    assert!(trained.interrupted && trained.history.len() == 1);
    std::fs::read(FOLDER.join("checkpoint")).expect("our own checkpoint")
});

/// Resume from the checkpoint, if there is one, and stop after the next step or at the end.
fn run(stop: bool) -> biorel::Result<Trained> {
    let settings = TrainingSettings {
        batch_size: 2,
        max_steps: Some(STEPS),
        eval_steps: Some(1),
        max_length: 8,
        ..TrainingSettings::default()
    };
    let weights = Weights::initial(NETWORK.specs(), settings.seed);
    let task = Task::ppi();
    let path = FOLDER.join("checkpoint");
    let job = TrainingRun {
        network: &*NETWORK,
        weights: &weights,
        instances: (&*FEATURES).into(),
        settings: &settings,
        dev: Some(Dev { features: &FEATURES, task: &task, lost: vec![0, 0] }),
        checkpoint: Some(CheckpointPlan { path: &path, every: 1 }),
        on_event: &mut |_| if stop { Err(biorel::Error::Interrupted) } else { Ok(()) },
    };
    Compute::new(Backend::Reference, Precision::F32, Some(1)).expect("the reference").execute(job)
}

/// The valid checkpoint with another header, which gets the run's own fingerprint.
fn with_header(text: &[u8]) -> Option<Vec<u8>> {
    let (_, metadata) = SafeTensors::read_metadata(&VALID).ok()?;
    let own: Value = serde_json::from_str(metadata.metadata().as_ref()?.get(HEADER)?).ok()?;
    let mut header: Value = serde_json::from_slice(text).ok()?;
    *header.get_mut("fingerprint")? = own["fingerprint"].clone();
    let file = SafeTensors::deserialize(&VALID).ok()?;
    let metadata = HashMap::from([(HEADER.to_owned(), header.to_string())]);
    safetensors::serialize(file.tensors(), Some(metadata)).ok()
}

fuzz_target!(|data: &[u8]| {
    let valid = &*VALID;
    let Some((choice, rest)) = data.split_first() else { return };
    let checkpoint = match choice % 3 {
        0 => Some(rest.to_vec()),
        1 => with_header(rest),
        // Single bytes are changed, each given by its position and its value.
        _ => {
            let mut changed = valid.clone();
            for edit in rest.as_chunks::<3>().0 {
                let position = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % changed.len();
                changed[position] = edit[2];
            }
            Some(changed)
        }
    };
    let Some(checkpoint) = checkpoint else { return };
    write(&FOLDER, "checkpoint", &checkpoint);
    if let Ok(trained) = run(false) {
        assert!(trained.history.len() >= STEPS || !trained.interrupted);
        assert_eq!(trained.weights.values.len(), trained.weights.specs.len());
        for (spec, values) in trained.weights.specs.iter().zip(&trained.weights.values) {
            assert_eq!(spec.elements(), values.len());
        }
        // It leaves a valid checkpoint.
        run(false).expect("the checkpoint of a finished run");
    }
});
