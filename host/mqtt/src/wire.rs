//! The data representations of §1.5: integers, variable byte integers, strings, binary data.

use crate::{DecodeError, EncodeError, REMAINING_LENGTH_MAX};

type Result<T> = core::result::Result<T, DecodeError>;

/// Reads one packet's bytes from the front. Never reads past its slice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

const TRUNCATED: DecodeError =
    DecodeError::malformed("a field reaches beyond the end of the packet", "1.5");

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    pub(crate) fn take(&mut self, bytes: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// A variable byte integer in its shortest form [MQTT-1.5.5-1].
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u32> {
        match varint(self.rest)? {
            Some(Varint { minimal: false, .. }) => Err(DecodeError::malformed(
                "a variable byte integer is not in its shortest form",
                "MQTT-1.5.5-1",
            )),
            Some(Varint { value, bytes, .. }) => {
                self.take(bytes)?;
                Ok(value)
            }
            None => Err(TRUNCATED),
        }
    }

    /// Binary data: two bytes of length, then that many bytes (§1.5.6).
    #[inline]
    pub(crate) fn binary(&mut self) -> Result<&'a [u8]> {
        let bytes = usize::from(self.u16()?);
        self.take(bytes)
    }

    /// A UTF-8 encoded string without U+0000 [MQTT-1.5.4-1, MQTT-1.5.4-2].
    #[inline]
    pub(crate) fn string(&mut self) -> Result<&'a str> {
        let bytes = self.binary()?;
        let text = core::str::from_utf8(bytes).map_err(|_| {
            DecodeError::malformed("a string is not well-formed UTF-8", "MQTT-1.5.4-1")
        })?;
        if bytes.contains(&0) {
            return Err(DecodeError::malformed("a string holds U+0000", "MQTT-1.5.4-2"));
        }
        Ok(text)
    }

    /// A packet identifier, which is never 0 [MQTT-2.2.1-3].
    #[inline]
    pub(crate) fn packet_id(&mut self) -> Result<core::num::NonZeroU16> {
        core::num::NonZeroU16::new(self.u16()?)
            .ok_or(DecodeError::protocol("packet identifier is 0", "MQTT-2.2.1-3"))
    }

    pub(crate) fn end(&self) -> Result<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::malformed("bytes follow the end of the packet's content", "2.1.4"))
        }
    }
}

/// A variable byte integer as it stood in the bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Varint {
    pub(crate) value: u32,
    pub(crate) bytes: usize,
    pub(crate) minimal: bool,
}

/// Reads a variable byte integer (§1.5.5); `None` when `input` ends within it.
#[inline]
pub(crate) fn varint(input: &[u8]) -> Result<Option<Varint>> {
    let mut value = 0;
    for (index, &byte) in input.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let minimal = index == 0 || byte != 0;
            return Ok(Some(Varint { value, bytes: index + 1, minimal }));
        }
    }
    if input.len() < 4 {
        return Ok(None);
    }
    Err(DecodeError::malformed("a variable byte integer is longer than four bytes", "1.5.5"))
}

/// Bytes that `value` takes as a variable byte integer.
#[inline]
pub(crate) const fn varint_bytes(value: usize) -> usize {
    match value {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    }
}

/// Appends a variable byte integer. `value` is at most [`REMAINING_LENGTH_MAX`].
#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, value: usize) {
    let mut rest = value;
    loop {
        let byte = (rest & 0x7f).to_le_bytes()[0];
        rest >>= 7;
        if rest == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

/// Appends the fixed header and makes room for the rest.
#[inline]
pub(crate) fn put_header(
    out: &mut Vec<u8>,
    first_byte: u8,
    remaining_length: usize,
) -> core::result::Result<(), EncodeError> {
    if remaining_length > REMAINING_LENGTH_MAX {
        return Err(EncodeError::PacketTooLong { bytes: remaining_length });
    }
    out.reserve(remaining_length + 5);
    out.push(first_byte);
    put_varint(out, remaining_length);
    Ok(())
}

/// The length of a field as its two-byte prefix.
#[inline]
pub(crate) fn field_length(bytes: &[u8]) -> core::result::Result<u16, EncodeError> {
    u16::try_from(bytes.len()).map_err(|_| EncodeError::FieldTooLong { bytes: bytes.len() })
}

/// Appends binary data or a string with its two bytes of length.
#[inline]
pub(crate) fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) -> core::result::Result<(), EncodeError> {
    out.extend_from_slice(&field_length(bytes)?.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

/// Runs `write` and takes back what it wrote if it fails, so that an error leaves `out` as it was.
#[inline]
pub(crate) fn all_or_nothing(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> core::result::Result<(), EncodeError>,
) -> core::result::Result<(), EncodeError> {
    let before = out.len();
    let result = write(out);
    if result.is_err() {
        out.truncate(before);
    }
    result
}
