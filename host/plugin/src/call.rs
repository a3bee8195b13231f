//! Why a call of a guest did not give an answer, by whose fault it is.

use std::time::Duration;

use wasmtime_wasi::I32Exit;

use crate::instance::GrowthRefused;

/// Characters of what a guest reports.
const REPORTED_CHARS_MAX: usize = 512;

/// A call that gave no answer. The caller fails closed: nobody is let in, nothing is delivered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The guest did what it must not; its instance is gone.
    #[error("the guest {0}")]
    Guest(#[from] GuestFault),
    /// The guest answered that it could not decide; its text.
    #[error("the guest reports: {0}")]
    Reported(String),
    /// The guest did not answer in time, whether it computed or waited.
    #[error("no answer within {} ms", .0.as_millis())]
    DeadlineExceeded(Duration),
    /// As many calls wait as the plugin's `waiting_calls_max` allows, or so many that the call would
    /// wait beyond its deadline. With the time in which they will be worked off.
    #[error("{0} calls wait already")]
    Overloaded(usize, Duration),
    /// All instances were busy until the call's deadline: the guest was not asked.
    #[error("no instance was free within {} ms", .0.as_millis())]
    NoInstance(Duration),
    /// The plugin does not export what was asked for.
    #[error("the plugin has no such export: {0}")]
    NotExported(&'static str),
    /// Its exports have another shape than the contract says.
    #[error("its exports do not fit the contract: {0}")]
    Shape(String),
    /// The engine has no room for another instance: ours, not the guest's.
    #[error("no room for another instance: {0}")]
    Engine(String),
    /// The plugin failed so often that it is not asked for this long.
    #[error("the plugin fails too often and is asked again in {} ms", .0.as_millis())]
    Unavailable(Duration),
}

/// The kinds of [`CallError`], for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// [`GuestFault::Trapped`].
    Trap,
    /// [`GuestFault::MemoryLimit`].
    Memory,
    /// [`GuestFault::OutputLimit`].
    Output,
    /// [`GuestFault::Exited`].
    Exit,
    /// [`CallError::Reported`].
    Error,
    /// [`CallError::DeadlineExceeded`].
    Deadline,
    /// [`CallError::Shape`] and [`CallError::NotExported`].
    Shape,
    /// [`CallError::Overloaded`] and [`CallError::NoInstance`].
    Overloaded,
    /// [`CallError::Engine`].
    Engine,
    /// [`CallError::Unavailable`].
    Unavailable,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Trap,
        Self::Memory,
        Self::Output,
        Self::Exit,
        Self::Error,
        Self::Deadline,
        Self::Shape,
        Self::Overloaded,
        Self::Engine,
        Self::Unavailable,
    ];

    /// One word, for metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Memory => "memory",
            Self::Output => "output",
            Self::Exit => "exit",
            Self::Error => "error",
            Self::Deadline => "deadline",
            Self::Shape => "shape",
            Self::Overloaded => "overloaded",
            Self::Engine => "engine",
            Self::Unavailable => "unavailable",
        }
    }

    pub(crate) const fn is_violation(self) -> bool {
        matches!(self, Self::Trap | Self::Memory | Self::Output | Self::Exit | Self::Shape)
    }

    /// Whether it speaks against the guest, and not against how busy the gateway is.
    #[must_use]
    pub const fn is_the_guests(self) -> bool {
        !matches!(self, Self::Overloaded | Self::Engine | Self::Unavailable)
    }
}

/// What a guest did wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GuestFault {
    /// It trapped: a panic, an out-of-bounds access, a division by zero, an exhausted stack.
    #[error("trapped: {0}")]
    Trapped(String),
    /// It wanted more memory or table elements than its limit.
    #[error("asked for more memory than its limit: {0}")]
    MemoryLimit(String),
    /// It handed more to the host at once than `output_bytes_max`.
    #[error("handed more than {0} bytes to the host at once")]
    OutputLimit(usize),
    /// It called `exit`.
    #[error("exited with status {0}")]
    Exited(i32),
}

impl CallError {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> FaultKind {
        match self {
            Self::Guest(GuestFault::Trapped(_)) => FaultKind::Trap,
            Self::Guest(GuestFault::MemoryLimit(_)) => FaultKind::Memory,
            Self::Guest(GuestFault::OutputLimit(_)) => FaultKind::Output,
            Self::Guest(GuestFault::Exited(_)) => FaultKind::Exit,
            Self::Reported(_) => FaultKind::Error,
            Self::DeadlineExceeded(_) => FaultKind::Deadline,
            Self::Shape(_) | Self::NotExported(_) => FaultKind::Shape,
            Self::Overloaded(..) | Self::NoInstance(_) => FaultKind::Overloaded,
            Self::Engine(_) => FaultKind::Engine,
            Self::Unavailable(_) => FaultKind::Unavailable,
        }
    }

    /// Whether the guest did what it must not, as it does by itself, and not perhaps since a service
    /// behind it was slow or away.
    pub(crate) const fn is_violation(&self) -> bool {
        self.kind().is_violation()
    }

    /// Sorts what the engine reports when an instance does not start. What is no fault of the
    /// guest's is ours.
    pub(crate) fn from_start(error: &wasmtime::Error, output_bytes_max: usize) -> Self {
        match Self::from_engine(error, output_bytes_max) {
            Self::Guest(GuestFault::Trapped(text)) if !error.is::<wasmtime::Trap>() => {
                Self::Engine(text)
            }
            other => other,
        }
    }

    /// A text of the guest's, short and without control characters, so that it can neither
    /// fill nor forge the log.
    pub(crate) fn reported(text: &str) -> Self {
        Self::Reported(text.chars().filter(|c| !c.is_control()).take(REPORTED_CHARS_MAX).collect())
    }

    /// Sorts what the engine reports. `output_bytes_max` is the limit that was in force.
    pub(crate) fn from_engine(error: &wasmtime::Error, output_bytes_max: usize) -> Self {
        if let Some(exit) = error.downcast_ref::<I32Exit>() {
            return GuestFault::Exited(exit.0).into();
        }
        if let Some(trap) = error.downcast_ref::<wasmtime::Trap>() {
            return GuestFault::Trapped(trap.to_string()).into();
        }
        if let Some(limit) = error.downcast_ref::<wasmtime::PoolConcurrencyLimitError>() {
            return Self::Engine(limit.to_string());
        }
        if let Some(limit) = error.downcast_ref::<GrowthRefused>() {
            return GuestFault::MemoryLimit(limit.to_string()).into();
        }
        let text = error.root_cause().to_string();
        // The engine has no type for this one.
        if text.contains("fuel allocated for hostcalls has been exhausted") {
            return GuestFault::OutputLimit(output_bytes_max).into();
        }
        GuestFault::Trapped(text).into()
    }
}
