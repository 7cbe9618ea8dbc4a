//! The number of launches of a training step, counted by a device that does not compute. Launches
//! cost the host 2.5 to 4 microseconds each, so they bound how fast small models train
//! (benchmarks/gpu/README.md).
//!
//! candle launches the kernels of some heads itself. Each makes a tensor, and so do views, which launch
//! nothing: the number of tensors is counted, which is an upper bound of the launches.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use biorel::Result;
use biorel::config::{Freeze, HeadKind, TrainingSettings};
use biorel::encode::Batch;
use biorel::model::encoder::{ForwardContext, Frozen, forward};
use biorel::model::{EncoderConfig, Loss, Network, Source, Weights};
use biorel::ops::cuda::device::{Dtype, Gemm, Launch};
use biorel::ops::cuda::{Cuda, Device};
use biorel::train::Trainer;
use candle_core::Tensor;

/// Copies to and from candle's tensors.
const FOR_CANDLE: &str = "copies for candle";

/// A device without memory that counts what is enqueued.
#[derive(Default)]
struct Counter {
    counts: Mutex<BTreeMap<&'static str, usize>>,
    next: AtomicU64,
}

impl Counter {
    fn count(&self, what: &'static str) {
        *self.counts.lock().unwrap().entry(what).or_default() += 1;
    }
}

impl Device for Counter {
    type Memory = u64;
    type Readback = usize;

    fn name(&self) -> String {
        "a counter".into()
    }
    fn allocate(&self, bytes: usize) -> Result<u64> {
        self.count("allocations");
        Ok(self.next.fetch_add(bytes.next_multiple_of(256) as u64, Ordering::Relaxed) + 256)
    }
    fn address(&self, memory: &u64) -> u64 {
        *memory
    }
    unsafe fn upload(&self, _: &[u8], _: u64) -> Result<()> {
        self.count("uploads");
        Ok(())
    }
    unsafe fn download(&self, _: u64, values: &mut [u8]) -> Result<()> {
        self.count("waits");
        values.fill(0);
        Ok(())
    }
    unsafe fn download_async(&self, _: u64, bytes: usize) -> Result<usize> {
        self.count("readbacks");
        Ok(bytes)
    }
    fn wait_for(&self, readback: usize) -> Result<Vec<u8>> {
        Ok(vec![0; readback])
    }
    unsafe fn copy(&self, _: u64, _: u64, _: usize) -> Result<()> {
        self.count("copies");
        Ok(())
    }
    unsafe fn zero(&self, _: u64, _: usize) -> Result<()> {
        self.count("fills");
        Ok(())
    }
    unsafe fn launch(&self, launch: &Launch, _: &mut [*mut c_void]) -> Result<()> {
        self.count(launch.kernel);
        Ok(())
    }
    unsafe fn gemm(&self, _: &Gemm) -> Result<bool> {
        self.count("products");
        Ok(true)
    }
    fn candle(&self) -> candle_core::Device {
        candle_core::Device::Cpu
    }
    unsafe fn to_candle(&self, _: u64, shape: &[usize]) -> Result<Tensor> {
        self.count(FOR_CANDLE);
        Ok(Tensor::zeros(shape, candle_core::DType::F32, &candle_core::Device::Cpu)?)
    }
    unsafe fn from_candle(&self, _: &Tensor, _: u64) -> Result<()> {
        self.count(FOR_CANDLE);
        Ok(())
    }
    fn synchronize(&self) -> Result<()> {
        self.count("waits");
        Ok(())
    }
}

/// Tensors that candle has made until now, in all threads.
fn tensors() -> usize {
    let id = format!("{:?}", Tensor::new(0_u32, &candle_core::Device::Cpu).unwrap().id());
    id.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

fn encoder(name: &str) -> EncoderConfig {
    let (model_type, hidden, layers, feed_forward) = match name {
        "MiniLM" => ("bert", 384, 6, 1536),
        "ModernBERT-base" => ("modernbert", 768, 22, 1152),
        _ => ("bert", 768, 12, 3072),
    };
    serde_json::from_str(&format!(
        r#"{{"model_type": "{model_type}", "vocab_size": 30522, "hidden_size": {hidden}, "num_hidden_layers": {layers},
            "num_attention_heads": 12, "intermediate_size": {feed_forward}, "max_position_embeddings": 512}}"#
    ))
    .unwrap()
}

fn network(encoder: EncoderConfig, head: HeadKind) -> Network {
    Network { encoder, head, labels: 2, padding: None, marker_types: 0, source: Source::Engine }
}

fn weights(network: &Network) -> Weights {
    let specs = network.specs();
    Weights { values: specs.iter().map(|spec| vec![0.0; spec.elements()]).collect(), specs }
}

/// Steps before the one that is counted.
const STEPS: usize = 6;

/// 32 sentences of 47 pieces on average, whose lengths and pieces differ from step to step.
fn batch(step: usize) -> Batch {
    let lengths = (0..32).map(|sentence| 32 + (7 * sentence + 12 * step) % 31);
    let mut cu_seqlens = vec![0];
    lengths.for_each(|length| cu_seqlens.push(cu_seqlens[cu_seqlens.len() - 1] + length));
    let ids: Vec<u32> = (0..cu_seqlens[32]).map(|token| (1 + token * (step + 3) % 29_989) as u32).collect();
    Batch::of_ids(&ids, &cu_seqlens, vec![step as u32 % 2; 32])
}

/// The work that a later step of a training in bf16 enqueues, and its number of candle tensors. Without
/// `reuse` every list is an upload.
fn step(encoder: EncoderConfig, head: HeadKind, reuse: bool) -> (BTreeMap<&'static str, usize>, usize) {
    step_of(encoder, head, reuse, batch)
}

/// The same with the given batch of each step.
fn step_of(
    encoder: EncoderConfig,
    head: HeadKind,
    reuse: bool,
    batch: fn(usize) -> Batch,
) -> (BTreeMap<&'static str, usize>, usize) {
    let network = network(encoder, head);
    let weights = weights(&network);
    let ops = Cuda::with_reuse(Counter::default(), Dtype::Bf16, reuse);
    let settings = TrainingSettings { head, ..Default::default() };
    let mut trainer = Trainer::new(&ops, &network, &weights, settings, None).unwrap();
    for number in 0..STEPS {
        trainer.step(&[batch(number)], 1e-5).unwrap();
    }
    std::mem::take(&mut *ops.device().counts.lock().unwrap());
    let before = tensors();
    trainer.step(&[batch(STEPS)], 1e-5).unwrap();
    let tensors = tensors() - before - 1;
    (std::mem::take(&mut *ops.device().counts.lock().unwrap()), tensors)
}

/// Everything enqueued except uploads, which are small copies from the host.
fn launches(counts: &BTreeMap<&'static str, usize>) -> usize {
    counts.iter().filter(|(what, _)| !["uploads", "allocations", "waits"].contains(what)).map(|(_, n)| n).sum()
}

#[test]
#[ignore = "prints the numbers of benchmarks/gpu/README.md: alone, or other tests' tensors are counted"]
fn launches_of_a_step() {
    for name in ["MiniLM", "BERT-base", "ModernBERT-base"] {
        for head in HeadKind::ALL {
            let (counts, tensors) = step(encoder(name), head, true);
            let lists = step(encoder(name), head, false).0["uploads"];
            println!(
                "{name} {head}: {} launches, {} uploads of {lists} lists, at most {tensors} by candle",
                launches(&counts),
                counts["uploads"]
            );
            println!("    {counts:?}");
        }
    }
}

/// What a head enqueues in a step: its forward, the loss, its backward.
fn of_head(head: HeadKind) -> BTreeMap<&'static str, usize> {
    let network = network(encoder("MiniLM"), head);
    let ops = Cuda::with_reuse(Counter::default(), Dtype::Bf16, true);
    let params = weights(&network).upload(&ops).unwrap();
    // A frozen encoder has its forward alone.
    let frozen = Frozen::new(Some(Freeze::All));
    let context = ForwardContext { head: 0.1, frozen, ..ForwardContext::without_dropout() };
    let counted = |run: &dyn Fn()| {
        std::mem::take(&mut *ops.device().counts.lock().unwrap());
        run();
        std::mem::take(&mut *ops.device().counts.lock().unwrap())
    };
    let step = || drop(network.gradient(&ops, &params, &batch(0), &context, &Loss::mean(32)).unwrap());
    step(); // makes the weights that products read
    let mut counts = counted(&step);
    let reads = head.definition(None).reads;
    let of_encoder = counted(&|| drop(forward(&ops, &network.encoder, &params, &batch(0), None, reads).unwrap()));
    for (what, count) in of_encoder {
        *counts.entry(what).or_default() -= count;
    }
    counts.retain(|_, count| *count > 0);
    counts
}

#[test]
fn a_head_needs_few_launches() {
    for (head, most) in [
        (HeadKind::Cls, 2),
        (HeadKind::Attention, 7),
        (HeadKind::AttentionNoCls, 5),
        (HeadKind::Entity, 4),
        (HeadKind::EntityAttention, 13),
    ] {
        let counts = of_head(head);
        assert!(!counts.contains_key(FOR_CANDLE), "{head}: {counts:?}");
        assert!(launches(&counts) <= most, "{head}: {} launches: {counts:?}", launches(&counts));
    }
}

/// The launches of a whole step; an increase is worth a look. Uploads are two: what is known when the step begins, and
/// addresses at its end.
#[test]
fn a_step_needs_few_launches() {
    for (head, most) in [
        (HeadKind::Cls, 156),
        (HeadKind::Attention, 151),
        (HeadKind::AttentionNoCls, 149),
        (HeadKind::Entity, 157),
        (HeadKind::EntityAttention, 157),
    ] {
        let (counts, _) = step(encoder("MiniLM"), head, true);
        assert!(!counts.contains_key("waits") && !counts.contains_key(FOR_CANDLE), "{head}: {counts:?}");
        assert!(counts["uploads"] <= 2, "{head}: {counts:?}");
        assert!(launches(&counts) <= most, "{head}: {} launches: {counts:?}", launches(&counts));
    }
    // Memory of earlier steps serves steps of the same lengths, but for a few lists: those of earlier steps are kept. With
    // other lengths it does not yet (benchmarks/gpu/README.md).
    let (counts, _) = step_of(encoder("MiniLM"), HeadKind::Attention, true, |_| batch(0));
    assert!(counts.get("allocations").is_none_or(|count| *count <= 4), "{counts:?}");
}
