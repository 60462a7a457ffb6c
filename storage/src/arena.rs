//! Buffers for frames: equal, aligned, from huge pages, and counted.
//!
//! A [`Slab`] belongs to one shard. It carves 2 MiB anonymous mappings (one huge page each) into
//! buffers of one size; a [`Buffer`] is an owned handle that may travel to another shard and comes
//! back to the slab that it was taken from. The number of buffers is the shard's memory in flight:
//! when it is used up, [`Slab::take`] answers `None`, and that is backpressure.
//!
//! ```text
//! chunk  │ buffer 0 │ buffer 1 │ … │ buffer 63 │      2 MiB, 32 KiB a buffer
//!           taken      free list       never taken yet: its pages are not touched
//! ```
//!
//! The only unsafe idea in this file: **a `Buffer` exclusively owns its byte range**. A range is
//! carved exactly once, a `Buffer` is neither `Clone` nor `Copy`, and the free list holds whole
//! `Buffer`s, so at any time one value at most covers a byte. The range stays mapped because the
//! handle holds the chunk by `Arc`. Every byte is initialised (the kernel and the allocator give
//! zeroes), so stale contents may be seen, uninitialised memory never.
//!
//! Invariant: `outstanding + free + not yet carved = buffer_count_max`.
//! Not here: what is written into a buffer, who returns it when (the engine's exchange).

use std::alloc::{self, Layout};
use std::fmt;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

use memmap2::{Advice, MmapMut, MmapRaw, UncheckedAdvice};

/// Memory is asked of the system in pieces of this size: one huge page on x86-64.
pub const CHUNK_BYTES: usize = 2 << 20;

/// Buffers start at multiples of this, and slab buffers are multiples of it long: a cache line,
/// and more than any archived type needs.
pub const BUFFER_ALIGNMENT_BYTES: usize = 64;

/// Heap buffers of at least this size start at a multiple of it, as direct I/O wants.
const PAGE_BYTES: usize = 4096;

const _: () = assert!(CHUNK_BYTES.is_multiple_of(PAGE_BYTES));
const _: () = assert!(PAGE_BYTES.is_multiple_of(BUFFER_ALIGNMENT_BYTES));

/// A bounded set of equal buffers of one shard.
#[derive(Debug)]
pub struct Slab {
    buffer_bytes: usize,
    buffer_count_max: usize,
    /// Every chunk allocated so far; a buffer names its chunk by the index in here.
    chunks: Vec<Arc<Chunk>>,
    /// Buffers that were taken before and are back. The last one in is the first one out: its
    /// bytes are the likeliest to be in the cache.
    free: Vec<Buffer>,
    /// So many of these, the first ones, have no memory before they are written to.
    discarded_count: usize,
    /// Buffers carved from the chunks so far, free or outstanding.
    carved_count: usize,
    /// Buffers carved from the last chunk.
    carved_in_chunk_count: usize,
}

impl Slab {
    /// A slab of at most `buffer_count_max` buffers of `buffer_bytes` each. Allocates nothing yet.
    ///
    /// # Panics
    /// If `buffer_bytes` is zero, larger than [`CHUNK_BYTES`], or not a multiple of
    /// [`BUFFER_ALIGNMENT_BYTES`].
    pub fn new(buffer_bytes: usize, buffer_count_max: usize) -> Self {
        assert!(0 < buffer_bytes && buffer_bytes <= CHUNK_BYTES);
        assert!(buffer_bytes.is_multiple_of(BUFFER_ALIGNMENT_BYTES));
        Self {
            buffer_bytes,
            buffer_count_max,
            chunks: Vec::new(),
            free: Vec::new(),
            discarded_count: 0,
            carved_count: 0,
            carved_in_chunk_count: 0,
        }
    }

    /// An empty buffer, or `None` while all of them are outstanding.
    ///
    /// # Panics
    /// If the system refuses the memory that the slab was promised.
    pub fn take(&mut self) -> Option<Buffer> {
        if let Some(buffer) = self.free.pop() {
            debug_assert!(buffer.is_empty());
            self.discarded_count = self.discarded_count.min(self.free.len());
            return Some(buffer);
        }
        if self.carved_count == self.buffer_count_max {
            return None;
        }
        Some(self.carve())
    }

    /// Takes `buffer` back; its contents are forgotten.
    ///
    /// # Panics
    /// If `buffer` was not taken from this slab: memory would move from one budget to another.
    pub fn put(&mut self, mut buffer: Buffer) {
        assert!(
            self.chunks
                .get(buffer.chunk_index as usize)
                .is_some_and(|chunk| Arc::ptr_eq(chunk, &buffer.chunk)),
            "the buffer belongs to another slab"
        );
        assert!(self.free.len() < self.carved_count);
        buffer.clear();
        self.free.push(buffer);
    }

    /// Gives memory of free buffers back to the system until no more than `count` buffers have any,
    /// those that are taken included; taking such a one asks for it again.
    ///
    /// # Panics
    /// If a buffer is not a whole chunk.
    pub fn discard_beyond(&mut self, count: usize) {
        assert_eq!(self.buffer_bytes, CHUNK_BYTES, "memory is given back in whole chunks");
        while count < self.carved_count - self.discarded_count
            && let Some(buffer) = self.free.get_mut(self.discarded_count)
        {
            buffer.discard();
            self.discarded_count += 1;
        }
    }

    /// Buffers taken and not put back. One that was dropped counts for ever.
    pub fn outstanding(&self) -> usize {
        self.carved_count - self.free.len()
    }

    /// How many more buffers [`Slab::take`] would give now.
    pub fn available(&self) -> usize {
        self.buffer_count_max - self.outstanding()
    }

    /// Address space asked of the system so far, in bytes; resident at most.
    pub fn allocated_bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.bytes()).sum()
    }

    /// Capacity of every buffer of this slab, in bytes.
    pub fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    /// Most buffers that can be outstanding.
    pub fn buffer_count_max(&self) -> usize {
        self.buffer_count_max
    }

    /// The next buffer that was never taken before, from a new chunk if need be.
    fn carve(&mut self) -> Buffer {
        assert!(self.carved_count < self.buffer_count_max);
        let per_chunk = CHUNK_BYTES / self.buffer_bytes;
        if self.chunks.is_empty() || self.carved_in_chunk_count == per_chunk {
            // A small slab asks for no more than it may ever use.
            let remaining = self.buffer_count_max - self.carved_count;
            let bytes = (per_chunk.min(remaining) * self.buffer_bytes).next_multiple_of(PAGE_BYTES);
            self.chunks.push(Arc::new(Chunk::map(bytes.min(CHUNK_BYTES))));
            self.carved_in_chunk_count = 0;
        }
        let chunk_index = self.chunks.len() - 1;
        let chunk = Arc::clone(&self.chunks[chunk_index]);
        let offset = self.carved_in_chunk_count * self.buffer_bytes;
        self.carved_in_chunk_count += 1;
        self.carved_count += 1;
        Buffer::carve(chunk, chunk_index as u32, offset, self.buffer_bytes)
    }
}

/// An owned piece of aligned, initialised memory with a length: the part that is in use.
///
/// Belongs to one thread at a time; may be sent to another. Dropping it instead of putting it back
/// is for shutdown: the memory is freed once its slab and all its neighbours are gone.
pub struct Buffer {
    start: NonNull<u8>,
    /// Keeps the bytes mapped.
    chunk: Arc<Chunk>,
    capacity: u32,
    len: u32,
    /// Which of the slab's chunks; [`HEAP`] for a buffer of its own.
    chunk_index: u32,
}

const _: () = assert!(size_of::<Buffer>() <= 32, "a buffer and its header fit a cache line");

/// The `chunk_index` of a buffer that is no slab's.
const HEAP: u32 = u32::MAX;

impl Buffer {
    /// A buffer outside every slab, for what is larger than a slab's buffers. Its capacity is
    /// `capacity` rounded up to the alignment: 4096 from that size on, 64 below.
    pub fn heap(capacity: usize) -> Self {
        let chunk = Chunk::heap(capacity);
        let bytes = chunk.bytes();
        Self::carve(Arc::new(chunk), HEAP, 0, bytes)
    }

    /// The caller passes every `offset..offset + capacity` of a chunk at most once, without
    /// overlaps: that makes the result the owner of the range.
    fn carve(chunk: Arc<Chunk>, chunk_index: u32, offset: usize, capacity: usize) -> Self {
        assert!(offset + capacity <= chunk.bytes());
        // SAFETY: `offset` is within the chunk's one allocation.
        let start = unsafe { chunk.start().add(offset) };
        assert!((start.as_ptr() as usize).is_multiple_of(BUFFER_ALIGNMENT_BYTES));
        let capacity = u32::try_from(capacity).expect("a buffer is smaller than 4 GiB");
        Self { start, chunk, capacity, len: 0, chunk_index }
    }

    /// Bytes that fit.
    pub fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// Bytes in use.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// True while no byte is in use.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that still fit.
    pub fn spare_bytes(&self) -> usize {
        (self.capacity - self.len) as usize
    }

    /// True for a buffer made by [`Buffer::heap`]: no slab wants it back.
    pub fn is_heap(&self) -> bool {
        self.chunk_index == HEAP
    }

    /// Forgets the contents.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Makes the first `len` bytes the ones in use. Bytes beyond the old length hold whatever was
    /// last written there, zeroes at first.
    ///
    /// # Panics
    /// If `len` is beyond the capacity.
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity(), "{len} bytes do not fit into {}", self.capacity);
        self.len = len as u32;
    }

    /// Appends `bytes`.
    ///
    /// # Panics
    /// If they do not fit; see [`Buffer::spare_bytes`].
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.spare_mut()[..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len() as u32;
    }

    /// The bytes in use.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: this handle owns the range, all of it is initialised, and `&self` keeps every
        // writer (they need `&mut self`) away for the lifetime of the slice.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len()) }
    }

    /// The bytes in use, to be changed.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: this handle owns the range, all of it is initialised, `len` is within it, and
        // `&mut self` excludes every other slice of it for the lifetime of this one.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len()) }
    }

    /// The bytes after those in use, to be written before [`Buffer::set_len`].
    pub fn spare_mut(&mut self) -> &mut [u8] {
        let len = self.len();
        &mut self.whole_mut()[len..]
    }

    /// Gives the memory of a buffer that is a whole chunk back to the system. Its bytes are zeroes
    /// then, or what they were if the system does not want it.
    fn discard(&mut self) {
        let Chunk::Mapped(mapping) = &*self.chunk else { return };
        assert_eq!(self.capacity(), mapping.len(), "others have no part of the chunk");
        // SAFETY: this handle owns all bytes of the chunk, and `&mut self` excludes every slice of
        // them. Pages of a private anonymous mapping that are dropped read as zeroes, so they stay
        // initialised.
        let _ = unsafe { mapping.unchecked_advise(UncheckedAdvice::DontNeed) };
    }

    fn whole_mut(&mut self) -> &mut [u8] {
        // SAFETY: this handle owns the range, all of it is initialised, and `&mut self` excludes
        // every other slice of it for the lifetime of this one.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.capacity()) }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer")
            .field("len", &self.len)
            .field("capacity", &self.capacity)
            .field("heap", &self.is_heap())
            .finish_non_exhaustive()
    }
}

// SAFETY: the handle owns its range alone, so it may be used on any one thread; the chunk that it
// shares with its neighbours is only held, never touched, and freed by whoever lets go last.
unsafe impl Send for Buffer {}

// SAFETY: through `&Buffer` the range can only be read.
unsafe impl Sync for Buffer {}

/// The memory behind buffers. Nothing reads or writes it but through the buffers carved from it.
enum Chunk {
    Mapped(MmapRaw),
    Heap { start: NonNull<u8>, layout: Layout },
}

impl Chunk {
    /// Maps `bytes` of zeroes, as a huge page if the system can.
    fn map(bytes: usize) -> Self {
        let mapping = MmapMut::map_anon(bytes).unwrap_or_else(|error| {
            panic!("the system refused {bytes} bytes for buffers, check memory limits: {error}")
        });
        // A system without huge pages answers with an error and works all the same.
        let _ = mapping.advise(Advice::HugePage);
        Self::Mapped(MmapRaw::from(mapping))
    }

    /// Allocates at least `bytes` of zeroes.
    fn heap(bytes: usize) -> Self {
        let alignment = if bytes < PAGE_BYTES { BUFFER_ALIGNMENT_BYTES } else { PAGE_BYTES };
        let layout = Layout::from_size_align(bytes.max(1).next_multiple_of(alignment), alignment)
            .expect("a buffer is smaller than the address space");
        // SAFETY: the layout's size is at least one alignment, so it is not zero.
        let start = unsafe { alloc::alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| alloc::handle_alloc_error(layout));
        Self::Heap { start, layout }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Mapped(mapping) => mapping.len(),
            Self::Heap { layout, .. } => layout.size(),
        }
    }

    /// Where the memory begins, with the right to write all of it.
    fn start(&self) -> NonNull<u8> {
        match self {
            Self::Mapped(mapping) => {
                NonNull::new(mapping.as_mut_ptr()).expect("nothing is mapped at address zero")
            }
            Self::Heap { start, .. } => *start,
        }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Self::Heap { start, layout } = self {
            // SAFETY: allocated with this layout, and freed once: the buffers that pointed into
            // it held the chunk, so they are gone.
            unsafe { alloc::dealloc(start.as_ptr(), *layout) };
        }
    }
}

// SAFETY: a chunk's bytes are reached only through buffers, each of which owns its range; the
// chunk itself offers nothing but its address and size, and may be freed by any thread.
unsafe impl Send for Chunk {}

// SAFETY: as above; `&Chunk` touches no byte.
unsafe impl Sync for Chunk {}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} bytes)", self.bytes())
    }
}

#[cfg(test)]
mod tests;
