//! Walks a YAML document by key, noting where it is and what is wrong. Knows no keys of its own.

use super::Problem;
use serde_yaml::{Mapping, Value};
use std::cell::RefCell;

/// What was found wrong so far.
#[derive(Default)]
pub(super) struct Report(RefCell<Vec<Problem>>);

impl Report {
    pub(super) fn add(&self, place: &str, message: impl Into<String>, hint: Option<String>) {
        self.0.borrow_mut().push(Problem {
            place: place.to_owned(),
            message: message.into(),
            hint,
        });
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}

/// A map of the document, at its place.
pub(super) struct Map<'a> {
    pub(super) map: &'a Mapping,
    pub(super) place: String,
    pub(super) report: &'a Report,
}

impl<'a> Map<'a> {
    /// `value` as a map; a problem where it is another thing.
    pub(super) fn of(value: &'a Value, place: String, report: &'a Report) -> Option<Self> {
        match value {
            Value::Mapping(map) => Some(Self { map, place, report }),
            other => {
                report.add(&place, format!("has to be a map of keys, not {}", kind(other)), None);
                None
            }
        }
    }

    /// Notes every key that is not in `known`, with the known one that it resembles.
    pub(super) fn only(&self, known: &[&str]) {
        for key in self.map.keys() {
            let Value::String(key) = key else {
                self.report.add(&self.place, "every key has to be a text", None);
                continue;
            };
            if !known.contains(&key.as_str()) {
                let hint = nearest(key, known).map(|near| format!("did you mean {near:?}?"));
                self.report.add(&self.at(key), "unknown key", hint);
            }
        }
    }

    pub(super) fn at(&self, key: &str) -> String {
        if self.place.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.place)
        }
    }

    /// The value of a key; absent and `null` are alike.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    fn wrong(&self, key: &str, wanted: &str, value: &Value) {
        self.report
            .add(&self.at(key), format!("has to be {wanted}, not {}", kind(value)), None);
    }

    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        let value = self.get(key)?;
        if value.as_str().is_none() {
            self.wrong(key, "a text", value);
        }
        value.as_str()
    }

    /// A text that parses.
    pub(super) fn parsed<T, E: std::fmt::Display>(&self, key: &str, parse: impl Fn(&str) -> Result<T, E>) -> Option<T> {
        match parse(self.text(key)?) {
            Ok(value) => Some(value),
            Err(error) => {
                self.report.add(&self.at(key), error.to_string(), None);
                None
            }
        }
    }

    pub(super) fn truth(&self, key: &str) -> bool {
        let Some(value) = self.get(key) else { return false };
        if value.as_bool().is_none() {
            self.wrong(key, "true or false", value);
        }
        value.as_bool().unwrap_or(false)
    }

    /// A whole number within bounds.
    pub(super) fn number(&self, key: &str, least: u32, most: u32) -> Option<u32> {
        let value = self.get(key)?;
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        match number {
            Some(number) if (least..=most).contains(&number) => Some(number),
            _ if value.is_number() => {
                self.report
                    .add(&self.at(key), format!("has to be between {least} and {most}"), None);
                None
            }
            _ => {
                self.wrong(key, "a whole number", value);
                None
            }
        }
    }

    /// The entries of a list, each with its place.
    pub(super) fn list(&self, key: &str, most: usize) -> Option<Vec<(String, &'a Value)>> {
        let value = self.get(key)?;
        let Some(list) = value.as_sequence() else {
            self.wrong(key, "a list", value);
            return None;
        };
        if list.len() > most {
            self.report.add(
                &self.at(key),
                format!("has {} entries, at most {most} are allowed", list.len()),
                None,
            );
            return None;
        }
        let place = self.at(key);
        Some(
            list.iter()
                .enumerate()
                .map(|(n, value)| (format!("{place}[{n}]"), value))
                .collect(),
        )
    }

    pub(super) fn texts(&self, key: &str, most: usize) -> Option<Vec<&'a str>> {
        let mut texts = Vec::new();
        for (place, value) in self.list(key, most)? {
            match value.as_str() {
                Some(text) => texts.push(text),
                None => self
                    .report
                    .add(&place, format!("has to be a text, not {}", kind(value)), None),
            }
        }
        Some(texts)
    }

    pub(super) fn map(&self, key: &str) -> Option<Map<'a>> {
        Map::of(self.get(key)?, self.at(key), self.report)
    }
}

/// What a value is, for messages; never the value itself.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "a map",
        Value::Tagged(_) => "a tagged value",
    }
}

fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let key = key.to_ascii_lowercase().replace('_', "-");
    known
        .iter()
        .map(|known| (distance(&key, known), *known))
        .filter(|(distance, known)| *distance <= 1 + known.len() / 5)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Insertions, removals and replacements from one to the other.
fn distance(from: &str, to: &str) -> usize {
    // Longer ones are no slip of the hand, and their cost is the product of the lengths.
    if from.len() > 64 {
        return usize::MAX;
    }
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (n, have) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = n + 1;
        for (m, want) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(have != *want);
            diagonal = row[m + 1];
            row[m + 1] = replaced.min(row[m] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}
