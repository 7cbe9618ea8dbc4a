//! Architectures other than BERT, compared with PyTorch and transformers: hidden states, attention of
//! `[CLS]`, gradients of every parameter, ten training steps, the masked language model, and the names of
//! all tensors.
//! `tests/golden/make_architectures.py` writes the files.

mod noise;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use biorel::config::{HeadKind, TrainingSettings};
use biorel::encode::{Batch, Masked, Masking};
use biorel::model::architecture::SEPARATE;
use biorel::model::encoder::{self, ForwardContext, OutputSpec};
use biorel::model::{EncoderConfig, Loss, MaskedLm, Network, ParamSpec, Source, Weights, checkpoint};
use biorel::ops::{Cpu, Ops, Reference};
use biorel::train::Trainer;
use candle_core::{DType, Device, Tensor};

type Golden = HashMap<String, Tensor>;
type Shapes = BTreeMap<String, Vec<usize>>;

/// The folders: an architecture in a shape each.
fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/architectures");
    let mut folders: Vec<_> = root.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 18, "{folders:?}");
    folders
}

fn open(folder: &Path) -> (EncoderConfig, Golden) {
    let golden = candle_core::safetensors::load(folder.join("expected.safetensors"), &Device::Cpu).unwrap();
    (EncoderConfig::open(folder).unwrap(), golden)
}

/// Numbers from -0.35 to 0.35, a function of the name.
fn noise(name: &str, size: usize) -> Vec<f32> {
    noise::uniform(name, size).into_iter().map(|value| (0.7 * (value - 0.5)) as f32).collect()
}

/// The parts of a parameter in transformers: its queries, keys and values are joined here.
fn parts(spec: &ParamSpec) -> Vec<String> {
    match SEPARATE.iter().find(|(joined, _)| spec.name.contains(joined)) {
        Some((joined, parts)) => parts.map(|part| spec.name.replace(joined, part)).to_vec(),
        None => vec![spec.name.clone()],
    }
}

fn values(spec: &ParamSpec) -> Vec<f32> {
    let parts = parts(spec);
    let size = spec.elements() / parts.len();
    let is_scale = matches!(spec.init, biorel::model::Init::Candle(candle_nn::Init::Const(1.0)));
    let shift = if is_scale { 1.0 } else { 0.0 };
    parts.iter().flat_map(|name| noise(name, size)).map(|value| shift + value).collect()
}

fn weights(specs: Vec<ParamSpec>) -> Weights {
    Weights { values: specs.iter().map(values).collect(), specs }
}

fn batch(golden: &Golden, number: usize) -> Batch {
    let numbers =
        |name: &str| golden[&format!("batch.{number}.{name}")].to_dtype(DType::U32).unwrap().to_vec1::<u32>().unwrap();
    let starts: Vec<usize> = numbers("starts").into_iter().map(|start| start as usize).collect();
    Batch::of_ids(&numbers("ids"), &starts, numbers("labels"))
}

fn expected(golden: &Golden, name: &str) -> Vec<f32> {
    golden[name].flatten_all().unwrap().to_vec1().unwrap()
}

/// The largest difference, relative to the largest value.
fn difference(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    assert!(ours.iter().chain(theirs).all(|value| value.is_finite()));
    let largest = |values: &mut dyn Iterator<Item = f32>| values.fold(0.0, |most: f32, value| most.max(value.abs()));
    largest(&mut ours.iter().zip(theirs).map(|(a, b)| a - b)) / largest(&mut theirs.iter().copied()).max(1e-6)
}

fn network(encoder: EncoderConfig, head: HeadKind) -> Network {
    Network { encoder, head, labels: 3, padding: None, marker_types: 0, source: Source::Engine }
}

fn states_and_gradients<O: Ops>(ops: &O, what: &str, config: &EncoderConfig, golden: &Golden, tolerance: f32) {
    let network = network(config.clone(), HeadKind::Attention);
    let weights = weights(network.specs());
    let params = weights.upload(ops).unwrap();
    let batch = batch(golden, 0);
    let (encoded, _) = encoder::forward(ops, config, &params, &batch, None, OutputSpec::TOKENS).unwrap();
    let found = difference(&ops.download(&encoded.last).unwrap(), &expected(golden, "last"));
    assert!(found <= tolerance, "{what}: hidden states differ by {found}");
    let explained = network.explain(ops, &params, &batch).unwrap();
    let found = difference(&explained.attention_of_cls, &expected(golden, "attention_of_cls"));
    assert!(found <= tolerance, "{what}: the attention of [CLS] differs by {found}");
    for recompute in [false, true] {
        let context = ForwardContext { recompute, ..ForwardContext::without_dropout() };
        let (loss, gradients) = network.gradient(ops, &params, &batch, &context, &Loss::mean(batch.len())).unwrap();
        let found = difference(&ops.download(&loss).unwrap(), &expected(golden, "loss"));
        assert!(found <= tolerance, "{what}: the loss differs by {found}");
        for (spec, gradient) in weights.specs.iter().zip(gradients) {
            let theirs = parts(spec).iter().map(|name| expected(golden, &format!("grad.{name}"))).collect::<Vec<_>>();
            let ours = ops.download(&gradient.unwrap()).unwrap();
            let found = difference(&ours, &theirs.concat());
            assert!(found <= tolerance, "{what}: the gradient of {} differs by {found}", spec.name);
        }
    }
}

#[test]
fn states_and_gradients_are_those_of_transformers() {
    for folder in folders() {
        let (config, golden) = open(&folder);
        let what = folder.display().to_string();
        // The files are in f32.
        states_and_gradients(&Reference::new(Device::Cpu, DType::F64), &what, &config, &golden, 1e-6);
        states_and_gradients(&Cpu::new(), &what, &config, &golden, 2e-5);
    }
}

/// Ten steps without dropout, on the CPU engine, with the head that reads `[CLS]` alone.
#[test]
fn ten_steps_follow_pytorch() {
    for folder in folders() {
        let (config, golden) = open(&folder);
        let network = network(config, HeadKind::Cls);
        let settings = TrainingSettings {
            head: HeadKind::Cls,
            adam_epsilon: 1e-6,
            bias_correction: false,
            max_steps: Some(10),
            dropout: Some(0.0),
            head_dropout: 0.0,
            ..Default::default()
        };
        let ops = Cpu::new();
        let mut trainer = Trainer::new(&ops, &network, &weights(network.specs()), settings, None).unwrap();
        let step = |number| trainer.step(&[batch(&golden, number % 5)], 1e-3).unwrap().get().unwrap().loss as f32;
        let losses: Vec<f32> = (0..10usize).map(step).collect();
        let found = difference(&losses, &expected(&golden, "losses"));
        assert!(found <= 2e-5, "{}: losses differ by {found}", folder.display());
    }
}

#[expect(clippy::disallowed_methods, reason = "the names are only counted")]
fn language_model<O: Ops>(ops: &O, what: &str, config: &EncoderConfig, golden: &Golden, tolerance: f32) {
    let numbers = |name: &str| {
        let tensor = golden[name].flatten_all().unwrap().to_dtype(DType::U32).unwrap();
        tensor.to_vec1::<u32>().unwrap()
    };
    let (texts, targets, labels) = (batch(golden, 0), numbers("masked.targets"), numbers("masked.labels"));
    let masked = texts.cu_seqlens.windows(2).enumerate().map(|(text, bounds)| {
        let own = targets.chunks_exact(2).zip(&labels).filter(|(target, _)| target[0] as usize == text);
        let (targets, labels) = own.map(|(target, label)| (target[1] as usize, *label)).unzip();
        Masked { ids: texts.ids[bounds[0]..bounds[1]].to_vec(), targets, labels }
    });
    let batch = Batch::masked(masked);
    let masking = Masking { rate: 0.15, mask: 1, vocabulary: config.vocab_size as u32, seed: 1 };
    let model = MaskedLm { encoder: config.clone(), masking };
    let weights = weights(model.specs());
    let params = weights.upload(ops).unwrap();
    let context = ForwardContext::without_dropout();
    let (loss, gradients) = model.gradient(ops, &params, &batch, &context, &Loss::mean(batch.len())).unwrap();
    let found = difference(&ops.download(&loss).unwrap(), &expected(golden, "masked.loss"));
    assert!(found <= tolerance, "{what}: the loss differs by {found}");
    let whole = model.loss(ops, &params, &batch).unwrap() as f32 / batch.len() as f32;
    let found = difference(&[whole], &expected(golden, "masked.loss"));
    assert!(found <= tolerance, "{what}: the loss without gradients differs by {found}");
    assert_eq!(weights.specs.len(), gradients.len());
    for (spec, gradient) in weights.specs.iter().zip(gradients) {
        let name = |part: &String| expected(golden, &format!("masked.grad.{part}"));
        let theirs = parts(spec).iter().map(name).collect::<Vec<_>>();
        let found = difference(&ops.download(&gradient.unwrap()).unwrap(), &theirs.concat());
        assert!(found <= tolerance, "{what}: the gradient of {} differs by {found}", spec.name);
    }
    let compared: usize = weights.specs.iter().map(|spec| parts(spec).len()).sum();
    assert_eq!(golden.keys().filter(|name| name.starts_with("masked.grad.")).count(), compared, "{what}");
}

#[test]
fn the_masked_language_model_is_that_of_transformers() {
    for folder in folders() {
        let (config, golden) = open(&folder);
        let what = folder.display().to_string();
        language_model(&Reference::new(Device::Cpu, DType::F64), &what, &config, &golden, 1e-6);
        language_model(&Cpu::new(), &what, &config, &golden, 2e-5);
    }
}

/// Every tensor of transformers' masked language model is read or reported, and what is written has
/// the names and shapes that its `AutoModel` reads.
#[test]
fn every_tensor_is_accounted_for() {
    for folder in folders() {
        let config = EncoderConfig::open(&folder).unwrap();
        let file = std::fs::read(folder.join("tensors.json")).unwrap();
        let mut models: BTreeMap<String, Shapes> = serde_json::from_slice(&file).unwrap();
        let [language_model, encoder] = ["language_model", "encoder"].map(|name| models.remove(name).unwrap());
        for stored in [&language_model, &encoder] {
            let directory = tempfile::tempdir().unwrap();
            let specs = stored.iter().map(|(name, shape)| ParamSpec::weight(name.as_str(), shape)).collect();
            let stored_weights = Weights::initial(specs, 1);
            checkpoint::write(&directory.path().join("model.safetensors"), &stored_weights, &[]).unwrap();
            let head = if stored == &encoder { vec![] } else { MaskedLm::decoder_specs(&config) };
            let (read, extras, report) = checkpoint::read(directory.path(), &config, &head).unwrap();
            let unused = match stored == &encoder {
                true => vec![],
                // The decoder is the word embedding; some have its bias under two names.
                false => stored
                    .keys()
                    .filter(|name| !head.iter().any(|spec| spec.name == **name))
                    .filter(|name| {
                        name.contains("decoder.")
                            || ["generator_lm_head.weight", "vocab_projector.weight"].contains(&name.as_str())
                    })
                    .cloned()
                    .collect(),
            };
            assert_eq!(report.unused, unused, "{}", folder.display());
            if stored == &encoder {
                assert_eq!(report.missing, [""; 0]);
                let file = directory.path().join("written.safetensors");
                checkpoint::write(&file, &read, &extras).unwrap();
                let written: Shapes = candle_core::safetensors::load(&file, &Device::Cpu)
                    .unwrap()
                    .into_iter()
                    .map(|(name, tensor)| (name, tensor.dims().to_vec()))
                    .collect();
                assert_eq!(written, encoder, "{}", folder.display());
            }
        }
    }
}
