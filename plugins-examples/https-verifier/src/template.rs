//! Texts with placeholders: `/devices/${client_id}`.

use std::borrow::Cow;

use portreeve_guest::{Error, Refusal};

use crate::placeholder::{Peer, Placeholder};

/// Where names of templates lead: the placeholders, and the settings that templates may use.
pub(crate) struct Names<'a> {
    /// The value of the setting NAME in `${setting.NAME}`.
    pub(crate) setting: &'a dyn Fn(&str) -> Option<String>,
    /// EMQX has the PEM of a certificate encoded once more; its templates mean that.
    pub(crate) is_emqx: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// As it stands in the template.
    Literal(String),
    /// A setting: escaped like a value.
    Constant(String),
    Value(Placeholder),
}

/// A text with placeholders, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

impl Template {
    /// Takes apart the template of the setting `key`. `${$}` is a dollar sign.
    ///
    /// # Errors
    /// Names the setting and the placeholder that there is not.
    pub(crate) fn parse(key: &str, text: &str, names: &Names<'_>) -> Result<Self, Error> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            literal(&mut parts, before);
            let (name, after) = after.split_once('}').ok_or_else(|| {
                Error::new(format!("the setting `{key}` has a \"${{\" without \"}}\": add it"))
            })?;
            match name {
                "$" => literal(&mut parts, "$"),
                name => parts.push(part(key, name, names)?),
            }
            rest = after;
        }
        literal(&mut parts, rest);
        Ok(Self(parts))
    }

    /// The one placeholder that it consists of, if it does.
    pub(crate) fn only_value(&self) -> Option<Placeholder> {
        match self.0.as_slice() {
            [Part::Value(placeholder)] => Some(*placeholder),
            _ => None,
        }
    }

    /// Whether it is empty for every device.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a placeholder stands in it.
    pub(crate) fn uses(&self, placeholder: Placeholder) -> bool {
        self.0.contains(&Part::Value(placeholder))
    }

    /// Refuses placeholders whose value is an object: only a JSON body has a place for it.
    ///
    /// # Errors
    /// Names the setting.
    pub(crate) fn text_only(self, key: &str) -> Result<Self, Error> {
        let is_structured =
            |part: &Part| matches!(part, Part::Value(placeholder) if placeholder.is_structured());
        if self.0.iter().any(is_structured) {
            return Err(Error::new(format!(
                "the setting `{key}` has ${{certificate}} or ${{user_properties}} within a text: \
                 they are JSON and stand alone, as a whole text of a JSON body"
            )));
        }
        Ok(self)
    }

    /// The text for a device. `escape` makes values fit for where they stand.
    ///
    /// # Errors
    /// A refusal, where a value does not fit there.
    pub(crate) fn fill(
        &self,
        peer: &Peer<'_>,
        escape: impl Fn(Cow<'_, str>) -> Result<String, Refusal>,
    ) -> Result<String, Refusal> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Constant(value) => text.push_str(&escape(value.as_str().into())?),
                Part::Value(placeholder) => {
                    text.push_str(&escape(peer.text(*placeholder)?.unwrap_or_default())?);
                }
            }
        }
        Ok(text)
    }

    /// The text for a device, values as they are.
    ///
    /// # Errors
    /// A refusal, where a value is no text.
    pub(crate) fn fill_plain(&self, peer: &Peer<'_>) -> Result<String, Refusal> {
        self.fill(peer, |value| Ok(value.into_owned()))
    }
}

fn literal(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        _ if text.is_empty() => {}
        Some(Part::Literal(last)) => last.push_str(text),
        _ => parts.push(Part::Literal(text.to_owned())),
    }
}

fn part(key: &str, name: &str, names: &Names<'_>) -> Result<Part, Error> {
    if let Some(setting) = name.strip_prefix("setting.") {
        let value = (names.setting)(setting).ok_or_else(|| {
            Error::new(format!(
                "the setting `{key}` has ${{{name}}}: add {setting} = \"…\" to [settings]"
            ))
        })?;
        return Ok(Part::Constant(value));
    }
    let placeholder = match Placeholder::of(name) {
        Some(Placeholder::CertPem) if names.is_emqx => Some(Placeholder::CertPemBase64),
        other => other,
    };
    placeholder.map(Part::Value).ok_or_else(|| {
        Error::new(format!(
            "the setting `{key}` has ${{{name}}}, which is no placeholder: write one of {}, \
             setting.NAME; ${{$}} is a dollar sign",
            Placeholder::names()
        ))
    })
}

/// Percent-encodes everything but the unreserved characters (RFC 3986 §2.3), which is right in a
/// path, a query and a form.
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push_str(&hex::encode_upper([byte]));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use portreeve_guest::testing::connect;

    use super::*;

    fn names(is_emqx: bool) -> Names<'static> {
        Names { setting: &|name| (name == "token").then(|| "t/1".to_owned()), is_emqx }
    }

    fn filled(template: &str) -> String {
        let connect = connect("c 1/é").build();
        let template = Template::parse("body", template, &names(false)).unwrap();
        let peer = Peer { connect: &connect, product: "" };
        template.fill(&peer, |value| Ok(percent_encoded(&value))).unwrap()
    }

    #[test]
    fn values_are_put_in_escaped_and_once() {
        assert_eq!(filled("a/${client_id}?x=${user_name}"), "a/c%201%2F%C3%A9?x=");
        assert_eq!(filled("${setting.token}"), "t%2F1");
        assert_eq!(filled("${$}{client_id} $x {}"), "${client_id} $x {}");
        let connect = connect("${password}").password("secret").build();
        let template = Template::parse("body", "${client_id}", &names(false)).unwrap();
        let peer = Peer { connect: &connect, product: "" };
        assert_eq!(template.fill_plain(&peer).unwrap(), "${password}", "a value is no template");
    }

    #[test]
    fn what_is_no_placeholder_is_named() {
        let said = |text| Template::parse("url", text, &names(false)).unwrap_err().to_string();
        assert!(said("${zone}").contains("`url`") && said("${zone}").contains("client_id"));
        assert!(said("${setting.x}").contains("add x ="));
        assert!(said("a${").contains("without"));
        let template = Template::parse("url", "x${certificate}", &names(false)).unwrap();
        assert!(template.text_only("url").is_err());
    }

    #[test]
    fn pem_is_what_it_is_in_templates_of_emqx() {
        let of =
            |is_emqx| Template::parse("body", "${cert_pem}", &names(is_emqx)).unwrap().only_value();
        assert_eq!(of(false), Some(Placeholder::CertPem));
        assert_eq!(of(true), Some(Placeholder::CertPemBase64));
    }
}
