//! TLS over a TCP socket, with rustls' unbuffered connection: while nothing happens a connection
//! holds no buffer. Bytes are en- and decrypted in buffers of the thread.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic,
};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

mod handshake;

pub use handshake::{Accepted, HandshakeError, HandshakeFault, accept};

/// Bytes read from the socket at a time.
const READ_BYTES: usize = 64 << 10;
/// Bytes that are encrypted at a time.
const WRITE_BYTES: usize = 32 << 10;
/// What that many bytes have at most when they are encrypted: records of 16 KiB, each with header,
/// explicit nonce, tag and content type.
const WRITTEN_BYTES_MAX: usize = WRITE_BYTES + 4 * 64 + 1024;
/// Encrypted bytes that wait for the rest of their record, or of a handshake's message. A message
/// of rustls has 64 KiB at most, and may come in many records.
const INCOMING_BYTES_MAX: usize = 160 << 10;
/// Handshake bytes of ours that the socket did not take: answers to key updates, which a peer may
/// ask for without reading them.
const OUTGOING_BYTES_MAX: usize = 64 << 10;
/// Records that are written up to an alert.
const ALERT_STEPS_MAX: usize = 32;
/// Records of one call of rustls.
const STEPS_MAX: usize = 100_000;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends the thread's buffer. What is done with it never waits.
fn with_scratch<T>(bytes: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < bytes {
            scratch.resize(bytes, 0);
        }
        work(scratch.get_mut(..bytes).unwrap_or_default())
    })
}

/// A connection whose handshake is done.
pub struct TlsStream {
    socket: TcpStream,
    connection: UnbufferedServerConnection,
    /// The beginning of a record whose rest has not come yet.
    incoming: Vec<u8>,
    /// Decrypted bytes that nobody has taken yet, and how many were.
    plain: Vec<u8>,
    taken: usize,
    /// Encrypted bytes that the socket has not taken yet, and how many it has.
    outgoing: Vec<u8>,
    written: usize,
    /// Bytes of the caller's that are among them.
    writing: usize,
    /// The peer said that nothing follows.
    is_ended: bool,
    /// rustls failed, and is not to be asked again.
    is_broken: bool,
}

impl std::fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsStream").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// What rustls said about what it was given.
struct Progress {
    /// Bytes that it is done with, also where it failed.
    used: usize,
    next: io::Result<Next>,
}

/// What comes next.
enum Next {
    More,
    /// It can say nothing more before more comes.
    Blocked,
    /// This many bytes were encrypted.
    Encrypted(usize),
}

/// Encrypts into a buffer.
type Encrypt<'a> =
    &'a mut dyn FnMut(&mut WriteTraffic<'_, ServerConnectionData>) -> Result<usize, EncryptError>;

impl TlsStream {
    fn new(socket: TcpStream, connection: UnbufferedServerConnection) -> Self {
        Self {
            socket,
            connection,
            incoming: Vec::new(),
            plain: Vec::new(),
            taken: 0,
            outgoing: Vec::new(),
            written: 0,
            writing: 0,
            is_ended: false,
            is_broken: false,
        }
    }

    /// The socket below.
    #[must_use]
    pub const fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Reads what there is; nothing where the peer has ended.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.give(buffer) || self.is_ended {
                return Poll::Ready(Ok(()));
            }
            // Nobody else writes it: an answer to a key update.
            while self.writing == 0 && self.has_outgoing() {
                match self.flush() {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        if self.socket.poll_write_ready(cx)?.is_pending() {
                            break;
                        }
                    }
                    other => other?,
                }
            }
            ready!(self.poll_fill(cx))?;
        }
    }

    /// The same without waiting.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] where there is nothing.
    pub fn try_read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(bytes);
        loop {
            if self.give(&mut buffer) || self.is_ended {
                return Ok(buffer.filled().len());
            }
            let filled = self.fill(|socket, bytes| socket.try_read(bytes));
            self.told(filled)?;
        }
    }

    /// Tells the peer of an error of its own, as far as the socket takes it.
    fn told(&mut self, result: io::Result<()>) -> io::Result<()> {
        if result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::InvalidData) {
            self.drain_alert();
        }
        result
    }

    /// Hands out what was decrypted.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let rest = self.plain.get(self.taken..).unwrap_or_default();
        if rest.is_empty() {
            return false;
        }
        let most = rest.len().min(buffer.remaining());
        buffer.put_slice(rest.get(..most).unwrap_or_default());
        self.taken += most;
        if self.taken >= self.plain.len() {
            self.plain = Vec::new();
            self.taken = 0;
        }
        true
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut is_pending = false;
        let filled = self.fill(|socket, bytes| {
            let mut buffer = ReadBuf::new(bytes);
            // Unlike `try_read`, this knows that a short read was the last one and saves a call.
            match Pin::new(socket).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) => Ok(buffer.filled().len()),
                Poll::Ready(Err(error)) => Err(error),
                Poll::Pending => {
                    is_pending = true;
                    Err(io::ErrorKind::WouldBlock.into())
                }
            }
        });
        if is_pending { Poll::Pending } else { Poll::Ready(self.told(filled)) }
    }

    /// Reads once from the socket and decrypts it.
    fn fill(
        &mut self,
        read: impl FnOnce(&mut TcpStream, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        let begun = self.incoming.len();
        with_scratch(begun + READ_BYTES, |scratch| {
            let (front, room) = scratch.split_at_mut(begun);
            front.copy_from_slice(&self.incoming);
            let read = read(&mut self.socket, room)?;
            if read == 0 {
                self.is_ended = true;
                // Without the peer's word for it somebody else may have cut it off (RFC 8446 §6.1).
                // MQTT tells by itself whether its packets are whole.
                return Ok(());
            }
            let filled = scratch.get_mut(..begun + read).unwrap_or_default();
            self.decrypt(filled)
        })
    }

    /// Has rustls process what was read; what is left stays for the next time.
    fn decrypt(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        if self.is_broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let (used, result) = self.steps(bytes, None);
        self.incoming = bytes.get(used..).unwrap_or_default().to_vec();
        if self.incoming.len() > INCOMING_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message of TLS is too long"));
        }
        result.map(|_| ())
    }

    /// States of rustls until it is blocked, or something was encrypted.
    fn steps(
        &mut self,
        bytes: &mut [u8],
        mut encrypt: Option<Encrypt<'_>>,
    ) -> (usize, io::Result<Option<usize>>) {
        let mut used = 0;
        for _ in 0..STEPS_MAX {
            let rest = bytes.get_mut(used..).unwrap_or_default();
            let encrypt = encrypt.as_mut().map(|encrypt| &mut **encrypt as Encrypt<'_>);
            let progress = self.step(rest, encrypt);
            used += progress.used;
            match progress.next {
                Ok(Next::More) => {}
                Ok(Next::Blocked) => break,
                Ok(Next::Encrypted(written)) => return (used, Ok(Some(written))),
                Err(error) => return (used, Err(error)),
            }
        }
        (used, Ok(None))
    }

    /// One state of rustls.
    fn step(&mut self, bytes: &mut [u8], encrypt: Option<Encrypt<'_>>) -> Progress {
        let UnbufferedStatus { discard: mut used, state } =
            self.connection.process_tls_records(bytes);
        let next = match state {
            Err(error) => {
                self.is_broken = true;
                Err(broken(error))
            }
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                let mut next = Ok(Next::More);
                while let Some(record) = traffic.next_record() {
                    match record {
                        Ok(record) => {
                            used += record.discard;
                            self.plain.extend_from_slice(record.payload);
                        }
                        Err(error) => next = Err(broken(error)),
                    }
                }
                next
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                encode(&mut self.outgoing, |room| data.encode(room)).map(|()| Next::More)
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                Ok(Next::More)
            }
            Ok(ConnectionState::PeerClosed) => {
                self.is_ended = true;
                Ok(Next::More)
            }
            Ok(ConnectionState::Closed) => {
                self.is_ended = true;
                Ok(Next::Blocked)
            }
            Ok(ConnectionState::WriteTraffic(mut traffic)) => match encrypt {
                Some(encrypt) => {
                    encrypt(&mut traffic).map(Next::Encrypted).map_err(io::Error::other)
                }
                None => Ok(Next::Blocked),
            },
            // There is no early data: the configuration allows none.
            Ok(_) => Ok(Next::Blocked),
        };
        let next = next.and_then(|next| {
            if self.outgoing.len() - self.written > OUTGOING_BYTES_MAX + WRITTEN_BYTES_MAX {
                let message = "the peer does not read";
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            Ok(next)
        });
        Progress { used, next }
    }

    /// Has rustls go on with what is left of what was read: it remembers where in it it is.
    fn go_on(&mut self, encrypt: Option<Encrypt<'_>>) -> io::Result<Option<usize>> {
        if self.is_broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut pending = std::mem::take(&mut self.incoming);
        let (used, result) = self.steps(&mut pending, encrypt);
        pending.drain(..used.min(pending.len()));
        self.incoming = pending;
        result
    }

    /// After an error rustls has an alert for the peer; what was to be sent before it comes first. It
    /// is not asked for more than it has: it would look at the bytes again that it failed on, which it
    /// does not expect.
    fn drain_alert(&mut self) {
        for _ in 0..ALERT_STEPS_MAX {
            if !self.connection.wants_write() || self.step(&mut [], None).next.is_err() {
                break;
            }
        }
        let _as_far_as_it_goes = self.flush();
    }

    const fn has_outgoing(&self) -> bool {
        self.outgoing.len() > self.written
    }

    /// Writes encrypted bytes.
    fn flush(&mut self) -> io::Result<()> {
        while self.has_outgoing() {
            let rest = self.outgoing.get(self.written..).unwrap_or_default();
            match self.socket.try_write(rest)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => self.written += written,
            }
        }
        self.outgoing = Vec::new();
        self.written = 0;
        Ok(())
    }

    /// Waits until the socket takes something.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_write_ready(cx)
    }

    /// Writes some of `bytes`. After [`io::ErrorKind::WouldBlock`] it is to be called with the same
    /// bytes again.
    ///
    /// # Errors
    /// What the socket says.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.writing == 0 {
            // Answers of the handshake's go first.
            self.flush()?;
            let some = bytes.get(..bytes.len().min(WRITE_BYTES)).unwrap_or_default();
            self.encrypt_and_write(some)?;
            self.writing = some.len();
        }
        self.flush()?;
        Ok(std::mem::take(&mut self.writing))
    }

    /// Encrypts into the thread's buffer, writes, and keeps what the socket does not take.
    fn encrypt_and_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        with_scratch(WRITTEN_BYTES_MAX, |scratch| {
            let encrypted = self.encrypt(|traffic| traffic.encrypt(bytes, scratch))?;
            let encrypted = scratch.get(..encrypted).unwrap_or_default();
            // A key update of rustls' own stands in front of what it is about.
            let written = match self.has_outgoing() {
                true => 0,
                false => match self.socket.try_write(encrypted) {
                    Ok(written) => written,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                    Err(error) => return Err(error),
                },
            };
            self.outgoing.extend_from_slice(encrypted.get(written..).unwrap_or_default());
            Ok(())
        })
    }

    fn encrypt(
        &mut self,
        mut write: impl FnMut(
            &mut WriteTraffic<'_, ServerConnectionData>,
        ) -> Result<usize, EncryptError>,
    ) -> io::Result<usize> {
        self.go_on(Some(&mut write))?.ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }

    /// Says that nothing follows, and ends our direction.
    ///
    /// # Errors
    /// What the socket says.
    pub fn end(&mut self) -> io::Result<()> {
        if self.writing == 0 {
            let mut room = [0; 256];
            if let Ok(bytes) = self.encrypt(|traffic| traffic.queue_close_notify(&mut room)) {
                self.outgoing.extend_from_slice(room.get(..bytes).unwrap_or_default());
            }
            // The peer may not read; what could not be written is not waited for.
            let _as_far_as_it_goes = self.flush();
        }
        rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write).map_err(io::Error::from)
    }
}

/// Encodes into the end of a vector.
fn encode(
    outgoing: &mut Vec<u8>,
    mut into: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> io::Result<()> {
    let begin = outgoing.len();
    let needed = match into(&mut []) {
        Err(EncodeError::InsufficientSize(needed)) => needed.required_size,
        Ok(_) => return Ok(()),
        Err(error) => return Err(io::Error::other(error)),
    };
    outgoing.resize(begin + needed, 0);
    let room = outgoing.get_mut(begin..).unwrap_or_default();
    into(room).map(|_written| ()).map_err(io::Error::other)
}

fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
