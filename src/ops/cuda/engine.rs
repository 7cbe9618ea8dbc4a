//! The engine: a device, a pool of its memory, and the element type of products.

use std::ffi::c_void;
use std::sync::{Arc, Mutex};

use super::attention::Tiles;
use super::buffer::{Block, Buffer, Pool};
use super::device::{Device, Element, Gemm, Launch, Operand, argument};
use super::shapes::defect;
use super::sums::Waiting;
use crate::Result;
use crate::rng::Dropout;

/// How many steps of training are enqueued behind one before the host asks what came out of it. With two the device has
/// work while the host waits for one, packs the next batch and enqueues its step; more would only make it learn of a defect
/// later, and memory need not grow for it: it is used again in the order of the queue.
pub const AHEAD: usize = 2;

/// f32 or bf16 products on a device. Cloning shares its pool of memory.
pub struct Cuda<D: Device> {
    pub(super) device: Arc<D>,
    pub(super) pool: Pool<D>,
    pub(super) products: Element,
    /// The last work lists of attention: a step asks for the same one in every layer.
    pub(super) tiles: Arc<Mutex<Vec<Arc<Tiles<D>>>>>,
    /// Sums over rows that are not enqueued yet.
    pub(super) sums: Arc<Mutex<Vec<Waiting<D>>>>,
}

impl<D: Device> Clone for Cuda<D> {
    fn clone(&self) -> Self {
        let Self { device, pool, products, tiles, sums } = self;
        let (device, pool, tiles, sums) = (device.clone(), pool.clone(), tiles.clone(), sums.clone());
        Self { device, pool, products: *products, tiles, sums }
    }
}

/// `In` and `Out` of the kernels: addresses of the two forms of an array, 0 for one that is not there.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Form {
    pub f32: u64,
    pub bf16: u64,
}

impl Form {
    pub(super) const NONE: Self = Self { f32: 0, bf16: 0 };
}

/// `Mask` of the kernels.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Mask {
    key: [u32; 2],
    site: u32,
    step: u32,
    micro: u32,
    /// 0: nothing drops.
    keep: u32,
    scale: f32,
}

impl From<Option<&Dropout>> for Mask {
    fn from(dropout: Option<&Dropout>) -> Self {
        match dropout {
            None => Self { key: [0; 2], site: 0, step: 0, micro: 0, keep: 0, scale: 1.0 },
            Some(d) => Self {
                key: [d.seed as u32, (d.seed >> 32) as u32],
                site: d.site,
                step: d.step,
                micro: d.micro,
                keep: d.threshold().max(1), // a rate this close to 1 keeps one element in 2^32
                scale: d.scale(),
            },
        }
    }
}

/// Which forms of an array a kernel writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forms {
    F32,
    Bf16,
    Both,
}

/// Kernels come in two forms: four elements at a time where rows allow it.
pub(super) fn by_width(width: usize, [four, one]: [&'static str; 2]) -> (&'static str, usize) {
    if width.is_multiple_of(4) { (four, 4) } else { (one, 1) }
}

/// Blocks that cover `n` things, `each` a block.
pub(super) fn blocks(n: usize, each: usize) -> u32 {
    n.div_ceil(each) as u32
}

impl<D: Device> Cuda<D> {
    /// An engine on `device` whose products are of `products`.
    pub fn new(device: D, products: Element) -> Self {
        Self::with_reuse(device, products, true)
    }

    /// As [`Cuda::new`]; without `reuse`, every array has memory of its own of exactly its size, which is slow and what a
    /// memory checker wants to see.
    pub fn with_reuse(device: D, products: Element, reuse: bool) -> Self {
        let device = Arc::new(device);
        Self { pool: Pool::new(device.clone(), reuse), device, products, tiles: Arc::default(), sums: Arc::default() }
    }

    /// The device.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// Element type of products.
    pub fn products(&self) -> Element {
        self.products
    }

    /// Bytes of device memory in arrays that are in use, and in free blocks that wait to be used again.
    pub fn memory(&self) -> (usize, usize) {
        self.pool.bytes()
    }

    /// Give the memory of free blocks back to the device.
    pub fn trim(&self) {
        self.pool.trim();
    }

    /// The form that only products read, or f32 where products do.
    pub(super) fn between(&self) -> Forms {
        match self.products {
            Element::F32 => Forms::F32,
            Element::Bf16 => Forms::Bf16,
        }
    }

    /// The f32 form, and that of products too if it is another one.
    pub(super) fn both(&self) -> Forms {
        match self.products {
            Element::F32 => Forms::F32,
            Element::Bf16 => Forms::Both,
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

    /// An existing form of an array, f32 if there is a choice.
    pub(super) fn input(&self, x: &Buffer<D>) -> Result<Form> {
        if x.is_waiting() {
            self.add_up()?;
        }
        Ok(match x.address(Element::F32) {
            Some(address) => Form { f32: address, bf16: 0 },
            None => Form { f32: 0, bf16: x.address(Element::Bf16).unwrap_or(0) },
        })
    }

    /// Address of an array in `element`s, which are made now if they do not exist.
    pub(super) fn address(&self, x: &Buffer<D>, element: Element) -> Result<u64> {
        if x.is_waiting() {
            self.add_up()?;
        }
        if let Some(address) = x.address(element) {
            return Ok(address);
        }
        let elements = x.elements();
        let block = self.pool.block(element.bytes() * elements)?;
        let address = block.address();
        let out = match element {
            Element::F32 => Form { f32: address, bf16: 0 },
            Element::Bf16 => Form { f32: 0, bf16: address },
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
        self.address(x, Element::F32)
    }

    /// Launch a kernel; nothing to do for a grid without blocks.
    ///
    /// # Safety
    /// As [`Device::launch`]: arguments of exactly the kernel's parameter types, whose addresses have room for what the
    /// kernel reads and writes with this grid.
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

    /// A product of dense matrices, also when an extent is 0.
    ///
    /// # Safety
    /// As [`Device::gemm`].
    pub(super) unsafe fn product(&self, gemm: &Gemm) -> Result<()> {
        let Gemm { m, n, k, out, output, onto, .. } = *gemm;
        let bytes = m * n * output.bytes();
        // SAFETY: the caller's; without an inner extent the sum is what it is added to, or zeros.
        unsafe {
            match (bytes, k, onto) {
                (0, ..) => Ok(()),
                (_, 0, Some(onto)) if onto != out => self.device.copy(onto, out, bytes),
                (_, 0, Some(_)) => Ok(()),
                (_, 0, None) => self.device.zero(out, bytes),
                _ => self.device.gemm(gemm),
            }
        }
    }

    /// Operand of a product.
    pub(super) fn operand(&self, x: &Buffer<D>, transposed: bool) -> Result<Operand> {
        Ok(Operand { address: self.address(x, self.products)?, transposed })
    }

    /// A copy of plain host values on the device.
    pub(super) fn send<T: Plain>(&self, values: &[T]) -> Result<Block<D>> {
        let bytes = bytes_of(values);
        let block = self.pool.block(bytes.len())?;
        if !bytes.is_empty() {
            // SAFETY: the block is as long as the values.
            unsafe { self.device.upload(bytes, block.address())? };
        }
        Ok(block)
    }

    /// Row numbers for a kernel.
    pub(super) fn send_rows(&self, rows: &[usize]) -> Result<Block<D>> {
        let narrow = |row: &usize| u32::try_from(*row).map_err(|_| defect(format!("row {row} is out of range")));
        self.send(&rows.iter().map(narrow).collect::<Result<Vec<u32>>>()?)
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

/// Types without padding for which any bytes are a value.
///
/// # Safety
/// As the first line says.
pub(super) unsafe trait Plain: Copy + Default {}
// SAFETY: numbers.
unsafe impl Plain for u32 {}
// SAFETY: numbers.
unsafe impl Plain for i32 {}
// SAFETY: numbers.
unsafe impl Plain for f32 {}
// SAFETY: numbers.
unsafe impl Plain for f64 {}

/// The bytes of plain values, as the device wants them.
pub(super) fn bytes_of<T: Plain>(values: &[T]) -> &[u8] {
    // SAFETY: the slice covers exactly `values`, which have no padding.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), std::mem::size_of_val(values)) }
}

/// The same, to be written.
pub(super) fn bytes_of_mut<T: Plain>(values: &mut [T]) -> &mut [u8] {
    // SAFETY: the slice covers exactly `values`, and any bytes are a value of a plain type.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast::<u8>(), std::mem::size_of_val(values)) }
}
