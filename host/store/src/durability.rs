//! What the store promises, and what it tells of itself.

/// What a stored change survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process, also by SIGKILL.
    Process,
    /// The loss of power as well: each group is on the disk before it counts as stored.
    Power,
}

/// How far a long work at the start is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Records that were read.
    pub records: u64,
}

/// What the store has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreCounts {
    /// Groups of changes that were committed.
    pub commits: u64,
    /// Commits that the disk did not take.
    pub failures: u64,
    /// Changes that were refused since the disk did not take them, or too much waited.
    pub refused: u64,
    /// Whether the disk takes nothing at present.
    pub is_failing: bool,
    /// Bytes that wait to be written.
    pub waiting_bytes: u64,
}
