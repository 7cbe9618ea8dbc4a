//! biorel's side of the benchmarks that need no Python: `cargo bench --bench measure -- WHAT [name=value ...]` prints one
//! line of JSON. `benchmarks/speed/bench.py` runs it in turn with the same measurement of PyTorch (`baseline_measure.py`).
//!
//! - `heads [encoder=minilm] [heads=cls,lstm] [steps=15]`: a training step with each head, in turn
//! - `gemm [engine=f32]`: matrix products of the encoders' shapes
//! - `optimizer`: AdamW on the parameters of BERT-base
//! - `steps [encoder=minilm] [points=LENGTH:BATCH:THREADS,...] [repeats=3] [recompute=0]`: training steps of
//!   other sizes
//! - `reading`: reading, marking and tokenising the published corpora (`BIOREL_CORPORA`); packing of batches
//!
//! `engine=` is `f32` (what users run), `bf16`, or an instruction set: `portable`, `avx2`, `avx512`.

#[path = "../workload.rs"]
mod workload;

mod gemm;
mod heads;
mod optimizer;
mod reading;
mod steps;

use std::collections::BTreeMap;
use std::time::Instant;

use biorel::ops::Cpu;
use biorel::ops::cpu::bf16::Bf16Isa;

/// `name=value` from the command line.
pub struct Options(BTreeMap<String, String>);

impl Options {
    /// The value, or the default.
    pub fn get<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.0.get(name).map_or(default, String::as_str)
    }

    /// The value as a number.
    pub fn number(&self, name: &str, default: &str) -> usize {
        self.get(name, default).parse().unwrap_or_else(|_| panic!("{name}= must be a number"))
    }

    /// The engine to measure.
    pub fn engine(&self) -> Cpu {
        workload::engine(self.get("engine", "f32"))
    }
}

/// The middle of some durations.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Seconds that a call takes.
pub fn seconds<T>(call: impl FnOnce() -> T) -> f64 {
    let start = Instant::now();
    std::hint::black_box(call());
    start.elapsed().as_secs_f64()
}

/// The most memory that this process held, in MiB, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().split(' ').next()?.parse::<u64>().ok().map(|kilobytes| kilobytes / 1024)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let (what, options) = arguments.split_first().expect("what to measure: heads, gemm, optimizer, steps or reading");
    let pair = |option: &String| {
        let (name, value) = option.split_once('=').expect("options are name=value");
        (name.to_owned(), value.to_owned())
    };
    let options = Options(options.iter().map(pair).collect());
    let mut record = match what.as_str() {
        "heads" => heads::measure(&options),
        "gemm" => gemm::measure(&options),
        "optimizer" => optimizer::measure(&options),
        "steps" => steps::measure(&options),
        "reading" => reading::measure(),
        other => panic!("`{other}` is none of heads, gemm, optimizer, steps, reading"),
    };
    let level = options.engine().level().name();
    record["instructions"] = match options.get("engine", "f32") {
        "bf16" => format!("{level}, {}", Bf16Isa::detect().name()).into(),
        _ => level.into(),
    };
    record["threads"] = rayon::current_num_threads().into();
    if let Some(memory) = peak_memory() {
        record["peak_memory_mb"] = memory.into();
    }
    println!("{record}");
}
