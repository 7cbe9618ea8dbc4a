//! Rows that are picked from a matrix or added to it, and means of groups of them.

use super::buffer::Buffer;
use super::device::{Device, argument};
use super::engine::Cuda;
use super::parameters::{Forms, bytes_of, narrow};
use super::shapes::{expect, expect_inside, matrix};
use crate::Result;
use crate::ops::RowGroups;

pub(super) fn rows<D: Device>(cuda: &Cuda<D>, x: &Buffer<D>, rows: &[usize]) -> Result<Buffer<D>> {
    let (total, width) = matrix(x)?;
    expect_inside("row", rows.iter().copied(), total)?;
    gather(cuda, x, rows, width, Forms::F32)
}

/// The given rows in a form; the indices were checked.
pub(super) fn gather<D: Device>(
    cuda: &Cuda<D>,
    x: &Buffer<D>,
    rows: &[usize],
    width: usize,
    forms: Forms,
) -> Result<Buffer<D>> {
    let (out, to) = cuda.make(&[rows.len(), width], forms)?;
    let indices = cuda.send_rows(rows)?;
    let (width, indices, from) = (width as i32, indices.address(), cuda.input(x)?);
    let mut arguments = [argument(&width), argument(&indices), argument(&from), argument(&to)];
    // SAFETY: (int, const uint32_t*, In, Out).
    unsafe { cuda.launch("gather_rows", [rows.len() as u32, 1, 1], 128, 0, &mut arguments)? };
    Ok(out)
}

pub(super) fn add_rows<D: Device>(
    cuda: &Cuda<D>,
    x: Buffer<D>,
    rows: &[usize],
    values: &Buffer<D>,
) -> Result<Buffer<D>> {
    let (total, width) = matrix(&x)?;
    expect("what to add to rows", values, &[rows.len(), width])?;
    expect_inside("row", rows.iter().copied(), total)?;
    let (x, to) = cuda.unique(x)?;
    let indices = cuda.send_rows(rows)?;
    let (width, indices, values) = (width as i32, indices.address(), cuda.f32(values)?);
    let mut arguments = [argument(&width), argument(&indices), argument(&values), argument(&to)];
    // SAFETY: (int, const uint32_t*, const float*, float*); the rows are distinct, so no two blocks write one.
    unsafe { cuda.launch("add_rows", [rows.len() as u32, 1, 1], 128, 0, &mut arguments)? };
    Ok(x)
}

/// The lists of [`mean_rows`] and of its backward: where each group starts, and its rows; where each row starts, and its groups.
pub(super) fn lists(groups: &RowGroups, rows: usize) -> Result<[Vec<u32>; 4]> {
    let (starts, of) = (narrow(groups.starts.iter().copied())?, narrow(groups.rows.iter().copied())?);
    let mut first = vec![0_u32; rows + 1];
    of.iter().for_each(|row| first[*row as usize + 1] += 1);
    for row in 0..rows {
        first[row + 1] += first[row];
    }
    let (mut next, mut groups_of) = (first.clone(), vec![0; of.len()]);
    for (group, bounds) in (0..).zip(starts.windows(2)) {
        for row in &of[bounds[0] as usize..bounds[1] as usize] {
            groups_of[next[*row as usize] as usize] = group;
            next[*row as usize] += 1;
        }
    }
    Ok([starts, of, first, groups_of])
}

pub(super) fn mean_rows<D: Device>(cuda: &Cuda<D>, x: &Buffer<D>, groups: &RowGroups) -> Result<Buffer<D>> {
    let (total, width) = matrix(x)?;
    groups.expect(total)?;
    let (out, to) = cuda.floats(&[groups.len() / groups.parts, groups.parts * width])?;
    // All four, which the backward finds.
    let lists = lists(groups, total)?;
    let [starts, rows, ..] = cuda.send_all(lists.each_ref().map(|list| bytes_of(list)))?;
    let (width, starts, rows, from) = (width as i32, starts.address(), rows.address(), cuda.input(x)?);
    let mut arguments = [argument(&width), argument(&starts), argument(&rows), argument(&from), argument(&to)];
    // SAFETY: (int, const uint32_t*, const uint32_t*, In, float*); the groups were checked.
    unsafe { cuda.launch("mean_rows", [groups.len() as u32, 1, 1], 128, 0, &mut arguments)? };
    Ok(out)
}

pub(super) fn mean_rows_backward<D: Device>(
    cuda: &Cuda<D>,
    dy: &Buffer<D>,
    groups: &RowGroups,
    rows: usize,
    onto: Option<Buffer<D>>,
) -> Result<Buffer<D>> {
    groups.expect(rows)?;
    let width = matrix(dy)?.1 / groups.parts;
    expect("the gradient of the means", dy, &[groups.len() / groups.parts, groups.parts * width])?;
    let (out, to, onto) = match onto {
        Some(onto) => {
            expect("what to add onto", &onto, &[rows, width])?;
            let (out, to) = cuda.unique(onto)?;
            (out, to, to)
        }
        None => {
            let (out, to) = cuda.floats(&[rows, width])?;
            (out, to, 0)
        }
    };
    let lists = lists(groups, rows)?;
    let [starts, _, first, groups] = cuda.send_all(lists.each_ref().map(|list| bytes_of(list)))?;
    let (width, dy) = (width as i32, cuda.f32(dy)?);
    let (starts, first, groups) = (starts.address(), first.address(), groups.address());
    let lists = [argument(&starts), argument(&first), argument(&groups)];
    let mut arguments = [&[argument(&width)][..], &lists, &[argument(&dy), argument(&onto), argument(&to)]].concat();
    // SAFETY: (int, const uint32_t*, const uint32_t*, const uint32_t*, const float*, const float*, float*); a block for each row.
    unsafe { cuda.launch("mean_rows_backward", [rows as u32, 1, 1], 128, 0, &mut arguments)? };
    Ok(out)
}
