//! The bytes of a connection, over TCP alone or in the binary messages of a WebSocket
//! [MQTT-6.0.0-1]. MQTT does not see the difference: a packet may cross messages
//! [MQTT-6.0.0-2].

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use portreeve_tls::stream::TlsStream;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tungstenite::error::Error as WebSocketError;
use tungstenite::handshake::HandshakeError;
use tungstenite::handshake::server::{ErrorResponse, Request, Response, ServerHandshake};
use tungstenite::http::{HeaderValue, StatusCode, header::SEC_WEBSOCKET_PROTOCOL};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tungstenite::{Bytes, Message, WebSocket};

/// Sub-protocols that a client may offer: MQTT, and its name before 3.1.1 [MQTT-6.0.0-3].
const SUB_PROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];
/// Bytes that the WebSocket reads at a time; there is a buffer of them for each connection.
const READ_BUFFER_BYTES: usize = 4 << 10;
/// Bytes of one message beyond those of the largest packet: some packets may share one.
const MESSAGE_BYTES_MORE: usize = 64 << 10;
/// Bytes that one poll takes from the socket; a peer that sends without end does not keep others
/// from their turn.
const POLL_BYTES_MAX: usize = 64 << 10;

/// What a connection reads from and writes to.
pub(crate) enum Transport {
    Tcp(TcpStream),
    Tls(Box<TlsStream>),
    WebSocket(Box<Framed>),
}

/// What a WebSocket reads from and writes to.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Tls(Box<TlsStream>),
}

impl Socket {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Tcp(stream) => stream,
            Self::Tls(stream) => stream.socket(),
        }
    }

    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read(buffer),
            Self::Tls(stream) => stream.try_read(buffer),
        }
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Tls(stream) => stream.try_write(bytes),
        }
    }
}

/// A WebSocket whose handshake is done.
pub(crate) struct Framed {
    socket: WebSocket<NonBlocking>,
    /// What of the last message was not read yet.
    rest: Bytes,
    /// Bytes that were handed to the WebSocket and are not all written.
    writing: usize,
    /// An answer to a PING is not all written; nothing more is read before that.
    answering: bool,
}

/// A stream whose calls never wait, and that has no more bytes than may be read in one poll.
pub(crate) struct NonBlocking {
    stream: Socket,
    bytes_left: usize,
}

impl Read for NonBlocking {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.bytes_left);
        if most == 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let read = self.stream.try_read(buffer.get_mut(..most).unwrap_or_default())?;
        self.bytes_left -= read;
        Ok(read)
    }
}

impl Write for NonBlocking {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Tcp(stream) => stream,
            Self::Tls(stream) => stream.socket(),
            Self::WebSocket(framed) => framed.socket.get_ref().stream.tcp(),
        }
    }

    /// Reads what there is.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            // Unlike `try_read`, this knows that a short read was the last one and saves a call.
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => stream.poll_read(cx, buffer),
            Self::WebSocket(framed) => framed.poll_read(cx, buffer),
        }
    }

    /// Reads something into `buffer`; 0 bytes are the end.
    pub(crate) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        poll_fn(|cx| self.poll_read(cx, &mut buffer)).await?;
        Ok(buffer.filled().len())
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp().poll_write_ready(cx)
    }

    /// Writes what can be written. After [`io::ErrorKind::WouldBlock`] it is to be called with the
    /// same bytes again.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Tls(stream) => stream.try_write(bytes),
            Self::WebSocket(framed) => framed.try_write(bytes),
        }
    }

    pub(crate) async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.try_write(bytes) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.tcp().writable().await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// From now on packets may have so many bytes.
    pub(crate) fn allow_packets(&mut self, packet_bytes_max: u32) {
        if let Self::WebSocket(framed) = self {
            framed.socket.set_config(|config| {
                config.max_message_size = message_bytes_max(packet_bytes_max);
                config.max_frame_size = config.max_message_size;
            });
        }
    }

    /// Ends our direction; a WebSocket says so first.
    pub(crate) async fn end(&mut self) -> io::Result<()> {
        if let Self::WebSocket(framed) = self {
            let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
            // The peer may have closed it already; what could not be written is not waited for.
            let _closed = framed.socket.close(Some(frame));
            let _flushed = framed.socket.flush();
        }
        let tls = match self {
            Self::Tcp(_) => None,
            Self::Tls(stream) => Some(stream),
            Self::WebSocket(framed) => match &mut framed.socket.get_mut().stream {
                Socket::Tcp(_) => None,
                Socket::Tls(stream) => Some(stream),
            },
        };
        match tls {
            Some(stream) => stream.end(),
            None => {
                let ended = rustix::net::shutdown(self.tcp(), rustix::net::Shutdown::Write);
                ended.map_err(io::Error::from)
            }
        }
    }
}

impl Framed {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.socket.get_mut().bytes_left = POLL_BYTES_MAX;
        while self.rest.is_empty() {
            if self.answering {
                match self.socket.flush() {
                    Ok(()) => self.answering = false,
                    Err(error) if would_block(&error) => {
                        match self.socket.get_ref().stream.tcp().poll_write_ready(cx) {
                            Poll::Ready(Ok(())) => continue,
                            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                            Poll::Pending => return Poll::Pending,
                        }
                    }
                    Err(error) => return Poll::Ready(Err(io_error(error))),
                }
            }
            match self.socket.read() {
                Ok(Message::Binary(bytes)) => self.rest = bytes,
                Ok(Message::Text(_)) => {
                    let reason = "MQTT is carried in binary frames (MQTT-6.0.0-1)".into();
                    let frame = CloseFrame { code: CloseCode::Unsupported, reason };
                    let _closed = self.socket.close(Some(frame));
                    let _flushed = self.socket.flush();
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                // The WebSocket answers PING itself, with its next write.
                Ok(Message::Ping(_)) => self.answering = true,
                Ok(Message::Pong(_) | Message::Frame(_)) => {}
                Ok(Message::Close(_)) => {
                    let _flushed = self.socket.flush();
                    return Poll::Ready(Ok(()));
                }
                Err(error) if would_block(&error) => {
                    if self.socket.get_ref().bytes_left == 0 {
                        // There is more, after the others had their turn.
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    match self.socket.get_ref().stream.tcp().poll_read_ready(cx) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                        Poll::Pending => return Poll::Pending,
                    }
                }
                Err(WebSocketError::ConnectionClosed | WebSocketError::AlreadyClosed) => {
                    return Poll::Ready(Ok(()));
                }
                Err(error) => return Poll::Ready(Err(io_error(error))),
            }
        }
        let taken = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest.split_to(taken));
        Poll::Ready(Ok(()))
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.writing == 0 {
            match self.socket.write(Message::Binary(bytes.to_vec().into())) {
                Ok(()) => {}
                Err(error) if would_block(&error) => {}
                Err(error) => return Err(io_error(error)),
            }
            self.writing = bytes.len();
        }
        self.socket.flush().map_err(io_error)?;
        Ok(std::mem::take(&mut self.writing))
    }
}

fn message_bytes_max(packet_bytes_max: u32) -> Option<usize> {
    usize::try_from(packet_bytes_max).ok().map(|bytes| bytes.saturating_add(MESSAGE_BYTES_MORE))
}

fn would_block(error: &WebSocketError) -> bool {
    matches!(error, WebSocketError::Io(error) if error.kind() == io::ErrorKind::WouldBlock)
}

fn io_error(error: WebSocketError) -> io::Error {
    match error {
        WebSocketError::Io(error) => error,
        other => io::Error::other(other),
    }
}

/// The sub-protocol of the answer, or the refusal of a client that does not offer MQTT.
#[expect(clippy::result_large_err, reason = "the type is that of the WebSocket library")]
fn choose(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let offered = request
        .headers()
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim);
    let chosen = offered.into_iter().find(|name| SUB_PROTOCOLS.contains(name));
    match chosen.map(HeaderValue::from_str) {
        Some(Ok(chosen)) => {
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, chosen);
            Ok(response)
        }
        _ => {
            let text = "this is MQTT: offer the sub-protocol mqtt (MQTT-6.0.0-3)\n".to_owned();
            let mut refusal = ErrorResponse::new(Some(text));
            *refusal.status_mut() = StatusCode::BAD_REQUEST;
            Err(refusal)
        }
    }
}

/// Takes a WebSocket's opening handshake. Messages may have `packet_bytes_max` and some more.
///
/// # Errors
/// What the peer did, or the stream said.
pub(crate) async fn accept_web_socket(
    stream: Socket,
    packet_bytes_max: u32,
) -> io::Result<Transport> {
    let message_bytes_max = message_bytes_max(packet_bytes_max);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(message_bytes_max)
        .max_frame_size(message_bytes_max);
    let stream = NonBlocking { stream, bytes_left: POLL_BYTES_MAX };
    let mut handshake = ServerHandshake::start(stream, choose, Some(config));
    loop {
        handshake = match handshake.handshake() {
            Ok(socket) => {
                let (rest, writing, answering) = (Bytes::new(), 0, false);
                let framed = Framed { socket, rest, writing, answering };
                return Ok(Transport::WebSocket(Box::new(framed)));
            }
            Err(HandshakeError::Failure(error)) => return Err(io_error(error)),
            Err(HandshakeError::Interrupted(handshake)) => {
                // It did not come to its end with as many bytes as one may have.
                if handshake.get_ref().get_ref().bytes_left == 0 {
                    let message = "the opening of the WebSocket is too long";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
                // Mostly for the rest of the request; an answer to it fits into the socket.
                handshake.get_ref().get_ref().stream.tcp().readable().await?;
                handshake
            }
        };
    }
}
