//! How much patience a call of the API server gets: a layer around kube's client.
//!
//! kube by itself repeats a call that was refused with 429, 503 or 504 for minutes, waits as long as the server says, and
//! waits for an answer for ever. Whoever asked keeps a turn of `--concurrency` meanwhile, so that a few pipelines with
//! trouble would hold up all others, and nobody would be told why. Here a call comes to its end soon. The reconcile tells
//! its reason, lets others in, and comes back after a pause that grows.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, Request, Response, StatusCode};
use kube::client::Body;
use tower::{BoxError, Layer, Service, ServiceExt};

/// The pauses before a call is repeated: a server that is busy for a moment is nobody's trouble.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(800)];
/// The longest `Retry-After` that is waited for here.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long until the answer begins: as long as the API server at most gives an admission webhook.
const ANSWER: Duration = Duration::from_secs(30);

/// A call without an answer.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", ANSWER.as_secs())]
struct NoAnswer;

/// Gives calls this much patience.
#[derive(Clone, Copy, Debug)]
pub struct Patience;

impl<S> Layer<S> for Patience {
    type Service = Patient<S>;

    fn layer(&self, inner: S) -> Patient<S> {
        Patient { inner }
    }
}

/// A service whose calls come to their end.
#[derive(Clone, Debug)]
pub struct Patient<S> {
    inner: S,
}

impl<S, B> Service<Request<Body>> for Patient<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The one that is ready; what is left becomes so the next time.
        let left = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, left);
        Box::pin(async move {
            match tokio::time::timeout(ANSWER, repeated(ready, request)).await {
                Ok(answer) => answer,
                Err(_) => Err(NoAnswer.into()),
            }
        })
    }
}

async fn repeated<S, B>(mut service: S, mut request: Request<Body>) -> Result<Response<B>, BoxError>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
{
    for pause in PAUSES {
        let again = copy(&request);
        let answer = service.call(request).await?;
        let (Some(pause), Some(again)) = (pause_after(answer.status(), answer.headers(), pause), again)
        else {
            return Ok(answer);
        };
        drop(answer);
        tokio::time::sleep(pause).await;
        service.ready().await?;
        request = again;
    }
    service.call(request).await
}

/// How long to wait before the same call may succeed; none where its answer is to be passed on.
fn pause_after(status: StatusCode, headers: &HeaderMap, pause: Duration) -> Option<Duration> {
    const BUSY: [StatusCode; 3] =
        [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
    let asked = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let pause = asked.map_or(pause, |seconds| pause.max(Duration::from_secs(seconds)));
    (BUSY.contains(&status) && pause <= LONGEST_PAUSE).then_some(pause)
}

/// Bodies of calls are whole, and cheap to share.
fn copy(request: &Request<Body>) -> Option<Request<Body>> {
    let mut copy = Request::new(request.body().try_clone()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::time::Instant;
    use tower::service_fn;

    use super::*;

    /// Asks a server that refuses the first calls; says how often it was asked, how it ended, and after how long.
    async fn ask(refusals: u32, status: u16, retry_after: Option<u64>) -> (u32, u16, Duration) {
        let asked = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&asked);
        let server = service_fn(move |_: Request<Body>| {
            let refused = counted.fetch_add(1, Ordering::Relaxed) < refusals;
            let mut answer = Response::builder().status(if refused { status } else { 200 });
            if let Some(seconds) = retry_after {
                answer = answer.header(RETRY_AFTER, seconds);
            }
            std::future::ready(Ok::<_, BoxError>(answer.body(()).unwrap()))
        });
        let started = Instant::now();
        let mut service = Patience.layer(server);
        let answer = service.ready().await.unwrap().call(Request::new(Body::empty())).await.unwrap();
        (asked.load(Ordering::Relaxed), answer.status().as_u16(), started.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_busy_for_a_moment_is_asked_again_and_then_no_more() {
        let (asked, status, _) = ask(2, 503, None).await;
        assert_eq!((asked, status), (3, 200));
        let (asked, status, took) = ask(u32::MAX, 429, Some(1)).await;
        assert_eq!((asked, status), (4, 429));
        assert!(took >= Duration::from_secs(3) && took < Duration::from_secs(4), "{took:?}");
        for (status, retry_after) in [(429, Some(3)), (429, Some(u64::MAX)), (409, None), (500, Some(1))] {
            assert_eq!(ask(u32::MAX, status, retry_after).await, (1, status, Duration::ZERO));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_answer_is_given_up() {
        let server = service_fn(|_: Request<Body>| std::future::pending::<Result<Response<()>, BoxError>>());
        let mut service = Patience.layer(server);
        let error = service.ready().await.unwrap().call(Request::new(Body::empty())).await.unwrap_err();
        assert_eq!(error.to_string(), "no answer within 30 s");
    }
}
