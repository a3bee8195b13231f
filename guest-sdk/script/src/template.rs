//! Texts with placeholders such as `${client_id}`.

use crate::error::ScriptError;
use crate::settings::wrong;

/// A text with placeholders, parsed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Placeholder(String),
}

impl Template {
    /// Parses the setting `key`. `$$` stands for a dollar sign.
    ///
    /// # Errors
    /// Where a placeholder is none of `names`, or is not closed.
    pub fn parse(key: &str, text: &str, names: &[&str]) -> Result<Self, ScriptError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            parts.push(Part::Text(before.to_owned()));
            rest = if let Some(after) = after.strip_prefix('$') {
                parts.push(Part::Text("$".to_owned()));
                after
            } else if let Some((name, after)) =
                after.strip_prefix('{').and_then(|after| after.split_once('}'))
            {
                if !names.contains(&name) {
                    let names = names.join("}, ${");
                    return Err(wrong(format!(
                        "`{key}`: there is no ${{{name}}}; there are ${{{names}}}"
                    )));
                }
                parts.push(Part::Placeholder(name.to_owned()));
                after
            } else {
                return Err(wrong(format!(
                    "`{key}`: a dollar sign is written `$$`, a placeholder `${{name}}`"
                )));
            };
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| *part != Part::Text(String::new()));
        Ok(Self(parts))
    }

    /// The text; `value` gives that of a placeholder. `None` where it gives none.
    pub fn fill<'a>(
        &self,
        mut value: impl FnMut(&str) -> Option<std::borrow::Cow<'a, str>>,
    ) -> Option<String> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Placeholder(name) => text.push_str(&value(name)?),
            }
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_and_unknown_ones_named() {
        let template = Template::parse("topic", "a/${x}/$$/${y}", &["x", "y"]).unwrap();
        assert_eq!(
            template.fill(|name| Some(name.to_uppercase().into())).as_deref(),
            Some("a/X/$/Y")
        );
        assert_eq!(template.fill(|_| None), None);
        let error = Template::parse("topic", "${z}", &["x", "y"]).unwrap_err().to_string();
        assert_eq!(error, "settings: `topic`: there is no ${z}; there are ${x}, ${y}");
        assert!(Template::parse("topic", "${x", &["x"]).is_err());
        assert!(Template::parse("topic", "$x", &["x"]).is_err());
    }
}
