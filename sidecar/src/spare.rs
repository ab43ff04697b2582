//! Buffers that nobody uses, kept by each thread for whoever needs one next: a connection that rests holds none, and those
//! that are busy take and give back the same few instead of making them anew for each burst.

use std::cell::RefCell;
use std::thread::LocalKey;

/// How many a thread keeps of a kind.
const KEPT: usize = 8;
/// Larger ones are not kept.
const LARGEST_BYTES: usize = 32 << 10;

/// The buffers of one kind that a thread keeps.
pub(crate) type Spares<T> = RefCell<Vec<T>>;

/// An empty buffer, with room in it if there is one.
pub(crate) fn take<T: Default>(spares: &'static LocalKey<Spares<T>>) -> T {
    spares.try_with(|spares| spares.borrow_mut().pop()).ok().flatten().unwrap_or_default()
}

/// Keeps an empty buffer that has room for so many bytes.
pub(crate) fn give_back<T>(spares: &'static LocalKey<Spares<T>>, buffer: T, bytes: usize) {
    if !(1..=LARGEST_BYTES).contains(&bytes) {
        return;
    }
    // A thread that ends keeps nothing.
    let _ = spares.try_with(|spares| {
        let mut spares = spares.borrow_mut();
        if spares.len() < KEPT {
            spares.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_a_few_buffers_and_no_large_one() {
        thread_local! {
            static SPARES: Spares<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let with_room = |bytes| give_back(&SPARES, Vec::with_capacity(bytes), bytes);
        assert_eq!(take(&SPARES).capacity(), 0);
        with_room(100);
        with_room(LARGEST_BYTES + 1);
        with_room(0);
        assert!(take(&SPARES).capacity() >= 100);
        assert_eq!(take(&SPARES).capacity(), 0, "neither large nor empty ones are kept");
        (0..2 * KEPT).for_each(|_| with_room(100));
        assert_eq!(SPARES.with_borrow(Vec::len), KEPT);
    }
}
