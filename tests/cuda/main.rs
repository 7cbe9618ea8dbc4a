//! The CUDA engine without a GPU: the whole engine over a device that runs its kernels on the CPU (`host.rs`).

mod host;
#[path = "../suite/mod.rs"]
mod suite;

use std::sync::Arc;

use biorel::ops::cuda::Cuda;
use biorel::ops::cuda::device::Element;
use host::{Host, Schedule, Shim};
use suite::{assert_close, encoder, exact, suite};

/// Largest difference from the reference in f64, relative to the largest expected value of a result (at least 1).
const F32_TOLERANCE: f64 = 5e-6;
/// The same with bf16 products: an operand is off by up to 2^-9, and so is what comes out.
const BF16_TOLERANCE: f64 = 1.5e-2;

fn engine(shim: Arc<Shim>, products: Element, schedule: Schedule) -> Cuda<Host> {
    Cuda::new(Host::new(shim, schedule), products)
}

#[test]
fn every_operation_in_f32_equals_the_reference() {
    let Some(shim) = Shim::get() else { return };
    assert_close(&suite(&engine(shim, Element::F32, Schedule::Forward)), &suite(&exact()), F32_TOLERANCE, "f32");
}

#[test]
fn every_operation_in_bf16_equals_the_reference() {
    let Some(shim) = Shim::get() else { return };
    assert_close(&suite(&engine(shim, Element::Bf16, Schedule::Forward)), &suite(&exact()), BF16_TOLERANCE, "bf16");
}

#[test]
fn a_whole_encoder_equals_the_reference() {
    let Some(shim) = Shim::get() else { return };
    let expected = encoder(&exact());
    assert_close(&encoder(&engine(shim.clone(), Element::F32, Schedule::Forward)), &expected, 1e-5, "f32");
    assert_close(&encoder(&engine(shim, Element::Bf16, Schedule::Forward)), &expected, 5e-2, "bf16");
}
