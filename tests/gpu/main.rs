//! The CUDA engine on a GPU. Where there is none the tests are skipped, and the program says how
//! many and why.
//!
//! A program rather than a harness of `#[test]`s: each test is a process of its own with a time
//! limit, because a fault of the GPU makes every later call of its process fail, and a skipped test
//! should not count as one that passed. It runs by itself on another machine (`make gpu-kit`):
//!
//! ```text
//! gpu [--seconds N] [NAME ...]   the tests with these names, or all; N is the limit for each
//! gpu --list                     their names
//! gpu --here NAME                one test in this process, for a sanitizer or a debugger
//! ```
//!
//! `tests/cuda/` runs the same cases on the CPU; what only a GPU shows is here: cuBLASLt, streams,
//! pinned memory, concurrency.

#[path = "../suite/mod.rs"]
#[allow(dead_code)] // the tests of the other engines use the rest
mod suite;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use biorel::Error;
use biorel::ops::cuda::device::{Device, Dtype};
use biorel::ops::cuda::gpus::gpus;
use biorel::ops::cuda::{Cuda, Nvidia};
use biorel::ops::{Ops, Reference};
use candle_core::Tensor;
use suite::{
    HEAD_OPERATIONS, MODERN_OPERATIONS, OPERATIONS, Results, accepts_empty_batches, assert_close, differences,
    each_case, exact, refuses_mismatched_heads, refuses_mismatched_shapes, small_encoders,
};

/// Largest difference from the reference in f64, relative to the largest expected value of a result
/// (at least 1). The GPU's `expf` and `rsqrtf` are off by a few units in the last place.
const F32_TOLERANCE: f64 = 1e-5;
/// The same with bf16 products: an operand is off by up to 2^-9, and so is the result.
const BF16_TOLERANCE: f64 = 2e-2;
/// The same where products follow each other.
const BF16_CHAIN_TOLERANCE: f64 = 5e-2;

/// Limit for one test in seconds, unless the command says otherwise.
const SECONDS: u64 = 120;

type Test = Box<dyn Fn()>;

/// All tests with their names: `f32-linear` is the operation `linear` with matrix products in f32.
fn tests() -> Vec<(String, Test)> {
    let mut tests: Vec<(String, Test)> = vec![];
    for (products, name) in [(Dtype::F32, "f32"), (Dtype::Bf16, "bf16")] {
        for operation in OPERATIONS.into_iter().chain(MODERN_OPERATIONS).chain(HEAD_OPERATIONS) {
            tests.push((format!("{name}-{operation}"), Box::new(move || equals_the_reference(operation, products))));
        }
        tests.push((format!("{name}-encoder"), Box::new(move || a_whole_encoder(products))));
        tests.push((format!("{name}-same-bits"), Box::new(move || the_same_bits(products))));
    }
    let others: [(&str, fn()); 9] = [
        ("refuses-mismatched-shapes", || refuses_mismatched_shapes(&engine(Dtype::Bf16))),
        ("refuses-mismatched-heads", || refuses_mismatched_heads(&engine(Dtype::Bf16))),
        ("accepts-empty-batches", || accepts_empty_batches(&engine(Dtype::Bf16))),
        ("products-of-any-shape", products_of_any_shape),
        ("stream-used-again", a_stream_used_again),
        ("two-concurrent-streams", two_concurrent_streams),
        ("uploads", uploads),
        ("candle-tensors", candle_tensors),
        ("exhausted-memory", exhausted_memory),
    ];
    tests.extend(others.map(|(name, test)| (name.into(), Box::new(test) as Test)));
    tests
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let tests = tests();
    let find = |name: &str| tests.iter().find(|(known, _)| known == name);
    let (seconds, names) = match words.as_slice() {
        ["--list"] => {
            tests.iter().for_each(|(name, _)| println!("{name}"));
            return ExitCode::SUCCESS;
        }
        ["--here", name] => {
            let Some((_, test)) = find(name) else { return unknown(name) };
            match Nvidia::open(0) {
                Ok(_) => test(),
                Err(error) => println!("{name} skipped: {error}"),
            }
            return ExitCode::SUCCESS;
        }
        ["--seconds", seconds, names @ ..] => match seconds.parse() {
            Ok(seconds) => (seconds, names),
            Err(_) => return unknown(seconds),
        },
        names => (SECONDS, names),
    };
    if let Some(name) = names.iter().find(|name| find(name).is_none()) {
        return unknown(name);
    }
    let chosen: Vec<&String> =
        tests.iter().map(|(name, _)| name).filter(|name| names.is_empty() || names.contains(&name.as_str())).collect();
    // The device is closed again before the tests run.
    match Nvidia::open(0) {
        Ok(device) => println!("gpu: {}", device.name()),
        Err(error) => {
            println!("gpu: {} tests skipped: {error}", chosen.len());
            return ExitCode::SUCCESS;
        }
    }
    let failed = chosen.iter().filter(|name| !alone(name, Duration::from_secs(seconds))).count();
    println!("gpu: {} passed, {failed} failed", chosen.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn unknown(argument: &str) -> ExitCode {
    eprintln!("gpu: `{argument}` is no test and no option; --list has the names");
    ExitCode::from(2)
}

/// Run a test in a process of its own; whether it passed.
fn alone(name: &str, limit: Duration) -> bool {
    let started = Instant::now();
    let program = std::env::current_exe().expect("this program has a path");
    let mut child = match Command::new(program).args(["--here", name]).spawn() {
        Ok(child) => child,
        Err(error) => {
            println!("{name} ... FAILED: no process: {error}");
            return false;
        }
    };
    let outcome = loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => break Ok(()),
            Ok(Some(status)) => break Err(status.to_string()),
            Ok(None) if started.elapsed() < limit => std::thread::sleep(Duration::from_millis(20)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                break Err(format!("not done in {} s", limit.as_secs()));
            }
            Err(error) => break Err(error.to_string()),
        }
    };
    let seconds = started.elapsed().as_secs_f64();
    match &outcome {
        Ok(()) => println!("{name} ... ok ({seconds:.1} s)"),
        Err(reason) => println!("{name} ... FAILED ({seconds:.1} s): {reason}"),
    }
    outcome.is_ok()
}

fn device() -> Nvidia {
    Nvidia::open(0).expect("it could be opened before")
}

fn engine(products: Dtype) -> Cuda<Nvidia> {
    Cuda::new(device(), products)
}

/// Every case of an operation. A case that fails does not hide the others: all that differ, and all
/// that end in an error, are listed.
fn equals_the_reference(operation: &str, products: Dtype) {
    let tolerance = match (products, operation) {
        (Dtype::F32, _) => F32_TOLERANCE,
        (Dtype::Bf16, "first-attention") => BF16_CHAIN_TOLERANCE,
        (Dtype::Bf16, _) => BF16_TOLERANCE,
    };
    let (ops, reference) = (engine(products), exact());
    let mut expected: Vec<Results> = vec![];
    each_case::<Reference>(operation, &mut |case| {
        let mut results = Results::new();
        case(&reference, &mut results);
        expected.push(results);
    });
    let (mut found, mut number): (Vec<String>, usize) = (vec![], 0);
    each_case::<Cuda<Nvidia>>(operation, &mut |case| {
        let expected = &expected[number];
        number += 1;
        let mut results = Results::new();
        let outcome = catch_unwind(AssertUnwindSafe(|| case(&ops, &mut results)));
        // Also what was computed before an error.
        found.extend(differences(&results, expected, tolerance));
        if let Err(panic) = outcome {
            let after = expected.get(results.len()).map_or("its end", |(name, _)| name.as_str());
            found.push(format!("case {number}, before {after}: {}", message(panic.as_ref())));
        }
    });
    assert!(found.is_empty(), "{operation}: {} failures in {number} cases\n{}", found.len(), found.join("\n"));
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic")
}

fn a_whole_encoder(products: Dtype) {
    let tolerance = if products == Dtype::F32 { 2e-5 } else { 5e-2 };
    assert_close(&small_encoders(&engine(products)), &small_encoders(&exact()), tolerance, "encoder");
}

/// With rows whose length breaks the alignment, which cuBLASLt may refuse with a bias, and numbers of
/// tokens around those that its algorithms are chosen for.
fn products_of_any_shape() {
    for (products, tolerance) in [(Dtype::F32, F32_TOLERANCE), (Dtype::Bf16, BF16_TOLERANCE)] {
        let ops = engine(products);
        for (rows, inputs, outputs) in
            [(1, 1, 1), (1, 2, 3), (5, 7, 3), (63, 100, 2), (64, 33, 65), (65, 768, 1), (129, 1, 384), (130, 384, 385)]
        {
            let what = format!("{rows} x {inputs} x {outputs} in {products:?}");
            let mut all = (Results::new(), Results::new());
            suite::linear(&ops, &mut all.0, rows, inputs, outputs);
            suite::linear(&exact(), &mut all.1, rows, inputs, outputs);
            assert_close(&all.0, &all.1, tolerance, &what);
        }
    }
}

fn a_stream_used_again() {
    let first = small_encoders(&engine(Dtype::Bf16));
    for _ in 0..3 {
        assert!(small_encoders(&engine(Dtype::Bf16)) == first);
    }
}

fn the_same_bits(products: Dtype) {
    let (first, second) = (engine(products), engine(products));
    for operation in OPERATIONS.into_iter().chain(MODERN_OPERATIONS).chain(HEAD_OPERATIONS) {
        each_case::<Cuda<Nvidia>>(operation, &mut |case| {
            let (mut one, mut other) = (Results::new(), Results::new());
            case(&first, &mut one);
            case(&second, &mut other);
            assert!(one == other, "{operation}, {}", one[0].0);
        });
    }
}

fn two_concurrent_streams() {
    let alone = small_encoders(&engine(Dtype::Bf16));
    let together = std::thread::scope(|scope| {
        let run = || (0..20).map(|_| small_encoders(&engine(Dtype::Bf16))).collect::<Vec<_>>();
        let threads = [scope.spawn(run), scope.spawn(run)];
        threads.map(|thread| thread.join().expect("it does not panic"))
    });
    assert!(together.iter().flatten().all(|results| *results == alone));
}

fn uploads() {
    let ops = engine(Dtype::F32);
    // More than there are slots of pinned memory, smaller and larger than one.
    let arrays: Vec<Vec<f32>> =
        (0..300).map(|i| (0..1 + 47 * i * (i % 7)).map(|j| (i * 1_000_003 + j) as f32).collect()).collect();
    let buffers: Vec<_> = arrays.iter().map(|values| ops.upload(values, &[values.len()]).unwrap()).collect();
    for (values, buffer) in arrays.iter().zip(&buffers) {
        assert!(ops.download(buffer).unwrap() == *values);
    }
}

fn candle_tensors() {
    let ops = engine(Dtype::Bf16);
    let values: Vec<f32> = (0..35).map(|i| i as f32 * 0.1).collect();
    let tensor = ops.to_candle(&ops.upload(&values, &[5, 7]).unwrap()).unwrap();
    assert!(tensor.device().same_device(&ops.device().candle()));
    assert_eq!(tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap(), values);
    // Not contiguous, and not from its storage's start.
    let part = tensor.t().unwrap().narrow(0, 2, 3).unwrap();
    let expected: Vec<f32> = (2..5).flat_map(|column| (0..5).map(move |row| (row * 7 + column) as f32 * 0.1)).collect();
    assert_eq!(ops.download(&ops.upload_candle(&part).unwrap()).unwrap(), expected);
    let rows = tensor.narrow(0, 3, 2).unwrap();
    assert_eq!(ops.download(&ops.upload_candle(&rows).unwrap()).unwrap(), values[21..]);
    let elsewhere = Tensor::from_slice(&values, (5, 7), &candle_core::Device::Cpu).unwrap();
    assert_eq!(ops.download(&ops.upload_candle(&elsewhere).unwrap()).unwrap(), values);
}

fn exhausted_memory() {
    let device = device();
    // More than the card has, and not so much that the driver calls the number itself invalid.
    let bytes = 4 * gpus().expect("there is one")[0].memory;
    let Err(Error::Device { message, .. }) = device.allocate(bytes) else { panic!("{bytes} bytes were allocated") };
    assert!(message.contains("batch_size") && message.contains("jobs=") && message.contains("are free"), "{message}");
    // And it continues to work.
    assert!(device.allocate(1 << 20).is_ok());
}
