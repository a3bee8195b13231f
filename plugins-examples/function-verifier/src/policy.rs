//! Policies of AWS IoT Core as permissions. Permissions allow and nothing else: a policy that
//! denies a part of what it allows cannot be kept, and nobody is admitted with it.

use portreeve_guest::{Action, Permission};
use serde_json::Value;

use crate::glob::{matches, may_overlap};

/// The statements of all documents that are about messages.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    connect: Rules,
    publish: Rules,
    subscribe: Rules,
    receive: Rules,
}

/// Patterns of resources, without what stands before them in the ARN.
#[derive(Debug, Default)]
struct Rules {
    allowed: Vec<String>,
    denied: Vec<String>,
}

/// Reads policy documents.
pub(crate) fn read(documents: &[Value], client_id: &str) -> Result<Policy, String> {
    let mut policy = Policy::default();
    for document in documents {
        let statements = document.get("Statement").ok_or("a policy document has no Statement")?;
        for statement in list(statements) {
            policy.add(statement, client_id)?;
        }
    }
    Ok(policy)
}

impl Policy {
    fn add(&mut self, statement: &Value, client_id: &str) -> Result<(), String> {
        let is_allowed = match statement.get("Effect").and_then(Value::as_str) {
            Some("Allow") => true,
            Some("Deny") => false,
            _ => return Err("Effect of a statement is not Allow or Deny".to_owned()),
        };
        for key in ["NotAction", "NotResource", "Condition", "Principal"] {
            if statement.get(key).is_some() {
                return Err(format!("a statement has {key}, which cannot be kept here"));
            }
        }
        let actions = texts(statement, "Action")?;
        let resources = texts(statement, "Resource")?;
        for (name, kind, rules) in [
            ("iot:Connect", "client/", &mut self.connect),
            ("iot:Publish", "topic/", &mut self.publish),
            ("iot:Subscribe", "topicfilter/", &mut self.subscribe),
            ("iot:Receive", "topic/", &mut self.receive),
        ] {
            // Names of actions are compared without case.
            let is_about =
                |action: &&str| matches(&action.to_ascii_lowercase(), &name.to_ascii_lowercase());
            if !actions.iter().any(is_about) {
                continue;
            }
            for resource in &resources {
                let Some(pattern) = resource_of(resource, kind) else { continue };
                let pattern = filled(pattern, client_id)?;
                if is_allowed { &mut rules.allowed } else { &mut rules.denied }.push(pattern);
            }
        }
        Ok(())
    }

    pub(crate) fn may_connect(&self, client_id: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, client_id));
        any(&self.connect.allowed) && !any(&self.connect.denied)
    }

    /// What is allowed. What cannot be expressed is an error, or left out.
    pub(crate) fn permissions(&self, leaves_out: bool) -> Result<Vec<Permission>, String> {
        for rules in [&self.publish, &self.subscribe, &self.receive] {
            rules.check_denied()?;
        }
        // Messages arrive where a filter was allowed, and their topics, too: a denied topic keeps
        // away every filter that may reach it.
        for denied in &self.receive.denied {
            if self.subscribe.allowed.iter().any(|allowed| may_overlap(allowed, denied)) {
                return Err(conflict(denied));
            }
        }
        let mut permissions = Vec::new();
        for filter in filters(&self.publish.allowed, Of::PublishTopic, leaves_out)? {
            permissions.push(Permission { action: Action::Publish, topic_filter: filter });
        }
        let subscribed = filters(&self.subscribe.allowed, Of::Filter, leaves_out)?;
        let received = filters(&self.receive.allowed, Of::ReceiveTopic, leaves_out)?;
        for filter in both(&subscribed, &received) {
            permissions.push(Permission { action: Action::Subscribe, topic_filter: filter });
        }
        Ok(permissions)
    }
}

impl Rules {
    fn check_denied(&self) -> Result<(), String> {
        for denied in &self.denied {
            if self.allowed.iter().any(|allowed| may_overlap(allowed, denied)) {
                return Err(conflict(denied));
            }
        }
        Ok(())
    }
}

fn conflict(denied: &str) -> String {
    format!("the policy denies {denied:?}, a part of what it allows; permissions only allow")
}

fn list(value: &Value) -> &[Value] {
    match value {
        Value::Array(values) => values,
        other => std::slice::from_ref(other),
    }
}

fn texts<'a>(statement: &'a Value, key: &str) -> Result<Vec<&'a str>, String> {
    let value = statement.get(key).ok_or_else(|| format!("a statement has no {key}"))?;
    let text =
        |value: &'a Value| value.as_str().ok_or_else(|| format!("{key} of a statement is no text"));
    list(value).iter().map(text).collect()
}

/// What stands behind `topic/` and the like; region and account are not looked at.
fn resource_of<'a>(resource: &'a str, kind: &str) -> Option<&'a str> {
    if resource == "*" {
        return Some("*");
    }
    let rest = resource.strip_prefix("arn:")?;
    let mut parts = rest.splitn(5, ':');
    let (service, resource) = (parts.nth(1)?, parts.nth(2)?);
    let resource = if service == "*" || service == "iot" { resource } else { return None };
    if resource == "*" { Some("*") } else { resource.strip_prefix(kind) }
}

/// Puts the client identifier in for the variables that stand for it.
fn filled(pattern: &str, client_id: &str) -> Result<String, String> {
    if !pattern.contains("${") {
        return Ok(pattern.to_owned());
    }
    // One with a wildcard would widen the pattern.
    if client_id.is_empty() || client_id.contains(['*', '?', '+', '#', '/', '$']) {
        return Err("the client identifier cannot stand in a policy".to_owned());
    }
    let mut text = pattern.to_owned();
    for variable in ["${iot:ClientId}", "${iot:Connection.Thing.ThingName}"] {
        text = text.replace(variable, client_id);
    }
    match text.contains("${") {
        true => Err(format!("the policy's variable in {pattern:?} is not known here")),
        false => Ok(text),
    }
}

/// What a pattern is of, which decides what its star at the end becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    /// `a/*` does not match `a`, and `a/#` would: `a/+/#`.
    PublishTopic,
    /// Devices subscribe with `a/#` where `a/*` is allowed, and so it stands for it.
    ReceiveTopic,
    /// The same, and wildcards of MQTT stand for themselves: for the filter that holds them.
    Filter,
}

/// The topic filters of patterns. A star in the middle stands for one level, which is less than it
/// is in a policy.
fn filters(patterns: &[String], of: Of, leaves_out: bool) -> Result<Vec<String>, String> {
    let mut filters = Vec::new();
    for pattern in patterns {
        // No topic has such a character, and so nothing is allowed.
        if of != Of::Filter && pattern.contains(['+', '#']) {
            continue;
        }
        match filter(pattern, if of == Of::PublishTopic { "+/#" } else { "#" }) {
            Some(filter) => filters.push(filter),
            None if leaves_out => {
                portreeve_guest::log::warn(&format!(
                    "{pattern:?} of the policy is left out: no topic filter says it"
                ));
            }
            None => {
                return Err(format!(
                    "{pattern:?} of the policy is no topic filter: wildcards stand for whole levels; \
                     `unsupported_policy = \"leave-out\"` goes on without it"
                ));
            }
        }
    }
    Ok(filters)
}

fn filter(pattern: &str, end: &str) -> Option<String> {
    if pattern == "*" {
        return Some("#".to_owned());
    }
    let levels: Vec<&str> = pattern.split('/').collect();
    let last = levels.len().checked_sub(1)?;
    let mut text = String::new();
    for (index, level) in levels.into_iter().enumerate() {
        if index > 0 {
            text.push('/');
        }
        match level {
            "*" if index == last => text.push_str(end),
            "*" | "+" => text.push('+'),
            "#" if index == last => text.push('#'),
            level if !level.contains(['*', '?', '+', '#', '%']) => text.push_str(level),
            _ => return None,
        }
    }
    Some(text)
}

/// The filters that lie within one of each list.
fn both(subscribed: &[String], received: &[String]) -> Vec<String> {
    let mut filters: Vec<String> = Vec::new();
    for a in subscribed {
        for b in received {
            let narrower = if covers(b, a) {
                a
            } else if covers(a, b) {
                b
            } else {
                continue;
            };
            if !filters.contains(narrower) {
                filters.push(narrower.clone());
            }
        }
    }
    filters
}

/// Whether every topic that `narrow` matches is matched by `wide` too.
fn covers(wide: &str, narrow: &str) -> bool {
    let mut narrow = narrow.split('/');
    for level in wide.split('/') {
        if level == "#" {
            return true;
        }
        match narrow.next() {
            Some("#") | None => return false,
            Some(other) if level == "+" || level == other => {}
            Some(_) => return false,
        }
    }
    narrow.next().is_none()
}
