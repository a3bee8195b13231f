//! Permissions of a response: a list of action and topic filter.

use portreeve_guest::{Action, Error, Permission};

use crate::pointers::{Field, shown};

/// As many as the gateway takes.
const PERMISSIONS_MAX: usize = 1024;
/// Bytes of a topic filter (MQTT 5.0 §4.7.3).
const FILTER_BYTES_MAX: usize = 65_535;

/// `[{"action": "publish", "topicFilter": "devices/%d/#"}]`.
///
/// # Errors
/// What is wrong, by its pointer.
pub(crate) fn permissions(list: &Field<'_>) -> Result<Vec<Permission>, Error> {
    let items = list.items()?;
    check_count(list, items.len())?;
    let permission = |item: &Field<'_>| {
        let filter = match item.field("topicFilter")? {
            Some(filter) => filter,
            None => item.field("topic")?.ok_or_else(|| item.wrong("has no topicFilter"))?,
        };
        Ok(Permission {
            action: action(&item.require("action")?)?,
            topic_filter: checked(&filter, filter.text()?)?.to_owned(),
        })
    };
    items.iter().map(permission).collect()
}

/// Bounds what a service may hand over.
pub(crate) fn check_count(list: &Field<'_>, count: usize) -> Result<(), Error> {
    match count <= PERMISSIONS_MAX {
        true => Ok(()),
        false => Err(list.wrong(format!("has more than {PERMISSIONS_MAX} entries"))),
    }
}

/// The action of a permission, also as EMQX writes it.
pub(crate) fn action(field: &Field<'_>) -> Result<Action, Error> {
    match field.text()? {
        "publish" | "pub" => Ok(Action::Publish),
        "subscribe" | "sub" => Ok(Action::Subscribe),
        "both" | "all" => Ok(Action::Both),
        other => {
            Err(field
                .wrong(format!("is {:?}: publish, subscribe or both is expected", shown(other))))
        }
    }
}

/// A topic filter that is one.
pub(crate) fn checked<'a>(field: &Field<'_>, filter: &'a str) -> Result<&'a str, Error> {
    let levels: Vec<&str> = filter.split('/').collect();
    let is_level = |(index, level): (usize, &&str)| match *level {
        "#" => index + 1 == levels.len(),
        "+" => true,
        level => !level.contains(['#', '+', '\0']),
    };
    let is_filter = !filter.is_empty() && filter.len() <= FILTER_BYTES_MAX;
    match is_filter && levels.iter().enumerate().all(is_level) {
        true => Ok(filter),
        false => Err(field.wrong(format!("is {:?}, which is no topic filter", shown(filter)))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(list: &Value) -> Result<Vec<Permission>, String> {
        let field = Field { pointer: "/permissions".to_owned(), value: list };
        permissions(&field).map_err(|error| error.to_string())
    }

    #[test]
    fn permissions_are_taken_as_they_stand() {
        let list = json!([
            {"action": "publish", "topicFilter": "up/%d/#"},
            {"action": "subscribe", "topic": "down/+"},
            {"action": "all", "topicFilter": "both", "note": 1},
        ]);
        let read = read(&list).unwrap();
        let expected =
            [(Action::Publish, "up/%d/#"), (Action::Subscribe, "down/+"), (Action::Both, "both")];
        let of = |permission: &Permission| (permission.action, permission.topic_filter.clone());
        let read: Vec<_> = read.iter().map(of).collect();
        assert_eq!(read, expected.map(|(action, filter)| (action, filter.to_owned())));
    }

    #[test]
    fn what_is_none_is_named_by_its_pointer() {
        for (wrong, said) in [
            (json!({}), "/permissions is an object"),
            (json!(["up/#"]), "/permissions/0 is a text"),
            (json!([{"topicFilter": "x"}]), "/permissions/0 has no action"),
            (json!([{"action": "publish"}]), "/permissions/0 has no topicFilter"),
            (json!([{"action": "read", "topic": "x"}]), "/permissions/0/action is \"read\""),
            (json!([{"action": "pub", "topic": "a/#/b"}]), "/permissions/0/topic is \"a/#/b\""),
            (json!([{"action": "pub", "topic": "a+"}]), "no topic filter"),
            (json!([{"action": "pub", "topic": ""}]), "no topic filter"),
            (json!(vec![json!({"action": "pub", "topic": "a"}); 1025]), "more than 1024"),
        ] {
            let error = read(&wrong).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
