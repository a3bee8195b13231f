//! Up, a frame of six bytes becomes JSON: temperature (i16, 0.01 °C), humidity (u16, 0.01 %),
//! battery (u16, mV), big-endian, published to `…/telemetry`. Down, `{"report_interval": 60}`
//! becomes two bytes (u16, seconds), published to `…/down`.

use portreeve_guest::{Context, Direction, Error, Message, Outcome, Parser, export_parser};
use serde::Deserialize;

struct SensorFrame;

#[derive(Deserialize)]
struct Command {
    report_interval: u16,
}

impl Parser for SensorFrame {
    fn parse(context: Context, message: Message) -> Result<Outcome, Error> {
        match context.direction {
            Direction::Up => {
                let [t0, t1, h0, h1, b0, b1] = message.payload[..] else {
                    let bytes = message.payload.len();
                    return Ok(Outcome::Reject(format!("a frame has 6 bytes, this has {bytes}")));
                };
                let temperature = f64::from(i16::from_be_bytes([t0, t1])) / 100.0;
                let humidity = f64::from(u16::from_be_bytes([h0, h1])) / 100.0;
                let battery = f64::from(u16::from_be_bytes([b0, b1])) / 1000.0;
                let json = format!(
                    r#"{{"temperature":{temperature},"humidity":{humidity},"battery":{battery}}}"#
                );
                let topic = message.sibling_topic("telemetry");
                Ok(message.with(topic, json).json().into())
            }
            Direction::Down => match serde_json::from_slice::<Command>(&message.payload) {
                Ok(command) => {
                    let topic = message.sibling_topic("down");
                    Ok(message.with(topic, command.report_interval.to_be_bytes()).into())
                }
                Err(error) => Ok(Outcome::Reject(error.to_string())),
            },
        }
    }
}

export_parser!(SensorFrame);

#[cfg(test)]
mod tests {
    use portreeve_guest::testing::{context, message, replaced};
    use portreeve_guest::{Direction, Outcome, Parser};

    use super::SensorFrame;

    fn parse(direction: Direction, topic: &str, payload: &[u8]) -> Outcome {
        SensorFrame::parse(context(direction), message(topic, payload)).unwrap()
    }

    #[test]
    fn a_frame_becomes_json() {
        let outcome = parse(Direction::Up, "devices/d/raw", b"\x08\x66\x11\xc6\x0c\xe4");
        let json = r#"{"temperature":21.5,"humidity":45.5,"battery":3.3}"#.to_owned();
        assert_eq!(replaced(&outcome), [("devices/d/telemetry", json)]);
        let frost = parse(Direction::Up, "raw", b"\xff\x38\x00\x00\x00\x00");
        assert!(replaced(&frost)[0].1.starts_with(r#"{"temperature":-2,"#));
    }

    #[test]
    fn a_frame_of_another_length_is_rejected() {
        assert!(matches!(parse(Direction::Up, "t", b"\x08\x66"), Outcome::Reject(_)));
    }

    #[test]
    fn a_command_becomes_two_bytes() {
        let outcome = parse(Direction::Down, "devices/d/set", br#"{"report_interval":60}"#);
        assert_eq!(replaced(&outcome), [("devices/d/down", "\0\x3c".to_owned())]);
        let too_much = parse(Direction::Down, "t", br#"{"report_interval":65536}"#);
        assert!(matches!(too_much, Outcome::Reject(_)));
    }
}
