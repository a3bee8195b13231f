//! Bounds of one plugin, each with its default, and how its instances live.

use std::time::Duration;

/// What one plugin may use. A manifest changes single values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Wall-clock time of one call, waiting for an instance and its start included.
    pub deadline: Duration,
    /// Linear memory of one instance in bytes; at most [`Limits::MEMORY_BYTES_CEILING`].
    pub memory_bytes_max: usize,
    /// Calls that run at a time with the `fresh` policy.
    pub concurrent_calls_max: usize,
    /// Calls that wait for an instance at a time; one more is refused at once.
    pub waiting_calls_max: usize,
    /// Bytes that may cross from the guest to the host at once: what an export returns, or the
    /// arguments of one host function.
    pub output_bytes_max: usize,
    /// Log lines a second, standard output and standard error included.
    pub log_lines_per_second: u32,
    /// Bytes of one log line; what is beyond is cut.
    pub log_line_bytes_max: usize,
    /// Bytes of all entries of the plugin's `state`.
    pub state_bytes_max: usize,
    /// Entries of the plugin's `state`.
    pub state_entries_max: usize,
}

impl Limits {
    /// What the engine's memory pool is laid out for.
    pub const MEMORY_BYTES_CEILING: usize = 64 << 20;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A verifier that asks a service over HTTPS needs seconds; a parser that needs more
            // than this delays its publisher noticeably and should say so in its manifest.
            deadline: Duration::from_secs(1),
            memory_bytes_max: 16 << 20,
            concurrent_calls_max: 64,
            waiting_calls_max: 4096,
            // Twice the default packet limit of 1 MiB.
            output_bytes_max: 2 << 20,
            log_lines_per_second: 100,
            log_line_bytes_max: 8 << 10,
            state_bytes_max: 1 << 20,
            state_entries_max: 10_000,
        }
    }
}

/// How long an instance lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstancePolicy {
    /// A new instance for each call: no state leaks from one device to another. The default of
    /// verifiers.
    Fresh,
    /// Instances are kept, and thrown away after `calls` calls or on any error. The default of
    /// parsers.
    Warm {
        /// Instances that exist at a time, and so calls that run at a time.
        instances: usize,
        /// Calls after which an instance is replaced, so that a guest that leaks cannot grow
        /// for ever.
        calls: u32,
        /// Linear memory beyond which an instance is replaced after its call; `None` for three
        /// quarters of its limit.
        memory_bytes_mark: Option<usize>,
    },
}

impl InstancePolicy {
    /// Warm with one instance for each core.
    #[must_use]
    pub fn warm_default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get);
        Self::Warm { instances: cores, calls: 10_000, memory_bytes_mark: None }
    }
}
