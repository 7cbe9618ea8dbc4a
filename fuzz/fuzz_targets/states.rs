//! Training states: a run resumes from any file at its path or reports why not, and its result is
//! usable.
#![no_main]

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use biorel::config::{Backend, HeadKind, Precision, TrainingSettings};
use biorel::corpus::{Span, Task};
use biorel::encode::Features;
use biorel::model::{EncoderConfig, Network, Weights};
use biorel::ops::compute::Compute;
use biorel::train::{Dev, TrainingRun, CheckpointPlan, Trained};
use harness::{folder, write};
use libfuzzer_sys::fuzz_target;
use safetensors::SafeTensors;
use serde_json::Value;

/// Steps of a whole run; it is stopped after one to get a state.
const STEPS: usize = 2;
/// Key of the file's metadata that says how far the run had come.
const HEADER: &str = "biorel.training";

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| folder("states"));
static NETWORK: LazyLock<Network> = LazyLock::new(|| {
    let text = br#"{"vocab_size": 7, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 4, "max_position_embeddings": 8}"#;
    write(&FOLDER, "config.json", text);
    let encoder = EncoderConfig::open(&FOLDER).expect("our own configuration");
    Network { encoder, head: HeadKind::Attention, labels: 2, padding: None }
});
static FEATURES: LazyLock<Vec<Features>> = LazyLock::new(|| {
    let one = |label: usize| {
        let (ids, span) = (vec![2, 5 + label as u32, 4, 3], Span::new(1, 2));
        let words = vec![None, Some(0), Some(1), None];
        Features { spans: vec![span; 4], words, entities: [span, span], cut: 0, label: Some(label), ids }
    };
    vec![one(0), one(1)]
});
/// The state after one step.
static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let trained = run(true).expect("our own run");
    assert!(trained.interrupted && trained.history.len() == 1);
    std::fs::read(FOLDER.join("state")).expect("our own state")
});

/// Go on from the state, if there is one, and stop after the next step or at the end.
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
    let path = FOLDER.join("state");
    let job = TrainingRun {
        network: &NETWORK,
        weights: &weights,
        features: &FEATURES,
        settings: &settings,
        dev: Some(Dev { features: &FEATURES, task: &task, lost: vec![0, 0] }),
        checkpoint: Some(CheckpointPlan { path: &path, every: 1 }),
        on_event: &mut |_| if stop { Err(biorel::Error::Interrupted) } else { Ok(()) },
    };
    Compute::new(Backend::Reference, Precision::F32, Some(1)).expect("the reference").execute(job)
}

/// The good state with another header, which gets the run's own fingerprint.
fn with_header(text: &[u8]) -> Option<Vec<u8>> {
    let (_, metadata) = SafeTensors::read_metadata(&GOOD).ok()?;
    let own: Value = serde_json::from_str(metadata.metadata().as_ref()?.get(HEADER)?).ok()?;
    let mut header: Value = serde_json::from_slice(text).ok()?;
    *header.get_mut("fingerprint")? = own["fingerprint"].clone();
    let file = SafeTensors::deserialize(&GOOD).ok()?;
    let metadata = HashMap::from([(HEADER.to_owned(), header.to_string())]);
    safetensors::serialize(file.tensors(), Some(metadata)).ok()
}

fuzz_target!(|data: &[u8]| {
    let good = &*GOOD;
    let Some((choice, rest)) = data.split_first() else { return };
    let state = match choice % 3 {
        0 => Some(rest.to_vec()),
        1 => with_header(rest),
        // Single bytes changed, each given by its place and its value.
        _ => {
            let mut changed = good.clone();
            for edit in rest.as_chunks::<3>().0 {
                let place = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % changed.len();
                changed[place] = edit[2];
            }
            Some(changed)
        }
    };
    let Some(state) = state else { return };
    write(&FOLDER, "state", &state);
    if let Ok(trained) = run(false) {
        assert!(trained.history.len() >= STEPS || !trained.interrupted);
        assert_eq!(trained.weights.values.len(), trained.weights.specs.len());
        for (spec, values) in trained.weights.specs.iter().zip(&trained.weights.values) {
            assert_eq!(spec.elements(), values.len());
        }
        // What it leaves is a state again.
        run(false).expect("the state of a run that ended");
    }
});
