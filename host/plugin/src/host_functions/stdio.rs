//! A guest's standard output and standard error: log lines like those of `log`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::bindings::portreeve::plugin::log::Level;
use crate::host_functions::log::{CaptureSlot, write_line};
use crate::version::Shared;

/// Bytes that a guest may have written without ending the line.
const PARTIAL_LINE_BYTES_MAX: usize = 8 << 10;

/// Bytes that a guest may write at a time.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// Random bytes of one call: they are made one by one, and nothing else runs meanwhile.
const RANDOM_BYTES_MAX: u64 = 64 << 10;

/// A WASI context with nothing in it but the log: no argument, no directory, and of the
/// environment what the manifest grants.
pub(crate) fn wasi_context(shared: &Arc<Shared>, capture: &CaptureSlot) -> WasiCtx {
    let stream = |level| LogStream { shared: Arc::clone(shared), capture: capture.clone(), level };
    let mut builder = WasiCtx::builder();
    builder.stdout(stream(Level::Info));
    builder.max_random_size(RANDOM_BYTES_MAX);
    builder.stderr(stream(Level::Warn));
    for (name, value) in &shared.environment {
        builder.env(name, value);
    }
    builder.build()
}

#[derive(Clone)]
struct LogStream {
    shared: Arc<Shared>,
    capture: CaptureSlot,
    level: Level,
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(LineWriter { stream: self.clone(), partial: Vec::new() })
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(LineWriter { stream: self.clone(), partial: Vec::new() })
    }
}

struct LineWriter {
    stream: LogStream,
    partial: Vec<u8>,
}

impl LineWriter {
    fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, ends) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            let room = PARTIAL_LINE_BYTES_MAX.saturating_sub(self.partial.len());
            self.partial.extend(text.iter().take(room));
            if ends {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.partial);
        if !line.trim().is_empty() {
            let LogStream { shared, capture, level } = &self.stream;
            write_line(shared, capture, *level, line.trim_end());
        }
        self.partial.clear();
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        self.end_line();
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LineWriter {
    async fn ready(&mut self) {}
}

impl OutputStream for LineWriter {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > WRITE_BYTES_MAX {
            return Err(StreamError::trap("a write is larger than what was permitted"));
        }
        self.push(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl AsyncWrite for LineWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.push(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
