//! Ports for parts to listen on.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range from which Linux takes the ports of outgoing connections (32768 up), so that no client of a test
/// can sit on the port of a part that is down for the moment.
const FIRST: u16 = 10_000;
const COUNT: u16 = 22_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A TCP port on which nothing listens, on any address. Each call yields another one; concurrent test processes start
/// at different places.
#[track_caller]
pub fn free() -> u16 {
    let start = (std::process::id().wrapping_mul(2_654_435_761) >> 16) as u16;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + start.wrapping_add(step) % COUNT;
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

#[cfg(test)]
mod tests {
    #[test]
    fn free_ports_differ_and_can_be_bound() {
        let (first, second) = (super::free(), super::free());
        assert_ne!(first, second);
        std::net::TcpListener::bind(("127.0.0.1", first)).unwrap();
    }
}
