//! Means of groups of rows, which are the vectors that a head reads: the specification, which
//! engines without a faster implementation also call.

use candle_core::Tensor;

use super::shapes::{expect, matrix};
use super::{Ops, RowGroups};
use crate::Result;

/// The groups as a matrix whose product with their rows is their means, `(groups, rows)`.
fn shares(groups: &RowGroups, like: &Tensor) -> Result<Tensor> {
    let mut shares = vec![0.0_f32; groups.len() * groups.rows.len()];
    for (group, bounds) in groups.starts.windows(2).enumerate() {
        shares[group * groups.rows.len()..][bounds[0]..bounds[1]].fill(1.0 / (bounds[1] - bounds[0]) as f32);
    }
    let shares = Tensor::from_vec(shares, (groups.len(), groups.rows.len()), like.device())?;
    Ok(shares.to_dtype(like.dtype())?)
}

/// See [`Ops::mean_rows`].
pub(super) fn mean_rows<O: Ops + ?Sized>(ops: &O, x: &O::Buffer, groups: &RowGroups) -> Result<O::Buffer> {
    groups.expect(usize::MAX)?;
    let picked = ops.to_candle(&ops.rows(x, &groups.rows)?)?; // (rows, H)
    let means = if groups.are_rows() { picked } else { shares(groups, &picked)?.matmul(&picked)? };
    let width = means.dim(1)?;
    ops.upload_candle(&means.reshape((groups.len() / groups.parts, groups.parts * width))?)
}

/// See [`Ops::mean_rows_backward`].
pub(super) fn mean_rows_backward<O: Ops + ?Sized>(
    ops: &O,
    dy: &O::Buffer,
    groups: &RowGroups,
    rows: usize,
    onto: Option<O::Buffer>,
) -> Result<O::Buffer> {
    groups.expect(rows)?;
    let dy = ops.to_candle(dy)?; // (n, parts H)
    let (count, all) = matrix(dy.dims())?;
    expect("the gradient of the means", &[count], &[groups.len() / groups.parts])?;
    let width = all / groups.parts;
    let mut sum = match onto {
        Some(onto) => onto,
        None => ops.zeros(&[rows, width])?,
    };
    // Rows that are added must be distinct, and two parts may have the same.
    for part in 0..groups.parts {
        let of = groups.starts.windows(2).skip(part).step_by(groups.parts);
        let mut own = RowGroups { parts: 1, rows: vec![], starts: vec![0] };
        for bounds in of {
            own.rows.extend_from_slice(&groups.rows[bounds[0]..bounds[1]]);
            own.starts.push(own.rows.len());
        }
        let mut gradient = dy.narrow(1, part * width, width)?.contiguous()?; // (n, H)
        if !own.are_rows() {
            gradient = shares(&own, &gradient)?.t()?.matmul(&gradient)?;
        }
        sum = ops.add_rows(sum, &own.rows, &ops.upload_candle(&gradient)?)?;
    }
    Ok(sum)
}
