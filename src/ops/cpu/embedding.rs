//! Sums of embeddings, and the scatter of their gradient. The scatter is deterministic, because one
//! task sums each row of a table in the order of the tokens.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::engine::{Cpu, expect, matrix};
use super::linear::column_sum;
use super::math::add;
use super::simd::Simd;
use crate::Result;
use crate::ops::shapes::{expect_inside, internal_error};

/// Rows of a table that one task fills.
const ROWS: usize = 256;

/// `word_table[ids[t]] + position_table[positions[t]] + type_table[0]` for every token. Ids must be
/// inside their tables.
fn gather(simd: Simd, ids: &[u32], positions: &[u32], tables: [&[f32]; 3], width: usize, out: &mut [f32]) {
    let [word_table, position_table, type_table] = tables;
    let row = |table: &'_ [f32], index: u32| -> std::ops::Range<usize> {
        let at = index as usize * width;
        debug_assert!(at + width <= table.len());
        at..at + width
    };
    let tokens = out.par_chunks_mut(width.max(1)).with_min_len(64).zip(ids).zip(positions);
    tokens.for_each(|((out, id), position)| {
        out.copy_from_slice(&word_table[row(word_table, *id)]);
        add(simd, out, &position_table[row(position_table, *position)]);
        add(simd, out, &type_table[..width]);
    });
}

/// Sum of the gradient's rows of each index; rows of `table` without an index become 0.
fn scatter(simd: Simd, indices: &[u32], gradient: &[f32], width: usize, table: &mut [f32]) {
    let width = width.max(1);
    let mut order: Vec<(u32, u32)> = indices.iter().zip(0..).map(|(index, token)| (*index, token)).collect();
    order.sort_unstable();
    table.par_chunks_mut(ROWS * width).enumerate().for_each(|(chunk, table)| {
        table.fill(0.0);
        let first = chunk * ROWS;
        let from = order.partition_point(|(index, _)| (*index as usize) < first);
        for (index, token) in order[from..].iter().take_while(|(index, _)| (*index as usize) < first + ROWS) {
            let (row, token) = (*index as usize - first, *token as usize);
            add(simd, &mut table[row * width..(row + 1) * width], &gradient[token * width..(token + 1) * width]);
        }
    });
}

pub(super) fn embed(
    cpu: &Cpu,
    ids: &[u32],
    positions: &[u32],
    [word_table, position_table, type_table]: [&Buffer; 3],
) -> Result<Buffer> {
    let (vocabulary, hidden) = matrix(word_table)?;
    let (longest, _) = matrix(position_table)?;
    expect("the position table", position_table, &[longest, hidden])?;
    let (types, _) = matrix(type_table)?;
    expect("the type table", type_table, &[types.max(1), hidden])?;
    expect_inside("word piece", ids.iter().map(|id| *id as usize), vocabulary)?;
    expect_inside("position", positions.iter().map(|position| *position as usize), longest)?;
    if ids.len() != positions.len() {
        return Err(internal_error(format!("{} ids have {} positions", ids.len(), positions.len())));
    }
    let mut out = cpu.pool.uninit(&[ids.len(), hidden]);
    let tables = [word_table.values(), position_table.values(), type_table.values()];
    out.fill(|out| gather(cpu.simd, ids, positions, tables, hidden, out));
    Ok(out)
}

pub(super) fn embed_backward(
    cpu: &Cpu,
    ids: &[u32],
    positions: &[u32],
    gradient: &Buffer,
    tables: [&Buffer; 3],
) -> Result<[Buffer; 3]> {
    let [(vocabulary, hidden), (longest, _), _] = [matrix(tables[0])?, matrix(tables[1])?, matrix(tables[2])?];
    expect("the gradient of the embeddings", gradient, &[ids.len(), hidden])?;
    expect_inside("word piece", ids.iter().map(|id| *id as usize), vocabulary)?;
    expect_inside("position", positions.iter().map(|position| *position as usize), longest)?;
    if ids.len() != positions.len() {
        return Err(internal_error(format!("{} ids have {} positions", ids.len(), positions.len())));
    }
    let [mut word_table, mut position_table, mut type_table] = tables.map(|table| cpu.pool.uninit(table.shape()));
    word_table.fill(|word_table| scatter(cpu.simd, ids, gradient.values(), hidden, word_table));
    position_table.fill(|position_table| scatter(cpu.simd, positions, gradient.values(), hidden, position_table));
    let sums = column_sum(cpu, gradient)?;
    type_table.fill(|type_table| {
        type_table.fill(0.0);
        type_table[..hidden].copy_from_slice(sums.values());
    });
    Ok([word_table, position_table, type_table])
}
