//! The head of an HTTP/1 request (RFC 9112): where its parts are, and how its body is framed.
//!
//! Whatever could be read in two ways is refused, since a proxy in front may have read it in the other (RFC 9112 §11.2).

use std::mem::MaybeUninit;
use std::ops::Range;

use super::BUFFER_BYTES;
use crate::endpoint::http::head;
use crate::endpoint::http::problem::Problem;
use crate::endpoint::http::stop::Stop;

/// More fields than any sender of messages has.
const MAX_FIELDS: usize = 100;

/// A name and its value, as places in the head.
#[derive(Debug)]
pub(super) struct Field {
    name: Range<usize>,
    value: Range<usize>,
}

/// What is known of a request when its head is complete.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: Method,
    path: Range<usize>,
    /// Of path and query.
    target_bytes: usize,
    /// Of the head, in bytes.
    pub(super) length: usize,
    pub(super) framing: Framing,
    /// It is HTTP/1.1, and not 1.0.
    pub(super) is_1_1: bool,
    /// The client lets the connection go on.
    pub(super) keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub(super) expects_continue: bool,
}

/// As far as it makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// POST or PUT.
    Send,
    Head,
    Other,
}

/// How long the body is (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Nothing is said of a body: there is none.
    Unsaid,
    Length(u64),
    Chunked,
}

impl Framing {
    /// Bytes of the body, if the head tells them.
    pub(super) fn length(self) -> Option<u64> {
        match self {
            Self::Unsaid => Some(0),
            Self::Length(length) => Some(length),
            Self::Chunked => None,
        }
    }
}

/// Reads the head at the start of `bytes`, whose field names become lower case. None while it is not complete.
pub(super) fn read(bytes: &mut [u8], fields: &mut Vec<Field>) -> Result<Option<Head>, Stop> {
    let mut room = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(bytes, &mut room) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < BUFFER_BYTES => return Ok(None),
        Ok(httparse::Status::Partial) => {
            return Err(too_large("path and header fields take more than 16 KiB"));
        }
        Err(error) => return Err(refuse(error)),
    };
    let place = |part: &[u8]| match part.len() {
        0 => 0..0,
        length => {
            let start = part.as_ptr().addr() - bytes.as_ptr().addr();
            start..start + length
        }
    };
    let method = match request.method {
        Some("POST" | "PUT") => Method::Send,
        Some("HEAD") => Method::Head,
        _ => Method::Other,
    };
    let is_1_1 = request.version == Some(1);
    let target = request.path.unwrap_or_default();
    let (path, target_bytes) = (place(path_of(target).as_bytes()), target.len());
    fields.clear();
    fields.extend(
        request
            .headers
            .iter()
            .map(|field| Field { name: place(field.name.as_bytes()), value: place(field.value) }),
    );
    for field in fields.iter() {
        bytes.get_mut(field.name.clone()).unwrap_or_default().make_ascii_lowercase();
    }
    let mut head = Head {
        method,
        path,
        target_bytes,
        length,
        framing: Framing::Unsaid,
        is_1_1,
        keep_alive: is_1_1,
        expects_continue: false,
    };
    head.read_fields(bytes, fields)?;
    Ok(Some(head))
}

impl Head {
    /// Reads the fields that say how to read the rest.
    fn read_fields(&mut self, bytes: &[u8], fields: &[Field]) -> Result<(), Stop> {
        let (mut hosts, mut chunked) = (0, false);
        for (name, value) in fields.iter().map(|field| field.of(bytes)) {
            match name {
                b"host" => hosts += 1,
                b"content-length" => {
                    let length = read_length(value)
                        .filter(|length| [Framing::Unsaid, Framing::Length(*length)].contains(&self.framing))
                        .ok_or(malformed("Content-Length is not one number"))?;
                    self.framing = Framing::Length(length);
                }
                b"transfer-encoding" => {
                    if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                        return Err(malformed("Transfer-Encoding can be 'chunked' and nothing else"));
                    }
                    chunked = true;
                }
                b"connection" => {
                    for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                        if option.eq_ignore_ascii_case(b"close") {
                            self.keep_alive = false;
                        } else if !self.is_1_1 && option.eq_ignore_ascii_case(b"keep-alive") {
                            self.keep_alive = true;
                        }
                    }
                }
                b"expect" => {
                    self.expects_continue = self.is_1_1 && value.eq_ignore_ascii_case(b"100-continue")
                }
                _ => {}
            }
        }
        if hosts > 1 || (hosts == 0 && self.is_1_1) {
            return Err(malformed("there has to be one Host field"));
        }
        if chunked {
            if !self.is_1_1 {
                return Err(malformed("HTTP/1.0 has no Transfer-Encoding"));
            }
            if self.framing != Framing::Unsaid {
                return Err(malformed("Content-Length and Transfer-Encoding contradict each other"));
            }
            self.framing = Framing::Chunked;
        }
        Ok(())
    }
}

impl Field {
    fn of<'b>(&self, head: &'b [u8]) -> (&'b [u8], &'b [u8]) {
        let part = |place: &Range<usize>| head.get(place.clone()).unwrap_or_default();
        (part(&self.name), part(&self.value))
    }
}

/// A head with the bytes that it is in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'b> {
    pub(super) head: &'b Head,
    pub(super) bytes: &'b [u8],
    pub(super) fields: &'b [Field],
}

impl head::Head for Request<'_> {
    fn sends(&self) -> bool {
        self.head.method == Method::Send
    }

    fn path(&self) -> &str {
        std::str::from_utf8(self.bytes.get(self.head.path.clone()).unwrap_or_default()).unwrap_or_default()
    }

    fn target_bytes(&self) -> usize {
        self.head.target_bytes
    }

    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|field| field.of(self.bytes))
    }

    fn lacks_length(&self) -> bool {
        !self.head.is_1_1 && self.head.framing == Framing::Unsaid
    }
}

/// The path of a target. Of the absolute form, which proxies are sent, nothing else counts (RFC 9112 §3.2.2).
fn path_of(target: &str) -> &str {
    let absolute = if target.starts_with('/') { None } else { target.split_once("://") };
    let path = match absolute {
        Some((_, rest)) => rest.find(['/', '?', '#']).and_then(|at| rest.get(at..)).unwrap_or_default(),
        None => target,
    };
    let end = path.bytes().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(path.len());
    path.get(..end).unwrap_or_default()
}

fn read_length(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value).ok()?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

fn refuse(error: httparse::Error) -> Stop {
    match error {
        httparse::Error::TooManyHeaders => too_large("there are more than 100 header fields"),
        httparse::Error::Version => malformed("the version of HTTP is not 1.0 or 1.1"),
        httparse::Error::HeaderName => malformed("the name of a header field is not a token"),
        httparse::Error::HeaderValue => malformed("the value of a header field has control characters"),
        httparse::Error::NewLine => malformed("a line does not end with CR LF"),
        httparse::Error::Token | httparse::Error::Status => {
            malformed("the request line is not METHOD TARGET HTTP/1.1")
        }
    }
}

fn malformed(detail: &'static str) -> Stop {
    no_request(Problem::MalformedHead, detail)
}

fn too_large(detail: &'static str) -> Stop {
    no_request(Problem::HeadTooLarge, detail)
}

/// It never became a request, and nobody knows where the next one begins.
fn no_request(problem: Problem, detail: &'static str) -> Stop {
    Stop::new(problem, detail).and_close().uncounted()
}

#[cfg(test)]
mod tests {
    use super::*;
    use head::Head as _;

    fn complete(text: &str) -> (Head, Vec<u8>, Vec<Field>) {
        let (mut bytes, mut fields) = (text.as_bytes().to_vec(), Vec::new());
        let head = read(&mut bytes, &mut fields).unwrap().expect("a whole head");
        (head, bytes, fields)
    }

    fn framing(fields: &str) -> Result<Framing, String> {
        let mut bytes = format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n").into_bytes();
        match read(&mut bytes, &mut Vec::new()) {
            Ok(head) => Ok(head.expect("a whole head").framing),
            Err(stop) => {
                assert!(stop.close && !stop.counts, "nobody knows where the next request begins");
                Err(stop.detail.into_owned())
            }
        }
    }

    #[test]
    fn a_head_is_read_where_it_is() {
        let text = "PUT /a%20b?c=d HTTP/1.1\r\nHOST: x\r\nX-Grün: no\r\n\r\n";
        assert!(read(&mut text.as_bytes().to_vec(), &mut Vec::new()).is_err(), "a name is a token");
        let text = "PUT /a%20b?c=d HTTP/1.1\r\nHOST: x\r\nX-Name:  a value \r\nEmpty:\r\n\r\nbody";
        let (head, bytes, fields) = complete(text);
        assert_eq!(head.length, text.len() - 4);
        let request = Request { head: &head, bytes: &bytes, fields: &fields };
        assert!(request.sends() && !request.lacks_length());
        assert_eq!((request.path(), request.target_bytes()), ("/a%20b", "/a%20b?c=d".len()));
        let fields: Vec<_> = request.fields().collect();
        let expected: [(&[u8], &[u8]); 3] = [(b"host", b"x"), (b"x-name", b"a value"), (b"empty", b"")];
        assert_eq!(fields, expected);
    }

    #[test]
    fn a_head_in_pieces_is_not_complete() {
        let text = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n";
        for end in 0..text.len() {
            assert!(matches!(read(&mut text[..end].to_vec(), &mut Vec::new()), Ok(None)), "{end}");
        }
    }

    #[test]
    fn of_every_form_of_a_target_the_path_counts() {
        for (target, path) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a?b/c", "/a"),
            ("/a#b", "/a"),
            ("http://host/a?b", "/a"),
            ("HTTPS://host:1/a", "/a"),
            ("http://host", ""),
            ("http://host?a", ""),
            ("/a?u=http://host/b", "/a"),
            ("*", "*"),
            ("host:443", "host:443"),
            ("/grün", "/grün"),
        ] {
            let (head, bytes, fields) = complete(&format!("POST {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
            assert_eq!(Request { head: &head, bytes: &bytes, fields: &fields }.path(), path, "{target}");
        }
    }

    #[test]
    fn a_connection_goes_on_as_version_and_fields_say() {
        for (version, fields, goes_on) in [
            ("1.1", "", true),
            ("1.1", "Connection: keep-alive\r\n", true),
            ("1.1", "Connection: Close\r\n", false),
            ("1.1", "Connection: upgrade, close\r\n", false),
            ("1.0", "", false),
            ("1.0", "Connection: x ,Keep-Alive\r\n", true),
        ] {
            let (head, ..) = complete(&format!("POST / HTTP/{version}\r\nHost: x\r\n{fields}\r\n"));
            assert_eq!(head.keep_alive, goes_on, "{version} {fields}");
        }
    }

    #[test]
    fn the_length_of_a_body_is_read_in_one_way_only() {
        assert_eq!(framing(""), Ok(Framing::Unsaid));
        assert_eq!(framing("Content-Length: 0\r\n"), Ok(Framing::Length(0)));
        assert_eq!(framing("Content-Length: 12\r\ncontent-length: 12\r\n"), Ok(Framing::Length(12)));
        assert_eq!(framing("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
        for fields in [
            "Content-Length: 1\r\nContent-Length: 2\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: -1\r\n",
            "Content-Length:\r\n",
            "Content-Length: 0x1\r\n",
            "Content-Length: 18446744073709551616\r\n",
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding : chunked\r\n",
            " Transfer-Encoding: chunked\r\n",
            "X: y\r\n folded\r\n",
            "Host: y\r\n",
            "X: a\0b\r\n",
        ] {
            assert!(framing(fields).is_err(), "{fields:?}");
        }
    }

    #[test]
    fn what_is_no_request_is_told_what_is_wrong() {
        for (text, wrong) in [
            ("nonsense\r\n\r\n", "request line"),
            ("POST / HTTP/2.0\r\n\r\n", "version"),
            ("POST / HTTP/1.1\r\n\r\n", "Host"),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.0"),
            ("POST / HTTP/1.1\r\nno colon\r\n\r\n", "name of a header"),
            ("\x16\x03\x01\x02", "request line"),
        ] {
            let stop = read(&mut text.as_bytes().to_vec(), &mut Vec::new()).unwrap_err();
            assert_eq!(stop.problem, Problem::MalformedHead);
            assert!(stop.detail.contains(wrong), "{text:?}: {}", stop.detail);
        }
        let many = format!("POST / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_FIELDS + 1));
        let stop = read(&mut many.into_bytes(), &mut Vec::new()).unwrap_err();
        assert_eq!(stop.problem, Problem::HeadTooLarge);
    }

    #[test]
    fn only_http_1_1_waits_to_be_asked() {
        for (version, value, waits) in
            [("1.1", "100-Continue", true), ("1.0", "100-continue", false), ("1.1", "x", false)]
        {
            let (head, ..) =
                complete(&format!("POST / HTTP/{version}\r\nHost: x\r\nExpect: {value}\r\n\r\n"));
            assert_eq!(head.expects_continue, waits, "{version} {value}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(0_u8.., 0..300), start in "(POST|GET|) (/|\\*|http://) HTTP/1\\.[01]\r\n") {
            for mut bytes in [bytes.clone(), [start.as_bytes(), &bytes].concat(), [start.as_bytes(), &bytes, b"\r\n\r\n"].concat()] {
                let mut fields = Vec::new();
                if let Ok(Some(head)) = read(&mut bytes, &mut fields) {
                    let request = Request { head: &head, bytes: &bytes, fields: &fields };
                    proptest::prop_assert!(head.length <= bytes.len());
                    proptest::prop_assert!(request.path().len() <= request.target_bytes());
                    proptest::prop_assert_eq!(request.fields().count(), fields.len());
                }
            }
        }
    }
}
