//! `portreeve device import` and `export`: files of devices, streamed in batches.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use portreeve::devices::DeviceSpec;
use portreeve::devices::import::{Format, Line, lines};
use serde_json::{Value, json};

use super::PAGE;
use crate::cli::admin::{Gateway, escaped};
use crate::cli::output;

/// Devices of one request.
const BATCH: usize = 1_000;
/// Bytes of the file that one request is about: the API takes 16 MiB.
const BATCH_BYTES: u64 = 4 << 20;
/// Lines that are told of one by one; `--report` has all of them.
const TOLD_MAX: u64 = 20;

/// Import devices from a file.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The file: .csv or .jsonl; - for standard input.
    file: PathBuf,
    /// How it is written, where its name does not tell.
    #[arg(long, value_parser = ["csv", "jsonl"])]
    format: Option<String>,
    /// The product of devices whose line does not name one.
    #[arg(long)]
    product: Option<String>,
    /// Say what would become of the devices, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Write a JSON line for each line that was refused.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gateway: Gateway,
}

/// What became of the lines.
#[derive(Debug, Default)]
struct Tally {
    created: u64,
    updated: u64,
    unchanged: u64,
    refused: u64,
}

/// Where lines that were refused are told.
struct Refusals {
    report: Option<File>,
    progress: ProgressBar,
    is_quiet: bool,
}

/// What tells devices of a file from one another, hashed, with the device whose it is. A gateway that
/// changes nothing cannot find what stands twice in a file.
#[derive(Debug, Default)]
struct Twice {
    owners: HashMap<u64, u64>,
    hasher: RandomState,
}

impl Twice {
    /// What another device of the file has, too.
    fn find(&mut self, spec: &DeviceSpec) -> Option<String> {
        let named = [&spec.name, &spec.serial_number, &spec.user_name];
        let name = named.into_iter().flatten().find(|text| !text.is_empty())?;
        let device = self.hasher.hash_one((&spec.product, name));
        let keys = [
            ("serial number", &spec.serial_number),
            ("user name", &spec.user_name),
            ("certificate", &spec.certificate_fingerprint),
            ("certificate", &spec.certificate_common_name),
        ];
        for (key, value) in keys {
            let Some(value) = value.as_ref().filter(|value| !value.is_empty()) else { continue };
            let hash = self.hasher.hash_one((&spec.product, key, value));
            if *self.owners.entry(hash).or_insert(device) != device {
                return Some(format!("{key} {value:?} is that of a device of an earlier line"));
            }
        }
        None
    }
}

/// Counts what is read of a file.
struct Counted<R> {
    reader: R,
    bytes: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.bytes.fetch_add(u64::try_from(read).unwrap_or_default(), Ordering::Relaxed);
        Ok(read)
    }
}

impl Import {
    pub(crate) async fn execute(self) -> ExitCode {
        let begin = Instant::now();
        match self.import().await {
            Err(error) => output::fail(&error),
            Ok(tally) => {
                let Tally { created, updated, unchanged, refused } = tally;
                if self.json {
                    output::json(&json!({
                        "created": created, "updated": updated, "unchanged": unchanged,
                        "refused": refused, "dry_run": self.dry_run,
                        "seconds": begin.elapsed().as_secs_f64(),
                    }));
                } else {
                    let would = if self.dry_run { "would be " } else { "" };
                    let seconds = begin.elapsed().as_secs_f64();
                    output::say(&format!(
                        "{created} {would}created, {updated} {would}updated, {unchanged} unchanged, {refused} \
                         refused, in {seconds:.1} s"
                    ));
                }
                if refused == 0 { ExitCode::SUCCESS } else { ExitCode::from(output::FAILED) }
            }
        }
    }

    fn format(&self) -> Result<Format, String> {
        match self.format.as_deref() {
            Some("csv") => Ok(Format::Csv),
            Some(_) => Ok(Format::JsonLines),
            None => Format::of_name(&self.file.to_string_lossy()).ok_or_else(|| {
                let file = self.file.display();
                format!("{file}: how is it written? Say --format csv or --format jsonl")
            }),
        }
    }

    async fn import(&self) -> Result<Tally, String> {
        let format = self.format()?;
        let bytes = Arc::new(AtomicU64::new(0));
        let (reader, length) = open(&self.file)?;
        let reader = Counted { reader, bytes: Arc::clone(&bytes) };
        let of_file = |error: &dyn std::fmt::Display| format!("{}: {error}", self.file.display());
        let lines = lines(reader, format).map_err(|error| of_file(&error))?;
        let report = self
            .report
            .as_ref()
            .map(|path| File::create(path).map_err(|error| format!("{}: {error}", path.display())));
        let progress = progress(length);
        let mut refusals = Refusals {
            report: report.transpose()?,
            progress: progress.clone(),
            is_quiet: self.json,
        };
        let mut tally = Tally::default();
        let mut batch: Vec<(u64, DeviceSpec)> = Vec::new();
        let mut sent = 0;
        let mut twice = self.dry_run.then(Twice::default);
        for line in lines {
            let Line { number, device } = line.map_err(|error| of_file(&error))?;
            match device {
                Ok(mut spec) => {
                    if spec.product.is_none() {
                        spec.product.clone_from(&self.product);
                    }
                    match twice.as_mut().and_then(|twice| twice.find(&spec)) {
                        Some(why) => refusals.tell(number, &why, &mut tally)?,
                        None => batch.push((number, spec)),
                    }
                }
                Err(why) => refusals.tell(number, &why, &mut tally)?,
            }
            if batch.len() >= BATCH || bytes.load(Ordering::Relaxed) >= sent + BATCH_BYTES {
                sent = bytes.load(Ordering::Relaxed);
                self.send(&mut batch, &mut tally, &mut refusals).await?;
                progress.set_position(bytes.load(Ordering::Relaxed));
                progress.set_message(told(&tally));
            }
        }
        self.send(&mut batch, &mut tally, &mut refusals).await?;
        progress.finish_and_clear();
        Ok(tally)
    }

    async fn send(
        &self,
        batch: &mut Vec<(u64, DeviceSpec)>,
        tally: &mut Tally,
        refusals: &mut Refusals,
    ) -> Result<(), String> {
        if batch.is_empty() {
            return Ok(());
        }
        let (numbers, devices): (Vec<u64>, Vec<DeviceSpec>) = batch.drain(..).unzip();
        let body = json!({ "devices": devices, "dry_run": self.dry_run });
        let answer = self.gateway.order("/v1/devices/import", &body).await.map_err(|error| {
            let (done, first) = (told(tally), numbers.first().copied().unwrap_or_default());
            format!(
                "{error}\nUp to line {first}: {done}. Import the file again when that is mended: what is there \
                 already stays as it is"
            )
        })?;
        let count = |key: &str| answer.get(key).and_then(Value::as_u64).unwrap_or_default();
        tally.created += count("created");
        tally.updated += count("updated");
        tally.unchanged += count("unchanged");
        for refused in answer.get("refused").and_then(Value::as_array).into_iter().flatten() {
            let index = refused.get("index").and_then(Value::as_u64);
            let index = index.and_then(|index| usize::try_from(index).ok());
            let number = index.and_then(|index| numbers.get(index)).copied().unwrap_or_default();
            let why = refused.get("why").and_then(Value::as_str).unwrap_or_default();
            refusals.tell(number, why, tally)?;
        }
        Ok(())
    }
}

fn told(tally: &Tally) -> String {
    let Tally { created, updated, unchanged, refused } = tally;
    format!("{created} created, {updated} updated, {unchanged} unchanged, {refused} refused")
}

impl Refusals {
    fn tell(&mut self, line: u64, why: &str, tally: &mut Tally) -> Result<(), String> {
        tally.refused += 1;
        if let Some(report) = &mut self.report {
            let written = writeln!(report, "{}", json!({ "line": line, "why": why }));
            written.map_err(|error| format!("the report: {error}"))?;
        }
        if tally.refused <= TOLD_MAX && !self.is_quiet {
            self.progress.suspend(|| output::warn(&format!("line {line}: {why}")));
        } else if tally.refused == TOLD_MAX + 1 && !self.is_quiet {
            let more = "more lines are refused; --report FILE has all of them";
            self.progress.suspend(|| output::warn(more));
        }
        Ok(())
    }
}

type Opened = (Box<dyn Read + Send>, Option<u64>);

fn open(path: &Path) -> Result<Opened, String> {
    if path == Path::new("-") {
        return Ok((Box::new(std::io::stdin()), None));
    }
    let of_file = |error: std::io::Error| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(of_file)?;
    let length = file.metadata().map_err(of_file)?.len();
    Ok((Box::new(BufReader::new(file)), Some(length)))
}

/// Shown on a terminal only.
fn progress(length: Option<u64>) -> ProgressBar {
    const INTERVAL: Duration = Duration::from_millis(200);
    let progress = match length {
        Some(length) => ProgressBar::new(length),
        None => ProgressBar::new_spinner(),
    };
    let template = "{bar:40} {bytes}/{total_bytes} {eta} {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        progress.set_style(style);
    }
    progress.enable_steady_tick(INTERVAL);
    progress
}

/// Write all devices.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Where to: .csv or .jsonl; standard output where it is left out.
    file: Option<PathBuf>,
    /// How it is written, where its name does not tell; CSV has no attributes and no permissions.
    #[arg(long, value_parser = ["csv", "jsonl"])]
    format: Option<String>,
    /// Of this product only.
    #[arg(long)]
    product: Option<String>,
    #[command(flatten)]
    gateway: Gateway,
}

/// Columns of our own, as import knows them.
const COLUMNS: [&str; 8] = [
    "product",
    "name",
    "serial_number",
    "user_name",
    "password_hash",
    "certificate_fingerprint",
    "certificate_common_name",
    "enabled",
];

impl Export {
    pub(crate) async fn execute(self) -> Result<(), String> {
        let format = match (self.format.as_deref(), &self.file) {
            (Some("csv"), _) => Format::Csv,
            (Some(_), _) | (None, None) => Format::JsonLines,
            (None, Some(file)) => {
                Format::of_name(&file.to_string_lossy()).unwrap_or(Format::JsonLines)
            }
        };
        let failed =
            |error: &dyn std::fmt::Display| format!("the devices cannot be written: {error}");
        let writer: Box<dyn Write + Send> = match &self.file {
            Some(path) => Box::new(private(path).map_err(|error| failed(&error))?),
            None => Box::new(std::io::stdout()),
        };
        let mut writer = std::io::BufWriter::new(writer);
        if format == Format::Csv {
            writeln!(writer, "{}", COLUMNS.join(",")).map_err(|error| failed(&error))?;
        }
        let product = self.product.as_deref().map(|text| format!("&product={}", escaped(text)));
        let product = product.unwrap_or_default();
        let mut after = String::new();
        loop {
            let path = format!("/v1/devices?credentials=true&limit={PAGE}{product}{after}");
            let answer = self.gateway.ask(&path).await?;
            let devices = answer.get("devices").and_then(Value::as_array);
            for device in devices.into_iter().flatten().filter(|device| is_exported(device)) {
                let line = match format {
                    Format::Csv => csv_line(device),
                    Format::JsonLines => json_line(device),
                };
                writeln!(writer, "{line}").map_err(|error| failed(&error))?;
            }
            let Some(next) = answer.get("next").and_then(Value::as_str) else { break };
            after = format!("&after={}", escaped(next));
        }
        writer.flush().map_err(|error| failed(&error))
    }
}

/// Devices of the configuration stand there.
fn is_exported(device: &Value) -> bool {
    device.get("origin").and_then(Value::as_str) != Some("configured")
}

/// A file that its user alone can read: there are hashes in it.
fn private(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// What import takes of a device.
fn json_line(device: &Value) -> String {
    let mut spec = device.clone();
    if let Some(spec) = spec.as_object_mut() {
        for key in ["origin", "has_password", "created_at", "last_seen_at"] {
            spec.shift_remove(key);
        }
        spec.retain(|_, value| !value.is_null());
    }
    spec.to_string()
}

fn csv_line(device: &Value) -> String {
    let field = |column: &str| match device.get(column) {
        Some(Value::String(text)) if text.contains([',', '"', '\r', '\n', ' ']) => {
            format!("\"{}\"", text.replace('"', "\"\""))
        }
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(value)) => value.to_string(),
        _ => String::new(),
    };
    COLUMNS.map(field).join(",")
}
