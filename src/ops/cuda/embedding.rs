//! Embeddings, and what else picks rows or adds to them.

use super::buffer::Buffer;
use super::device::{Device, argument};
use super::engine::{Cuda, Forms};
use super::shapes::{defect, expect, expect_inside, matrix};
use crate::Result;

impl<D: Device> Cuda<D> {
    pub(super) fn embedded(&self, ids: &[u32], positions: &[u32], tables: [&Buffer<D>; 3]) -> Result<Buffer<D>> {
        let width = expect_tables(ids, positions, tables)?;
        let (out, to) = self.floats(&[ids.len(), width])?;
        let (ids32, positions32) = (self.send(ids)?, self.send(positions)?);
        let [words, places, kinds] = tables.map(|table| self.f32(table));
        let (words, places, kinds) = (words?, places?, kinds?);
        let (width, ids32, positions32) = (width as i32, ids32.address(), positions32.address());
        let mut arguments = [
            argument(&width),
            argument(&ids32),
            argument(&positions32),
            argument(&words),
            argument(&places),
            argument(&kinds),
            argument(&to),
        ];
        // SAFETY: (int, const uint32_t*, const uint32_t*, const float*, const float*, const float*, float*).
        unsafe { self.launch("embed", [ids.len() as u32, 1, 1], 128, 0, &mut arguments)? };
        Ok(out)
    }

    pub(super) fn embedded_backward(
        &self,
        ids: &[u32],
        positions: &[u32],
        gradient: &Buffer<D>,
        tables: [&Buffer<D>; 3],
    ) -> Result<[Buffer<D>; 3]> {
        let width = expect_tables(ids, positions, tables)?;
        expect("the gradient of the embeddings", gradient, &[ids.len(), width])?;
        let from = self.f32(gradient)?;
        let words = self.scatter(ids, from, tables[0])?;
        let places = self.scatter(positions, from, tables[1])?;
        let sums = self.sum_columns(gradient)?;
        let (kinds, to) = self.floats(tables[2].shape())?;
        let first = self.f32(&sums)?;
        if kinds.elements() > 0 {
            // SAFETY: the table has at least the one row that is copied.
            unsafe {
                self.device.zero(to, 4 * kinds.elements())?;
                self.device.copy(first, to, 4 * width)?;
            }
        }
        Ok([words, places, kinds])
    }

    /// Rows of a table that equal indices of a batch add to, in a fixed order; the others are 0.
    fn scatter(&self, indices: &[u32], gradient: u64, table: &Buffer<D>) -> Result<Buffer<D>> {
        let (rows, width) = matrix(table)?;
        let (out, to) = self.floats(table.shape())?;
        if rows * width == 0 {
            return Ok(out);
        }
        let mut order: Vec<u32> = (0..indices.len() as u32).collect();
        order.sort_by_key(|row| indices[*row as usize]); // stable: rows of one index stay in order
        let (mut unique, mut first) = (Vec::new(), Vec::new());
        for (at, row) in order.iter().enumerate() {
            let index = indices[*row as usize];
            if unique.last() != Some(&index) {
                unique.push(index);
                first.push(at as u32);
            }
        }
        first.push(order.len() as u32);
        let grid = [unique.len() as u32, 1, 1];
        let (unique, first, order) = (self.send(&unique)?, self.send(&first)?, self.send(&order)?);
        let (width, unique, first, order) = (width as i32, unique.address(), first.address(), order.address());
        let mut arguments = [
            argument(&width),
            argument(&unique),
            argument(&first),
            argument(&order),
            argument(&gradient),
            argument(&to),
        ];
        // SAFETY: (int, const uint32_t*, const uint32_t*, const uint32_t*, const float*, float*).
        unsafe {
            self.device.zero(to, 4 * out.elements())?;
            self.launch("scatter_rows", grid, 128, 0, &mut arguments)?;
        }
        Ok(out)
    }

    pub(super) fn rows_of(&self, x: &Buffer<D>, rows: &[usize]) -> Result<Buffer<D>> {
        let (total, width) = matrix(x)?;
        expect_inside("row", rows.iter().copied(), total)?;
        self.gather(x, rows, width, Forms::F32)
    }

    /// The given rows in a form; the indices were checked.
    pub(super) fn gather(&self, x: &Buffer<D>, rows: &[usize], width: usize, forms: Forms) -> Result<Buffer<D>> {
        let (out, to) = self.make(&[rows.len(), width], forms)?;
        let indices = self.send_rows(rows)?;
        let (width, indices, from) = (width as i32, indices.address(), self.input(x)?);
        let mut arguments = [argument(&width), argument(&indices), argument(&from), argument(&to)];
        // SAFETY: (int, const uint32_t*, In, Out).
        unsafe { self.launch("gather_rows", [rows.len() as u32, 1, 1], 128, 0, &mut arguments)? };
        Ok(out)
    }

    pub(super) fn added_to_rows(&self, x: Buffer<D>, rows: &[usize], values: &Buffer<D>) -> Result<Buffer<D>> {
        let (total, width) = matrix(&x)?;
        expect("what to add to rows", values, &[rows.len(), width])?;
        expect_inside("row", rows.iter().copied(), total)?;
        let (x, to) = self.owned(x)?;
        let indices = self.send_rows(rows)?;
        let (width, indices, values) = (width as i32, indices.address(), self.f32(values)?);
        let mut arguments = [argument(&width), argument(&indices), argument(&values), argument(&to)];
        // SAFETY: (int, const uint32_t*, const float*, float*); the rows are distinct, so no two blocks write one.
        unsafe { self.launch("add_rows", [rows.len() as u32, 1, 1], 128, 0, &mut arguments)? };
        Ok(x)
    }
}

/// Refuse tables that do not fit together, and indices outside of them; the width of their rows.
fn expect_tables<D: Device>(ids: &[u32], positions: &[u32], [words, places, kinds]: [&Buffer<D>; 3]) -> Result<usize> {
    let (vocabulary, width) = matrix(words)?;
    let (longest, _) = matrix(places)?;
    expect("the position table", places, &[longest, width])?;
    let (types, _) = matrix(kinds)?;
    expect("the type table", kinds, &[types.max(1), width])?;
    expect_inside("word piece", ids.iter().map(|id| *id as usize), vocabulary)?;
    expect_inside("position", positions.iter().map(|position| *position as usize), longest)?;
    if ids.len() != positions.len() {
        return Err(defect(format!("{} ids have {} positions", ids.len(), positions.len())));
    }
    Ok(width)
}
