//! An operation of candle whose value the engine has computed, so that candle can differentiate it.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp2, Layout, Shape, Storage, Tensor};

use crate::Result;

/// Maps the gradient of the value to those of the two arguments.
type Backward = dyn Fn(&Tensor) -> Result<(Tensor, Tensor)> + Send + Sync;

/// A value that was computed outside candle, and its backward.
pub(super) struct Precomputed {
    name: &'static str,
    value: Tensor,
    backward: Box<Backward>,
}

impl Precomputed {
    /// `value`, as a function of the two arguments.
    pub(super) fn apply(
        name: &'static str,
        value: Tensor,
        [first, second]: [&Tensor; 2],
        backward: impl Fn(&Tensor) -> Result<(Tensor, Tensor)> + Send + Sync + 'static,
    ) -> Result<Tensor> {
        Ok(first.apply_op2(second, Self { name, value, backward: Box::new(backward) })?)
    }
}

impl CustomOp2 for Precomputed {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        match &*self.value.storage_and_layout().0 {
            Storage::Cpu(storage) => Ok((storage.clone(), self.value.shape().clone())),
            _ => candle_core::bail!("{}: the value is not on the CPU", self.name),
        }
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        let (storage, layout) = self.value.storage_and_layout();
        match &*storage {
            Storage::Cuda(storage) => Ok((storage.try_clone(layout)?, self.value.shape().clone())),
            _ => candle_core::bail!("{}: the value is not on the GPU", self.name),
        }
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        match (self.backward)(gradient) {
            Ok((first, second)) => Ok((Some(first), Some(second))),
            Err(error) => candle_core::bail!("{}: {error}", self.name),
        }
    }
}
