//! Reads TOML key by key and keeps on after a mistake, so that all of them are reported at once:
//! with file, line, key, what is wrong and what to do.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::io::Read;
use std::ops::{Range, RangeInclusive};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Its line, from 1; `None` where the file as a whole is meant.
    pub line: Option<usize>,
    /// The key, such as `gateway[0].limits.packet_bytes_max`.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

impl Problem {
    pub(super) fn of_file(path: &Path, error: &std::io::Error) -> Self {
        Self {
            file: path.to_owned(),
            line: None,
            key: String::new(),
            what: format!("cannot be read: {error}"),
            hint: String::new(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": ")?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}", self.what)?;
        if !self.hint.is_empty() {
            write!(f, "; {}", self.hint)?;
        }
        Ok(())
    }
}

struct Source<'a> {
    path: &'a Path,
    text: &'a str,
    problems: RefCell<Vec<Problem>>,
}

impl Source<'_> {
    fn problem(&self, span: Option<Range<usize>>, key: &str, what: String, hint: String) {
        let line = span.map(|span| {
            let before = self.text.get(..span.start).unwrap_or(self.text);
            before.bytes().filter(|&byte| byte == b'\n').count() + 1
        });
        let file = self.path.to_owned();
        let problem = Problem { file, line, key: key.to_owned(), what, hint };
        self.problems.borrow_mut().push(problem);
    }
}

/// Parses `text` and has `read` take what it knows out of it.
///
/// # Errors
/// [`ConfigError`] with every mistake, in the order of the lines.
pub(super) fn read<T>(
    path: &Path,
    text: &str,
    read: impl FnOnce(Section<'_>) -> T,
) -> Result<T, ConfigError> {
    let source = Source { path, text, problems: RefCell::default() };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        source.problem(error.span(), "", error.message().trim().to_owned(), String::new());
    }
    if !source.problems.borrow().is_empty() {
        return Err(ConfigError(source.problems.into_inner()));
    }
    let value = read(Section::new(&source, String::new(), table.get_ref(), None));
    let mut problems = source.problems.into_inner();
    problems.sort_by_key(|problem| problem.line);
    if problems.is_empty() { Ok(value) } else { Err(ConfigError(problems)) }
}

/// Bytes of a manifest, or of a file that one of its settings comes from.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// Reads a text that has an end. A pipe or a device would keep everything waiting, or has none.
pub(crate) fn read_plain(path: &Path) -> std::io::Result<String> {
    // Opened once, so that what is looked at is what is read; a pipe is opened without waiting.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = std::fs::File::options().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(std::io::Error::other(
            "it is no plain file; put the text itself there, or a link",
        ));
    }
    if metadata.len() > TEXT_BYTES_MAX {
        let bytes = metadata.len();
        return Err(std::io::Error::other(format!(
            "{bytes} bytes are more than the {TEXT_BYTES_MAX} that a manifest or setting may have"
        )));
    }
    let mut text = String::new();
    // It may grow meanwhile.
    file.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text)?;
    Ok(text)
}

/// A table whose keys are taken out one by one; what is left at the end is unknown.
pub(super) struct Section<'a> {
    source: &'a Source<'a>,
    path: String,
    table: &'a DeTable<'a>,
    span: Option<Range<usize>>,
    known: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Section<'a> {
    fn new(
        source: &'a Source<'a>,
        path: String,
        table: &'a DeTable<'a>,
        span: Option<Range<usize>>,
    ) -> Self {
        Self { source, path, table, span, known: RefCell::default() }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn value(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.borrow_mut().insert(key);
        self.table.get(key)
    }

    /// Reports what is wrong with the value of a key.
    pub(super) fn problem(&self, key: &str, what: impl Into<String>, hint: impl Into<String>) {
        let span = self.table.get(key).map(Spanned::span).or_else(|| self.span.clone());
        self.source.problem(span, &self.path_of(key), what.into(), hint.into());
    }

    /// Reports what is wrong with the table as a whole.
    pub(super) fn problem_here(&self, what: impl Into<String>, hint: impl Into<String>) {
        self.source.problem(self.span.clone(), &self.path, what.into(), hint.into());
    }

    fn wrong_type(&self, key: &str, value: &DeValue<'_>, wanted: &str) {
        self.problem(
            key,
            format!("is {} {}", article(value.type_str()), value.type_str()),
            format!("write {wanted}"),
        );
    }

    pub(super) fn string(&self, key: &'static str) -> Option<String> {
        let value = self.value(key)?.get_ref();
        if value.as_str().is_none() {
            self.wrong_type(key, value, "a text in quotes");
        }
        value.as_str().map(str::to_owned)
    }

    /// A text that must be there and not be empty.
    pub(super) fn required_string(&self, key: &'static str, example: &str) -> Option<String> {
        if self.value(key).is_none() {
            self.problem(key, "is missing", format!("write {key} = {example:?}"));
            return None;
        }
        self.string(key)
    }

    pub(super) fn strings(&self, key: &'static str) -> Option<Vec<String>> {
        let value = self.value(key)?.get_ref();
        let texts = value.as_array().and_then(|array| {
            array.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect()
        });
        if texts.is_none() {
            self.wrong_type(key, value, "a list of texts, such as [\"a\", \"b\"]");
        }
        texts
    }

    pub(super) fn integer_into<T>(
        &self,
        key: &'static str,
        target: &mut T,
        range: RangeInclusive<u64>,
    ) where
        T: TryFrom<u64>,
    {
        let Some(value) = self.value(key).map(Spanned::get_ref) else { return };
        let Some(integer) = value.as_integer() else {
            self.wrong_type(key, value, "a whole number");
            return;
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number.filter(|number| range.contains(number));
        match number.and_then(|number| T::try_from(number).ok()) {
            Some(number) => *target = number,
            None => {
                let hint = format!("write a number from {} to {}", range.start(), range.end());
                self.problem(key, "is out of range", hint);
            }
        }
    }

    /// A part of a whole: a number from 0 to 1.
    pub(super) fn share_into(&self, key: &'static str, target: &mut f64) {
        let Some(value) = self.value(key).map(Spanned::get_ref) else { return };
        let number = match value {
            DeValue::Integer(integer) => integer.as_str().parse().ok(),
            DeValue::Float(float) => float.as_str().parse().ok(),
            _ => None,
        };
        match number.filter(|number| (0.0..=1.0).contains(number)) {
            Some(number) => *target = number,
            None => self.problem(key, "is no share", "write a number from 0 to 1, such as 0.01"),
        }
    }

    pub(super) fn boolean_into(&self, key: &'static str, target: &mut bool) {
        let Some(value) = self.value(key).map(Spanned::get_ref) else { return };
        match value.as_bool() {
            Some(boolean) => *target = boolean,
            None => self.wrong_type(key, value, "true or false"),
        }
    }

    /// A size: a number of bytes, or a text such as `64KiB`.
    pub(super) fn bytes_into<T>(&self, key: &'static str, target: &mut T, range: Range<u64>)
    where
        T: TryFrom<u64>,
    {
        let Some(value) = self.value(key).map(Spanned::get_ref) else { return };
        let bytes = match value {
            DeValue::Integer(integer) => {
                u64::from_str_radix(integer.as_str(), integer.radix()).ok()
            }
            DeValue::String(text) => with_unit(text, BYTE_UNITS),
            _ => None,
        };
        match bytes.filter(|bytes| range.contains(bytes)).and_then(|bytes| T::try_from(bytes).ok())
        {
            Some(bytes) => *target = bytes,
            None => {
                let (start, end) = (range.start, range.end - 1);
                let hint = format!("write {start} to {end} bytes, such as 65536 or \"64KiB\"");
                self.problem(key, "is no size in its range", hint);
            }
        }
    }

    /// A duration such as `10s`.
    pub(super) fn duration_into(&self, key: &'static str, target: &mut Duration, min: Duration) {
        let Some(value) = self.value(key).map(Spanned::get_ref) else { return };
        let duration = value.as_str().and_then(|text| with_unit(text, MILLISECOND_UNITS));
        match duration.map(Duration::from_millis).filter(|duration| *duration >= min) {
            Some(duration) => *target = duration,
            None => {
                let hint = format!(
                    "write a text such as \"500ms\", \"10s\", \"5m\", \"1h\" or \"7d\", {} ms at least",
                    min.as_millis()
                );
                self.problem(key, "is no duration in its range", hint);
            }
        }
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.string(key)?;
        let found = choices.iter().find(|(word, _)| *word == text).map(|&(_, value)| value);
        if found.is_none() {
            let words: Vec<&str> = choices.iter().map(|&(word, _)| word).collect();
            self.problem(key, format!("{text:?} is not known"), one_of(&text, &words));
        }
        found
    }

    /// A filter for the log.
    pub(super) fn log_filter(&self, key: &'static str) -> Option<String> {
        let text = self.string(key)?;
        if let Err(error) = text.parse::<tracing_subscriber::EnvFilter>() {
            self.problem(
                key,
                format!("{text:?} is no log filter: {error}"),
                "write \"info\" or \"info,plugin=debug\"",
            );
        }
        Some(text)
    }

    pub(super) fn table(&self, key: &'static str) -> Option<Self> {
        let value = self.value(key)?;
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(key, value.get_ref(), &format!("a table [{}]", self.path_of(key)));
            return None;
        };
        Some(Self::new(self.source, self.path_of(key), table, Some(value.span())))
    }

    pub(super) fn tables(&self, key: &'static str) -> Vec<Self> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(
                key,
                value.get_ref(),
                &format!("a list of tables [[{}]]", self.path_of(key)),
            );
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (index, item) in array.iter().enumerate() {
            let path = format!("{}[{index}]", self.path_of(key));
            match item.get_ref().as_table() {
                Some(table) => {
                    sections.push(Self::new(self.source, path, table, Some(item.span())))
                }
                None => self.wrong_type(key, item.get_ref(), "tables only"),
            }
        }
        sections
    }

    /// Every key of a table whose keys are free, with its value.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, &'a DeValue<'a>)> {
        self.table.iter().map(|(key, value)| (key.get_ref().as_ref(), value.get_ref()))
    }

    /// Reports what nobody asked for.
    pub(super) fn finish(&self) {
        let known = self.known.borrow();
        for (key, _) in self.table.iter() {
            let name: &str = key.get_ref().as_ref();
            if !known.contains(name) {
                let words: Vec<&str> = known.iter().copied().collect();
                self.source.problem(
                    Some(key.span()),
                    &self.path_of(name),
                    "is not known".to_owned(),
                    one_of(name, &words),
                );
            }
        }
    }
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

/// What was probably meant, or everything that there is.
pub(super) fn one_of(word: &str, words: &[&str]) -> String {
    const CLOSE: f64 = 0.7;
    let best = words
        .iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    match best {
        Some((similarity, candidate)) if similarity >= CLOSE => {
            format!("did you mean {candidate:?}?")
        }
        _ => format!("known are {}", words.join(", ")),
    }
}

const BYTE_UNITS: &[(&str, u64)] =
    &[("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
const MILLISECOND_UNITS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text.get(digits.len()..)?.trim();
    let factor = units.iter().find(|(name, _)| *name == unit).map(|&(_, factor)| factor)?;
    digits.trim().parse::<u64>().ok()?.checked_mul(factor)
}
