//! Comparison with PyTorch and transformers: states, losses and gradients of all heads, and ten
//! training steps. `tests/golden/README.md` describes the files and how to make them.

use std::collections::HashMap;
use std::path::PathBuf;

use biorel::config::{HeadKind, TrainingSettings};
use biorel::corpus::Span;
use biorel::encode::{Batch, Features, InstanceTokens, Masked, Masking, Padding};
use biorel::model::encoder::{self, ForwardContext, OutputSpec};
use biorel::model::head::Weighs;
use biorel::model::{EncoderConfig, Loss, MaskedLm, Network, ParamSpec, Source};
use biorel::ops::{Cpu, Ops, Reference};
use candle_core::{DType, Device, Tensor};

fn golden(name: &str) -> HashMap<String, Tensor> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    candle_core::safetensors::load(&path, &Device::Cpu).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn config() -> EncoderConfig {
    serde_json::from_str(
        r#"{"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 24, "max_position_embeddings": 20}"#,
    )
    .unwrap()
}

fn vector(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn batch(file: &HashMap<String, Tensor>, prefix: &str) -> Batch {
    let words = |name: &str| {
        let tensor = file[&format!("{prefix}.{name}")].to_dtype(DType::U32).unwrap();
        tensor.to_vec1::<u32>().unwrap()
    };
    let starts: Vec<usize> = words("starts").into_iter().map(|start| start as usize).collect();
    let labels = if file.contains_key(&format!("{prefix}.labels")) { words("labels") } else { vec![] };
    Batch::of_ids(&words("ids"), &starts, labels)
}

/// A parameter of ours from PyTorch's names: queries, keys and values joined.
fn parameter(file: &HashMap<String, Tensor>, prefix: &str, spec: &ParamSpec) -> Tensor {
    if !spec.name.contains(".qkv.") {
        return file[&format!("{prefix}{}", spec.name)].clone();
    }
    let parts = ["query", "key", "value"].map(|part| &file[&format!("{prefix}{}", spec.name.replace("qkv", part))]);
    Tensor::cat(&parts, 0).unwrap()
}

fn assert_close(what: &str, ours: &[f64], theirs: &[f64], tolerance: f64) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= tolerance * (1.0 + b.abs()), "{what}[{i}]: ours {a}, PyTorch {b}");
    }
}

/// In f64 the two differ by rounding only.
const EXACT: f64 = 1e-12;

#[test]
fn states_of_every_layer() {
    let file = golden("tiny/encoder.safetensors");
    let ops = Reference::new(Device::Cpu, DType::F64);
    let network = Network {
        encoder: config(),
        head: HeadKind::Cls,
        labels: 3,
        padding: None,
        marker_types: 0,
        source: Source::Engine,
    };
    let specs = biorel::model::params::encoder_specs(&network.encoder);
    let params: Vec<Tensor> = specs.iter().map(|spec| parameter(&file, "", spec)).collect();
    let spec = OutputSpec { cls_of_layers: true, ..OutputSpec::TOKENS };
    let (encoded, tape) =
        encoder::forward(&ops, &network.encoder, &params, &batch(&file, "batch"), None, spec).unwrap();
    assert!(tape.is_none());
    assert_close("last", &vector(&encoded.last), &vector(&file["hidden.2"]), EXACT);
    let cls = Tensor::stack(&encoded.cls, 0).unwrap();
    assert_close("cls", &vector(&cls), &vector(&file["layer_cls"]), EXACT);
}

#[test]
fn logits_losses_and_gradients_of_every_head() {
    let encoder_file = golden("tiny/encoder.safetensors");
    let batch = batch(&encoder_file, "batch");
    let ops = Reference::new(Device::Cpu, DType::F64);
    for head in HeadKind::ALL {
        let file = golden(&format!("tiny/{head}.safetensors"));
        let network =
            Network { encoder: config(), head, labels: 3, padding: None, marker_types: 0, source: Source::Engine };
        let params: Vec<Tensor> = network
            .specs()
            .iter()
            .map(|spec| parameter(if spec.name.starts_with("head.") { &file } else { &encoder_file }, "", spec))
            .collect();
        let output = network.predict(&ops, &params, &batch).unwrap();
        assert_close(&format!("{head} logits"), &vector(&output.logits), &vector(&file["logits"]), EXACT);
        assert_eq!(output.weights.is_some(), file.contains_key("attention"), "{head}");
        if let Some(weights) = output.weights {
            let mut weights = vector(&weights);
            if head.weighs() == Weighs::Words {
                // Ours has a row over all tokens for each sentence; PyTorch's file has the words of each sentence.
                let tokens = batch.tokens();
                let of = |(i, w): (usize, &[usize])| weights[i * tokens + w[0] + 1..i * tokens + w[1] - 1].to_vec();
                let words: Vec<f64> = batch.cu_seqlens.windows(2).enumerate().flat_map(of).collect();
                assert!((weights.iter().sum::<f64>() - batch.len() as f64).abs() < EXACT, "{head}");
                weights = words;
            }
            assert_close(&format!("{head} attention"), &weights, &vector(&file["attention"]), EXACT);
        }
        // `Explanation` is in f32, whatever the engine.
        let explanation = network.explain(&ops, &params, &batch).unwrap();
        assert_close(&format!("{head} logits"), &vector(&explanation.output.logits), &vector(&file["logits"]), EXACT);
        let wide = |values: &[f32]| values.iter().map(|value| f64::from(*value)).collect::<Vec<_>>();
        for (what, ours, theirs) in [
            ("gradient", &explanation.gradient_times_input, &file["gradient_times_input"]),
            ("[CLS]", &explanation.attention_of_cls, &encoder_file["attention_of_cls"]),
        ] {
            assert_close(&format!("{head} {what}"), &wide(ours), &vector(theirs), 1e-6);
        }
        let (loss, gradients) = network
            .gradient(&ops, &params, &batch, &ForwardContext::without_dropout(), &Loss::mean(batch.len()))
            .unwrap();
        assert_close(&format!("{head} loss"), &vector(&loss), &vector(&file["loss"]), EXACT);
        for (spec, gradient) in network.specs().iter().zip(&gradients) {
            let expected = vector(&parameter(&file, "grad.", spec));
            assert_close(&format!("{head} {}", spec.name), &vector(gradient.as_ref().unwrap()), &expected, EXACT);
        }
    }
}

/// All pairs of a text in one pass, in the order of the texts.
#[test]
fn levitated_markers() {
    let encoder_file = golden("tiny/encoder.safetensors");
    let ops = Reference::new(Device::Cpu, DType::F64);
    for head in [HeadKind::Entity, HeadKind::EntityAttention] {
        let file = golden(&format!("levitated/{head}.safetensors"));
        let texts = batch(&file, "batch");
        let pairs = file["pairs"].to_dtype(DType::U32).unwrap().to_vec2::<u32>().unwrap();
        let features = pairs.iter().zip(&texts.labels).map(|(pair, label)| {
            let bounds = &texts.cu_seqlens[pair[0] as usize..][..2];
            let span = |at: usize| Span { start: pair[at] as usize, end: pair[at + 1] as usize };
            Features {
                ids: texts.ids[bounds[0]..bounds[1]].to_vec(),
                spans: vec![],
                words: vec![],
                entities: [span(1), span(3)],
                further: vec![],
                marker_types: Some([pair[5], pair[6]]),
                cut: 0,
                label: Some(*label as usize),
            }
        });
        let features: Vec<Features> = features.collect();
        let network =
            Network { encoder: config(), head, labels: 3, padding: None, marker_types: 2, source: Source::Engine };
        let value = |spec: &ParamSpec| match spec.name.as_str() {
            "embeddings.word_embeddings.weight" => {
                Tensor::cat(&[&encoder_file[&spec.name], &file["markers"]], 0).unwrap()
            }
            name => parameter(if name.starts_with("head.") { &file } else { &encoder_file }, "", spec),
        };
        let params: Vec<Tensor> = network.specs().iter().map(value).collect();
        for batch in [network.pack(&features), network.pack_apart(&features)] {
            let output = network.predict(&ops, &params, &batch).unwrap();
            assert_close(&format!("{head} logits"), &vector(&output.logits), &vector(&file["logits"]), EXACT);
            if let Some(weights) = output.weights {
                let (weights, tokens) = (vector(&weights), batch.tokens());
                let of = |(i, own): (usize, &InstanceTokens)| {
                    weights[i * tokens + own.words.start..i * tokens + own.words.end].to_vec()
                };
                let words: Vec<f64> = batch.instances.iter().enumerate().flat_map(of).collect();
                assert_close(&format!("{head} attention"), &words, &vector(&file["attention"]), EXACT);
            }
            let (loss, gradients) = network
                .gradient(&ops, &params, &batch, &ForwardContext::without_dropout(), &Loss::mean(batch.len()))
                .unwrap();
            assert_close(&format!("{head} loss"), &vector(&loss), &vector(&file["loss"]), EXACT);
            for (spec, gradient) in network.specs().iter().zip(&gradients) {
                let mut expected = vector(&parameter(&file, "grad.", spec));
                if spec.name == "embeddings.word_embeddings.weight" {
                    expected.extend(vector(&file["grad.markers"]));
                }
                assert_close(&format!("{head} {}", spec.name), &vector(gradient.as_ref().unwrap()), &expected, EXACT);
            }
        }
    }
}

/// The paper's published code pads, and its heads read the padding.
#[test]
fn heads_over_padding() {
    let encoder_file = golden("tiny/encoder.safetensors");
    let plain = batch(&encoder_file, "batch");
    let padding = Padding { length: 14, id: 0 };
    let features = plain.cu_seqlens.windows(2).zip(&plain.labels).map(|(bounds, label)| Features {
        ids: plain.ids[bounds[0]..bounds[1]].to_vec(),
        spans: vec![],
        words: vec![],
        entities: [Span { start: 0, end: 0 }; 2],
        further: vec![],
        marker_types: None,
        cut: 0,
        label: Some(*label as usize),
    });
    let features: Vec<Features> = features.collect();
    let ops = Reference::new(Device::Cpu, DType::F64);
    for head in [HeadKind::Lstm, HeadKind::Attention, HeadKind::LstmNoCls, HeadKind::AttentionNoCls] {
        let file = golden(&format!("su2020/{head}.safetensors"));
        let head_file = golden(&format!("tiny/{head}.safetensors"));
        let network = Network {
            encoder: config(),
            head,
            labels: 3,
            padding: Some(padding),
            marker_types: 0,
            source: Source::Engine,
        };
        let batch = network.pack(&features);
        assert_eq!((batch.tokens(), batch.valid_lengths.as_deref()), (4 * 14, Some([7, 3, 12, 5].as_slice())));
        let params: Vec<Tensor> = network
            .specs()
            .iter()
            .map(|spec| parameter(if spec.name.starts_with("head.") { &head_file } else { &encoder_file }, "", spec))
            .collect();
        let output = network.predict(&ops, &params, &batch).unwrap();
        assert_close(&format!("{head} logits"), &vector(&output.logits), &vector(&file["logits"]), EXACT);
        if let Some(weights) = output.weights {
            let weights = weights.to_vec2::<f64>().unwrap();
            let read =
                weights.iter().zip(&batch.cu_seqlens).flat_map(|(row, start)| row[start + 1..start + 13].to_vec());
            assert_close(&format!("{head} attention"), &read.collect::<Vec<_>>(), &vector(&file["attention"]), EXACT);
        }
        let (loss, gradients) = network
            .gradient(&ops, &params, &batch, &ForwardContext::without_dropout(), &Loss::mean(batch.len()))
            .unwrap();
        assert_close(&format!("{head} loss"), &vector(&loss), &vector(&file["loss"]), EXACT);
        for (spec, gradient) in network.specs().iter().zip(&gradients) {
            let expected = vector(&parameter(&file, "grad.", spec));
            assert_close(&format!("{head} {}", spec.name), &vector(gradient.as_ref().unwrap()), &expected, EXACT);
        }
        // The CPU engine gives the same.
        let cpu = Cpu::new();
        let params: Vec<_> = params
            .iter()
            .map(|param| {
                let values: Vec<f32> = param.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap();
                cpu.upload(&values, param.dims()).unwrap()
            })
            .collect();
        let (cpu_loss, cpu_gradients) = network
            .gradient(&cpu, &params, &batch, &ForwardContext::without_dropout(), &Loss::mean(batch.len()))
            .unwrap();
        assert_close(
            &format!("{head} loss on the CPU engine"),
            &[f64::from(cpu.download(&cpu_loss).unwrap()[0])],
            &vector(&loss),
            1e-6,
        );
        for ((spec, ours), reference) in network.specs().iter().zip(&cpu_gradients).zip(&gradients) {
            let ours = cpu.download(ours.as_ref().unwrap()).unwrap();
            let ours: Vec<f64> = ours.into_iter().map(f64::from).collect();
            assert_close(&spec.name, &ours, &vector(reference.as_ref().unwrap()), 1e-5);
        }
    }
}

/// Loss and gradients of transformers' `BertForMaskedLM`.
#[test]
fn masked_language_model() {
    let file = golden("masked/model.safetensors");
    let numbers =
        |name: &str| file[name].to_dtype(DType::U32).unwrap().flatten_all().unwrap().to_vec1::<u32>().unwrap();
    let (texts, targets, labels) = (batch(&file, "batch"), numbers("targets"), numbers("labels"));
    let masked = texts.cu_seqlens.windows(2).enumerate().map(|(text, bounds)| {
        let own = targets.chunks_exact(2).zip(&labels).filter(|(target, _)| target[0] as usize == text);
        let (targets, labels) = own.map(|(target, label)| (target[1] as usize, *label)).unzip();
        Masked { ids: texts.ids[bounds[0]..bounds[1]].to_vec(), targets, labels }
    });
    let batch = Batch::masked(masked);
    let masking = Masking { rate: 0.15, mask: 1, vocabulary: 50, seed: 1 };
    let model = MaskedLm { encoder: config(), masking };
    let ops = Reference::new(Device::Cpu, DType::F64);
    let specs = model.specs();
    let params: Vec<Tensor> = specs.iter().map(|spec| parameter(&file, "", spec)).collect();
    let context = ForwardContext::without_dropout();
    let loss = Loss::mean(batch.len());
    let (value, gradients) = model.gradient(&ops, &params, &batch, &context, &loss).unwrap();
    assert_close("loss", &vector(&value), &vector(&file["loss"]), EXACT);
    for (spec, gradient) in specs.iter().zip(&gradients) {
        let expected = vector(&parameter(&file, "grad.", spec));
        assert_close(&spec.name, &vector(gradient.as_ref().unwrap()), &expected, EXACT);
    }
    // The CPU engine gives the same.
    let cpu = Cpu::new();
    let values = specs.iter().zip(&params).map(|(_, param)| vector(param).into_iter().map(|x| x as f32).collect());
    let weights = biorel::model::Weights { values: values.collect(), specs: specs.clone() };
    let on_cpu = weights.upload(&cpu).unwrap();
    let (_, of_cpu) = model.gradient(&cpu, &on_cpu, &batch, &context, &loss).unwrap();
    for ((spec, ours), reference) in specs.iter().zip(&of_cpu).zip(&gradients) {
        let ours: Vec<f64> = cpu.download(ours.as_ref().unwrap()).unwrap().into_iter().map(f64::from).collect();
        assert_close(&spec.name, &ours, &vector(reference.as_ref().unwrap()), 1e-5);
    }
}

/// Ten steps with dropout 0: losses, gradient norms, learning rates and final weights.
#[test]
fn ten_steps_follow_pytorch() {
    for head in [HeadKind::Attention, HeadKind::Lstm] {
        for bias_correction in [false, true] {
            let kind = if bias_correction { "corrected" } else { "plain" };
            let file = golden(&format!("steps/{head}-{kind}.safetensors"));
            let network =
                Network { encoder: config(), head, labels: 3, padding: None, marker_types: 0, source: Source::Engine };
            ten_steps(&Reference::cpu(), &network, &file, bias_correction, &format!("{head} {kind}"));
        }
    }
}

fn ten_steps<O: Ops>(ops: &O, network: &Network, file: &HashMap<String, Tensor>, bias_correction: bool, what: &str) {
    let values = |spec: &ParamSpec| {
        let values = vector(&parameter(file, "start.", spec));
        values.into_iter().map(|value| value as f32).collect()
    };
    let specs = network.specs();
    let mut weights = biorel::model::Weights { values: specs.iter().map(values).collect(), specs };
    let mut trainer = biorel::train::Trainer::new(
        ops,
        network,
        &weights,
        TrainingSettings {
            head: network.head,
            learning_rate: 1e-3,
            adam_epsilon: if bias_correction { 1e-8 } else { 1e-6 },
            bias_correction,
            max_steps: Some(10),
            dropout: Some(0.0),
            head_dropout: 0.0,
            ..Default::default()
        },
        None,
    )
    .unwrap();
    let (mut losses, mut norms) = (Vec::new(), Vec::new());
    let rates = vector(&file["learning_rates"]);
    for (step, rate) in rates.iter().enumerate() {
        let batch = batch(file, &format!("batch.{}", step % 5));
        let sums = trainer.step(&[batch], *rate).unwrap().get().unwrap();
        losses.push(sums.loss);
        norms.push(sums.norm);
    }
    // 1e-4 is required; f32 achieves 1e-5.
    assert_close(&format!("{what} losses"), &losses, &vector(&file["losses"]), 1e-5);
    assert_close(&format!("{what} norms"), &norms, &vector(&file["grad_norms"]), 1e-4);
    weights = trainer.weights().unwrap();
    for (spec, values) in weights.specs.iter().zip(&weights.values) {
        let mut expected = vector(&parameter(file, "end.", spec));
        let mut ours: Vec<f64> = values.iter().map(|value| f64::from(*value)).collect();
        if spec.name.ends_with("qkv.bias") {
            // The gradient of the keys' bias is rounding noise, which Adam scales up; no output depends on it.
            for part in [&mut expected, &mut ours] {
                part.drain(16..32);
            }
        }
        assert_close(&format!("{what} {}", spec.name), &ours, &expected, 1e-4);
    }
}

/// The schedule that the golden steps used is ours.
#[test]
fn learning_rates_follow_transformers() {
    let file = golden("steps/attention-plain.safetensors");
    let settings = TrainingSettings { learning_rate: 1e-3, max_steps: Some(10), ..Default::default() };
    let schedule = biorel::train::Schedule::new(&settings, 100);
    let rates: Vec<f64> = (0..10).map(|step| schedule.learning_rate(step)).collect();
    assert_close("rates", &rates, &vector(&file["learning_rates"]), 1e-9);
}
