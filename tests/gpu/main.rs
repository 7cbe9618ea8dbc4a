//! The CUDA engine on a GPU. Where there is none the tests are skipped, and the program says how
//! many and why.
//!
//! A program rather than a harness of `#[test]`s: they share one GPU, and a skipped test
//! should not count as one that passed. `tests/cuda/` runs the same cases on the CPU; what only a
//! GPU shows is here: cuBLASLt, streams, pinned memory, concurrency.

#[path = "../suite/mod.rs"]
mod suite;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use biorel::Error;
use biorel::ops::Ops;
use biorel::ops::cuda::device::{Device, Dtype};
use biorel::ops::cuda::{Cuda, Nvidia};
use candle_core::Tensor;
use suite::{
    accepts_empty_batches, assert_close, assert_each_close, exact, refuses_mismatched_shapes, small_encoders, suite,
};

/// Largest difference from the reference in f64, relative to the largest expected value of a result
/// (at least 1). The GPU's `expf` and `rsqrtf` are off by a few units in the last place.
const F32_TOLERANCE: f64 = 1e-5;
/// The same with bf16 products: an operand is off by up to 2^-9, and so is the result.
const BF16_TOLERANCE: f64 = 2e-2;
/// The same where products follow each other.
const BF16_CHAIN_TOLERANCE: f64 = 5e-2;

const TESTS: [(&str, fn()); 10] = [
    ("every operation in f32 equals the reference", every_operation_in_f32),
    ("every operation in bf16 equals the reference", every_operation_in_bf16),
    ("a whole encoder equals the reference", a_whole_encoder),
    ("mismatched shapes are refused", || refuses_mismatched_shapes(&engine(Dtype::Bf16))),
    ("batches may be empty", || accepts_empty_batches(&engine(Dtype::Bf16))),
    ("the same call gives the same bits", the_same_bits),
    ("two concurrent streams give the bits of one", two_concurrent_streams),
    ("what is uploaded comes back, however much is under way", uploads),
    ("candle's tensors have the same values", candle_tensors),
    ("an allocation that is too large is an error that names the remedy", exhausted_memory),
];

fn main() -> ExitCode {
    if let Err(error) = Nvidia::open(0) {
        println!("gpu: {} tests skipped: {error}", TESTS.len());
        return ExitCode::SUCCESS;
    }
    println!("gpu: {}", device().name());
    let failed = TESTS.iter().filter(|(name, test)| {
        let failed = catch_unwind(AssertUnwindSafe(test)).is_err();
        println!("{name} ... {}", if failed { "FAILED" } else { "ok" });
        failed
    });
    let failed = failed.count();
    println!("gpu: {} passed, {failed} failed", TESTS.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn device() -> Nvidia {
    Nvidia::open(0).expect("it could be opened before")
}

fn engine(products: Dtype) -> Cuda<Nvidia> {
    Cuda::new(device(), products)
}

fn every_operation_in_f32() {
    assert_close(&suite(&engine(Dtype::F32)), &suite(&exact()), F32_TOLERANCE, "f32");
}

fn every_operation_in_bf16() {
    assert_each_close(suite(&engine(Dtype::Bf16)), &suite(&exact()), [BF16_TOLERANCE, BF16_CHAIN_TOLERANCE], "bf16");
}

fn a_whole_encoder() {
    let expected = small_encoders(&exact());
    assert_close(&small_encoders(&engine(Dtype::F32)), &expected, 2e-5, "f32");
    assert_close(&small_encoders(&engine(Dtype::Bf16)), &expected, 5e-2, "bf16");
}

fn the_same_bits() {
    for products in [Dtype::F32, Dtype::Bf16] {
        assert!(suite(&engine(products)) == suite(&engine(products)), "{products:?}");
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
        (0..300).map(|i| (0..1 + 37 * i * (i % 7)).map(|j| (i * 1_000_003 + j) as f32).collect()).collect();
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
    let Err(Error::Device { message, .. }) = device.allocate(1 << 48) else { panic!("256 TB were allocated") };
    assert!(message.contains("batch_size") && message.contains("jobs=") && message.contains("are free"), "{message}");
    // And it continues to work.
    assert!(device.allocate(1 << 20).is_ok());
}
