//! The PROXY protocol: a trusted proxy tells whose connection it hands on (versions 1 and 2).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ppp::{HeaderResult, PartialResult, v1, v2};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Bytes of a header with everything that proxies add to it.
const HEADER_BYTES_MAX: usize = 4096;
/// How long to wait for the rest of a header of which a part is there.
const PAUSE: Duration = Duration::from_millis(5);

/// Reads the header in front of a connection. Returns the address that it tells; `None` for the
/// proxy's own connection, such as its health check.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] for what is no header; what the stream says.
pub(super) async fn read_header(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut bytes = [0; HEADER_BYTES_MAX];
    let mut seen = 0;
    loop {
        stream.readable().await?;
        let peeked = stream.peek(&mut bytes).await?;
        if peeked == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let header = HeaderResult::parse(bytes.get(..peeked).unwrap_or_default());
        if header.is_incomplete() && peeked < HEADER_BYTES_MAX {
            // What was seen stays readable, so the socket cannot tell when there is more.
            if peeked == seen {
                tokio::time::sleep(PAUSE).await;
            }
            seen = peeked;
            continue;
        }
        let (length, source) = match header {
            HeaderResult::V1(Ok(header)) => (header.header.len(), source_of_v1(&header)),
            HeaderResult::V2(Ok(header)) => (header.len(), source_of_v2(&header)),
            HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => {
                let message = "no PROXY protocol header; does the proxy send one?";
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
        };
        // What follows the header is not the header's.
        stream.read_exact(bytes.get_mut(..length).unwrap_or_default()).await?;
        return Ok(source);
    }
}

fn source_of_v1(header: &v1::Header<'_>) -> Option<SocketAddr> {
    match header.addresses {
        v1::Addresses::Tcp4(ip) => Some((ip.source_address, ip.source_port).into()),
        v1::Addresses::Tcp6(ip) => Some((ip.source_address, ip.source_port).into()),
        v1::Addresses::Unknown => None,
    }
}

fn source_of_v2(header: &v2::Header<'_>) -> Option<SocketAddr> {
    if header.command == v2::Command::Local {
        return None;
    }
    match header.addresses {
        v2::Addresses::IPv4(ip) => Some((ip.source_address, ip.source_port).into()),
        v2::Addresses::IPv6(ip) => Some((ip.source_address, ip.source_port).into()),
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
    }
}
