//! The engine: a device, a pool of its memory, and the element type of matrix products.

use std::ffi::{OsStr, c_void};
use std::sync::Arc;

use super::attention_tiles::TileLists;
use super::buffer::{Block, Buffer, Pool};
use super::device::{Device, Dtype, Gemm, Launch, Operand, argument};
use super::index_groups::KnownGroups;
use super::lists::{List, Lists};
use super::parameters::{Form, Forms, Plain, blocks, bytes_of, bytes_of_mut, narrow};
use super::reductions::Reductions;
use crate::Result;

/// How many steps of training are enqueued before the host waits for the result of the one before
/// them. With two the device has work while the host waits, packs the next batch and enqueues its
/// step. More would only delay the report of an error. Memory does not grow with them, because it
/// is reused in the order of the queue.
pub const MAX_IN_FLIGHT: usize = 2;

/// Tokens of a batch of inference. The rows of BERT-base's products are then a few times as many as all
/// multiprocessors take at once.
const INFERENCE_TOKENS: usize = 16_384;

/// The variable that turns the reuse of memory off.
const REUSE: &str = "BIOREL_CUDA_REUSE";

fn reuses(setting: Option<&OsStr>) -> bool {
    setting.is_none_or(|setting| setting != "0")
}

/// The engine of a device, with matrix products in f32 or bf16. Cloning shares its pool of memory.
pub struct Cuda<D: Device> {
    pub(super) device: Arc<D>,
    pub(super) pool: Pool<D>,
    pub(super) dtype: Dtype,
    pub(super) tiles: Arc<TileLists<D>>,
    pub(super) groups: Arc<KnownGroups>,
    pub(super) inference_tokens: usize,
    reductions: Arc<Reductions<D>>,
    lists: Arc<Lists<D>>,
}

impl<D: Device> Clone for Cuda<D> {
    fn clone(&self) -> Self {
        Self {
            device: self.device.clone(),
            pool: self.pool.clone(),
            dtype: self.dtype,
            tiles: self.tiles.clone(),
            groups: self.groups.clone(),
            inference_tokens: self.inference_tokens,
            reductions: self.reductions.clone(),
            lists: self.lists.clone(),
        }
    }
}

impl<D: Device> Cuda<D> {
    /// An engine on `device` with matrix products in `dtype`. `BIOREL_CUDA_REUSE=0` in the environment
    /// turns the reuse of memory off, for NVIDIA's compute-sanitizer.
    pub fn new(device: D, dtype: Dtype) -> Self {
        Self::with_reuse(device, dtype, reuses(std::env::var_os(REUSE).as_deref()))
    }

    /// As [`Cuda::new`]. Without `reuse` every array has its own allocation of exactly its size:
    /// slow, but a memory checker then sees every access out of bounds.
    pub fn with_reuse(device: D, dtype: Dtype, reuse: bool) -> Self {
        let device = Arc::new(device);
        let pool = Pool::new(device.clone(), reuse);
        let (tiles, groups, reductions, lists) = Default::default();
        Self { device, pool, dtype, tiles, groups, inference_tokens: INFERENCE_TOKENS, reductions, lists }
    }

    /// The same with batches of inference of that many tokens.
    #[must_use]
    pub fn with_inference_tokens(self, inference_tokens: usize) -> Self {
        Self { inference_tokens, ..self }
    }

    /// The same with matrix products in f32: heads compute in f32.
    pub(super) fn in_f32(&self) -> Self {
        Self { dtype: Dtype::F32, ..self.clone() }
    }

    /// The device.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// Element type of the operands of matrix products.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Bytes of device memory in arrays that are in use, and in free blocks that can be reused.
    pub fn memory(&self) -> (usize, usize) {
        self.pool.bytes()
    }

    /// Give the memory of free blocks back to the device.
    pub fn trim(&self) {
        self.pool.trim();
    }

    /// The form of arrays that only matrix products read.
    pub(super) fn between(&self) -> Forms {
        match self.dtype {
            Dtype::F32 => Forms::F32,
            Dtype::Bf16 => Forms::Bf16,
        }
    }

    /// The f32 form, and the form that matrix products read if it differs.
    pub(super) fn both(&self) -> Forms {
        match self.dtype {
            Dtype::F32 => Forms::F32,
            Dtype::Bf16 => Forms::Both,
        }
    }

    /// A new array of undefined content, and the addresses of its forms.
    pub(super) fn make(&self, shape: &[usize], forms: Forms) -> Result<(Buffer<D>, Form)> {
        let elements = shape.iter().product::<usize>();
        let f32 = (forms != Forms::Bf16).then(|| self.pool.block(4 * elements)).transpose()?;
        let bf16 = (forms != Forms::F32).then(|| self.pool.block(2 * elements)).transpose()?;
        let address = |block: &Option<Block<D>>| block.as_ref().map_or(0, Block::address);
        let form = Form { f32: address(&f32), bf16: address(&bf16) };
        Ok((Buffer::new(shape, f32, bf16), form))
    }

    /// A new array of f32.
    pub(super) fn floats(&self, shape: &[usize]) -> Result<(Buffer<D>, u64)> {
        let (buffer, form) = self.make(shape, Forms::F32)?;
        Ok((buffer, form.f32))
    }

    /// Enqueue what is still to write an array.
    fn complete(&self, x: &Buffer<D>) -> Result<()> {
        if x.is_pending() {
            self.flush_reductions([])?;
        }
        let (Some(some), [rows, width]) = (x.some_rows(), x.shape()) else { return Ok(()) };
        let block = self.pool.block(4 * rows * width)?;
        let (grid, width) = ([*rows as u32, 1, 1], *width as i32);
        let (places, values, to) = (some.places.address(), some.values.address(), block.address());
        let mut arguments = [argument(&width), argument(&places), argument(&values), argument(&to)];
        // SAFETY: (int, const uint32_t*, const float*, float*); there is a place for each row.
        unsafe { self.launch("spread_rows", grid, 128, 0, &mut arguments)? };
        x.add(Dtype::F32, block);
        Ok(())
    }

    /// An existing form of an array, f32 if it has both.
    pub(super) fn input(&self, x: &Buffer<D>) -> Result<Form> {
        self.complete(x)?;
        Ok(match x.address(Dtype::F32) {
            Some(address) => Form { f32: address, bf16: 0 },
            None => Form { f32: 0, bf16: x.address(Dtype::Bf16).unwrap_or(0) },
        })
    }

    /// Address of an array's form in `element`s, which is made now if it does not exist.
    pub(super) fn address(&self, x: &Buffer<D>, element: Dtype) -> Result<u64> {
        self.complete(x)?;
        if let Some(address) = x.address(element) {
            return Ok(address);
        }
        let elements = x.elements();
        let block = self.pool.block(element.bytes() * elements)?;
        let address = block.address();
        let out = match element {
            Dtype::F32 => Form { f32: address, bf16: 0 },
            Dtype::Bf16 => Form { f32: 0, bf16: address },
        };
        let input = self.input(x)?;
        let n = elements as u64;
        let mut arguments = [argument(&n), argument(&input), argument(&out)];
        // SAFETY: (size_t, In, Out); both forms have `elements` elements, and the grid covers them once.
        unsafe { self.launch("convert", [blocks(elements, 1024), 1, 1], 256, 0, &mut arguments)? };
        x.add(element, block);
        Ok(x.address(element).unwrap_or(address))
    }

    /// Address of the f32 form.
    pub(super) fn f32(&self, x: &Buffer<D>) -> Result<u64> {
        self.address(x, Dtype::F32)
    }

    /// Launch a kernel; nothing to do for a grid without blocks.
    ///
    /// # Safety
    /// As [`Device::launch`]: arguments of exactly the kernel's parameter types, whose addresses
    /// have room for what the kernel reads and writes with this grid.
    pub(super) unsafe fn launch(
        &self,
        kernel: &'static str,
        grid: [u32; 3],
        block: u32,
        shared: usize,
        arguments: &mut [*mut c_void],
    ) -> Result<()> {
        if grid.contains(&0) {
            return Ok(());
        }
        let launch = Launch { kernel, grid, block, shared: shared as u32 };
        // SAFETY: the caller's.
        unsafe { self.device.launch(&launch, arguments) }
    }

    /// A product of dense matrices, whose extents may be 0.
    ///
    /// # Safety
    /// As [`Device::gemm`].
    pub(super) unsafe fn gemm(&self, gemm: &Gemm) -> Result<()> {
        let Gemm { m, n, k, out, output, onto, bias, .. } = *gemm;
        let bytes = m * n * output.bytes();
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the caller's; without an inner extent the sum is what it is added to, or zeros.
        let biased = unsafe {
            match (k, onto) {
                (0, Some(onto)) if onto != out => self.device.copy(onto, out, bytes).map(|()| false),
                (0, Some(_)) => Ok(false),
                (0, None) => self.device.zero(out, bytes).map(|()| false),
                _ => self.device.gemm(gemm),
            }
        }?;
        let Some(bias) = bias.filter(|_| !biased) else { return Ok(()) };
        let form = |address| match output {
            Dtype::F32 => Form { f32: address, bf16: 0 },
            Dtype::Bf16 => Form { f32: 0, bf16: address },
        };
        let (width, elements, bias, out) = (n as i32, (m * n) as u64, form(bias), form(out));
        let mut arguments = [argument(&width), argument(&elements), argument(&bias), argument(&out)];
        // SAFETY: (int, size_t, In, Out); the output has m rows of `n`, which the bias has, too.
        unsafe { self.launch("add_bias", [blocks(m * n, 256), 1, 1], 256, 0, &mut arguments) }
    }

    /// Operand of a product.
    pub(super) fn operand(&self, x: &Buffer<D>, transposed: bool) -> Result<Operand> {
        Ok(Operand { address: self.address(x, self.dtype)?, transposed })
    }

    /// The array itself if nothing shares it, else a copy of its f32 values.
    pub(super) fn unique(&self, x: Buffer<D>) -> Result<(Buffer<D>, u64)> {
        if x.is_unique() && x.address(Dtype::Bf16).is_none() {
            let address = self.f32(&x)?;
            return Ok((x, address));
        }
        let from = self.f32(&x)?;
        let (out, to) = self.floats(x.shape())?;
        if out.elements() > 0 {
            // SAFETY: both have as many elements.
            unsafe { self.device.copy(from, to, 4 * out.elements())? };
        }
        Ok((out, to))
    }

    /// Sums of (parts, N * each) partial sums, see [`Reductions::add`].
    pub(super) fn reduce<const N: usize>(
        &self,
        partial: Block<D>,
        parts: usize,
        each: usize,
    ) -> Result<[Buffer<D>; N]> {
        let outputs: Vec<Buffer<D>> = (0..N).map(|_| Ok(self.floats(&[each])?.0)).collect::<Result<_>>()?;
        let Ok(outputs) = outputs.try_into() else { unreachable!("there are N") };
        Ok(self.reduce_to(partial, parts, each, outputs))
    }

    /// The same sums in the first `each` elements of arrays whose others have been written.
    pub(super) fn reduce_to<const N: usize>(
        &self,
        partial: Block<D>,
        parts: usize,
        each: usize,
        outputs: [Buffer<D>; N],
    ) -> [Buffer<D>; N] {
        self.reductions.add(partial, parts, each, outputs)
    }

    /// Enqueue all pending sums over rows. Other lists go to the device together with theirs.
    pub(super) fn flush_reductions<const N: usize>(&self, others: [&[u8]; N]) -> Result<[List<D>; N]> {
        self.reductions.flush(|items, blocks| {
            let mut sent = self.send_each(&[&[bytes_of(items)][..], &others[..]].concat())?.into_iter();
            let Some(list) = sent.next() else { unreachable!("it is the first") };
            let (items, count) = (list.address(), items.len() as i32);
            let mut arguments = [argument(&items), argument(&count)];
            // SAFETY: (const Reduction*, int); every item has its arrays.
            unsafe { self.launch("column_reduce", [blocks, 1, 1], 256, 4 * 256, &mut arguments)? };
            Ok(together(sent))
        })
    }

    /// Plain host values on the device, for kernels to read.
    pub(super) fn send<T: Plain>(&self, values: &[T]) -> Result<List<D>> {
        let [list] = self.send_all([bytes_of(values)])?;
        Ok(list)
    }

    /// Several lists in one upload.
    pub(super) fn send_all<const N: usize>(&self, lists: [&[u8]; N]) -> Result<[List<D>; N]> {
        Ok(together(self.send_each(&lists)?.into_iter()))
    }

    /// The same for any number.
    pub(super) fn send_each(&self, lists: &[&[u8]]) -> Result<Vec<List<D>>> {
        // SAFETY: the address is that of a block as long as the bytes.
        self.lists.get(&self.pool, lists, |bytes, to| unsafe { self.device.upload(bytes, to) })
    }

    /// Row indices for a kernel.
    pub(super) fn send_rows(&self, rows: &[usize]) -> Result<List<D>> {
        self.send(&narrow(rows.iter().copied())?)
    }

    /// Host values of a plain type at `address`; waits for the device.
    ///
    /// # Safety
    /// `count` values must have been written there by work that is in the queue.
    pub(super) unsafe fn fetch<T: Plain>(&self, address: u64, count: usize) -> Result<Vec<T>> {
        let mut values = vec![T::default(); count];
        if count > 0 {
            // SAFETY: the caller's.
            unsafe { self.device.download(address, bytes_of_mut(&mut values))? };
        }
        Ok(values)
    }
}

/// N lists as an array.
fn together<D: Device, const N: usize>(lists: impl Iterator<Item = List<D>>) -> [List<D>; N] {
    let Ok(lists) = lists.collect::<Vec<_>>().try_into() else { unreachable!("there are N") };
    lists
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_reused_unless_the_variable_is_0() {
        assert!(reuses(None) && reuses(Some("1".as_ref())) && !reuses(Some("0".as_ref())));
    }
}
