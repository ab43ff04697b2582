//! Counts allocations, in builds for measurements only: those of Rust code, and those of librdkafka and every other
//! library in C, which take theirs from the same heap.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// More than a sidecar has threads. Those beyond share a place, and may lose a count to each other.
const THREADS: usize = 64;

/// A count for each thread, so that counting costs no locked instruction.
struct Counts([Place; THREADS]);

#[repr(align(64))]
struct Place(AtomicU64);

static RUST: Counts = Counts::new();
static ALL: Counts = Counts::new();

thread_local! {
    static PLACE: Cell<usize> = const { Cell::new(usize::MAX) };
}

impl Counts {
    const fn new() -> Self {
        Self([const { Place(AtomicU64::new(0)) }; THREADS])
    }

    fn count(&self) {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let place = PLACE.get();
        let place = if place < THREADS {
            place
        } else {
            let place = NEXT.fetch_add(1, Ordering::Relaxed) % THREADS;
            PLACE.set(place);
            place
        };
        if let Some(Place(count)) = self.0.get(place) {
            count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }

    fn sum(&self) -> u64 {
        self.0.iter().map(|Place(count)| count.load(Ordering::Relaxed)).sum()
    }
}

/// Allocations of Rust code so far, and of code in C.
pub(crate) fn counts() -> [u64; 2] {
    let rust = RUST.sum();
    [rust, ALL.sum().saturating_sub(rust)]
}

struct Counting;

#[global_allocator]
static GLOBAL: Counting = Counting;

// SAFETY: the system's allocator does all of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        RUST.count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        RUST.count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        RUST.count();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(memory, layout, size) }
    }
}

unsafe extern "C" {
    fn __libc_malloc(size: usize) -> *mut c_void;
    fn __libc_calloc(count: usize, size: usize) -> *mut c_void;
    fn __libc_realloc(memory: *mut c_void, size: usize) -> *mut c_void;
}

/// In place of the C library's, which it calls by its other name.
#[unsafe(no_mangle)]
extern "C" fn malloc(size: usize) -> *mut c_void {
    ALL.count();
    // SAFETY: what malloc(3) is.
    unsafe { __libc_malloc(size) }
}

/// As [`malloc`].
#[unsafe(no_mangle)]
extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    ALL.count();
    // SAFETY: what calloc(3) is.
    unsafe { __libc_calloc(count, size) }
}

/// As [`malloc`].
///
/// # Safety
/// As realloc(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(memory: *mut c_void, size: usize) -> *mut c_void {
    ALL.count();
    // SAFETY: the caller's promise.
    unsafe { __libc_realloc(memory, size) }
}
