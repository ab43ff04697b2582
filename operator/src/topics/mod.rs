//! Topics: what a pipeline declares of them, what the brokers have, and the steps from one to the other.
//!
//! The order of a call: [`Clusters::look`], [`decide`], the caller writes the topics of the [`Decision`] into the status
//! (so that the intent to create one is recorded before it is created), [`Clusters::finish`].
//! [`decide`] and [`Claims`] are pure; nothing here is ever deleted.

mod access;
mod allowed;
mod claims;
mod clusters;
mod connection;
mod decide;
mod durable;
mod error;
mod judge;
mod seen;
mod step;
mod wanted;

pub use access::{Access, Key, Reference};
pub use allowed::{AllowedServers, InvalidPattern, ServerPattern};
pub use claims::{Claims, Contender, winner};
pub use clusters::Clusters;
pub use decide::{Decision, decide};
pub use error::{KafkaError, Trouble};
pub use seen::{Configs, Seen, SeenTopic, TopicFacts};
pub use step::{Failures, Step};
pub use wanted::{Wanted, names};
