//! Dev mode: a Kafka-compatible broker in this process, so that a pipeline runs on a laptop with nothing else.
//!
//! [`Broker`] speaks Kafka's protocol on a loopback port and keeps records in a data folder between runs. What it has
//! acknowledged survives `kill -9`, and a full disk only delays acknowledgements. It does not survive a power failure,
//! and there is one replica of everything: it is for development.
//!
//! The protocol (frames, messages, consumer groups) is tansu's. The storage is ours: tansu's SQLite engine turns each
//! header into a row and reads it back with a scan of all of them, takes a record whose headers could not be written
//! for stored, and answers a full disk with an error after which clients drop and reorder messages. Ours appends the
//! batches as they come, the way Kafka itself does.

mod api;
mod broker;
mod error;
pub mod live;
mod log;
pub mod panel;

pub use broker::Broker;
pub use error::DevError;
