//! A load tool: publishers and subscribers against a server that runs as a process of its own,
//! and what each delivered message cost that process.

pub mod devices;
pub mod scale;
pub mod servers;
pub mod swaps;
pub mod tls;
pub mod traffic;
pub mod traps;
pub mod verifiers;

use std::fs;
use std::time::Duration;

/// What a run showed.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Messages that reached subscribers, a second.
    pub messages_per_second: f64,
    /// CPU time of the server for each of them.
    pub cpu_us_for_each: f64,
    /// From write to read, in the middle, under this load.
    pub p50: Duration,
    /// From write to read, 99 of 100.
    pub p99: Duration,
}

/// CPU time that a process has used so far, user and system.
#[must_use]
pub fn cpu_time(pid: u32) -> Duration {
    // Field 14 and 15, counted from 1; the name in field 2 may hold spaces (proc(5)).
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the server runs");
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    // The kernel counts in 1/100 s for programs (USER_HZ).
    Duration::from_millis(ticks * 10)
}

/// Resident bytes of a process.
#[must_use]
pub fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the server runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// The middle of some numbers.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
