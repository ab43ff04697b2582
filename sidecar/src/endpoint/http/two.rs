//! HTTP/2 with prior knowledge (RFC 9113): hyper frames, streams and windows.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, EXPECT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};

use super::answer::{self, JSON, ReceiptText};
use super::body::{Body, Piece, STEP_BYTES};
use super::exchange;
use super::head::Head;
use super::peer::Peer;
use super::problem::Problem;
use super::stop::Stop;
use super::visit::{Due, Visit};

/// For how long a small body that nobody needs is waited for; it mostly is under way.
const SMALL_BODY: Duration = Duration::from_millis(200);

/// Answers a request. It cannot fail: every end is an answer, or the connection's.
pub(super) async fn answer(
    peer: Arc<Peer>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let (mut head, mut body) = request.into_parts();
    let mut visit = Visit::new(peer);
    let outcome = match exchange::admit(&mut visit, &head, &mut body).await {
        Ok(arrived) => {
            // What points into hyper's buffer goes before the wait, or the buffer would stay.
            head.headers.clear();
            head.uri = Uri::default();
            visit.outcome(arrived).await.map(|receipt| (receipt, arrived))
        }
        Err(stop) => Err(stop),
    };
    Ok(match outcome {
        Ok((receipt, arrived)) => Answer::receipt(receipt, visit.acknowledge(arrived), head.headers),
        Err(stop) => {
            visit.refuse(&stop);
            await_small(&mut body, &head.headers).await;
            Answer::problem(&stop, head.headers)
        }
    })
}

impl Head for Parts {
    fn sends(&self) -> bool {
        matches!(self.method, Method::POST | Method::PUT)
    }

    fn path(&self) -> &str {
        self.uri.path()
    }

    fn target_bytes(&self) -> usize {
        self.uri.path_and_query().map_or(0, |path| path.as_str().len())
    }

    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
    }

    fn lacks_length(&self) -> bool {
        false
    }
}

impl<'b> Body<'b> for Incoming {
    fn length(&self) -> Option<u64> {
        self.size_hint().exact()
    }

    fn is_end(&self) -> bool {
        self.is_end_stream()
    }

    fn lent(&mut self) -> Option<&'b [u8]> {
        None
    }

    fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
        mut place: impl FnMut(Piece<'_>) -> Result<(), Stop>,
    ) -> Poll<Result<bool, Stop>> {
        match ready!(Pin::new(self).poll_frame(context)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => Poll::Ready(place(Piece::Given(data)).map(|()| true)),
                // Trailers.
                Err(_) => Poll::Ready(Ok(true)),
            },
            Some(Err(_)) => {
                let stop = Stop::new(Problem::MalformedBody, "the body ends too early");
                Poll::Ready(Err(stop.and_close().uncounted()))
            }
            None => Poll::Ready(Ok(false)),
        }
    }
}

/// Waits a moment for the small body of a request that is refused, and forgets it. An answer before it is in order, as is
/// the reset with NO_ERROR that follows (RFC 9113 §8.1), but curl 7.88 (Debian 12) throws the answer away when that comes
/// before it has sent its body.
async fn await_small(body: &mut Incoming, headers: &HeaderMap) {
    let small = body.size_hint().exact().is_some_and(|length| length <= STEP_BYTES as u64);
    if !small || headers.contains_key(EXPECT) {
        return;
    }
    let rest = async {
        while let Some(Ok(_)) = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {}
    };
    let _ = tokio::time::timeout(SMALL_BODY, rest).await;
}

/// The body of an answer, and what is booked when it has been written.
#[derive(Debug)]
pub(super) struct Answer {
    bytes: Bytes,
    due: Option<Due>,
}

impl Answer {
    /// A receipt, in the map of the request, whose room is used again.
    fn receipt(receipt: ReceiptText, due: Due, mut headers: HeaderMap) -> Response<Self> {
        headers.clear();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        let fields = receipt.fields();
        let (json, escaped_id) = receipt.into_parts();
        let json = Bytes::from(json);
        for (name, place) in fields {
            // Values of the sender's choice were refused if they do not fit a header field.
            if !place.is_empty()
                && let Ok(value) = HeaderValue::from_maybe_shared(json.slice(place))
            {
                headers.insert(name, value);
            }
        }
        if let Some(id) = escaped_id
            && let Ok(value) = HeaderValue::from_bytes(id.as_bytes())
        {
            headers.insert(answer::ID, value);
        }
        Self { bytes: json, due: Some(due) }.into_response(StatusCode::OK, headers)
    }

    fn problem(stop: &Stop, mut headers: HeaderMap) -> Response<Self> {
        headers.clear();
        answer::problem_fields(stop, |name, value| {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                headers.insert(name, value);
            }
        });
        let bytes = Bytes::from(stop.problem.to_json(&stop.detail));
        Self { bytes, due: None }.into_response(stop.problem.row().status, headers)
    }

    fn into_response(self, status: StatusCode, headers: HeaderMap) -> Response<Self> {
        let mut response = Response::new(self);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    /// hyper takes the bytes when it has the head in its write buffer: from here on the answer is with the connection.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.bytes.is_empty() {
            return Poll::Ready(None);
        }
        if let Some(due) = self.due.take() {
            due.hand_over();
        }
        Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(due) = self.due.take() {
            due.abandon();
        }
    }
}
