//! TLS of the gateway as a process: what handshakes cost beside mosquitto, and long runs of what has to hold
//! while certificates, CRLs and responders change.

pub mod client;
pub mod cost;
pub mod devices;
pub mod failures;
pub mod outage;
pub mod pace;
pub mod revocation;
pub mod rotation;
pub mod setup;
pub mod stall;

use std::fmt;
use std::time::Duration;

/// A line of a table.
#[derive(Debug, Clone)]
pub struct Line {
    /// What was measured or counted.
    pub name: String,
    /// What it came to.
    pub value: String,
    /// What is wanted; empty where nothing is.
    pub target: String,
    /// Whether that is met; `None` where nothing is wanted.
    pub is_met: Option<bool>,
}

impl Line {
    /// Without a target.
    #[must_use]
    pub fn plain(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), target: String::new(), is_met: None }
    }

    /// At most so much of a unit.
    #[must_use]
    pub fn at_most(name: impl Into<String>, value: f64, target: f64, unit: &str) -> Self {
        let digits = if target < 5.0 { 3 } else { 1 };
        Self {
            name: name.into(),
            value: format!("{value:.digits$} {unit}"),
            target: format!("<= {target} {unit}"),
            is_met: Some(value <= target),
        }
    }

    /// At least so many.
    #[must_use]
    pub fn at_least(name: impl Into<String>, count: f64, target: f64) -> Self {
        Self {
            name: name.into(),
            value: format!("{count:.0}"),
            target: format!(">= {target:.0}"),
            is_met: Some(count >= target),
        }
    }

    /// None of these.
    #[must_use]
    pub fn none(name: impl Into<String>, count: usize, of: usize) -> Self {
        Self {
            name: name.into(),
            value: format!("{count} of {of}"),
            target: "0".to_owned(),
            is_met: Some(count == 0),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.is_met {
            Some(true) => "ok",
            Some(false) => "MISSED",
            None => "",
        };
        write!(f, "{:<60} {:>18} {:>14}  {state}", self.name, self.value, self.target)
    }
}

/// Whether no line missed its target.
#[must_use]
pub fn all_met(lines: &[Line]) -> bool {
    lines.iter().all(|line| line.is_met != Some(false))
}

/// A number from the environment.
///
/// # Panics
/// When it is something else.
#[must_use]
pub fn number(name: &str, default: usize) -> usize {
    let set = std::env::var(name).ok().filter(|text| !text.is_empty());
    set.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

pub(crate) fn us(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// `share` of 100 took at most so long.
#[must_use]
pub fn percentile(times: &[Duration], share: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().saturating_sub(1);
    sorted.get((sorted.len() * share / 100).min(last)).copied().unwrap_or_default()
}
