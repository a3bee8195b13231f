//! Files of devices: CSV with a line of names in front, or one JSON object a line. Read line by line;
//! what is wrong with one of them keeps no other one away.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};

use super::DeviceSpec;

/// Bytes of one line.
const LINE_BYTES_MAX: usize = 256 << 10;
/// Columns of a CSV file.
const COLUMNS_MAX: usize = 256;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values (RFC 4180) with a line of names in front.
    Csv,
    /// One JSON object a line.
    JsonLines,
}

impl Format {
    /// The format of a file, by the end of its name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
        if ends(&[".csv"]) {
            Some(Self::Csv)
        } else if ends(&[".jsonl", ".ndjson", ".json"]) {
            Some(Self::JsonLines)
        } else {
            None
        }
    }
}

/// A device of a file.
#[derive(Debug)]
pub struct Line {
    /// The number of the line that it begins on, from 1.
    pub number: u64,
    /// What it says, or what is wrong with it.
    pub device: Result<DeviceSpec, String>,
}

/// Why a file is not read at all, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The first line does not name columns that a device has.
    #[error("the first line: {0}")]
    Columns(String),
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] std::io::Error),
}

/// The devices of a file, in order.
pub struct Lines<R: Read>(Reading<R>);

enum Reading<R: Read> {
    Csv(Box<CsvLines<R>>),
    Json(JsonLines<R>),
}

impl<R: Read> std::fmt::Debug for Lines<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lines")
    }
}

/// Begins to read a file.
///
/// # Errors
/// [`FileError`] for a CSV file whose first line does not name columns.
pub fn lines<R: Read>(reader: R, format: Format) -> Result<Lines<R>, FileError> {
    match format {
        Format::Csv => CsvLines::new(reader).map(|lines| Lines(Reading::Csv(Box::new(lines)))),
        Format::JsonLines => Ok(Lines(Reading::Json(JsonLines(Records::new(reader))))),
    }
}

impl<R: Read> Iterator for Lines<R> {
    type Item = Result<Line, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Reading::Csv(lines) => lines.next(),
            Reading::Json(lines) => lines.next(),
        }
    }
}

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Column {
    Product,
    Name,
    SerialNumber,
    UserName,
    Password,
    PasswordHash,
    Fingerprint,
    CommonName,
    Enabled,
    Attribute(String),
}

impl Column {
    /// The column of a name, as our own export, the replaced product and spreadsheets write it.
    fn of(name: &str) -> Option<Self> {
        let name = name.trim();
        if let Some(attribute) = name.strip_prefix("attribute.") {
            return Some(Self::Attribute(attribute.to_owned()));
        }
        let plain: String =
            name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
        Some(match plain.as_str() {
            "product" => Self::Product,
            "name" | "devicename" => Self::Name,
            "sn" | "serialnumber" => Self::SerialNumber,
            "mqttusername" | "username" => Self::UserName,
            "mqttpassword" | "password" => Self::Password,
            "passwordhash" => Self::PasswordHash,
            "certificatefingerprint" | "fingerprint" => Self::Fingerprint,
            "certificatecommonname" | "commonname" => Self::CommonName,
            "enabled" => Self::Enabled,
            _ => return None,
        })
    }
}

const KNOWN: &str = "SN, MQTT UserName, MQTT Password, name, product, password_hash, certificate_fingerprint, \
                     certificate_common_name, enabled, attribute.NAME";

/// Devices of a CSV file.
struct CsvLines<R: Read> {
    records: Records<R>,
    fields: Fields,
    columns: Vec<Column>,
}

impl<R: Read> CsvLines<R> {
    fn new(reader: R) -> Result<Self, FileError> {
        let mut records = Records::new(reader);
        let mut fields = Fields::new();
        let unreadable = |why: String| FileError::Columns(why);
        let names = match records.next_quoted()? {
            None => Vec::new(),
            Some((_, text)) => text.and_then(|text| fields.of(&text)).map_err(unreadable)?,
        };
        if names.len() > COLUMNS_MAX {
            return Err(FileError::Columns(format!("there are more than {COLUMNS_MAX} columns")));
        }
        let mut columns = Vec::new();
        for name in &names {
            let column = Column::of(name).ok_or_else(|| {
                FileError::Columns(format!("there is no column {name:?}; there are {KNOWN}"))
            })?;
            if columns.contains(&column) {
                return Err(FileError::Columns(format!("the column {name:?} is there twice")));
            }
            columns.push(column);
        }
        if columns.is_empty() {
            return Err(FileError::Columns(format!("there are no columns; there are {KNOWN}")));
        }
        Ok(Self { records, fields, columns })
    }

    fn next(&mut self) -> Option<Result<Line, FileError>> {
        let (number, text) = match self.records.next_quoted() {
            Ok(None) => return None,
            Ok(Some(record)) => record,
            Err(error) => return Some(Err(error)),
        };
        let record = text.and_then(|text| self.fields.of(&text));
        let device = record.and_then(|record| device(&self.columns, &record));
        Some(Ok(Line { number, device }))
    }
}

/// Takes records apart (RFC 4180). One reader for all: making one builds its table of states.
struct Fields {
    reader: csv_core::Reader,
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Fields {
    fn new() -> Self {
        Self { reader: csv_core::Reader::new(), text: Vec::new(), ends: vec![0; COLUMNS_MAX + 1] }
    }

    /// The fields of one record.
    fn of(&mut self, record: &[u8]) -> Result<Vec<String>, String> {
        self.reader.reset();
        self.text.resize(record.len() + 1, 0);
        let (mut written, mut count) = (0, 0);
        // Once for the record, and once for its end where no end of a line stands there.
        for input in [record, b""] {
            let (Some(text), Some(ends)) =
                (self.text.get_mut(written..), self.ends.get_mut(count..))
            else {
                break;
            };
            let (result, _, bytes, fields) = self.reader.read_record(input, text, ends);
            (written, count) = (written + bytes, count + fields);
            match result {
                csv_core::ReadRecordResult::Record => break,
                csv_core::ReadRecordResult::InputEmpty => {}
                _ => return Err(format!("it has more than {COLUMNS_MAX} fields")),
            }
        }
        let mut fields = Vec::new();
        let mut begin = 0;
        for end in self.ends.iter().take(count) {
            let field = self.text.get(begin..*end).unwrap_or_default();
            let field = std::str::from_utf8(field).map_err(|_| "it is not UTF-8".to_owned())?;
            fields.push(field.to_owned());
            begin = *end;
        }
        Ok(fields)
    }
}

fn device(columns: &[Column], record: &[String]) -> Result<DeviceSpec, String> {
    if record.len() != columns.len() {
        return Err(format!(
            "it has {} fields, the first line has {}",
            record.len(),
            columns.len()
        ));
    }
    let mut spec = DeviceSpec::default();
    let mut attributes = BTreeMap::new();
    // A field that is empty says nothing: whoever imports does not take away.
    for (column, field) in columns.iter().zip(record).filter(|(_, field)| !field.is_empty()) {
        // Spaces belong to a password; elsewhere a spreadsheet put them there.
        let is_secret = matches!(column, Column::Password | Column::PasswordHash);
        let field = if is_secret { field.as_str() } else { field.trim() };
        let text = Some(field.to_owned());
        match column {
            Column::Product => spec.product = text,
            Column::Name => spec.name = text,
            Column::SerialNumber => spec.serial_number = text,
            Column::UserName => spec.user_name = text,
            Column::Password => spec.password = text,
            Column::PasswordHash => spec.password_hash = text,
            Column::Fingerprint => spec.certificate_fingerprint = text,
            Column::CommonName => spec.certificate_common_name = text,
            Column::Enabled => spec.enabled = Some(yes_or_no(field)?),
            Column::Attribute(name) => drop(attributes.insert(name.clone(), field.to_owned())),
        }
    }
    spec.attributes = (!attributes.is_empty()).then_some(attributes);
    Ok(spec)
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "1" => Ok(true),
        "false" | "no" | "0" => Ok(false),
        _ => Err(format!("enabled is true or false, not {text:?}")),
    }
}

/// Devices of a file with JSON lines.
struct JsonLines<R: Read>(Records<R>);

impl<R: Read> JsonLines<R> {
    fn next(&mut self) -> Option<Result<Line, FileError>> {
        let (number, text) = match self.0.next_line() {
            Ok(None) => return None,
            Ok(Some(line)) => line,
            Err(error) => return Some(Err(error)),
        };
        let parse =
            |text: Vec<u8>| serde_json::from_slice(&text).map_err(|error| error.to_string());
        Some(Ok(Line { number, device: text.and_then(parse) }))
    }
}

/// A line with its number, or what is wrong with it.
type Numbered = (u64, Result<Vec<u8>, String>);

/// The lines of a file; those that are empty are left out.
struct Records<R: Read> {
    reader: BufReader<R>,
    /// Lines that were read.
    number: u64,
}

impl<R: Read> Records<R> {
    fn new(reader: R) -> Self {
        Self { reader: BufReader::new(reader), number: 0 }
    }

    fn next_line(&mut self) -> Result<Option<Numbered>, FileError> {
        loop {
            let mut line = Vec::new();
            let length = read_line(&mut self.reader, &mut line)?;
            if length == 0 {
                return Ok(None);
            }
            self.number += 1;
            if length > LINE_BYTES_MAX {
                return Ok(Some((self.number, Err(too_long()))));
            }
            if self.number == 1 {
                // Spreadsheets write it in front of UTF-8.
                line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line).to_vec();
            }
            if !line.trim_ascii().is_empty() {
                return Ok(Some((self.number, Ok(line))));
            }
        }
    }

    /// Lines up to one that is whole: the end of a line within quotes belongs to a field.
    fn next_quoted(&mut self) -> Result<Option<Numbered>, FileError> {
        let Some((number, first)) = self.next_line()? else { return Ok(None) };
        let Ok(mut record) = first else { return Ok(Some((number, first))) };
        let mut quoting = Quoting::default();
        quoting.read(&record);
        while quoting.is_open {
            let mut line = Vec::new();
            let length = read_line(&mut self.reader, &mut line)?;
            self.number += u64::from(length > 0);
            if length == 0 || record.len() + length > LINE_BYTES_MAX {
                let why = "a quote is opened and not closed".to_owned();
                return Ok(Some((number, Err(why))));
            }
            quoting.read(&line);
            record.append(&mut line);
        }
        Ok(Some((number, Ok(record))))
    }
}

/// Whether the end of a line lies within quotes. Only a quote at the begin of a field opens them.
#[derive(Default)]
struct Quoting {
    is_open: bool,
    is_within_field: bool,
    is_quoted: bool,
}

impl Quoting {
    fn read(&mut self, line: &[u8]) {
        for byte in line {
            match byte {
                b'"' if !self.is_within_field => {
                    *self = Self { is_open: true, is_within_field: true, is_quoted: true };
                }
                // Two of them are one quote, which closes and opens again.
                b'"' if self.is_quoted => self.is_open = !self.is_open,
                b',' if !self.is_open => *self = Self::default(),
                b'\r' | b'\n' if !self.is_open => {}
                _ => self.is_within_field = true,
            }
        }
    }
}

fn too_long() -> String {
    format!("it has more than {LINE_BYTES_MAX} bytes")
}

/// Reads a line, and keeps of one that is too long only its beginning. Returns its length.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<usize> {
    let mut length = 0;
    loop {
        let available = reader.fill_buf()?;
        let end = available.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(available.len(), |end| end + 1);
        if taken == 0 {
            return Ok(length);
        }
        let room = LINE_BYTES_MAX.saturating_sub(line.len());
        line.extend(available.iter().take(taken.min(room)));
        length += taken;
        reader.consume(taken);
        if end.is_some() {
            return Ok(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Format, LINE_BYTES_MAX, lines};

    fn read(text: &str, format: Format) -> Vec<(u64, Result<String, String>)> {
        let lines = lines(text.as_bytes(), format).unwrap();
        let told = |line: super::Line| {
            let device = line.device.map(|spec| {
                let parts = [spec.serial_number, spec.user_name, spec.password];
                let attributes = spec.attributes.unwrap_or_default();
                format!(
                    "{:?} {attributes:?} {:?}",
                    parts.map(Option::unwrap_or_default),
                    spec.enabled
                )
            });
            (line.number, device)
        };
        lines.map(|line| told(line.unwrap())).collect()
    }

    #[test]
    fn csv_of_the_replaced_product_and_of_spreadsheets_is_read() {
        let text = "\u{feff}SN,MQTT UserName,MQTT Password,attribute.site\r\n\
                    SN_1,user-1,\"pass,\"\"word\"\"\",7\r\n\
                    \r\n\
                    SN_2, user-2 ,secret,\r\n";
        let lines = read(text, Format::Csv);
        let first = r#"["SN_1", "user-1", "pass,\"word\""] {"site": "7"} None"#;
        let second = r#"["SN_2", "user-2", "secret"] {} None"#;
        assert_eq!(lines, [(2, Ok(first.to_owned())), (4, Ok(second.to_owned()))]);
    }

    #[test]
    fn a_bad_line_is_told_by_its_number_and_keeps_no_other_one_away() {
        let text = "sn,user_name,enabled\nSN_1,user-1,true\nSN_2,user-2\nSN_3,user-3,maybe\nSN_4,user-4,no\n";
        let lines = read(text, Format::Csv);
        assert_eq!(lines.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2, 3, 4, 5]);
        assert!(lines[1].1.as_ref().unwrap_err().contains("2 fields"));
        assert!(lines[2].1.as_ref().unwrap_err().contains("maybe"));
        assert!(lines[0].1.is_ok() && lines[3].1.is_ok());
        let long = format!("{{\"user_name\":\"{}\"}}", "x".repeat(LINE_BYTES_MAX));
        let text = format!(
            "{{\"serial_number\":\"SN_1\"}}\n{long}\n\nnot json\n{{\"pasword\":\"x\"}}\n{{\"serial_number\":\"SN_2\"}}"
        );
        let lines = read(&text, Format::JsonLines);
        assert_eq!(lines.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2, 4, 5, 6]);
        let good = lines.iter().map(|(_, device)| device.is_ok()).collect::<Vec<_>>();
        assert_eq!(good, [true, false, false, false, true]);
        assert!(lines[3].1.as_ref().unwrap_err().contains("pasword"));
    }

    #[test]
    fn a_quoted_field_may_go_over_lines_and_an_open_quote_takes_no_more_than_its_bound() {
        let lines = read("sn,user_name\nSN_1,\"a\nb\"\nSN_2,c\n", Format::Csv);
        assert_eq!(lines.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2, 4]);
        let open = format!("sn,user_name\nSN_1,\"a\n{}", "x\n".repeat(LINE_BYTES_MAX));
        let lines = read(&open, Format::Csv);
        assert!(lines[0].1.as_ref().unwrap_err().contains("quote"), "{:?}", lines[0]);
    }

    #[test]
    fn spaces_and_quotes_of_a_password_are_its_own() {
        let text = "sn,password\nSN_1,\" a \"\nSN_2,b\"c\nSN_3, d\n";
        let lines = read(text, Format::Csv);
        let passwords = [" a ", "b\"c", " d"];
        for (line, password) in lines.iter().zip(passwords) {
            assert!(line.1.as_ref().unwrap().contains(&format!("{password:?}")), "{line:?}");
        }
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn columns_that_no_device_has_are_refused_before_anything_is_read() {
        for (text, why) in [("SN,Colour\n", "\"Colour\""), ("SN,sn\n", "twice"), ("", "no columns")]
        {
            let Err(error) = lines(text.as_bytes(), Format::Csv) else { panic!("{text:?}") };
            assert!(error.to_string().contains(why), "{error}");
        }
        assert_eq!(Format::of_name("a/Devices.CSV"), Some(Format::Csv));
        assert_eq!(Format::of_name("devices.ndjson"), Some(Format::JsonLines));
        assert_eq!(Format::of_name("devices.xlsx"), None);
    }
}
