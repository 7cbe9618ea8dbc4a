//! The parameters of a head as candle-nn's `VarBuilder` hands them out.
//!
//! A backend of our own, because `VarMap` draws from a generator that cannot be seeded on a CPU and
//! forgets the order in which its variables were declared. Files, the optimizer and the engines
//! need names, order and seed.

use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Error, Result, Shape, Tensor};
use candle_nn::var_builder::{Backend, VarBuilderArgs};

use crate::model::{Init, ParamSpec};

/// candle-nn's builder of variables, with [`Init`] for hints, so that BERT's truncated normal and
/// the bias of a forget gate are available as well as candle-nn's own initialisers.
pub type VarBuilder<'a> = VarBuilderArgs<'a, &'a Parameters>;

/// Parameters in the order in which a head declares them.
#[derive(Debug, Default)]
pub struct Parameters {
    /// Values for a head that computes; `None` for one that only declares its parameters.
    values: Option<Vec<Tensor>>,
    declared: Mutex<Vec<ParamSpec>>,
}

impl Parameters {
    /// These values, in the order of [`super::specs`], become the head's.
    pub fn with_values(values: Vec<Tensor>) -> Self {
        Self { values: Some(values), ..Self::default() }
    }

    /// The builder at the root of all names.
    pub fn builder(&self) -> VarBuilder<'_> {
        // The values have their own type and device.
        VarBuilderArgs::new_with_args(self, DType::F32, &Device::Cpu)
    }

    /// The parameters declared so far.
    pub fn declared(&self) -> MutexGuard<'_, Vec<ParamSpec>> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for &Parameters {
    type Hints = Init;

    fn get(&self, shape: Shape, name: &str, init: Init, _: DType, _: &Device) -> Result<Tensor> {
        let mut declared = self.declared();
        let index = declared.len();
        declared.push(ParamSpec::new(name, shape.dims(), init));
        let Some(values) = &self.values else {
            // A view of one number: declaring allocates nothing of the parameter's size.
            return Tensor::zeros((), DType::F32, &Device::Cpu)?.broadcast_as(shape);
        };
        match values.get(index) {
            Some(value) if value.shape() == &shape => Ok(value.clone()),
            Some(value) => Err(Error::UnexpectedShape {
                msg: format!("parameter {name} of the head"),
                expected: shape,
                got: value.shape().clone(),
            }),
            None => self.get_unchecked(name, DType::F32, &Device::Cpu),
        }
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        Err(Error::CannotFindTensor { path: name.to_owned() })
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.declared().iter().any(|spec| spec.name == name)
    }
}
