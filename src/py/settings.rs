//! Training settings from a Python dict: every value that cannot be used is an error that names its key.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::error::ConfigError;
use crate::config::{ClassWeights, TrainingSettings};

/// Checked settings of a training run.
#[pyclass(frozen, name = "Settings", module = "biorel._biorel")]
pub struct PySettings(pub TrainingSettings);

#[pymethods]
impl PySettings {
    /// From the keyword arguments of `finetune`; those that are missing have their defaults.
    #[new]
    fn new(values: &Bound<'_, PyDict>) -> PyResult<Self> {
        let mut training = TrainingSettings::default();
        for (key, value) in values {
            let field: String = key.extract()?;
            match field.as_str() {
                "head" => training.head = text(&field, &value)?.parse()?,
                "learning_rate" => training.learning_rate = number(&field, &value)?,
                "batch_size" => training.batch_size = count(&field, &value)?,
                "epochs" => training.epochs = count(&field, &value)?,
                "max_steps" => training.max_steps = optional(&value, |value| count(&field, value))?,
                "max_length" => training.max_length = count(&field, &value)?,
                "too_long" => training.too_long = text(&field, &value)?.parse()?,
                "seed" => training.seed = count(&field, &value)? as u64,
                "warmup" => training.warmup = number(&field, &value)?,
                "weight_decay" => training.weight_decay = number(&field, &value)?,
                "max_grad_norm" => training.max_grad_norm = number(&field, &value)?,
                "betas" => training.betas = pair(&field, &value)?,
                "epsilon" => training.epsilon = number(&field, &value)?,
                "bias_correction" => training.bias_correction = truth(&field, &value)?,
                "dropout" => {
                    training.dropout = optional(&value, |value| number(&field, value))?.map(|rate| rate as f32)
                }
                "head_dropout" => training.head_dropout = number(&field, &value)? as f32,
                "accumulation" => training.accumulation = count(&field, &value)?,
                "class_weights" => training.class_weights = optional(&value, |value| class_weights(&field, value))?,
                "focal_gamma" => training.focal_gamma = number(&field, &value)?,
                "layer_decay" => training.layer_decay = number(&field, &value)?,
                "freeze" => training.freeze = optional(&value, |value| count(&field, value))?,
                "negatives" => training.negatives = optional(&value, |value| number(&field, value))?,
                "evaluate_every" => training.evaluate_every = optional(&value, |value| count(&field, value))?,
                "patience" => training.patience = optional(&value, |value| count(&field, value))?,
                "keep" => training.keep = text(&field, &value)?.parse()?,
                "compat" => {
                    training.compat =
                        optional(&value, |value| text(&field, value))?.map(|name| name.parse()).transpose()?
                }
                "checkpoint_layers" => training.checkpoint_layers = truth(&field, &value)?,
                "precision" => training.precision = text(&field, &value)?.parse()?,
                _ => return Err(refuse(&field, "is not a setting")),
            }
        }
        training.validate()?;
        Ok(Self(training))
    }

    /// All settings, defaults included, as JSON.
    #[getter]
    fn json(&self) -> PyResult<String> {
        serde_json::to_string(&self.0).map_err(|e| super::error::internal(&e.to_string()))
    }
}

fn refuse(field: &str, message: &str) -> PyErr {
    ConfigError::new_err((format!("{field}: {message}"), field.to_string()))
}

/// What a value is, in words for a message.
fn shown(value: &Bound<'_, PyAny>) -> String {
    value.repr().map_or_else(|_| "a value without a repr".into(), |repr| repr.to_string())
}

fn text(field: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    value.extract().map_err(|_| refuse(field, &format!("must be a string, not {}", shown(value))))
}

fn truth(field: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    value.extract().map_err(|_| refuse(field, &format!("must be True or False, not {}", shown(value))))
}

fn number(field: &str, value: &Bound<'_, PyAny>) -> PyResult<f64> {
    value.extract().map_err(|_| refuse(field, &format!("must be a number, not {}", shown(value))))
}

pub fn count(field: &str, value: &Bound<'_, PyAny>) -> PyResult<usize> {
    value.extract().map_err(|_| refuse(field, &format!("must be a whole number from 0, not {}", shown(value))))
}

fn pair(field: &str, value: &Bound<'_, PyAny>) -> PyResult<[f64; 2]> {
    value.extract().map_err(|_| refuse(field, &format!("must be two numbers, not {}", shown(value))))
}

fn class_weights(field: &str, value: &Bound<'_, PyAny>) -> PyResult<ClassWeights> {
    if value.extract::<&str>().is_ok_and(|name| name == "balanced") {
        return Ok(ClassWeights::Balanced);
    }
    // A string would also extract as a list, of its letters.
    let weights = if value.is_instance_of::<PyString>() { None } else { value.extract().ok() };
    let message = || format!("must be \"balanced\" or one number for each label, not {}", shown(value));
    weights.map(ClassWeights::Given).ok_or_else(|| refuse(field, &message()))
}

fn optional<T>(value: &Bound<'_, PyAny>, get: impl Fn(&Bound<'_, PyAny>) -> PyResult<T>) -> PyResult<Option<T>> {
    if value.is_none() { Ok(None) } else { get(value).map(Some) }
}
