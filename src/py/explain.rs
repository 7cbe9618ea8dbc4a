//! What a model attends to: word weights, weights of the layers, and what masking words does to its
//! decisions.

use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::columns::Columns;
use super::compute::PyCompute;
use super::error::ConfigError;
use super::instances::PyInstances;
use super::model::PyModel;
use super::runtime::{detached, interruptible};
use crate::attention::{MaskWords, Masked, WeightSource, WordRow, spearman, word_table};
use crate::model::RelationModel;
use crate::model::head::Weighs;
use crate::predict::Prediction;
use crate::{Error, Result};

/// One row per word of every instance. `kind` is whose weights: `head`, `encoder` or `gradient`.
#[pyfunction]
pub fn attention<'py>(
    py: Python<'py>,
    model: &PyModel,
    instances: &PyInstances,
    kind: &str,
    compute: &PyCompute,
) -> PyResult<Bound<'py, PyDict>> {
    let source: WeightSource = kind.parse()?;
    let rows = interruptible(py, |on_batch| word_table(&model.0, &instances.items, source, compute.0, on_batch))?;
    let labels = &model.0.card.task.labels;
    let name = |label: Option<usize>| label.and_then(|label| labels.get(label)).map(String::as_str);
    let of = |row: &WordRow| &instances.items[row.instance];
    let words = || rows.iter().map(|row| &row.word);
    let table_rows = rows.iter().map(|row| of(row).row.map(|row| row.row)).collect();
    let columns = Columns::new(py)
        .text("instance", rows.iter().map(|row| of(row).id.as_str()))?
        .integers_if_there("row", table_rows)?
        .text("document", rows.iter().map(|row| of(row).document.as_str()))?
        .text("word", words().map(|word| word.text.as_str()))?
        .text("stem", rows.iter().map(|row| row.stem.as_str()))?
        .floats("weight", words().map(|word| word.weight))?
        .floats("relative", rows.iter().map(WordRow::relative))?
        .integers("pieces", words().map(|word| word.pieces))?
        .integers("distance", words().map(|word| word.distance[0].min(word.distance[1]) as usize))?
        .integers("distance1", words().map(|word| word.distance[0] as usize))?
        .integers("distance2", words().map(|word| word.distance[1] as usize))?
        .truths("is_entity", words().map(|word| word.is_entity))?
        .integers("start", words().map(|word| word.span.start))?
        .integers("end", words().map(|word| word.span.end))?
        .maybe_integers("original_start", words().map(|word| word.original.map(|span| span.start)))?
        .maybe_integers("original_end", words().map(|word| word.original.map(|span| span.end)))?
        .maybe_text("gold", rows.iter().map(|row| name(of(row).label)))?
        .maybe_text("predicted", rows.iter().map(|row| name(Some(row.predicted))))?;
    Ok(columns.finish())
}

/// Rows of the instances that were classified, and the attention over the layers of a head that weighs them,
/// (instances, layers).
#[pyfunction]
#[expect(clippy::type_complexity, reason = "named once, here")]
pub fn layer_weights<'py>(
    py: Python<'py>,
    model: &PyModel,
    instances: &PyInstances,
    compute: &PyCompute,
) -> PyResult<(Vec<usize>, Vec<usize>, Bound<'py, PyArray2<f32>>)> {
    let head = model.0.card.training.head;
    if head.weighs() != Weighs::Layers {
        let message =
            format!("head: `{head}` does not weigh layers; choose one that does ({})", Weighs::Layers.heads());
        return Err(ConfigError::new_err((message, "head")));
    }
    let (encoded, predictions) = model.run(py, instances, compute)?;
    let labels = predictions.iter().map(Prediction::label).collect();
    let weights: Vec<f32> = predictions.iter().flat_map(|one| one.layers.iter().flatten().copied()).collect();
    let shape = [predictions.len(), model.0.network.encoder.num_hidden_layers];
    Ok((encoded.kept, labels, PyArray1::from_vec(py, weights).reshape(shape)?))
}

/// One row per instance, ranking and number of words.
#[pyfunction]
#[pyo3(signature = (model, instances, *, words, draws, seed, related, limit, compute))]
#[expect(clippy::too_many_arguments, reason = "they are the call's own; the package has the readable form")]
pub fn mask_words<'py>(
    py: Python<'py>,
    model: &PyModel,
    instances: &PyInstances,
    words: Vec<usize>,
    draws: usize,
    seed: u64,
    related: bool,
    limit: Option<usize>,
    compute: &PyCompute,
) -> PyResult<Bound<'py, PyDict>> {
    let RelationModel { card, network, weights, tokenizer, .. } = &*model.0;
    let Some(mask) = tokenizer.mask_id() else {
        let message = "model: its vocabulary has no [MASK], which stands in for the words that are taken away";
        return Err(ConfigError::new_err((message, "model")));
    };
    let skip = if related { card.task.negative } else { None };
    let (kept, masked) = interruptible(py, |on_batch| {
        let encoded = compute.0.within(|| model.0.encode(&instances.items))?;
        let pairs = encoded.kept.iter().zip(&encoded.features).map(|(index, one)| (&instances.items[*index], one));
        let job = MaskWords {
            network,
            weights,
            instances: pairs.collect(),
            mask,
            words: &words,
            draws,
            seed,
            skip,
            limit,
            on_batch,
        };
        Ok::<_, Error>((encoded.kept.clone(), compute.0.execute(job)?))
    })?;
    let of = |masked: &Masked| &instances.items[kept[masked.instance]];
    let labels = &card.task.labels;
    let columns = Columns::new(py)
        .text("instance", masked.iter().map(|masked| of(masked).id.as_str()))?
        .text("document", masked.iter().map(|masked| of(masked).document.as_str()))?
        .maybe_text("gold", masked.iter().map(|masked| of(masked).label.map(|label| labels[label].as_str())))?
        .text("predicted", masked.iter().map(|masked| labels[masked.label].as_str()))?
        .text("ranking", masked.iter().map(|masked| masked.ranking.name()))?
        .integers("words", masked.iter().map(|masked| masked.words))?
        .integers("masked", masked.iter().map(|masked| masked.masked))?
        .floats("pieces", masked.iter().map(|masked| masked.pieces))?
        .floats("before", masked.iter().map(|masked| masked.before))?
        .floats("after", masked.iter().map(|masked| masked.after))?
        .floats("changed", masked.iter().map(|masked| masked.changed))?
        .floats("matched_after", masked.iter().map(|masked| masked.matched.map_or(f64::NAN, |matched| matched.after)))?
        .floats("matched_changed", masked.iter().map(|masked| masked.matched.map_or(f64::NAN, |m| m.changed)))?;
    Ok(columns.finish())
}

/// Spearman's rank correlation inside each group: entries of `starts[i]..starts[i + 1]`; NaN where
/// it is not defined.
#[pyfunction]
pub fn rank_correlations<'py>(
    py: Python<'py>,
    first: PyReadonlyArray1<'py, f64>,
    second: PyReadonlyArray1<'py, f64>,
    starts: Vec<usize>,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let (first, second) = (first.as_array().to_vec(), second.as_array().to_vec());
    let of = |bounds: &[usize]| -> Result<f64> {
        let part = |values: &[f64]| values.get(bounds[0]..bounds[1]).map(<[f64]>::to_vec);
        match (part(&first), part(&second)) {
            (Some(a), Some(b)) => Ok(spearman(&a, &b).unwrap_or(f64::NAN)),
            _ => Err(Error::config("starts", format!("{}..{} is outside of the weights", bounds[0], bounds[1]))),
        }
    };
    let values = detached(py, || starts.windows(2).map(of).collect::<Result<Vec<f64>>>())?;
    Ok(PyArray1::from_vec(py, values))
}
