//! Embedding gather, and the scatter of its gradient: deterministic, because every row of a table is summed by one task
//! in the order of the tokens.

use rayon::prelude::*;

use super::math::add;
use super::simd::Simd;

/// Rows of a table that one task fills.
const ROWS: usize = 256;

/// `words[ids[t]] + places[positions[t]] + kinds[0]` for every token. Ids must be inside of their tables.
pub fn gather(simd: Simd, ids: &[u32], positions: &[u32], tables: [&[f32]; 3], width: usize, out: &mut [f32]) {
    let [words, places, kinds] = tables;
    let row = |table: &'_ [f32], index: u32| -> std::ops::Range<usize> {
        let at = index as usize * width;
        debug_assert!(at + width <= table.len());
        at..at + width
    };
    let tokens = out.par_chunks_mut(width.max(1)).with_min_len(64).zip(ids).zip(positions);
    tokens.for_each(|((out, id), position)| {
        out.copy_from_slice(&words[row(words, *id)]);
        add(simd, out, &places[row(places, *position)]);
        add(simd, out, &kinds[..width]);
    });
}

/// Sum of the gradient's rows of each index; rows of `table` that no index names become 0.
pub fn scatter(simd: Simd, indices: &[u32], gradient: &[f32], width: usize, table: &mut [f32]) {
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
