//! Ranges of versions as Composer writes them: `^8.1`, `~8.2.0 || 8.4.*`, `>=8.1 <9`.

use buildpack_kit::Version;

/// Most alternatives, and most conditions of each.
const MOST: usize = 16;

/// A range: one of several sets of conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint(Vec<Vec<Condition>>);

type Make = fn(Version) -> Condition;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    AtLeast(Version),
    Above(Version),
    Below(Version),
    AtMost(Version),
    Not(Version),
    /// Begins with these numbers.
    Of(Version),
    Any,
}

impl Constraint {
    /// Reads one; `None` where it cannot be understood.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let alternatives = text.replace("||", "|");
        let sets: Option<Vec<_>> = alternatives.split('|').map(set).collect();
        sets.filter(|sets| sets.len() <= MOST).map(Self)
    }

    /// Whether `version` is in the range.
    #[must_use]
    pub fn allows(&self, version: &Version) -> bool {
        let meets = |condition: &Condition| match condition {
            Condition::AtLeast(named) => version >= named,
            Condition::Above(named) => version > named,
            Condition::Below(named) => version < named,
            Condition::AtMost(named) => version <= named,
            Condition::Not(named) => version != named,
            Condition::Of(named) => version.is_of(named),
            Condition::Any => true,
        };
        self.0.iter().any(|set| set.iter().all(meets))
    }
}

fn set(text: &str) -> Option<Vec<Condition>> {
    if let Some((from, to)) = text.split_once(" - ") {
        let to = number(to)?;
        // A short end means all of its line.
        let end = if to.parts() < 3 {
            Condition::Below(after(&to, to.parts()))
        } else {
            Condition::AtMost(to)
        };
        return Some(vec![Condition::AtLeast(number(from)?), end]);
    }
    let mut joined = text.replace(',', " ");
    for sign in [">=", "<=", "!=", ">", "<", "=", "^", "~"] {
        while joined.contains(&format!("{sign} ")) {
            joined = joined.replace(&format!("{sign} "), sign);
        }
    }
    let words: Vec<&str> = joined.split_whitespace().collect();
    if words.is_empty() || words.len() > MOST {
        return None;
    }
    let conditions: Option<Vec<Vec<Condition>>> = words.into_iter().map(condition).collect();
    Some(conditions?.into_iter().flatten().collect())
}

fn condition(word: &str) -> Option<Vec<Condition>> {
    let word = word.split('@').next().unwrap_or_default();
    if let Some(rest) = word.strip_prefix('^') {
        let from = number(rest)?;
        let fixed = if from.part(0) == 0 { 2 } else { 1 };
        let below = after(&from, fixed);
        return Some(vec![Condition::AtLeast(from), Condition::Below(below)]);
    }
    if let Some(rest) = word.strip_prefix('~') {
        let from = number(rest)?;
        let below = after(&from, from.parts().saturating_sub(1).max(1));
        return Some(vec![Condition::AtLeast(from), Condition::Below(below)]);
    }
    let signs: [(&str, Make); 5] = [
        (">=", Condition::AtLeast),
        ("<=", Condition::AtMost),
        ("!=", Condition::Not),
        (">", Condition::Above),
        ("<", Condition::Below),
    ];
    if let Some((make, rest)) = signs
        .iter()
        .find_map(|(sign, make)| Some((make, word.strip_prefix(sign)?)))
    {
        return Some(vec![make(number(rest)?)]);
    }
    let word = word.trim_start_matches('=');
    let line = word.trim_end_matches(".*").trim_end_matches(".x");
    match line {
        "*" | "x" => Some(vec![Condition::Any]),
        // A version of two numbers means the release without a third, which nobody could ask for on purpose.
        line => Some(vec![Condition::Of(number(line)?)]),
    }
}

fn number(text: &str) -> Option<Version> {
    let text = text.trim();
    Version::parse(text.split(['-', '+']).next().unwrap_or(text))
}

/// The first version behind all that begin with the first `count` numbers of `version`.
fn after(version: &Version, count: usize) -> Version {
    let mut parts: Vec<String> = (0..count).map(|index| version.part(index).to_string()).collect();
    if let Some(last) = parts.last_mut() {
        *last = (version.part(count - 1) + 1).to_string();
    }
    Version::parse(&parts.join(".")).unwrap_or_else(|| version.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_composer_reads_them() {
        let version = Version::parse("8.2.36").unwrap();
        for (text, allowed) in [
            ("^8.1", Some(true)),
            ("^8.3", Some(false)),
            ("^7.4 || ^8.0", Some(true)),
            ("^7.4|^8.0", Some(true)),
            ("~8.2.0", Some(true)),
            ("~8.1.0", Some(false)),
            ("~8.1", Some(true)),
            ("8.2.*", Some(true)),
            ("8.2", Some(true)),
            ("8.2.1", Some(false)),
            (">=7.4", Some(true)),
            (">= 8.1, < 8.3", Some(true)),
            (">=8.1 <8.2", Some(false)),
            ("8.1 - 8.2", Some(true)),
            ("8.0 - 8.1", Some(false)),
            ("!=8.2.36", Some(false)),
            ("*", Some(true)),
            (">=8.1@stable", Some(true)),
            ("banana", None),
            ("", None),
        ] {
            let found = Constraint::parse(text).map(|constraint| constraint.allows(&version));
            assert_eq!(found, allowed, "{text}");
        }
    }
}
