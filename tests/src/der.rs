//! DER as far as the tests write and read it themselves, so that what judges the gateway is not what it is made of.

use std::time::{SystemTime, UNIX_EPOCH};

/// SEQUENCE.
pub const SEQUENCE: u8 = 0x30;
/// SET.
pub const SET: u8 = 0x31;
/// INTEGER.
pub const INTEGER: u8 = 0x02;
/// BIT STRING.
pub const BIT_STRING: u8 = 0x03;
/// OCTET STRING.
pub const OCTET_STRING: u8 = 0x04;
/// OBJECT IDENTIFIER.
pub const OID: u8 = 0x06;
/// ENUMERATED.
pub const ENUMERATED: u8 = 0x0a;
/// `GeneralizedTime`.
pub const GENERALIZED_TIME: u8 = 0x18;

/// One value: tag, length, content.
#[must_use]
pub fn tlv(tag: u8, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    let mut bytes = vec![tag];
    if content.len() < 0x80 {
        bytes.push(u8::try_from(content.len()).expect("seven bits"));
    } else {
        let length = content.len().to_be_bytes();
        let skipped = length.iter().take_while(|byte| **byte == 0).count();
        bytes.push(0x80 | u8::try_from(length.len() - skipped).expect("at most eight"));
        bytes.extend(&length[skipped..]);
    }
    bytes.extend(content);
    bytes
}

/// A value of several parts.
#[must_use]
pub fn constructed(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(tag, parts.concat())
}

/// A SEQUENCE of these parts.
#[must_use]
pub fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    constructed(SEQUENCE, parts)
}

/// A BIT STRING of whole bytes.
#[must_use]
pub fn bit_string(bytes: &[u8]) -> Vec<u8> {
    tlv(BIT_STRING, [&[0], bytes].concat())
}

/// An object identifier as people write it.
#[must_use]
pub fn oid(text: &str) -> Vec<u8> {
    let numbers: Vec<u64> = text.split('.').map(|part| part.parse().expect("a number")).collect();
    let mut content = Vec::new();
    for number in std::iter::once(numbers[0] * 40 + numbers[1]).chain(numbers[2..].iter().copied())
    {
        let mut septets = vec![u8::try_from(number & 0x7f).expect("seven bits")];
        let mut rest = number >> 7;
        while rest > 0 {
            septets.push(0x80 | u8::try_from(rest & 0x7f).expect("seven bits"));
            rest >>= 7;
        }
        content.extend(septets.iter().rev());
    }
    tlv(OID, content)
}

/// An extension (RFC 5280 §4.2) with this value.
#[must_use]
pub fn extension(id: &str, is_critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if is_critical { vec![0x01, 0x01, 0xff] } else { Vec::new() };
    sequence(&[oid(id), critical, tlv(OCTET_STRING, value)])
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    i64::try_from(elapsed.as_secs()).expect("it is long before the end of time")
}

/// `YYYYMMDDHHMMSSZ` of these seconds since 1970.
#[must_use]
pub fn time_text(seconds: i64) -> String {
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days to a civil date, counted from 1 March of year 0 in eras of 400 years.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}Z")
}

/// A `GeneralizedTime` of these seconds since 1970.
#[must_use]
pub fn time(seconds: i64) -> Vec<u8> {
    tlv(GENERALIZED_TIME, time_text(seconds))
}

/// One value as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value<'a> {
    /// Its tag.
    pub tag: u8,
    /// What is in it.
    pub content: &'a [u8],
    /// Tag, length and content.
    pub whole: &'a [u8],
}

impl<'a> Value<'a> {
    /// The first value in these bytes, and the rest of them.
    #[must_use]
    pub fn first(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&tag, &short) = (bytes.first()?, bytes.get(1)?);
        let (length, head) = if short < 0x80 {
            (usize::from(short), 2)
        } else {
            let count = usize::from(short & 0x7f);
            let length = bytes.get(2..2 + count)?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), 2 + count)
        };
        let whole = bytes.get(..head.checked_add(length)?)?;
        Some((Self { tag, content: &whole[head..], whole }, &bytes[whole.len()..]))
    }

    /// The values that this one is made of.
    #[must_use]
    pub fn parts(&self) -> Vec<Self> {
        let (mut parts, mut rest) = (Vec::new(), self.content);
        while let Some((part, more)) = Value::first(rest) {
            parts.push(part);
            rest = more;
        }
        parts
    }

    /// The value at this place, one index for each level.
    #[must_use]
    pub fn at(&self, path: &[usize]) -> Option<Self> {
        path.iter().try_fold(*self, |value, index| value.parts().get(*index).copied())
    }
}

/// The bytes of base64 text, padded or not.
#[must_use]
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for letter in text.bytes().filter(|letter| !letter.is_ascii_whitespace()) {
        let six = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => continue,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).expect("eight bits"));
        }
    }
    Some(bytes)
}

/// The DER in a PEM text.
#[must_use]
pub fn from_pem(text: &str) -> Vec<u8> {
    let body = text.split("-----BEGIN ").nth(1).and_then(|rest| rest.split_once("-----\n"));
    let body = body.and_then(|(_, rest)| rest.split("-----END").next()).expect("it is PEM");
    from_base64(body).expect("it is base64")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_the_standard_shows() {
        assert_eq!(hex::encode(oid("1.3.6.1.5.5.7.48.1.2")), "06092b0601050507300102");
        assert_eq!(time_text(0), "19700101000000Z");
        assert_eq!(time_text(1_709_251_199), "20240229235959Z");
        assert_eq!(tlv(OCTET_STRING, [0; 200])[..3], [4, 0x81, 200]);
        assert_eq!(from_base64("aGFsbG8=").unwrap(), b"hallo");
        let bytes = sequence(&[oid("1.2.3"), sequence(&[tlv(INTEGER, [7])])]);
        let (value, rest) = Value::first(&bytes).unwrap();
        assert!(rest.is_empty());
        assert_eq!(value.at(&[1, 0]).unwrap().content, [7]);
    }
}
