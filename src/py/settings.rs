//! Training settings from a Python dict, driven by the `Deserialize` of [`TrainingSettings`]: which
//! settings there are, and of what type, is declared there alone. A value that cannot be used is an
//! error that names its key.
//!
//! Ours rather than `pythonize` (0.30): that takes the truth of any object for a bool, so that
//! `bias_correction="no"` turns it on, and its errors name neither the key nor the value.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyString};
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqDeserializer};
use serde::de::{DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::error::ConfigError;
use crate::config::TrainingSettings;
use crate::encode::Marking;
use crate::model::markers;

/// Checked settings of a training run.
#[pyclass(frozen, name = "Settings", module = "biorel._biorel")]
pub struct PySettings(pub TrainingSettings);

#[pymethods]
impl PySettings {
    /// From the keyword arguments of `finetune`; those that are missing have their defaults.
    #[new]
    fn new(values: &Bound<'_, PyDict>) -> PyResult<Self> {
        let values = values.iter().map(|(field, value)| Ok((field.extract()?, value)));
        let values = Values { left: values.collect::<PyResult<Vec<_>>>()?.into_iter(), current: None };
        let settings = TrainingSettings::deserialize(MapAccessDeserializer::new(values)).map_err(Refused::into_py)?;
        settings.validate()?;
        Ok(Self(settings))
    }

    /// Refuse settings that do not fit a marking.
    fn check_marking(&self, marking: &str) -> PyResult<()> {
        let marking: Marking = marking.parse()?;
        if marking.is_levitated() {
            markers::check(&self.0)?;
        }
        Ok(())
    }

    /// All settings, defaults included, as JSON.
    #[getter]
    fn json(&self) -> PyResult<String> {
        serde_json::to_string(&self.0).map_err(|e| super::error::internal(&e.to_string()))
    }
}

/// The settings that have not been read yet, and the one whose key has been.
struct Values<'py> {
    left: std::vec::IntoIter<(String, Bound<'py, PyAny>)>,
    current: Option<(String, Bound<'py, PyAny>)>,
}

impl<'de> MapAccess<'de> for Values<'_> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Refused> {
        self.current = self.left.next();
        self.current.as_ref().map(|(field, _)| seed.deserialize(field.as_str().into_deserializer())).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Refused> {
        let (field, value) = self.current.take().ok_or_else(|| Refused::custom("has no value"))?;
        seed.deserialize(Value(&value)).map_err(|error| error.of(&field, &value))
    }
}

/// The value of a setting.
struct Value<'a, 'py>(&'a Bound<'py, PyAny>);

impl Value<'_, '_> {
    /// The value as a `T`. True and False, which Python counts as numbers, are refused.
    fn number<T: for<'a> FromPyObject<'a, 'a>>(&self, expected: &str) -> Result<T, Refused> {
        let number = if self.0.is_instance_of::<PyBool>() { None } else { self.0.extract().ok() };
        number.ok_or_else(|| Refused::custom(expected))
    }
}

impl<'de> Deserializer<'de> for Value<'_, '_> {
    type Error = Refused;

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_bool(self.0.extract().map_err(|_| Refused::custom("must be True or False"))?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_u64(self.number("must be a whole number from 0")?)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_f64(self.number("must be a number")?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        if self.0.is_none() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        match self.0.extract::<String>() {
            Ok(name) if variants.contains(&name.as_str()) => visitor.visit_enum(name.into_deserializer()),
            _ => Err(Refused::custom(format!("must be one of {}", variants.join(", ")))),
        }
    }

    /// For the weights of labels, which are a name or a list, and frozen layers, a name or a number.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        if self.0.is_instance_of::<PyString>() {
            visitor.visit_string(self.0.extract().map_err(|_| Refused::custom("must be text"))?)
        } else if let Ok(values) = self.0.extract::<Vec<Bound<'_, PyAny>>>() {
            visitor.visit_seq(SeqDeserializer::new(values.iter().map(Value)))
        } else if let Ok(number) = self.number("") {
            visitor.visit_u64(number)
        } else {
            self.deserialize_f64(visitor)
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u128 char str string bytes byte_buf unit unit_struct newtype_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

impl IntoDeserializer<'_, Refused> for Value<'_, '_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Why a setting cannot be used.
#[derive(Debug)]
struct Refused {
    field: String,
    message: String,
}

impl Refused {
    /// With the setting and its value, which a deserializer does not know.
    fn of(self, field: &str, value: &Bound<'_, PyAny>) -> Self {
        let shown = value.repr().map_or_else(|_| "a value without a repr".into(), |repr| repr.to_string());
        Self { field: field.into(), message: format!("{}, not {shown}", self.message) }
    }

    fn into_py(self) -> PyErr {
        ConfigError::new_err((self.to_string(), self.field))
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl std::error::Error for Refused {}

impl Error for Refused {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self { field: String::new(), message: message.to_string() }
    }

    fn unknown_field(field: &str, _known: &'static [&'static str]) -> Self {
        Self { field: field.into(), message: "is not a setting of training".into() }
    }
}
