//! The head of a request, whichever version of HTTP it came in.

/// The head of a request.
pub(super) trait Head {
    /// Whether its method sends a message.
    fn sends(&self) -> bool;

    /// The path as the sender wrote it, without the query.
    fn path(&self) -> &str;

    /// Of path and query.
    fn target_bytes(&self) -> usize;

    /// Names, in lower case, and values.
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])>;

    /// Its body could only end with the connection: an HTTP/1.0 request without Content-Length.
    fn lacks_length(&self) -> bool;
}
