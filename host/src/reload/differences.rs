//! What a shadow answers differently, as lines of a file that `portreeve plugin replay` reads.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use portreeve_plugin::Difference;
use serde_json::json;

use crate::plugin_json;
use crate::plugins::archive::{append_line, folder_of};

/// Bytes of one file; then they go on in a new one, and the last one is kept.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// Writes them into `NAME/differences.jsonl` of a directory; nowhere without one.
#[derive(Debug)]
pub(crate) struct Differences {
    directory: Option<PathBuf>,
}

impl Differences {
    pub(crate) const fn into_directory(directory: Option<PathBuf>) -> Self {
        Self { directory }
    }

    pub(crate) fn write(&self, difference: &Difference) {
        let Difference { at, plugin, asked, live, candidate, .. } = difference;
        tracing::debug!(plugin, ?asked, "the shadow answers differently");
        let Some(directory) = &self.directory else { return };
        let line = json!({
            "at": humantime::format_rfc3339_millis(*at).to_string(),
            "live_version": difference.live_digest,
            "candidate_version": difference.candidate_digest,
            "input": plugin_json::asked(asked),
            "live": plugin_json::answered_masked(live.clone()),
            "candidate": plugin_json::answered_masked(candidate.clone()),
        });
        let folder = folder_of(directory, plugin);
        if let Err(error) = append(&folder, &line.to_string(), FILE_BYTES_MAX) {
            tracing::warn!(plugin, %error, "differences of the shadow cannot be written");
        }
    }
}

fn append(folder: &Path, line: &str, bytes_max: u64) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let path = folder.join("differences.jsonl");
    let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
    if bytes > 0 && bytes.saturating_add(line.len() as u64) >= bytes_max {
        fs::rename(&path, folder.join("differences.1.jsonl"))?;
    }
    append_line(&path, line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_files_at_most_hold_the_latest_differences() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..100 {
            append(folder.path(), &format!("{{\"number\":{number:>4}}}"), 100).unwrap();
        }
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let (last, now) = (read("differences.1.jsonl"), read("differences.jsonl"));
        assert!(last.len() <= 100 && now.len() <= 100, "{last}{now}");
        assert!(now.ends_with("{\"number\":  99}\n"), "{now}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
