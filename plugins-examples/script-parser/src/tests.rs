//! What presets do, with the scripts that are shipped as examples.

mod hostile;

use portreeve_guest::testing::{context, message, replaced, settings};
use portreeve_guest::{Direction, Message, Outcome, PayloadFormat};
use portreeve_script::{Fault, ScriptError};

use crate::parser::ScriptParser;

pub(crate) const ALIBABA: &str = include_str!("../scripts/alibaba.js");
const TTS: &str = include_str!("../scripts/tts.js");

/// A parser with these settings.
pub(crate) fn parser(preset: &str, script: &str, more: &[(&str, &str)]) -> ScriptParser {
    load(preset, script, more).unwrap()
}

fn load(preset: &str, script: &str, more: &[(&str, &str)]) -> Result<ScriptParser, ScriptError> {
    let own = [("preset", preset), ("script", script), ("script_name", "a.js")];
    settings(own.into_iter().chain(more.iter().copied()));
    ScriptParser::from_settings()
}

pub(crate) fn up(
    parser: &mut ScriptParser,
    topic: &str,
    payload: &[u8],
) -> Result<Outcome, ScriptError> {
    parser.parse(&context(Direction::Up), message(topic, payload))
}

fn down(parser: &mut ScriptParser, topic: &str, payload: &[u8]) -> Result<Outcome, ScriptError> {
    parser.parse(&context(Direction::Down), message(topic, payload))
}

fn only(outcome: Outcome) -> Message {
    let Outcome::Replace(messages) = outcome else { panic!("{outcome:?}") };
    let [message] = <[Message; 1]>::try_from(messages).unwrap();
    message
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

const REPORT: &str = "00002233441232013fa00000";
const REPORT_JSON: &str = r#"{"method":"thing.event.property.post","version":"1.0","id":"2241348","params":{"prop_int16":4658,"prop_bool":1,"prop_float":1.25}}"#;

#[test]
fn alibaba_the_golden_vectors_both_ways() {
    let mut parser = parser("alibaba", ALIBABA, &[]);
    let reply = only(up(&mut parser, "/sys/p/d/thing/model/up_raw", &hex(REPORT)).unwrap());
    assert_eq!(String::from_utf8(reply.payload).unwrap(), REPORT_JSON);
    assert_eq!(reply.payload_format, Some(PayloadFormat::Utf8));
    assert_eq!(reply.content_type.as_deref(), Some("application/json"));
    let set = br#"{"method":"thing.service.property.set","id":"12345","version":"1.0","params":{"prop_float":123.452,"prop_int16":333,"prop_bool":1}}"#;
    let reply = only(down(&mut parser, "t", set).unwrap());
    assert_eq!(reply.payload, hex("0100003039014d0142f6e76d"));
    assert_eq!(reply.content_type, None);
}

#[test]
fn alibaba_a_marked_topic_is_parsed_and_loses_its_mark() {
    let mut parser = parser("alibaba", ALIBABA, &[]);
    let outcome = up(&mut parser, "/p/d/user/raw?_sn=default", &hex(REPORT)).unwrap();
    assert_eq!(replaced(&outcome), [("/p/d/user/raw", REPORT_JSON.to_owned())]);
    let outcome = up(&mut parser, "/p/d/user/other?_sn=default", &[1, 255]).unwrap();
    let json = r#"{"topic":"/p/d/user/other","hex":"01ff"}"#.to_owned();
    assert_eq!(replaced(&outcome), [("/p/d/user/other", json)]);
    for topic in ["/p/d/user/raw", "/p/d/user/raw?_sn=other", "/p/d/user/raw?_sn=default/x"] {
        assert_eq!(up(&mut parser, topic, &hex(REPORT)).unwrap(), Outcome::Pass, "{topic}");
    }
}

#[test]
fn alibaba_all_messages_are_parsed_where_the_settings_say_so() {
    let more = [("only_marked", "false"), ("topic_up", "out/${device_name}/${product}")];
    let mut parser = parser("alibaba", ALIBABA, &more);
    let outcome = up(&mut parser, "x/raw", &hex(REPORT)).unwrap();
    assert_eq!(replaced(&outcome), [("out/device-1/test", REPORT_JSON.to_owned())]);
}

#[test]
fn a_script_that_throws_refuses_the_payload_with_its_position() {
    let mut parser = parser("alibaba", ALIBABA, &[]);
    let error = up(&mut parser, "a/raw?_sn=default", &[9]).unwrap_err();
    assert_eq!(error.to_string(), "a.js:11:59: Error: unknown frame 0x9");
    assert_eq!(error.fault, Fault::Thrown);
    let error = up(&mut parser, "a/raw?_sn=default", &[0, 1]).unwrap_err();
    assert!(error.to_string().starts_with("a.js:16:"), "{error}");
    // A payload that is no JSON, or another JSON.
    for payload in [&b"{"[..], b"\xff", b"{}", b"null", b""] {
        let error = down(&mut parser, "t", payload).unwrap_err();
        assert!(matches!(error.fault, Fault::Thrown | Fault::Result), "{error}");
    }
}

#[test]
fn tts_uplinks_raw_and_within_json() {
    let mut raw = parser("tts", TTS, &[("topic_up", "${parent}/up/${f_port}")]);
    let outcome = up(&mut raw, "devices/d", &[0x08, 0x66, 91]).unwrap();
    let json = r#"{"temperature":21.5,"humidity":45.5}"#;
    assert_eq!(replaced(&outcome), [("devices/up/1", json.to_owned())]);
    let error = up(&mut raw, "devices/d", &[1]).unwrap_err();
    assert_eq!(error.to_string(), "a.js: a frame has 3 bytes, this has 1");

    let uplink = br#"{"end_device_ids":{"device_id":"d"},"uplink_message":{"f_port":1,"frm_payload":"CGZb"}}"#;
    let mut of_json = parser("tts", TTS, &[("input", "json")]);
    let outcome = up(&mut of_json, "t", uplink).unwrap();
    assert_eq!(replaced(&outcome), [("t", json.to_owned())]);
    let mut whole = parser("tts", TTS, &[("input", "json"), ("output", "message")]);
    let outcome = up(&mut whole, "t", uplink).unwrap();
    let wanted = r#"{"end_device_ids":{"device_id":"d"},"uplink_message":{"f_port":1,"frm_payload":"CGZb","decoded_payload":{"temperature":21.5,"humidity":45.5},"normalized_payload":{"air":{"temperature":21.5,"relativeHumidity":45.5}}}}"#;
    assert_eq!(replaced(&outcome), [("t", wanted.to_owned())]);
    for wrong in [
        "{}",
        "x",
        r#"{"uplink_message":{"frm_payload":"%"}}"#,
        r#"{"uplink_message":{"frm_payload":1}}"#,
    ] {
        assert_eq!(up(&mut of_json, "t", wrong.as_bytes()).unwrap_err().fault, Fault::Result);
    }
}

#[test]
fn tts_the_port_comes_from_the_topic_or_the_settings() {
    let script = "function decodeUplink(input) { return { data: { port: input.fPort } }; }";
    let port = |more: &[(&str, &str)], topic: &str| {
        let mut parser = parser("tts", script, more);
        replaced(&up(&mut parser, topic, &[1]).unwrap())[0].1.clone()
    };
    assert_eq!(port(&[], "a/7"), r#"{"port":1}"#);
    assert_eq!(port(&[("f_port", "9")], "a/7"), r#"{"port":9}"#);
    assert_eq!(port(&[("f_port_level", "2")], "a/7"), r#"{"port":7}"#);
    assert_eq!(port(&[("f_port_level", "2"), ("f_port", "9")], "a/x"), r#"{"port":9}"#);
}

#[test]
fn tts_warnings_become_user_properties_and_the_time_is_a_date() {
    let mut parser = parser("tts", TTS, &[("warnings_property", "warning")]);
    let message = only(up(&mut parser, "t", &[0, 0, 250]).unwrap());
    assert_eq!(
        message.user_properties,
        [("warning".to_owned(), "humidity beyond 100 %".to_owned())]
    );
    let script = "function decodeUplink(i) { return { data: { at: i.recvTime.toISOString() } }; }";
    let mut parser = self::parser("tts", script, &[]);
    let outcome = up(&mut parser, "t", &[]).unwrap();
    assert_eq!(replaced(&outcome)[0].1, r#"{"at":"1970-01-01T00:00:00.000Z"}"#);
}

#[test]
fn tts_downlinks_are_encoded_and_decoded() {
    let topic = ("topic_down", "down/${f_port}");
    let mut parser = parser("tts", TTS, &[topic]);
    let message = only(down(&mut parser, "t", br#"{"interval":600}"#).unwrap());
    assert_eq!((message.topic.as_str(), message.payload.as_slice()), ("down/2", &[2, 88][..]));
    let mut parser =
        self::parser("tts", TTS, &[("output_down", "json"), ("data_pointer", "/decoded_payload")]);
    let outcome = down(&mut parser, "t", br#"{"decoded_payload":{"interval":600}}"#).unwrap();
    assert_eq!(replaced(&outcome)[0].1, r#"{"f_port":2,"frm_payload":"Alg="}"#);
    let mut parser = self::parser("tts", TTS, &[("down", "decode")]);
    let outcome = down(&mut parser, "t", &[2, 88]).unwrap();
    assert_eq!(replaced(&outcome)[0].1, r#"{"interval":600}"#);
}

#[test]
fn tts_functions_of_version_2() {
    let script =
        "function Decoder(bytes, port) { return { sum: bytes[0] + bytes[1], port: port }; }
        function Encoder(object, port) { return [object.led ? 1 : 0, port]; }";
    let mut parser = parser("tts", script, &[("f_port", "3")]);
    assert_eq!(replaced(&up(&mut parser, "t", &[1, 2]).unwrap())[0].1, r#"{"sum":3,"port":3}"#);
    assert_eq!(only(down(&mut parser, "t", br#"{"led":true}"#).unwrap()).payload, [1, 3]);
}

#[test]
fn chirpstack_codecs_of_versions_4_and_3() {
    let mut context = context(Direction::Up);
    context.device.attributes.push(("pulses_per_unit".to_owned(), "10".to_owned()));
    let frame = [0, 0, 1, 44, 36];
    let mut v4 = parser("chirpstack-v4", include_str!("../scripts/chirpstack-v4.js"), &[]);
    let outcome = v4.parse(&context, message("t", frame)).unwrap();
    assert_eq!(replaced(&outcome)[0].1, r#"{"volume":30,"battery":3.6}"#);
    assert_eq!(only(down(&mut v4, "t", br#"{"reset":true}"#).unwrap()).payload, [1]);
    let more = [("input", "json"), ("variable.pulses_per_unit", "100"), ("output", "message")];
    let mut v4 = parser("chirpstack-v4", include_str!("../scripts/chirpstack-v4.js"), &more);
    let event = br#"{"deviceInfo":{},"fPort":2,"data":"AAABLCQ="}"#;
    let outcome = up(&mut v4, "t", event).unwrap();
    let wanted =
        r#"{"deviceInfo":{},"fPort":2,"data":"AAABLCQ=","object":{"volume":3,"battery":3.6}}"#;
    assert_eq!(replaced(&outcome)[0].1, wanted);

    let mut v3 =
        parser("chirpstack-v3", include_str!("../scripts/chirpstack-v3.js"), &[("f_port", "5")]);
    let outcome = v3.parse(&context, message("t", frame)).unwrap();
    assert_eq!(replaced(&outcome)[0].1, r#"{"volume":30,"battery":3.6,"port":5}"#);
    assert_eq!(only(down(&mut v3, "t", br#"{"reset":false}"#).unwrap()).payload, [0]);
}

#[test]
fn thingsboard_a_body_a_function_and_an_encoder() {
    let mut body = parser("thingsboard", include_str!("../scripts/thingsboard.js"), &[]);
    let outcome = up(&mut body, "t", r#"{"fw":"1.2 ä","t":215}"#.as_bytes()).unwrap();
    let wanted = r#"{"deviceName":"device-1","deviceType":"test","attributes":{"firmware":"1.2 ä"},"telemetry":{"ts":0,"values":{"temperature":21.5}}}"#;
    assert_eq!(replaced(&outcome)[0].1, wanted);
    let error = up(&mut body, "t", b"{").unwrap_err();
    assert_eq!(error.position.map(|position| position.line), Some(2), "{error}");

    let script = "function Decoder(payload, metadata) { return [{ hex: bytesToHex(payload), k: metadata.k }]; }
        function Encoder(msg, metadata, msgType, integrationMetadata) {
            return { contentType: msg.as, data: msg.data, metadata: {} };
        }";
    let mut parser = parser("thingsboard", script, &[("metadata.k", "v")]);
    assert_eq!(
        replaced(&up(&mut parser, "t", &[0, 255]).unwrap())[0].1,
        r#"[{"hex":"00ff","k":"v"}]"#
    );
    for (answer, payload) in [
        (r#"{"as":"BINARY","data":"AQI="}"#, &b"\x01\x02"[..]),
        (r#"{"as":"TEXT","data":"on"}"#, b"on"),
        (r#"{"as":"JSON","data":"{\"a\":1}"}"#, br#"{"a":1}"#),
        (r#"{"as":"JSON","data":{"a":1}}"#, br#"{"a":1}"#),
    ] {
        assert_eq!(only(down(&mut parser, "t", answer.as_bytes()).unwrap()).payload, payload);
    }
    assert!(down(&mut parser, "t", br#"{"as":"BINARY","data":"%"}"#).is_err());
}

#[test]
fn a_script_that_cannot_be_used_says_why_and_where() {
    let error = |preset: &str, script: &str| load(preset, script, &[]).unwrap_err();
    let syntax = error("tts", "function decodeUplink(input) {\n  return { data: };\n}");
    assert_eq!((syntax.fault, syntax.position.unwrap().line), (Fault::Syntax, 2), "{syntax}");
    let missing = error("tts", "function decode() {}");
    assert!(missing.to_string().contains("no function `decodeUplink`"), "{missing}");
    let thrown = error("tts", "\nthrow new Error('no');");
    assert_eq!(thrown.to_string(), "a.js:2:11: Error: no");
    let long = error("tts", &"/".repeat(256 * 1024 + 1));
    assert!(long.to_string().contains("262144"), "{long}");
    assert!(load("tts", TTS, &[("topic_up", "${nothing}")]).is_err());
    assert!(load("tts", TTS, &[("input", "xml")]).is_err());
    assert!(load("tts", TTS, &[("script_memory", "1KiB")]).is_err());
    assert!(load("nobody", TTS, &[]).is_err());
}

#[test]
fn a_script_that_returns_nothing() {
    let script = "function rawDataToProtocol() {}";
    let outcome = |setting: &str| {
        let more = [("only_marked", "false"), ("on_nothing", setting)];
        up(&mut parser("alibaba", script, &more), "t", &[])
    };
    assert_eq!(outcome("reject").unwrap_err().to_string(), "a.js: it returned nothing");
    assert_eq!(outcome("drop").unwrap(), Outcome::Drop);
    assert_eq!(outcome("pass").unwrap(), Outcome::Replace(vec![message("t", [])]));
}
