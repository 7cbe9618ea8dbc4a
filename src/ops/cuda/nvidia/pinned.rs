//! Pinned memory of the host, through which bytes go to a GPU and come back while the host
//! computes.

use std::sync::{Arc, Mutex, MutexGuard};

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::{CudaEvent, CudaStream, PinnedHostSlice, sys};

/// The result of a call of the driver.
pub(super) type Answer<T> = std::result::Result<T, DriverError>;

/// The data behind the lock; a panic elsewhere leaves it whole: caches, and slots that are written
/// before they are sent.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Bytes on their way to the host, in pinned memory that is used again.
pub struct Readback {
    /// `None` only while it is dropped.
    pub(super) slot: Option<PinnedSlot>,
    pub(super) bytes: usize,
    pub(super) free: Arc<Mutex<Vec<PinnedSlot>>>,
}

impl Drop for Readback {
    fn drop(&mut self) {
        // If the value was never read, the copy may still be in flight; the next copy into the slot follows it in the stream.
        locked(&self.free).extend(self.slot.take());
    }
}

/// Pinned memory that the device copies to.
pub(super) struct PinnedSlot {
    pub memory: PinnedHostSlice<u8>,
    pub address: *mut u8,
    /// When the last copy to it was done.
    pub done: CudaEvent,
}
// SAFETY: `address` is the slot's own memory, which one thread has at a time.
unsafe impl Send for PinnedSlot {}

impl PinnedSlot {
    pub fn new(stream: &CudaStream, bytes: usize) -> Answer<Self> {
        // SAFETY: read only after the device wrote it. Flags 0: memory that the processor may cache.
        let mut memory = unsafe { stream.context().alloc_pinned_with_flags::<u8>(bytes, 0) }?;
        let address = memory.as_mut_ptr()?;
        let done = stream.record_event(Some(sys::CUevent_flags::CU_EVENT_BLOCKING_SYNC))?;
        Ok(Self { memory, address, done })
    }
}

impl Drop for PinnedSlot {
    fn drop(&mut self) {
        // Before the memory is freed. An error here cannot be reported.
        let _ = self.done.synchronize();
    }
}

/// Pinned memory for uploads: the copy returns immediately, and the caller's values may
/// change. One allocation, since each takes the driver long, in slots that are used in turn.
pub(super) struct Staging {
    /// When the last copy from each slot was done. Before `memory`, which outlives the copies.
    sent: Vec<CudaEvent>,
    next: usize,
    address: *mut u8,
    _memory: PinnedHostSlice<u8>,
}
// SAFETY: `address` is the memory's own, used behind a lock.
unsafe impl Send for Staging {}

impl Staging {
    /// The lists of a step of training of about 10,000 tokens, in one copy. Larger things, such as weights, are
    /// uploaded rarely.
    const BYTES: usize = 256 << 10;
    /// The processor may be ahead of the GPU by this many uploads; a step makes two.
    const SLOTS: usize = 16;
    /// Longer uploads do not use the staging memory.
    pub const MOST: usize = Self::BYTES * Self::SLOTS / 2;

    pub fn new(stream: &CudaStream) -> Answer<Self> {
        // SAFETY: bytes, written before they are sent. Flags 0: memory that the processor may cache.
        let mut memory = unsafe { stream.context().alloc_pinned_with_flags::<u8>(Self::BYTES * Self::SLOTS, 0) }?;
        let address = memory.as_mut_ptr()?;
        let sent = (0..Self::SLOTS).map(|_| stream.record_event(None)).collect::<Answer<_>>()?;
        Ok(Self { sent, next: 0, address, _memory: memory })
    }

    /// # Safety
    /// `to` must have room for `values`.
    pub unsafe fn send(&mut self, values: &[u8], mut to: u64, stream: &CudaStream) -> Answer<()> {
        for piece in values.chunks(Self::BYTES) {
            let slot = self.next;
            self.next = (slot + 1) % Self::SLOTS;
            self.sent[slot].synchronize()?;
            // SAFETY: the caller's for `to`. The slot lies inside the memory and is as long as a piece can be; its last copy is
            // done, and nothing else writes or reads it.
            unsafe {
                let staged = self.address.add(slot * Self::BYTES);
                staged.copy_from_nonoverlapping(piece.as_ptr(), piece.len());
                let staged = std::slice::from_raw_parts(staged, piece.len());
                result::memcpy_htod_async(to, staged, stream.cu_stream())?;
            }
            self.sent[slot].record(stream)?;
            to += piece.len() as u64;
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Before the memory is freed. An error here cannot be reported.
        for sent in &self.sent {
            let _ = sent.synchronize();
        }
    }
}
