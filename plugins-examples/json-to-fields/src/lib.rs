//! One JSON object in, one message for each of its fields out: `{"a":1,"b":true}` to `t` becomes
//! `1` to `t/a` and `true` to `t/b`. Fields whose name cannot be a topic level are left out.

use portreeve_guest::{Context, Error, Message, Outcome, Parser, export_parser};
use serde_json::{Map, Value};

struct JsonToFields;

impl Parser for JsonToFields {
    fn parse(_context: Context, message: Message) -> Result<Outcome, Error> {
        let fields: Map<String, Value> = match serde_json::from_slice(&message.payload) {
            Ok(fields) => fields,
            Err(error) => return Ok(Outcome::Reject(error.to_string())),
        };
        let messages =
            fields.iter().filter(|(name, _)| is_topic_level(name)).map(|(name, value)| {
                let topic = format!("{}/{name}", message.topic);
                message.clone().with(topic, value.to_string()).json()
            });
        Ok(Outcome::Replace(messages.collect()))
    }
}

fn is_topic_level(name: &str) -> bool {
    !name.is_empty() && !name.contains(['/', '+', '#', '\0'])
}

export_parser!(JsonToFields);

#[cfg(test)]
mod tests {
    use portreeve_guest::testing::{context, message, replaced};
    use portreeve_guest::{Direction, Outcome, Parser};

    use super::JsonToFields;

    #[test]
    fn each_field_has_a_message_of_its_own() {
        let input = message("fields/d", br#"{"a":1,"b/c":2,"d":{"e":"x"}}"#);
        let outcome = JsonToFields::parse(context(Direction::Up), input).unwrap();
        let expected = [("fields/d/a", "1".to_owned()), ("fields/d/d", r#"{"e":"x"}"#.to_owned())];
        assert_eq!(replaced(&outcome), expected);
    }

    #[test]
    fn what_is_no_object_is_rejected() {
        let outcome = JsonToFields::parse(context(Direction::Up), message("t", "[1]")).unwrap();
        assert!(matches!(outcome, Outcome::Reject(_)));
    }
}
