//! The engine for NVIDIA GPUs: our own kernels (`kernels/`) and the device's matrix products.
//!
//! [`Cuda`] implements [`Ops`](super::Ops) over the trait [`Device`], so it is one engine on a GPU and on the CPU, where a
//! device that compiles the same kernel sources with a C++ compiler (`tests/cuda/`) holds it to the reference engine.
//!
//! | file | what is in it |
//! |---|---|
//! | `device.rs` | what the engine needs of a device |
//! | `buffer.rs` | arrays in f32, bf16 or both, and the pool of their memory |
//! | `engine.rs` | [`Cuda`] itself: launches, conversions, products |
//! | `operations.rs` | `impl Ops`: which of these does what |
//! | `embedding.rs`, `dense.rs`, `norm.rs`, `elements.rs` | embeddings and rows; products; LayerNorm; GELU, dropout, loss |
//! | `sums.rs` | sums over rows, whose second stages are one launch a step |
//! | `attention.rs` | the work list of the attention kernels, and their launches |
//! | `optimizer.rs` | AdamW and norms over many arrays in one launch |
//! | `recurrence.rs`, `words.rs` | for heads: the LSTM, and attention over words, forward and backward |
//! | `candle_op.rs` | how a head's autograd comes to them |
//! | `nvidia.rs`, `products.rs`, `driver.rs` | with the feature `cuda`: the device on a GPU, its matrix products, what the driver says |
//! | `shapes.rs` | refusals of what does not fit |
//! | `kernels/` | the kernels; `common.cuh` has the rules they keep, `all.cu` is what is compiled |
//!
//! Precision. With f32 products everything is f32. With bf16 products the operands of products and the tensors between
//! them are bf16, sums are f32, and so are the residual stream and its gradient, statistics, master weights, gradients of
//! weights and the optimizer's state.
//!
//! Deterministic. No atomics on floats, sums in an order that depends on shapes alone, dropout from the counter-based
//! generator of `rng.rs`: the masks of the other engines.
//!
//! No call waits for the device but [`Ops::download`](super::Ops::download) and [`Ops::sum_squares`](super::Ops::sum_squares).
//! So a step of training waits for nothing: what it came to is asked for when [`AHEAD`] more are enqueued.

mod attention;
mod buffer;
mod candle_op;
mod dense;
pub mod device;
#[cfg(feature = "cuda")]
pub(super) mod driver;
mod elements;
mod embedding;
mod engine;
mod norm;
#[cfg(feature = "cuda")]
pub mod nvidia;
mod operations;
mod optimizer;
#[cfg(feature = "cuda")]
mod products;
mod recurrence;
mod shapes;
mod sums;
mod words;

pub use attention::Probabilities;
pub use buffer::Buffer;
pub use device::Device;
pub use engine::{AHEAD, Cuda};
#[cfg(feature = "cuda")]
pub use nvidia::Nvidia;
