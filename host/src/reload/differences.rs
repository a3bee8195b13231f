//! What a shadow answers differently, as lines of a file that `portreeve plugin replay` reads.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use portreeve_plugin::Difference;
use serde_json::json;

use crate::plugin_json;

/// Bytes of one file; it is a sample, and ends there.
const FILE_BYTES_MAX: u64 = 16 << 20;

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
        let Difference { plugin, asked, live, candidate } = difference;
        tracing::debug!(plugin, ?asked, "the shadow answers differently");
        let Some(directory) = &self.directory else { return };
        let line = json!({
            "input": plugin_json::asked(asked),
            "live": plugin_json::answered(live.clone()),
            "candidate": plugin_json::answered(candidate.clone()),
        });
        if let Err(error) = append(directory.join(plugin), &line) {
            tracing::warn!(plugin, %error, "differences of the shadow cannot be written");
        }
    }
}

fn append(folder: PathBuf, line: &serde_json::Value) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let mut options = fs::OpenOptions::new();
    let mut file =
        options.create(true).append(true).mode(0o600).open(folder.join("differences.jsonl"))?;
    if file.metadata()?.len() < FILE_BYTES_MAX {
        writeln!(file, "{line}")?;
    }
    Ok(())
}
