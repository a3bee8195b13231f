//! Patterns of policies: `*` stands for any characters, `?` for one.

/// Whether a pattern matches a text.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at_pattern, mut at_text) = (0, 0);
    // Where the last star stood, and how far it reaches.
    let mut star: Option<(usize, usize)> = None;
    while let Some(&byte) = text.get(at_text) {
        match pattern.get(at_pattern) {
            Some(b'*') => {
                star = Some((at_pattern, at_text));
                at_pattern += 1;
            }
            Some(&wanted) if wanted == b'?' || wanted == byte => {
                at_pattern += 1;
                at_text += 1;
            }
            _ => match &mut star {
                Some((star_at, reach)) => {
                    *reach += 1;
                    at_pattern = *star_at + 1;
                    at_text = *reach;
                }
                None => return false,
            },
        }
    }
    pattern.get(at_pattern..).is_some_and(|rest| rest.iter().all(|&byte| byte == b'*'))
}

/// Whether something may match both patterns: what stands before their first wildcards does not
/// tell them apart. Wildcards of MQTT count, too, and what a wildcard of one level stands before.
pub(crate) fn may_overlap(a: &str, b: &str) -> bool {
    let head = |pattern: &str| -> String {
        pattern.split(['*', '?', '+', '#']).next().unwrap_or_default().to_owned()
    };
    let is_plain = |pattern: &str, head: &str| pattern.len() == head.len();
    let (head_a, head_b) = (head(a), head(b));
    // `a/#` matches `a`, too.
    let (short_a, short_b) = (head_a.trim_end_matches('/'), head_b.trim_end_matches('/'));
    match (is_plain(a, &head_a), is_plain(b, &head_b)) {
        (true, true) => a == b,
        (true, false) => a.starts_with(short_b),
        (false, true) => b.starts_with(short_a),
        (false, false) => short_a.starts_with(short_b) || short_b.starts_with(short_a),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_policies_do() {
        for (pattern, text) in [
            ("*", ""),
            ("a*", "a/b/c"),
            ("*c", "a/b/c"),
            ("a?c", "abc"),
            ("a*b*c", "axxbyybc"),
            ("", ""),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("a", ""), ("a?", "a"), ("a*b", "a"), ("", "a"), ("a*bc", "abcd")] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn overlaps_are_found_rather_too_often() {
        for (a, b) in [("a/*", "a/b"), ("a/*", "*"), ("a/+/c", "a/b/c"), ("a/#", "a"), ("a", "a")] {
            assert!(may_overlap(a, b) && may_overlap(b, a), "{a} {b}");
        }
        for (a, b) in [("a/*", "b/*"), ("a/b", "a/c"), ("a/b/*", "a/c/#")] {
            assert!(!may_overlap(a, b) && !may_overlap(b, a), "{a} {b}");
        }
    }
}
