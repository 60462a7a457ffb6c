//! Asking for a cache line before it is needed.
//!
//! A load that misses the cache takes some 100 ns, and what comes after it soon waits for it. A
//! prefetch is not waited for: the line travels while other records are processed.
//!
//! The only unsafe idea in this file: **a prefetch reads nothing that the program can see**. It has
//! no effect on memory or registers, whatever the address.

/// A processor moves memory to its cache by this many bytes.
const LINE_BYTES: usize = 64;

/// Most lines of one value that are asked for: what follows is found by the processor's own
/// prefetching, as it reads on.
const LINES_MAX: usize = 4;

/// Asks for the first lines of `value`, also if it does not begin where a line does.
#[inline]
pub fn prefetch<T>(value: &T) {
    let start = std::ptr::from_ref(value).cast::<u8>();
    let len = size_of::<T>().min(LINES_MAX * LINE_BYTES);
    let end = start.wrapping_add(len);
    let mut line = start;
    while line < end {
        prefetch_line(line);
        line = line.wrapping_add(LINE_BYTES);
    }
    if align_of::<T>() < LINE_BYTES && 0 < len {
        // The last byte's line, which is one more if the value lies across a border.
        prefetch_line(end.wrapping_sub(1));
    }
}

/// Asks for the line in which `value` begins: all of it, if it lies in one.
#[inline]
pub fn prefetch_start<T>(value: &T) {
    prefetch_line(std::ptr::from_ref(value).cast());
}

/// Asks for the first lines of `bytes`, wherever in a line they begin, into the second cache: from
/// there they are soon at hand, and more of them can be on their way at once.
#[inline]
pub fn prefetch_bytes(bytes: &[u8]) {
    let in_line = bytes.as_ptr().addr() % LINE_BYTES;
    let start = bytes.as_ptr().wrapping_sub(in_line);
    let lines = (in_line + bytes.len()).div_ceil(LINE_BYTES).min(LINES_MAX);
    for line in 0..lines {
        prefetch_line_near(start.wrapping_add(line * LINE_BYTES));
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn prefetch_line(address: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a prefetch reads nothing that the program can see.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn prefetch_line_near(address: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
    // SAFETY: a prefetch reads nothing that the program can see.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) };
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn prefetch_line_near(address: *const u8) {
    prefetch_line(address);
}

#[cfg(target_arch = "aarch64")]
#[inline]
fn prefetch_line(address: *const u8) {
    // SAFETY: a prefetch reads nothing that the program can see.
    unsafe {
        std::arch::asm!(
            "prfm pldl1keep, [{}]",
            in(reg) address,
            options(nostack, preserves_flags, readonly),
        );
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline]
fn prefetch_line(_address: *const u8) {}
