//! How the C library's allocator behaves. In a sidecar librdkafka takes and frees the buffers of each batch, and giving
//! their pages back to the kernel every time costs a system call and a page fault for each; an operator works in bursts.
#![allow(unsafe_code)]

use libc::{M_ARENA_MAX, M_MMAP_THRESHOLD, M_TOP_PAD, M_TRIM_THRESHOLD, mallopt};

/// Free memory at the top of a heap that is kept rather than given back, in bytes.
const KEPT_BYTES: libc::c_int = 8 << 20;
/// What a heap grows by at least.
const STEP_BYTES: libc::c_int = 256 << 10;
/// From here on an allocation is a mapping of its own, which goes back when it is freed.
const MAPPED_BYTES: libc::c_int = 4 << 20;

/// One heap for all threads, whose free top goes back at once: for a program that works in bursts and rests in between.
/// Call it before threads start.
pub fn give_freed_memory_back() {
    for (option, value) in [(M_ARENA_MAX, 1), (M_TRIM_THRESHOLD, STEP_BYTES), (M_MMAP_THRESHOLD, STEP_BYTES)]
    {
        // SAFETY: as below.
        unsafe { mallopt(option, value) };
    }
}

/// Keeps some freed memory for the next batch. Call it before threads start.
pub(crate) fn keep_freed_memory() {
    for (option, value) in
        [(M_TRIM_THRESHOLD, KEPT_BYTES), (M_TOP_PAD, STEP_BYTES), (M_MMAP_THRESHOLD, MAPPED_BYTES)]
    {
        // SAFETY: mallopt only sets a number of the allocator; a value that it refuses changes nothing.
        unsafe { mallopt(option, value) };
    }
}
