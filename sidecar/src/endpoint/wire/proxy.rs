//! The PROXY protocol, version 2: the client's address from a load balancer in front
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, §2.2).
//!
//! Exactly the header is read, so that what follows stays in the socket for TLS or the protocol. The text form of
//! version 1 is not taken: it has no length, and all load balancers of today speak version 2.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use penstock_crds::cidr::{NoRange, Range};
use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Addresses and extensions (TLVs) that are read; those that load balancers send take some hundred bytes.
const MAX_BYTES: usize = 4_096;

/// Who may tell addresses.
#[derive(Clone, Debug)]
pub(super) struct TrustedSources(Vec<Range>);

impl TrustedSources {
    pub(super) fn new(ranges: &[String]) -> Result<Self, NoRange> {
        ranges.iter().map(|range| range.parse()).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(address))
    }
}

/// A connection that does not begin as it must.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(
        "a trusted source sends no PROXY header of version 2: let the load balancer send one, or take its address from \
         proxyProtocol.trustedSources"
    )]
    NoHeader,
    #[error("a PROXY header {0}")]
    Malformed(&'static str),
}

/// Reads a header. Returns the client's address, or none where the load balancer speaks for itself (health checks) or
/// says that it does not know.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, ProxyError> {
    let mut signature = [0; 12];
    stream.read_exact(&mut signature).await?;
    if signature != SIGNATURE {
        return Err(ProxyError::NoHeader);
    }
    let (command, family) = (stream.read_u8().await?, stream.read_u8().await?);
    let length = usize::from(stream.read_u16().await?);
    if command >> 4 != 2 {
        return Err(ProxyError::Malformed("is not of version 2"));
    }
    if length > MAX_BYTES {
        return Err(ProxyError::Malformed("takes more than 4 KiB"));
    }
    let (address, taken) = match (command & 0x0f, family) {
        // LOCAL, and families that have no IP address.
        (0, _) | (1, 0x00 | 0x31 | 0x32) => (None, 0),
        (1, 0x11 | 0x12) if length >= 12 => {
            let source = Ipv4Addr::from(stream.read_u32().await?);
            let _destination = stream.read_u32().await?;
            (Some(SocketAddr::from((source, source_port(stream).await?))), 12)
        }
        (1, 0x21 | 0x22) if length >= 36 => {
            let source = Ipv6Addr::from(stream.read_u128().await?);
            let _destination = stream.read_u128().await?;
            (Some(SocketAddr::from((source, source_port(stream).await?))), 36)
        }
        (1, _) => return Err(ProxyError::Malformed("has an unknown family, or is too short for its own")),
        _ => return Err(ProxyError::Malformed("has an unknown command")),
    };
    let mut rest = length - taken;
    let mut scrap = [0; 256];
    while rest > 0 {
        let part = rest.min(scrap.len());
        rest -= stream.read_exact(scrap.get_mut(..part).unwrap_or_default()).await?;
    }
    Ok(address)
}

async fn source_port(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<u16> {
    let source = stream.read_u16().await?;
    let _destination = stream.read_u16().await?;
    Ok(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    async fn reads(bytes: &[u8]) -> (Result<Option<SocketAddr>, ProxyError>, usize) {
        let mut stream = bytes;
        let read = read(&mut stream).await;
        (read, stream.len())
    }

    #[tokio::test]
    async fn a_header_gives_the_address_and_nothing_behind_it_is_read() {
        let four = [192, 0, 2, 7, 10, 0, 0, 1, 0xC0, 0x01, 0x07, 0x5B];
        let extended = [&four[..], &[0x04, 0, 2, 0, 0]].concat();
        let bytes = [header(0x21, 0x11, &extended), b"rest".to_vec()].concat();
        let (address, left) = reads(&bytes).await;
        assert_eq!(address.unwrap(), Some("192.0.2.7:49153".parse().unwrap()));
        assert_eq!(left, 4);

        let mut six = [0; 36];
        six[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        six[33] = 9;
        let (address, _) = reads(&header(0x21, 0x21, &six)).await;
        assert_eq!(address.unwrap(), Some("[2001:db8::7]:9".parse().unwrap()));

        let (health_check, left) = reads(&header(0x20, 0x00, &[1, 2, 3])).await;
        assert_eq!((health_check.unwrap(), left), (None, 0));
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused_with_a_reason() {
        let bad = [
            (b"\x10\x10\0\x04MQTT\x05\x02\0\x3c".to_vec(), "no PROXY header"),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n".to_vec(), "no PROXY header"),
            (header(0x11, 0x11, &[0; 12]), "not of version 2"),
            (header(0x25, 0x11, &[0; 12]), "unknown command"),
            (header(0x21, 0x11, &[0; 11]), "too short"),
            (header(0x21, 0x77, &[0; 64]), "unknown family"),
            (header(0x21, 0x11, &[0; 4_097]), "4 KiB"),
        ];
        for (bytes, why) in bad {
            let error = reads(&bytes).await.0.unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        let (cut, _) = reads(&header(0x21, 0x11, &[0; 12])[..20]).await;
        assert!(matches!(cut, Err(ProxyError::Io(_))));
    }
}
