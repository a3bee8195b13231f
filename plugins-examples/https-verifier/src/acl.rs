//! The access control list of an EMQX service as permissions.
//!
//! EMQX goes through a list of what is allowed and denied, and the first entry that matches
//! counts. A verifier's permissions allow and nothing else, so that what is denied needs no entry
//! at the end of a list; before something that it takes away from it cannot be expressed. Nothing
//! is permitted then that EMQX would deny.

use portreeve_guest::{Action, Error, Permission};
use serde_json::Value;

use crate::permissions::{action, check_count, checked};
use crate::pointers::Field;

/// Conditions of an entry beside action and topic; none of them can be expressed.
const CONDITIONS: [&str; 8] =
    ["clientid_re", "username_re", "ipaddr", "zone", "zone_re", "listener", "listener_re", "who"];

/// Why an entry gives no permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unsupported {
    pub(crate) pointer: String,
    pub(crate) why: &'static str,
}

/// What a list comes to.
#[derive(Debug, Default)]
pub(crate) struct Acl {
    pub(crate) permissions: Vec<Permission>,
    pub(crate) unsupported: Vec<Unsupported>,
}

/// Reads a list. `value_of` gives values of placeholders other than `${clientid}` and
/// `${username}`.
///
/// # Errors
/// What is no such list, by its pointer.
pub(crate) fn acl(
    list: &Field<'_>,
    value_of: impl Fn(&str) -> Option<String>,
) -> Result<Acl, Error> {
    let entries = list.items()?;
    check_count(list, entries.len())?;
    let mut acl = Acl::default();
    let mut denied: Vec<(Action, String)> = Vec::new();
    for entry in &entries {
        let (action, topics) = (action(&entry.require("action")?)?, topics(entry)?);
        let permission = entry.require("permission")?;
        let is_allowed = match permission.text()? {
            "allow" => true,
            "deny" => false,
            _ => return Err(permission.wrong("is neither allow nor deny")),
        };
        if !is_allowed {
            denied.extend(topics.iter().map(|topic| (action, pattern(topic))));
            continue;
        }
        let is_conditional = is_conditional(entry, action)?;
        for topic in topics {
            let is_denied = denied
                .iter()
                .any(|(other, filter)| meet(*other, action) && overlap(filter, &pattern(topic)));
            let permitted = match (is_conditional, is_denied) {
                (true, _) => Err("it holds under conditions only"),
                (_, true) => Err("an entry before it denies a part of it"),
                _ => permitted(action, topic, &value_of),
            };
            match permitted {
                Ok(Some(permission)) => {
                    checked(entry, &permission.topic_filter)?;
                    acl.permissions.push(permission);
                }
                Ok(None) => {}
                Err(why) => {
                    let pointer = entry.pointer.clone();
                    acl.unsupported.push(Unsupported { pointer, why });
                }
            }
        }
    }
    check_count(list, acl.permissions.len())?;
    Ok(acl)
}

/// `topic`, or each of `topics`.
fn topics<'a>(entry: &Field<'a>) -> Result<Vec<&'a str>, Error> {
    if let Some(topic) = entry.field("topic")? {
        return Ok(vec![topic.text()?]);
    }
    let topics = entry.field("topics")?.ok_or_else(|| entry.wrong("has no topic"))?;
    topics.items()?.iter().map(Field::text).collect()
}

/// Whether it holds for some levels of QoS, for retained messages, or for some clients only.
fn is_conditional(entry: &Field<'_>, action: Action) -> Result<bool, Error> {
    let has_condition = |name: &&str| Ok::<_, Error>(entry.field(name)?.is_some());
    for name in &CONDITIONS {
        if has_condition(name)? {
            return Ok(true);
        }
    }
    let is_every_qos = match entry.field("qos")?.map(|qos| qos.value) {
        None => true,
        Some(Value::Array(levels)) => {
            ["0", "1", "2"].iter().all(|level| levels.iter().any(|given| is_level(given, level)))
        }
        Some(Value::String(levels)) => {
            ["0", "1", "2"].iter().all(|level| levels.split(',').any(|given| given == *level))
        }
        Some(_) => false,
    };
    let retain = entry.field("retain")?.map(|retain| retain.value);
    let is_every_message = retain.is_none_or(|retain| retain.as_str() == Some("all"));
    Ok(!is_every_qos || !(is_every_message || action == Action::Subscribe))
}

fn is_level(given: &Value, level: &str) -> bool {
    match given {
        Value::String(text) => text == level,
        given => given.as_u64().map(|number| number.to_string()).as_deref() == Some(level),
    }
}

/// The permission of a topic; `None` where it matches nothing.
fn permitted(
    action: Action,
    topic: &str,
    value_of: &impl Fn(&str) -> Option<String>,
) -> Result<Option<Permission>, &'static str> {
    if let Some(literal) = topic.strip_prefix("eq ") {
        if is_ours(literal) {
            return Err("its topic holds %c, %d or %u, which stand for something here");
        }
        // The text of a filter is no topic that anybody publishes to.
        let action = match literal.contains(['+', '#']) {
            true if action == Action::Publish => return Ok(None),
            true => Action::Subscribe,
            false => action,
        };
        return Ok(Some(Permission { action, topic_filter: literal.to_owned() }));
    }
    if is_ours(topic) {
        return Err("its topic holds %c, %d or %u, which stand for something here");
    }
    let mut filter = String::new();
    let mut rest = topic;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').ok_or("its topic has a \"${\" without \"}\"")?;
        filter.push_str(before);
        match name {
            "clientid" => filter.push_str("%c"),
            "username" => filter.push_str("%u"),
            name if name == "cert_common_name" || name.starts_with("client_attrs.") => {
                // Without its value it matches nothing, and a value must not widen it.
                match value_of(name).filter(|value| is_level_text(value)) {
                    Some(value) => filter.push_str(&value),
                    None => return Ok(None),
                }
            }
            _ => return Err("its topic holds a placeholder that is not known here"),
        }
        rest = after;
    }
    filter.push_str(rest);
    Ok(Some(Permission { action, topic_filter: filter }))
}

/// Whether a topic holds what the gateway would fill in.
fn is_ours(topic: &str) -> bool {
    ["%c", "%d", "%u"].iter().any(|placeholder| topic.contains(placeholder))
}

fn is_level_text(value: &str) -> bool {
    !value.is_empty() && !value.contains(['/', '+', '#', '%', '\0']) && !value.starts_with('$')
}

/// A topic with everything that is filled in as a wildcard of its level.
fn pattern(topic: &str) -> String {
    let topic = topic.strip_prefix("eq ").unwrap_or(topic);
    let level = |level: &str| if level.contains("${") { "+" } else { level }.to_owned();
    topic.split('/').map(level).collect::<Vec<_>>().join("/")
}

fn meet(one: Action, other: Action) -> bool {
    one == Action::Both || other == Action::Both || one == other
}

/// Whether some topic is matched by both filters.
fn overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('/'), other.split('/'));
    loop {
        match (one.next(), other.next()) {
            (None, None) | (Some("#"), _) | (_, Some("#")) => return true,
            (Some(a), Some(b)) if a == b || a == "+" || b == "+" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(list: &Value) -> Result<Acl, String> {
        let field = Field { pointer: "/acl".to_owned(), value: list };
        let value_of = |name: &str| match name {
            "cert_common_name" => Some("cn-1".to_owned()),
            "client_attrs.site" => Some("north".to_owned()),
            "client_attrs.wide" => Some("#".to_owned()),
            _ => None,
        };
        acl(&field, value_of).map_err(|error| error.to_string())
    }

    fn permitted(list: &Value) -> Vec<(Action, String)> {
        let acl = read(list).unwrap();
        assert_eq!(acl.unsupported, [], "{list}");
        acl.permissions.into_iter().map(|one| (one.action, one.topic_filter)).collect()
    }

    fn allow(action: &str, topic: &str) -> Value {
        json!({"permission": "allow", "action": action, "topic": topic})
    }

    fn deny(action: &str, topic: &str) -> Value {
        json!({"permission": "deny", "action": action, "topic": topic})
    }

    #[test]
    fn what_is_allowed_is_permitted() {
        let list = json!([
            allow("publish", "up/${clientid}/#"),
            allow("sub", "down/${username}"),
            {"permission": "allow", "action": "all", "topics": ["a", "b/+"], "qos": [0, 1, 2]},
            allow("all", "${cert_common_name}/${client_attrs.site}"),
            {"permission": "allow", "action": "subscribe", "topic": "r", "retain": true},
            {"permission": "allow", "action": "publish", "topic": "s", "retain": "all", "qos": "0,1,2"},
        ]);
        let expected = [
            (Action::Publish, "up/%c/#"),
            (Action::Subscribe, "down/%u"),
            (Action::Both, "a"),
            (Action::Both, "b/+"),
            (Action::Both, "cn-1/north"),
            (Action::Subscribe, "r"),
            (Action::Publish, "s"),
        ];
        assert_eq!(permitted(&list), expected.map(|(action, topic)| (action, topic.to_owned())));
    }

    #[test]
    fn eq_is_the_filter_itself() {
        let both = |action, topic: &str| vec![(action, topic.to_owned())];
        assert_eq!(permitted(&json!([allow("all", "eq t/1")])), both(Action::Both, "t/1"));
        assert_eq!(permitted(&json!([allow("all", "eq t/#")])), both(Action::Subscribe, "t/#"));
        assert_eq!(permitted(&json!([allow("publish", "eq t/#")])), []);
        let literal = both(Action::Publish, "t/${clientid}");
        assert_eq!(permitted(&json!([allow("publish", "eq t/${clientid}")])), literal);
    }

    #[test]
    fn a_permission_whose_value_is_missing_or_too_wide_permits_nothing() {
        let missing = allow("all", "${client_attrs.none}/#");
        assert_eq!(permitted(&json!([missing, allow("all", "${client_attrs.wide}")])), []);
    }

    #[test]
    fn a_denial_counts_before_what_it_takes_away_from_only() {
        let after = json!([allow("publish", "t/#"), deny("all", "t/secret"), deny("all", "#")]);
        assert_eq!(permitted(&after), [(Action::Publish, "t/#".to_owned())]);
        let elsewhere = json!([deny("all", "x/#"), deny("publish", "t/1"), allow("sub", "t/1")]);
        assert_eq!(permitted(&elsewhere), [(Action::Subscribe, "t/1".to_owned())]);
        for list in [
            json!([deny("all", "t/secret"), allow("publish", "t/#")]),
            json!([deny("pub", "t/${clientid}"), allow("all", "t/1")]),
            json!([deny("subscribe", "eq t/#"), allow("subscribe", "t/1")]),
            json!([deny("all", "#"), allow("subscribe", "$SYS/x")]),
        ] {
            let acl = read(&list).unwrap();
            assert_eq!(acl.permissions, [], "{list}");
            let [unsupported] = acl.unsupported.as_slice() else { panic!("{list}") };
            assert_eq!(unsupported.pointer, "/acl/1");
            assert!(unsupported.why.contains("denies"));
        }
    }

    #[test]
    fn what_holds_under_conditions_is_not_permitted_without_them() {
        for more in [
            json!({"qos": [1]}),
            json!({"qos": 0}),
            json!({"qos": "0,1"}),
            json!({"retain": false}),
            json!({"ipaddr": "10.0.0.0/8"}),
            json!({"clientid_re": "^a"}),
        ] {
            let mut entry = allow("publish", "t");
            entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let acl = read(&json!([entry])).unwrap();
            assert!(acl.permissions.is_empty() && acl.unsupported.len() == 1, "{entry}");
        }
        for topic in ["a/%c", "eq a/%u", "${zone}/a", "${clientid"] {
            let acl = read(&json!([allow("all", topic)])).unwrap();
            assert!(acl.permissions.is_empty() && acl.unsupported.len() == 1, "{topic}");
        }
    }

    #[test]
    fn what_is_no_list_is_named_by_its_pointer() {
        for (wrong, said) in [
            (json!({"pub": ["t"]}), "/acl is an object: a list is expected"),
            (json!([{"action": "all", "topic": "t"}]), "/acl/0 has no permission"),
            (json!([{"permission": "allow", "topic": "t"}]), "/acl/0 has no action"),
            (json!([{"permission": "allow", "action": "all"}]), "/acl/0 has no topic"),
            (json!([{"permission": "maybe", "action": "all", "topic": "t"}]), "/permission"),
            (json!([allow("all", "a/#/b")]), "no topic filter"),
            (json!([{"permission": "allow", "action": "all", "topics": [1]}]), "/topics/0"),
        ] {
            let error = read(&wrong).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
