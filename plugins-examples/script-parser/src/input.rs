//! What a message of a LoRaWAN device holds: the frame's bytes, its port, its time. The message is
//! the frame itself, or JSON as network servers write it.

use portreeve_guest::{Context, Message, settings};
use portreeve_script::{Encoding, Script, ScriptError, choice, json_pointer};
use serde_json::Value;

/// `input` and what goes with it.
#[derive(Debug)]
pub(crate) struct Input {
    is_json: bool,
    encoding: Encoding,
    payload: String,
    f_port: String,
    time: String,
    f_port_default: u32,
    f_port_level: Option<usize>,
}

/// What a script decodes.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
    pub(crate) f_port: u32,
    /// Milliseconds since the Unix epoch.
    pub(crate) received_at: u64,
    /// The message that it was taken from.
    pub(crate) envelope: Option<Value>,
}

impl Input {
    /// `pointers` are those of payload, port and time in the JSON of the platform.
    pub(crate) fn from_settings(pointers: [&str; 3]) -> Result<Self, ScriptError> {
        let [payload, f_port, time] = pointers;
        let pointer = |key: &str, default: &str| {
            json_pointer(key).map(|given| given.unwrap_or_else(|| default.to_owned()))
        };
        let number = |key: &str| {
            settings::parse_or::<u32>(key, 0)
                .map_err(|error| ScriptError::of_settings(error.to_string()))
        };
        let level = number("f_port_level")?;
        Ok(Self {
            is_json: choice("input", &[("raw", false), ("json", true)])?,
            encoding: choice(
                "payload_encoding",
                &[("base64", Encoding::Base64), ("hex", Encoding::Hex)],
            )?,
            payload: pointer("payload_pointer", payload)?,
            f_port: pointer("f_port_pointer", f_port)?,
            time: pointer("time_pointer", time)?,
            f_port_default: if settings::get("f_port").is_some() { number("f_port")? } else { 1 },
            f_port_level: usize::try_from(level).ok().and_then(|level| level.checked_sub(1)),
        })
    }

    pub(crate) fn payload_pointer(&self) -> &str {
        &self.payload
    }

    /// The port that a topic names, or else the one of the settings.
    pub(crate) fn f_port_of(&self, topic: &str) -> u32 {
        let level = self.f_port_level.and_then(|level| topic.split('/').nth(level));
        level.and_then(|level| level.parse().ok()).unwrap_or(self.f_port_default)
    }

    pub(crate) fn frame(
        &self,
        context: &Context,
        message: &mut Message,
        script: &Script,
    ) -> Result<Frame, ScriptError> {
        let f_port = self.f_port_of(&message.topic);
        if !self.is_json {
            let bytes = std::mem::take(&mut message.payload);
            return Ok(Frame { bytes, f_port, received_at: context.received_at, envelope: None });
        }
        let wrong = |text: String| ScriptError::of_result(script, text);
        let envelope: Value = serde_json::from_slice(&message.payload)
            .map_err(|error| wrong(format!("the message is no JSON: {error}")))?;
        let payload = match envelope.pointer(&self.payload) {
            Some(Value::String(text)) => text.as_str(),
            // An uplink without a payload is an empty frame.
            None | Some(Value::Null) if self.has_port(&envelope) => "",
            _ => return Err(wrong(format!("the message has no text at {}", self.payload))),
        };
        let bytes = self
            .encoding
            .decode(payload)
            .map_err(|error| wrong(format!("{} is {error}", self.payload)))?;
        let given = envelope.pointer(&self.f_port).and_then(Value::as_u64);
        let time = envelope.pointer(&self.time).and_then(Value::as_str).and_then(milliseconds);
        Ok(Frame {
            bytes,
            f_port: given.and_then(|port| u32::try_from(port).ok()).unwrap_or(f_port),
            received_at: time.unwrap_or(context.received_at),
            envelope: Some(envelope),
        })
    }

    fn has_port(&self, envelope: &Value) -> bool {
        envelope.pointer(&self.f_port).is_some()
    }
}

/// Milliseconds since the Unix epoch of an RFC 3339 time.
fn milliseconds(text: &str) -> Option<u64> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let zone = rest.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = rest.split_at(zone);
    let mut date = date.split('-').map(str::parse::<i64>);
    let mut next = || date.next()?.ok();
    let (year, month, day) = (next()?, next()?, next()?);
    let mut time = time.split(':').map(str::parse::<f64>);
    let mut next = || time.next()?.ok();
    let (hour, minute, second) = (next()?, next()?, next()?);
    // Days since the epoch of the proleptic Gregorian calendar, with years that begin in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day
            - 1
            - 719_468;
    let mut zone_minutes = 0.0;
    if let Some((hours, minutes)) = zone.get(1..).and_then(|zone| zone.split_once(':')) {
        let sign = if zone.starts_with('-') { -1.0 } else { 1.0 };
        zone_minutes = sign * (hours.parse::<f64>().ok()? * 60.0 + minutes.parse::<f64>().ok()?);
    }
    #[expect(clippy::cast_precision_loss, reason = "days of a calendar are few")]
    let days = days as f64;
    let seconds = days * 86_400.0 + hour * 3_600.0 + (minute - zone_minutes) * 60.0 + second;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    Some((seconds * 1_000.0).max(0.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::milliseconds;

    #[test]
    fn times_of_network_servers_are_read() {
        assert_eq!(milliseconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(milliseconds("2024-02-29T12:34:56.789Z"), Some(1_709_210_096_789));
        assert_eq!(milliseconds("2024-02-29T13:34:56.789123456+01:00"), Some(1_709_210_096_789));
        assert_eq!(milliseconds("2000-03-01T00:00:00-00:30"), Some(951_870_600_000));
        assert_eq!(milliseconds("yesterday"), None);
    }
}
