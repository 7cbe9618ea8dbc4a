//! An encoder is adapted to texts, saved, and adapted again.

use std::path::Path;

use biorel::Error;
use biorel::config::{Backend, Precision, TrainingSettings};
use biorel::encode::Features;
use biorel::model::architecture::ModelType;
use biorel::model::params::encoder_specs;
use biorel::model::{EncoderConfig, MaskedLm, Pretrained, Weights, checkpoint};
use biorel::ops::compute::Compute;
use biorel::train::{Adapt, Adapted, CheckpointPlan, Event, OnEvent, Spool, TrainingRun, adapt, masked_lm};

const VOCABULARY: &str =
    "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\naspirin\nheparin\nraises\nlowers\nthe\nrisk\n##s\nof\nbleeding\nclotting\n.\n";

/// An encoder of one layer with random weights.
fn encoder(directory: &Path) -> Pretrained {
    let config: EncoderConfig = serde_json::from_str(
        r#"{"vocab_size": 16, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 24, "max_position_embeddings": 32}"#,
    )
    .unwrap();
    std::fs::write(directory.join("config.json"), serde_json::to_string(&config).unwrap()).unwrap();
    std::fs::write(directory.join("vocab.txt"), VOCABULARY).unwrap();
    std::fs::write(directory.join("tokenizer_config.json"), r#"{"do_lower_case": true}"#).unwrap();
    let weights = Weights::initial(encoder_specs(&config), 1);
    checkpoint::write(&directory.join("model.safetensors"), &weights, &[]).unwrap();
    Pretrained::open(directory, None).unwrap()
}

/// In every sentence each word follows from the others: the verb from the drug, and the last word
/// from the verb.
fn texts(count: usize) -> Vec<String> {
    let text = |number: usize| match number % 2 {
        0 => "Aspirin raises the risks of bleeding.",
        _ => "Heparin lowers the risks of clotting.",
    };
    (0..count).map(|number| text(number).to_owned()).collect()
}

struct Setting {
    folder: tempfile::TempDir,
    encoder: Pretrained,
    texts: Vec<String>,
    held_out: Vec<String>,
    settings: TrainingSettings,
    /// The longest part.
    divided: usize,
}

impl Setting {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let encoder = encoder(folder.path());
        let settings = TrainingSettings {
            learning_rate: 5e-3,
            batch_size: 8,
            max_steps: Some(200),
            max_length: 24,
            ..TrainingSettings::default()
        };
        Self { folder, encoder, texts: texts(64), held_out: texts(20), settings, divided: 24 }
    }

    fn run(&self, backend: Backend, stop: Option<usize>, path: Option<&Path>) -> biorel::Result<Adapted> {
        self.run_with(backend, path, &mut |event| match event {
            Event::Step(record) if Some(record.step) == stop => Err(Error::Interrupted),
            _ => Ok(()),
        })
    }

    fn run_with(&self, backend: Backend, path: Option<&Path>, on_event: OnEvent<'_>) -> biorel::Result<Adapted> {
        let tokenizer = &self.encoder.tokenizer;
        let mut texts = Spool::new(self.folder.path(), tokenizer, self.divided)?;
        texts.extend(tokenizer, &self.texts)?;
        texts.extend(tokenizer, &self.held_out)?;
        let held_out: Vec<usize> = (self.texts.len()..texts.len()).collect();
        let run = Adapt {
            encoder: &self.encoder,
            texts: &texts,
            held_out: &held_out,
            mask_rate: 0.15,
            settings: &self.settings,
            compute: compute(backend),
            checkpoint: path.map(|path| CheckpointPlan { path, every: 50 }),
        };
        adapt(run, on_event)
    }
}

fn compute(backend: Backend) -> Compute {
    Compute::new(backend, Precision::F32, Some(2)).unwrap()
}

/// Texts on disk are trained on like those in memory, to the bit.
#[test]
fn the_file_of_the_texts_changes_nothing() {
    let Setting { folder, encoder, mut texts, settings, .. } = Setting::new();
    let settings = TrainingSettings { max_steps: Some(40), ..settings };
    let long = ["the risks of bleeding"; 10].join(" ");
    texts.splice(5..5, [long, String::new()]);
    let held_out = [0, 5, 30];
    let trained = || texts.iter().enumerate().filter(|(number, _)| !held_out.contains(number)).map(|(_, text)| text);
    let parts = |text: &String| encoder.tokenizer.parts(text, 24).unwrap();
    let features: Vec<Features> = trained().flat_map(parts).collect();
    let model = masked_lm(&encoder, 0.15, &settings).unwrap();
    let mut weights = Weights::clone(&encoder.weights);
    weights.extend(Weights::initial(MaskedLm::decoder_specs(&encoder.config), settings.seed));
    let run = TrainingRun {
        network: &model,
        weights: &weights,
        instances: (&features).into(),
        settings: &settings,
        dev: None,
        checkpoint: None,
        on_event: &mut |_| Ok(()),
    };
    let in_memory = compute(Backend::Cpu).execute(run).unwrap();
    let mut spool = Spool::new(folder.path(), &encoder.tokenizer, 24).unwrap();
    texts.chunks(9).for_each(|texts| spool.extend(&encoder.tokenizer, texts).unwrap());
    let run = Adapt {
        encoder: &encoder,
        texts: &spool,
        held_out: &held_out,
        mask_rate: 0.15,
        settings: &settings,
        compute: compute(Backend::Cpu),
        checkpoint: None,
    };
    let adapted = adapt(run, &mut |_| Ok(())).unwrap();
    assert_eq!(adapted.parts, features.len());
    assert_eq!(adapted.pieces, features.iter().map(|part| part.ids.len()).sum::<usize>());
    let losses = |history: &[biorel::train::StepRecord]| history.iter().map(|step| step.loss).collect::<Vec<_>>();
    assert_eq!(losses(&adapted.history), losses(&in_memory.history));
    let above = adapted.encoder.weights.values.len();
    assert_eq!(adapted.encoder.weights.values, in_memory.weights.values[..above]);
}

#[test]
fn the_texts_become_predictable() {
    let setting = Setting::new();
    for backend in [Backend::Cpu, Backend::Reference] {
        let adapted = setting.run(backend, None, None).unwrap();
        let [before, after] = adapted.held_out_loss.unwrap();
        // Random weights know nothing: ln(16) = 2.8 nats. Every word but two follows from the others.
        assert!(before > 2.0 && after < 0.5 * before, "{backend:?}: {before} to {after}");
        assert_eq!((adapted.history.len(), adapted.parts, adapted.new_decoder), (200, 64, true));
        assert_eq!(adapted.pieces, 64 * 10);
        assert_eq!(adapted.history[0].instances, 8);
        assert_ne!(adapted.encoder.weights, setting.encoder.weights);
    }
}

#[test]
fn a_stopped_adaptation_resumes_to_the_same_bits() {
    let setting = Setting::new();
    let path = setting.folder.path().join("adapt.checkpoint");
    let whole = setting.run(Backend::Cpu, None, None).unwrap();
    assert!(setting.run(Backend::Cpu, Some(30), Some(&path)).unwrap().interrupted);
    assert!(setting.run(Backend::Cpu, Some(120), Some(&path)).unwrap().interrupted);
    let resumed = setting.run(Backend::Cpu, None, Some(&path)).unwrap();
    assert_eq!(resumed.encoder.weights, whole.encoder.weights);
    assert_eq!(resumed.held_out_loss, whole.held_out_loss);
}

#[test]
fn the_held_out_texts_are_reported_and_can_be_stopped() {
    let setting =
        Setting { settings: TrainingSettings { max_steps: Some(2), ..Setting::new().settings }, ..Setting::new() };
    let mut seen = Vec::new();
    let mut run = |stop_at: usize| {
        seen.clear();
        let result = setting.run_with(Backend::Cpu, None, &mut |event| {
            if let Event::HeldOut { done, total } = event {
                seen.push((done, total));
                if seen.len() == stop_at {
                    return Err(Error::Interrupted);
                }
            }
            Ok(())
        });
        (result, seen.clone())
    };
    // 20 texts in batches of 8, before and after.
    let once = [(8, 20), (16, 20), (20, 20)];
    assert_eq!(run(usize::MAX).1, [once, once].concat());
    for stop_at in [2, 5] {
        let (result, seen) = run(stop_at);
        assert!(matches!(result, Err(Error::Interrupted)));
        assert_eq!(seen.len(), stop_at);
    }
    // A stopped training does not measure them again.
    let stopped = setting.run(Backend::Cpu, Some(1), None).unwrap();
    assert!(stopped.interrupted && stopped.held_out_loss.is_none());
}

#[test]
fn a_saved_encoder_is_adapted_further() {
    let mut setting = Setting::new();
    let adapted = setting.run(Backend::Cpu, None, None).unwrap();
    let [_, reached] = adapted.held_out_loss.unwrap();
    let directory = setting.folder.path().join("adapted");
    std::fs::create_dir(&directory).unwrap();
    adapted.encoder.save(&directory).unwrap();
    let reopened = Pretrained::open(&directory, None).unwrap();
    assert_eq!(reopened.weights, adapted.encoder.weights);
    setting.settings.max_steps = Some(1);
    for encoder in [reopened, adapted.encoder] {
        setting.encoder = encoder;
        let again = setting.run(Backend::Cpu, None, None).unwrap();
        assert!(!again.new_decoder);
        assert_eq!(again.held_out_loss.unwrap()[0], reached);
    }
}

#[test]
fn long_texts_are_divided_between_words() {
    let setting = Setting::new();
    let text = ["the risks of bleeding"; 10].join(" "); // 50 pieces
    let parts = setting.encoder.tokenizer.parts(&text, 24).unwrap();
    assert_eq!(parts.iter().map(|part| part.ids.len() - 2).collect::<Vec<_>>(), [16, 17, 17]);
    let pieces: Vec<u32> = parts.iter().flat_map(|part| part.ids[1..part.ids.len() - 1].to_vec()).collect();
    let whole = setting.encoder.tokenizer.text_features(&text).unwrap().ids;
    assert_eq!(pieces, whole[1..whole.len() - 1]);
    let continues = setting.encoder.tokenizer.id("##s").unwrap();
    assert!(parts.iter().all(|part| part.ids[1] != continues && part.words[1] == Some(0)));
    assert!(setting.encoder.tokenizer.parts("", 24).unwrap().is_empty());
}

#[test]
fn what_cannot_be_adapted_is_refused() {
    let message = |change: &dyn Fn(&mut Setting)| {
        let mut setting = Setting::new();
        change(&mut setting);
        setting.run(Backend::Cpu, None, None).unwrap_err().to_string()
    };
    assert!(message(&|setting| setting.texts.clear()).contains("there is no text"));
    assert!(message(&|setting| setting.texts = vec![String::new()]).contains("there is no text"));
    assert!(message(&|setting| setting.settings.max_length = 33).contains("too long for this encoder"));
    let untied = message(&|setting| {
        setting.encoder.config.other.insert("tie_word_embeddings".into(), false.into());
    });
    assert!(untied.contains("tie_word_embeddings is false"), "{untied}");
    let activation = message(&|setting| {
        setting.encoder.config.model_type = ModelType::ModernBert;
        setting.encoder.config.other.insert("classifier_activation".into(), "relu".into());
    });
    assert!(activation.contains("classifier_activation is \"relu\""), "{activation}");
    let frozen = message(&|setting| setting.encoder.config.model_type = ModelType::DebertaV2);
    assert!(frozen.contains("of `deberta-v2` is not supported"), "{frozen}");
    let other_parts = message(&|setting| setting.divided = 16);
    assert!(other_parts.contains("parts of 16 pieces"), "{other_parts}");
    let without_mask = message(&|setting| {
        let directory = setting.folder.path();
        std::fs::write(directory.join("vocab.txt"), VOCABULARY.replace("[MASK]", "mask")).unwrap();
        setting.encoder = Pretrained::open(directory, None).unwrap();
    });
    assert!(without_mask.contains("no [MASK]"), "{without_mask}");
}
