//! DER (X.690 §10) as OCSP responses and CRLs have it, read field by field: definite, shortest
//! lengths, and nothing left over. What was read are slices of what was given, so that signatures
//! are verified over the very bytes.

use der::asn1::{GeneralizedTime, UtcTime};
use der::{Decode, Header, Reader, Result, SliceReader, Tag, TagNumber};

/// Extensions of one object; real ones have at most ten.
const EXTENSIONS_MAX: usize = 64;

/// `[number]`, constructed: what is EXPLICIT, and IMPLICIT SEQUENCEs.
pub(crate) const fn constructed(number: TagNumber) -> Tag {
    Tag::ContextSpecific { constructed: true, number }
}

/// `[number]`, primitive: IMPLICIT values.
pub(crate) const fn primitive(number: TagNumber) -> Tag {
    Tag::ContextSpecific { constructed: false, number }
}

/// The fields that are left.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    reader: SliceReader<'a>,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self> {
        Ok(Self { reader: SliceReader::new(bytes)? })
    }

    /// The fields of a SEQUENCE that is all of `bytes`.
    pub(crate) fn of(bytes: &'a [u8]) -> Result<Self> {
        let mut outer = Self::new(bytes)?;
        let fields = outer.sequence()?;
        outer.end()?;
        Ok(fields)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.reader.is_finished()
    }

    /// Nothing may be left.
    pub(crate) fn end(self) -> Result<()> {
        self.reader.finish(())
    }

    pub(crate) fn next_is(&self, tag: Tag) -> bool {
        self.reader.peek_byte() == Some(tag.octet())
    }

    /// The content of the next field, which has this tag.
    pub(crate) fn value(&mut self, tag: Tag) -> Result<&'a [u8]> {
        let header = Header::decode(&mut self.reader)?;
        header.tag.assert_eq(tag)?;
        self.reader.read_slice(header.length)
    }

    /// The next field, whatever it is.
    pub(crate) fn any(&mut self) -> Result<(Tag, &'a [u8])> {
        let header = Header::decode(&mut self.reader)?;
        Ok((header.tag, self.reader.read_slice(header.length)?))
    }

    /// The next field with its tag and length.
    pub(crate) fn whole(&mut self, tag: Tag) -> Result<&'a [u8]> {
        self.reader.peek_tag()?.assert_eq(tag)?;
        self.reader.tlv_bytes()
    }

    pub(crate) fn optional(&mut self, tag: Tag) -> Result<Option<&'a [u8]>> {
        if self.next_is(tag) { self.value(tag).map(Some) } else { Ok(None) }
    }

    pub(crate) fn sequence(&mut self) -> Result<Self> {
        Self::new(self.value(Tag::Sequence)?)
    }

    /// The content of an INTEGER, whose encoding is the shortest one.
    pub(crate) fn integer(&mut self) -> Result<&'a [u8]> {
        let content = self.value(Tag::Integer)?;
        match content {
            [] | [0, 0..=0x7f, ..] | [0xff, 0x80..=0xff, ..] => Err(Tag::Integer.value_error()),
            _ => Ok(content),
        }
    }

    /// The content of a BIT STRING of whole bytes: keys and signatures.
    pub(crate) fn bits(&mut self) -> Result<&'a [u8]> {
        match self.value(Tag::BitString)? {
            [0, bits @ ..] => Ok(bits),
            _ => Err(Tag::BitString.value_error()),
        }
    }

    /// An ENUMERATED of one byte.
    pub(crate) fn enumerated(&mut self) -> Result<u8> {
        match self.value(Tag::Enumerated)? {
            [code @ 0..=0x7f] => Ok(*code),
            _ => Err(Tag::Enumerated.value_error()),
        }
    }

    /// A GeneralizedTime in seconds since the Unix epoch.
    pub(crate) fn generalized_time(&mut self) -> Result<i64> {
        let time = GeneralizedTime::from_der(self.whole(Tag::GeneralizedTime)?)?;
        seconds(time.to_unix_duration())
    }

    /// A `Time` (RFC 5280 §4.1.2.5) in seconds since the Unix epoch.
    pub(crate) fn time(&mut self) -> Result<i64> {
        if self.next_is(Tag::UtcTime) {
            let time = UtcTime::from_der(self.whole(Tag::UtcTime)?)?;
            return seconds(time.to_unix_duration());
        }
        self.generalized_time()
    }

    /// The next field, which is `Extensions`. A second extension of a kind is refused: one reader
    /// would look at the first, another at the last.
    pub(crate) fn extensions(&mut self) -> Result<Vec<Extension<'a>>> {
        let mut list = self.sequence()?;
        let mut extensions: Vec<Extension<'a>> = Vec::new();
        while !list.is_empty() {
            let mut fields = list.sequence()?;
            let id = fields.value(Tag::ObjectIdentifier)?;
            // FALSE is the default and should be left out; OpenSSL and webpki accept it.
            let critical = fields.optional(Tag::Boolean)?;
            let is_critical = critical.map_or(Ok(false), boolean)?;
            let value = fields.value(Tag::OctetString)?;
            fields.end()?;
            if extensions.len() >= EXTENSIONS_MAX || extensions.iter().any(|known| known.id == id) {
                return Err(Tag::Sequence.value_error());
            }
            extensions.push(Extension { id, is_critical, value });
        }
        Ok(extensions)
    }
}

/// The content of a BOOLEAN.
pub(crate) fn boolean(content: &[u8]) -> Result<bool> {
    match content {
        [0] => Ok(false),
        [0xff] => Ok(true),
        _ => Err(Tag::Boolean.value_error()),
    }
}

fn seconds(since_epoch: std::time::Duration) -> Result<i64> {
    i64::try_from(since_epoch.as_secs()).map_err(|_| Tag::GeneralizedTime.value_error())
}

/// An extension (RFC 5280 §4.1.2.9).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extension<'a> {
    /// The content of its object identifier.
    pub(crate) id: &'a [u8],
    pub(crate) is_critical: bool,
    pub(crate) value: &'a [u8],
}

impl Extension<'_> {
    /// The object identifier with dots, as far as it has a usual size.
    pub(crate) fn name(&self) -> String {
        der::asn1::ObjectIdentifier::from_bytes(self.id)
            .map_or_else(|_| hex::encode(self.id), |id| id.to_string())
    }
}

/// A serial number without its sign and leading zero bytes, as [`crate::Certificate::serial`] is.
pub(crate) fn magnitude(integer: &[u8]) -> &[u8] {
    let leading = integer.iter().take_while(|byte| **byte == 0).count();
    integer.get(leading..).unwrap_or_default()
}

/// A field of DER. What is written here is short: lengths have at most two bytes.
pub(crate) fn field(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = Vec::with_capacity(length.saturating_add(4));
    bytes.push(tag);
    match u8::try_from(length) {
        Ok(short @ 0..=0x7f) => bytes.push(short),
        Ok(byte) => bytes.extend([0x81, byte]),
        Err(_) => {
            let [.., high, low] = length.to_be_bytes();
            bytes.extend([0x82, high, low]);
        }
    }
    for part in parts {
        bytes.extend_from_slice(part);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_definite_and_the_shortest() {
        assert!(Fields::of(&[0x30, 0x03, 2, 1, 5]).is_ok());
        assert!(Fields::of(&[0x30, 0x81, 0x03, 2, 1, 5]).is_err(), "a longer length");
        assert!(Fields::of(&[0x30, 0x80, 2, 1, 5, 0, 0]).is_err(), "an indefinite length");
        assert!(Fields::of(&[0x30, 0x03, 2, 1, 5, 0]).is_err(), "something follows");
    }

    #[test]
    fn integers_are_the_shortest() {
        let integer = |bytes: &[u8]| Fields::new(bytes).unwrap().integer().map(<[u8]>::to_vec);
        assert_eq!(integer(&[2, 2, 0, 0xf0]).unwrap(), [0, 0xf0]);
        assert_eq!(integer(&[2, 1, 0]).unwrap(), [0]);
        assert!(integer(&[2, 2, 0, 0x70]).is_err());
        assert!(integer(&[2, 0]).is_err());
    }
}
