//! Sums of embeddings, and the scatter of their gradient.

use super::buffer::{Buffer, SomeRows};
use super::device::{Device, argument};
use super::engine::Cuda;
use super::linear::column_sum_to;
use super::lists::List;
use super::parameters::{blocks, bytes_of};
use super::shapes::{expect, expect_inside, internal_error, matrix};
use crate::Result;
use crate::ops::Ops;

pub(super) fn embed<D: Device>(
    cuda: &Cuda<D>,
    ids: &[u32],
    positions: &[u32],
    tables: [&Buffer<D>; 3],
) -> Result<Buffer<D>> {
    let width = expect_tables(ids, positions, tables)?;
    let (out, to) = cuda.floats(&[ids.len(), width])?;
    let [ids32, positions32] = cuda.send_all([bytes_of(ids), bytes_of(positions)])?;
    let [word_table, position_table, type_table] = tables.map(|table| cuda.f32(table));
    let (word_table, position_table, type_table) = (word_table?, position_table?, type_table?);
    let (width, ids32, positions32) = (width as i32, ids32.address(), positions32.address());
    let mut arguments = [
        argument(&width),
        argument(&ids32),
        argument(&positions32),
        argument(&word_table),
        argument(&position_table),
        argument(&type_table),
        argument(&to),
    ];
    // SAFETY: (int, const uint32_t*, const uint32_t*, const float*, const float*, const float*, float*).
    unsafe { cuda.launch("embed", [ids.len() as u32, 1, 1], 128, 0, &mut arguments)? };
    Ok(out)
}

pub(super) fn embed_backward<D: Device>(
    cuda: &Cuda<D>,
    ids: &[u32],
    positions: &[u32],
    gradient: &Buffer<D>,
    tables: [&Buffer<D>; 3],
) -> Result<[Buffer<D>; 3]> {
    let width = expect_tables(ids, positions, tables)?;
    expect("the gradient of the embeddings", gradient, &[ids.len(), width])?;
    let from = cuda.f32(gradient)?;
    let (words, places) = (cuda.groups.of(ids), cuda.groups.of(positions));
    let [[a, b, c], [d, e, f]] = [words.lists(), places.lists()];
    let [words_of, words_from, words_in, places_of, places_from, places_in] = cuda.send_all([a, b, c, d, e, f])?;
    let word_table = some_rows(cuda, words.unique.len(), [words_of, words_from, words_in], from, tables[0])?;
    let position_table = scatter(cuda, places.unique.len(), [places_of, places_from, places_in], from, tables[1])?;
    // All tokens have type 0. The sum of the gradient becomes the first row.
    let type_table = cuda.zeros(tables[2].shape())?;
    Ok([word_table, position_table, column_sum_to(cuda, gradient, type_table)?])
}

/// Rows of a table that equal indices of a batch add to, in a fixed order; the others are 0. The
/// lists are those of [`Groups`].
fn scatter<D: Device>(
    cuda: &Cuda<D>,
    indices: usize,
    lists: [List<D>; 3],
    gradient: u64,
    table: &Buffer<D>,
) -> Result<Buffer<D>> {
    let (rows, width) = matrix(table)?;
    let (out, to) = cuda.floats(table.shape())?;
    if rows * width == 0 {
        return Ok(out);
    }
    // SAFETY: the table's own bytes.
    unsafe { cuda.device.zero(to, 4 * out.elements())? };
    launch(cuda, (indices, width), lists, gradient, (to, 0))?;
    Ok(out)
}

/// As [`scatter`], without the rows that are 0: of BERT's 30,522 words a batch has a few hundred. What needs
/// all rows gets them from the engine; the optimizer does not.
fn some_rows<D: Device>(
    cuda: &Cuda<D>,
    indices: usize,
    lists: [List<D>; 3],
    gradient: u64,
    table: &Buffer<D>,
) -> Result<Buffer<D>> {
    let (rows, width) = matrix(table)?;
    // The optimizer reads vectors of four, and counts elements in 32 bits.
    if !width.is_multiple_of(4) || rows * width == 0 || u32::try_from(rows * width).is_err() {
        return scatter(cuda, indices, lists, gradient, table);
    }
    let (values, places) = (cuda.pool.block(4 * indices * width)?, cuda.pool.block(4 * rows)?);
    // SAFETY: the block's own bytes.
    unsafe { cuda.device.zero(places.address(), 4 * rows)? };
    launch(cuda, (indices, width), lists, gradient, (values.address(), places.address()))?;
    Ok(Buffer::of_rows(table.shape(), SomeRows { values, places, rows: indices }))
}

/// Sums of rows to a whole table, or, with the address of the places, to their own array.
fn launch<D: Device>(
    cuda: &Cuda<D>,
    (indices, width): (usize, usize),
    lists: [List<D>; 3],
    gradient: u64,
    (to, places): (u64, u64),
) -> Result<()> {
    let [unique, first, order] = lists.each_ref().map(List::address);
    let (grid, width) = ([indices as u32, blocks(width, 128), 1], width as i32);
    let lists = [argument(&unique), argument(&first), argument(&order)];
    let rest = [argument(&gradient), argument(&places), argument(&to)];
    let mut arguments = [&[argument(&width)][..], &lists, &rest].concat();
    // SAFETY: (int, const uint32_t*, const uint32_t*, const uint32_t*, const float*, uint32_t*, float*); the indices were
    // checked to be rows of the table.
    unsafe { cuda.launch("scatter_rows", grid, 128, 0, &mut arguments) }
}

/// Refuse tables that do not fit together, and indices outside them. Returns the width of their
/// rows.
fn expect_tables<D: Device>(
    ids: &[u32],
    positions: &[u32],
    [word_table, position_table, type_table]: [&Buffer<D>; 3],
) -> Result<usize> {
    let (vocabulary, width) = matrix(word_table)?;
    let (longest, _) = matrix(position_table)?;
    expect("the position table", position_table, &[longest, width])?;
    let (types, _) = matrix(type_table)?;
    expect("the type table", type_table, &[types.max(1), width])?;
    expect_inside("word piece", ids.iter().map(|id| *id as usize), vocabulary)?;
    expect_inside("position", positions.iter().map(|position| *position as usize), longest)?;
    if ids.len() != positions.len() {
        return Err(internal_error(format!("{} ids have {} positions", ids.len(), positions.len())));
    }
    Ok(width)
}
