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

/// The gradient of a table of `rows`: the sum of the gradient's rows of each index. Rows without an
/// index are zero and are not stored: a batch reads a few hundred of a vocabulary of 30,000.
fn scatter(cpu: &Cpu, indices: &[u32], gradient: &[f32], [rows, width]: [usize; 2]) -> Buffer {
    let mut order: Vec<(u32, usize)> = indices.iter().copied().zip(0..).collect();
    order.sort_unstable();
    let groups: Vec<&[(u32, usize)]> = order.chunk_by(|a, b| a.0 == b.0).collect();
    let distinct = groups.iter().map(|group| group[0].0).collect();
    cpu.pool.rows([rows, width], distinct, |table| {
        table.par_chunks_mut(width.max(1)).with_min_len(16).zip(groups).for_each(|(out, group)| {
            let row = |token: usize| &gradient[token * width..][..width];
            out.copy_from_slice(row(group[0].1));
            group[1..].iter().for_each(|(_, token)| add(cpu.simd, out, row(*token)));
        });
    })
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
    let word_table = scatter(cpu, ids, gradient.values(), [vocabulary, hidden]);
    let position_table = scatter(cpu, positions, gradient.values(), [longest, hidden]);
    let mut type_table = cpu.pool.uninit(tables[2].shape());
    let sums = column_sum(cpu, gradient)?;
    type_table.fill(|type_table| {
        type_table.fill(0.0);
        type_table[..hidden].copy_from_slice(sums.values());
    });
    Ok([word_table, position_table, type_table])
}
