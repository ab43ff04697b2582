//! The tokio runtime behind the synchronous face of the harness.

use std::future::Future;
use std::sync::LazyLock;

use tokio::runtime::{Builder, Handle, Runtime};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(start);

/// A runtime whose threads are started by this one.
pub(crate) fn start() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime for the harness")
}

/// The runtime of what happens on this machine; see [`crate::place::Place`] for others.
pub(crate) fn handle() -> Handle {
    RUNTIME.handle().clone()
}

/// Runs a future to its end.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    RUNTIME.block_on(future)
}

/// Runs a future beside the test.
pub(crate) fn spawn<F>(future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    RUNTIME.spawn(future)
}
