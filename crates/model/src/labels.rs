//! Labels and annotations: what they may be, and how lists are narrowed by labels. Not where they are kept.

use crate::resource::Metadata;
use std::collections::BTreeMap;

/// Longest name of a label, and longest value, in bytes.
pub const MAX_LABEL_BYTES: usize = 63;
/// Longest prefix before a `/`, in bytes.
pub const MAX_PREFIX_BYTES: usize = 253;
/// Longest value of an annotation, in bytes.
pub const MAX_ANNOTATION_BYTES: usize = 5000;
/// Most labels, and most annotations, of one resource.
pub const MAX_ENTRIES: usize = 200;
/// Most requirements of one selector.
pub const MAX_REQUIREMENTS: usize = 50;

/// Which resources a list holds, by their labels: all requirements hold for each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector(pub Vec<Requirement>);

/// One requirement of a selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub test: Test,
}

/// What is required of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// It is there.
    Present,
    /// It is not there.
    Absent,
    /// It has one of these values.
    In(Vec<String>),
    /// It has none of these values, or is not there.
    NotIn(Vec<String>),
}

impl Selector {
    /// Reads `env=prod,tier in (web,api),!old`.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let requirements: Vec<Requirement> = split(text)?.into_iter().map(requirement).collect::<Result<_, _>>()?;
        if requirements.len() > MAX_REQUIREMENTS {
            return Err(format!("it has more than {MAX_REQUIREMENTS} requirements"));
        }
        Ok(Self(requirements))
    }

    /// Whether there is nothing to require.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether labels are as required.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, Option<String>>) -> bool {
        self.0.iter().all(|requirement| {
            let value = labels.get(&requirement.key).and_then(Option::as_ref);
            match &requirement.test {
                Test::Present => value.is_some(),
                Test::Absent => value.is_none(),
                Test::In(values) => value.is_some_and(|value| values.contains(value)),
                Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            }
        })
    }
}

/// The requirements of a selector: at commas that are not within parentheses.
fn split(text: &str) -> Result<Vec<&str>, String> {
    let (mut parts, mut from, mut within) = (Vec::new(), 0, false);
    for (at, letter) in text.char_indices() {
        match letter {
            '(' if within => return Err("a parenthesis is within another".to_owned()),
            '(' => within = true,
            ')' if !within => return Err("a parenthesis was not opened".to_owned()),
            ')' => within = false,
            ',' if !within => {
                parts.push(text[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    if within {
        return Err("a parenthesis is not closed".to_owned());
    }
    parts.push(text[from..].trim());
    Ok(parts)
}

fn requirement(text: &str) -> Result<Requirement, String> {
    let (key, test) = if let Some(list) = text.strip_suffix(')') {
        let (head, list) = list.split_once('(').ok_or("a parenthesis was not opened")?;
        let values: Vec<String> = list.split(',').map(|value| value.trim().to_owned()).collect();
        let mut words = head.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some(key), Some("in"), None) => (key, Test::In(values)),
            (Some(key), Some("notin"), None) => (key, Test::NotIn(values)),
            _ => return Err(format!("{text:?} is no requirement")),
        }
    } else if let Some((key, value)) = text.split_once("!=") {
        (key.trim(), Test::NotIn(vec![value.trim().to_owned()]))
    } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (key.trim(), Test::In(vec![value.trim().to_owned()]))
    } else if let Some(key) = text.strip_prefix('!') {
        (key.trim(), Test::Absent)
    } else {
        (text, Test::Present)
    };
    check_key(key)?;
    if let Test::In(values) | Test::NotIn(values) = &test {
        values.iter().try_for_each(|value| check_value(value))?;
    }
    Ok(Requirement {
        key: key.to_owned(),
        test,
    })
}

fn is_name(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Checks the key of a label or an annotation, such as `env` or `example.com/env`.
///
/// # Errors
/// What is wrong, for people.
pub fn check_key(key: &str) -> Result<(), String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if name.is_empty() {
        return Err("key cannot be empty string".to_owned());
    }
    if name.len() > MAX_LABEL_BYTES {
        return Err(format!(
            "'{}...' is greater than {MAX_LABEL_BYTES} characters",
            clipped(name)
        ));
    }
    if !is_name(name) {
        return Err(format!("'{name}' contains invalid characters"));
    }
    let Some(prefix) = prefix else { return Ok(()) };
    if prefix.len() > MAX_PREFIX_BYTES {
        return Err(format!(
            "prefix '{}...' is greater than {MAX_PREFIX_BYTES} characters",
            clipped(prefix)
        ));
    }
    if !is_name(prefix) {
        return Err(format!("prefix '{}' must be in valid dns format", clipped(prefix)));
    }
    if prefix.eq_ignore_ascii_case("cloudfoundry.org") {
        return Err("prefix 'cloudfoundry.org' is reserved".to_owned());
    }
    Ok(())
}

fn clipped(text: &str) -> &str {
    text.char_indices().nth(8).map_or(text, |(at, _)| &text[..at])
}

fn check_value(value: &str) -> Result<(), String> {
    if value.len() > MAX_LABEL_BYTES {
        return Err(format!(
            "'{}...' is greater than {MAX_LABEL_BYTES} characters",
            clipped(value)
        ));
    }
    if value.is_empty() || is_name(value) {
        Ok(())
    } else {
        Err(format!("'{value}' contains invalid characters"))
    }
}

/// Labels and annotations over those that are there; one without a value is removed.
///
/// # Errors
/// What is wrong, in CF's words; then nothing is changed.
pub fn merge(into: &mut Metadata, change: &Metadata) -> Result<(), String> {
    for (key, value) in &change.labels {
        check_key(key).map_err(|problem| format!("Metadata label key error: {problem}"))?;
        check_value(value.as_deref().unwrap_or_default())
            .map_err(|problem| format!("Metadata label value error: {problem}"))?;
    }
    for (key, value) in &change.annotations {
        check_key(key).map_err(|problem| format!("Metadata annotation key error: {problem}"))?;
        if value.as_ref().is_some_and(|value| value.len() > MAX_ANNOTATION_BYTES) {
            return Err(format!(
                "Metadata annotation value error: '{key}' is greater than {MAX_ANNOTATION_BYTES} characters"
            ));
        }
    }
    let mut merged = into.clone();
    over(&mut merged.labels, &change.labels);
    over(&mut merged.annotations, &change.annotations);
    for (what, count) in [
        ("labels", merged.labels.len()),
        ("annotations", merged.annotations.len()),
    ] {
        if count > MAX_ENTRIES {
            return Err(format!("Metadata exceeds maximum of {MAX_ENTRIES} {what}"));
        }
    }
    *into = merged;
    Ok(())
}

fn over(into: &mut BTreeMap<String, Option<String>>, change: &BTreeMap<String, Option<String>>) {
    for (name, value) in change {
        match value {
            Some(_) => drop(into.insert(name.clone(), value.clone())),
            None => drop(into.remove(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, Option<String>> {
        let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), Some((*value).to_owned()));
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn every_form_of_a_requirement_selects() {
        let prod = labels(&[("env", "prod"), ("example.com/tier", "web")]);
        for (text, matches) in [
            ("env", true),
            ("!env", false),
            ("other", false),
            ("!other", true),
            ("env=prod", true),
            ("env==prod", true),
            ("env = dev", false),
            ("env!=dev", true),
            ("other!=dev", true),
            ("env!=prod", false),
            ("env in (dev, prod)", true),
            ("env notin (dev,prod)", false),
            ("other notin (dev)", true),
            ("other in (dev)", false),
            ("env=prod,example.com/tier in (web,api),!old", true),
            ("env=prod,old", false),
            ("env=", false),
        ] {
            assert_eq!(Selector::parse(text).expect(text).matches(&prod), matches, "{text}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in [
            "",
            "a,,b",
            "a in",
            "a in (b",
            "a in b)",
            "in (b)",
            "a of (b)",
            "a b",
            "-a",
            "a=b c",
            "a in ((b))",
            "a'",
            "/a",
            "a=\"b\"",
            "a/b/c",
            "cloudfoundry.org/x",
        ] {
            assert!(Selector::parse(text).is_err(), "{text:?}");
        }
        let many = vec!["a"; MAX_REQUIREMENTS + 1].join(",");
        assert!(Selector::parse(&many).is_err());
    }

    #[test]
    fn a_change_is_checked_before_anything_is_merged() {
        let mut there = Metadata {
            labels: labels(&[("a", "1"), ("b", "2")]),
            annotations: labels(&[("note", "long text, with: anything")]),
        };
        let mut change = Metadata {
            labels: labels(&[("c", "3")]),
            annotations: BTreeMap::new(),
        };
        change.labels.insert("a".to_owned(), None);
        merge(&mut there, &change).expect("valid");
        assert_eq!(there.labels, labels(&[("b", "2"), ("c", "3")]));
        for (key, value, error) in [
            ("", "x", "Metadata label key error: key cannot be empty string"),
            (
                "a b",
                "x",
                "Metadata label key error: 'a b' contains invalid characters",
            ),
            (
                "a",
                "x y",
                "Metadata label value error: 'x y' contains invalid characters",
            ),
            (
                "cloudfoundry.org/a",
                "x",
                "Metadata label key error: prefix 'cloudfoundry.org' is reserved",
            ),
        ] {
            let before = there.clone();
            let change = Metadata {
                labels: labels(&[("good", "1"), (key, value)]),
                annotations: BTreeMap::new(),
            };
            assert_eq!(merge(&mut there, &change), Err(error.to_owned()));
            assert_eq!(there, before);
        }
        let long = "x".repeat(MAX_ANNOTATION_BYTES + 1);
        let change = Metadata {
            labels: BTreeMap::new(),
            annotations: labels(&[("a", &long)]),
        };
        assert!(merge(&mut there, &change).is_err());
    }
}
