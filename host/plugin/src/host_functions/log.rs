//! `log`: a guest's lines in the gateway's log, under the plugin's name, at a bounded rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tracing::{Level, enabled, event};

use crate::bindings::portreeve::plugin::log::{Host, Level as GuestLevel};
use crate::instance::GuestState;
use crate::version::Shared;

/// A bucket of lines for each plugin: filled at the rate of the limit, at most one second full.
#[derive(Debug)]
pub(crate) struct LogLimiter {
    lines_per_second: u32,
    line_bytes_max: usize,
    bucket: Mutex<Bucket>,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Bucket {
    lines: f64,
    filled: Instant,
    /// Lines that were dropped since the last one that was written.
    dropped: u64,
}

impl LogLimiter {
    pub(crate) fn new(lines_per_second: u32, line_bytes_max: usize) -> Self {
        let bucket =
            Bucket { lines: f64::from(lines_per_second), filled: Instant::now(), dropped: 0 };
        let dropped = AtomicU64::new(0);
        Self { lines_per_second, line_bytes_max, bucket: Mutex::new(bucket), dropped }
    }

    /// Lines dropped so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Takes one line out of the bucket. Returns how many were dropped before it, or `None`
    /// when the line is to be dropped too.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut bucket = self.bucket.lock();
        let rate = f64::from(self.lines_per_second);
        let elapsed = now.saturating_duration_since(bucket.filled).as_secs_f64();
        bucket.lines = (bucket.lines + elapsed * rate).min(rate);
        bucket.filled = now;
        if bucket.lines < 1.0 {
            bucket.dropped += 1;
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        bucket.lines -= 1.0;
        Some(std::mem::take(&mut bucket.dropped))
    }

    /// Whether one more line may be written.
    pub(crate) fn admit_line(&self) -> bool {
        self.admit(Instant::now()).is_some()
    }

    /// The line as it may be written: cut at a character, control characters made harmless.
    fn clip(&self, line: &str) -> String {
        let mut end = line.len().min(self.line_bytes_max);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        let cut = line.get(..end).unwrap_or_default();
        let mut clipped: String =
            cut.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect();
        if end < line.len() {
            clipped.push_str(" …");
        }
        clipped
    }
}

/// Lines that one call may leave in its trace.
const CAPTURED_LINES_MAX: usize = 100;

/// What a guest logs during one call that is traced.
#[derive(Debug, Clone, Default)]
pub(crate) struct Capture {
    lines: Arc<Mutex<Vec<String>>>,
    /// Whether it takes only what is written to the log anyhow: nothing is made for it alone.
    is_quiet: bool,
}

impl Capture {
    /// One that takes only what is written to the log anyhow.
    pub(crate) fn quiet() -> Self {
        Self { is_quiet: true, ..Self::default() }
    }

    /// The lines so far.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock())
    }

    /// Takes lines that another one has.
    pub(crate) fn put(&self, lines: &[String]) {
        self.lines.lock().extend_from_slice(lines);
    }
}

/// Bytes of a device's name that stand beside a line.
const DEVICE_BYTES_MAX: usize = 128;

/// Where an instance finds the capture of the call that it answers, and whom the call is about.
#[derive(Debug, Clone, Default)]
pub(crate) struct CaptureSlot(Arc<Mutex<CallInHand>>);

#[derive(Debug, Default)]
struct CallInHand {
    capture: Option<Capture>,
    /// Kept from call to call for its room.
    device: String,
}

impl CaptureSlot {
    /// A call begins.
    pub(crate) fn put(&self, capture: Option<Capture>, device: &str) {
        let mut call = self.0.lock();
        call.capture = capture;
        call.device.clear();
        let end = device.floor_char_boundary(DEVICE_BYTES_MAX);
        call.device.push_str(device.get(..end).unwrap_or_default());
    }

    /// Whom the call is about; nothing while the instance starts.
    fn device(&self) -> Option<String> {
        let call = self.0.lock();
        (!call.device.is_empty()).then(|| call.device.clone())
    }

    /// Whether it takes lines that the log does not.
    fn takes_all(&self) -> bool {
        self.0.lock().capture.as_ref().is_some_and(|capture| !capture.is_quiet)
    }

    fn takes(&self, level: GuestLevel) -> bool {
        let call = self.0.lock();
        call.capture.as_ref().is_some_and(|capture| !capture.is_quiet || is_enabled(level))
    }

    fn note(&self, level: GuestLevel, line: String) {
        if let Some(capture) = &self.0.lock().capture {
            let mut lines = capture.lines.lock();
            if lines.len() < CAPTURED_LINES_MAX {
                lines.push(format!("{}: {line}", level_name(level)));
            }
        }
    }
}

const fn level_name(level: GuestLevel) -> &'static str {
    match level {
        GuestLevel::Trace => "trace",
        GuestLevel::Debug => "debug",
        GuestLevel::Info => "info",
        GuestLevel::Warn => "warn",
        GuestLevel::Error => "error",
    }
}

/// Writes a line of a plugin if its limit allows, and leaves it in the trace of the call.
pub(crate) fn write_line(shared: &Shared, capture: &CaptureSlot, level: GuestLevel, line: &str) {
    let (plugin, limiter) = (shared.name.as_str(), &shared.log);
    if capture.takes(level) {
        capture.note(level, limiter.clip(&shared.masked(line)));
    }
    if !is_enabled(level) {
        return;
    }
    let Some(dropped) = limiter.admit(Instant::now()) else { return };
    let message = limiter.clip(line);
    let device = capture.device();
    if dropped > 0 {
        event!(target: "plugin", Level::WARN, plugin, dropped, "log lines dropped: over the plugin's rate");
    }
    match level {
        GuestLevel::Trace => event!(target: "plugin", Level::TRACE, plugin, device, "{message}"),
        GuestLevel::Debug => event!(target: "plugin", Level::DEBUG, plugin, device, "{message}"),
        GuestLevel::Info => event!(target: "plugin", Level::INFO, plugin, device, "{message}"),
        GuestLevel::Warn => event!(target: "plugin", Level::WARN, plugin, device, "{message}"),
        GuestLevel::Error => event!(target: "plugin", Level::ERROR, plugin, device, "{message}"),
    }
}

fn is_enabled(level: GuestLevel) -> bool {
    match level {
        GuestLevel::Trace => enabled!(target: "plugin", Level::TRACE),
        GuestLevel::Debug => enabled!(target: "plugin", Level::DEBUG),
        GuestLevel::Info => enabled!(target: "plugin", Level::INFO),
        GuestLevel::Warn => enabled!(target: "plugin", Level::WARN),
        GuestLevel::Error => enabled!(target: "plugin", Level::ERROR),
    }
}

impl Host for GuestState {
    fn log(&mut self, level: GuestLevel, message: String, fields: Vec<(String, String)>) {
        if !is_enabled(level) && !self.capture.takes_all() {
            return;
        }
        let mut line = message;
        for (name, value) in &fields {
            line.push(' ');
            line.push_str(name);
            line.push('=');
            line.push_str(value);
        }
        write_line(&self.shared, &self.capture, level, &line);
    }

    fn enabled(&mut self, level: GuestLevel) -> bool {
        is_enabled(level) || self.capture.takes_all()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::LogLimiter;

    #[test]
    fn lines_beyond_the_rate_are_dropped_and_counted() {
        let limiter = LogLimiter::new(3, 100);
        let now = Instant::now();
        let admitted = (0..10).filter(|_| limiter.admit(now).is_some()).count();
        assert_eq!((admitted, limiter.dropped()), (3, 7));
        assert_eq!(limiter.admit(now + Duration::from_secs(1)), Some(7));
        assert_eq!(limiter.admit(now + Duration::from_secs(1)), Some(0));
    }

    #[test]
    fn a_long_line_is_cut_at_a_character_and_cannot_break_the_log() {
        let limiter = LogLimiter::new(1, 3);
        assert_eq!(limiter.clip("aéé"), "aé …");
        assert_eq!(LogLimiter::new(1, 9).clip("a\nb\u{1b}[0m"), "a b [0m");
    }
}
