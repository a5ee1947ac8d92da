//! The build plan: what buildpacks provide to and require from each other decides which of a group take part.
//!
//! Pure: it knows indices into a group and TOML, no files.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most combinations of alternatives that are tried.
const TRIALS: usize = 10_000;

/// What a bin/detect wrote.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct BuildPlan {
    /// The first choice.
    #[serde(flatten)]
    pub first: Choice,
    /// `[[or]]`: further choices.
    #[serde(default, rename = "or")]
    pub others: Vec<Choice>,
}

/// One alternative of a plan.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Choice {
    /// `[[provides]]`.
    #[serde(default)]
    pub provides: Vec<Provide>,
    /// `[[requires]]`.
    #[serde(default)]
    pub requires: Vec<Require>,
}

/// `[[provides]]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Provide {
    /// Such as `node`.
    pub name: String,
}

/// `[[requires]]`, and what a provider is told of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Require {
    /// Such as `node`.
    pub name: String,
    /// Whatever the two agreed upon.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub metadata: toml::Table,
}

/// A buildpack whose detection passed.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// What the caller knows it by.
    pub buildpack: usize,
    /// Whether the group also works without it.
    pub optional: bool,
    /// Its plan.
    pub plan: BuildPlan,
}

/// Who takes part, and what each name is about.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Resolved {
    /// Buildpacks in order.
    pub buildpacks: Vec<usize>,
    /// By name: who provides it and who asked for it.
    pub entries: BTreeMap<String, Entry>,
}

/// One name of a resolved plan.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Entry {
    /// Buildpacks that provide it, in order.
    pub providers: Vec<usize>,
    /// What they are told.
    pub requires: Vec<Require>,
}

/// Tries every combination of alternatives, the first choices first, the last buildpack's varying fastest.
///
/// # Errors
/// The reason of the last trial, in words.
pub fn resolve(candidates: &[Candidate]) -> Result<Resolved, String> {
    let choices: Vec<Vec<&Choice>> = candidates
        .iter()
        .map(|candidate| {
            std::iter::once(&candidate.plan.first)
                .chain(&candidate.plan.others)
                .collect()
        })
        .collect();
    let mut picks = vec![0; candidates.len()];
    for _ in 0..TRIALS {
        let trial = picks
            .iter()
            .enumerate()
            .map(|(at, &pick)| (at, choices[at][pick]))
            .collect();
        let reason = match run_trial(candidates, trial) {
            Ok(resolved) => return Ok(resolved),
            Err(reason) => reason,
        };
        let Some(at) = (0..picks.len()).rev().find(|&at| picks[at] + 1 < choices[at].len()) else {
            return Err(reason);
        };
        picks[at] += 1;
        picks[at + 1..].fill(0);
    }
    Err("its plans have too many alternatives".to_owned())
}

/// Drops optional buildpacks whose needs are not met until all are, or a required one's are not.
fn run_trial(candidates: &[Candidate], mut trial: Vec<(usize, &Choice)>) -> Result<Resolved, String> {
    loop {
        if trial.is_empty() {
            return Err("no buildpack of the group passed".to_owned());
        }
        let (entries, offenders) = connect(&trial);
        if offenders.is_empty() {
            let caller = |at: &usize| candidates[*at].buildpack;
            return Ok(Resolved {
                buildpacks: trial.iter().map(|(at, _)| caller(at)).collect(),
                entries: entries
                    .into_iter()
                    .map(|(name, entry)| {
                        let providers = entry.providers.iter().map(caller).collect();
                        (name, Entry { providers, ..entry })
                    })
                    .collect(),
            });
        }
        for (at, reason) in &offenders {
            if !candidates[*at].optional {
                return Err(reason.clone());
            }
        }
        trial.retain(|(at, _)| !offenders.iter().any(|(offender, _)| offender == at));
    }
}

/// Connects requirements with what was provided before or by the same buildpack; what stays loose is an offence.
fn connect(trial: &[(usize, &Choice)]) -> (BTreeMap<String, Entry>, Vec<(usize, String)>) {
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    let mut unused: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut offenders = Vec::new();
    for (at, choice) in trial {
        for provide in &choice.provides {
            unused.entry(&provide.name).or_default().push(*at);
        }
        for require in &choice.requires {
            let entry = entries.entry(require.name.clone()).or_default();
            entry
                .providers
                .extend(unused.remove(require.name.as_str()).unwrap_or_default());
            if entry.providers.is_empty() {
                offenders.push((
                    *at,
                    format!("nothing before it provides {:?}, which it requires", require.name),
                ));
            } else {
                entry.requires.push(require.clone());
            }
        }
    }
    for (name, providers) in unused {
        for at in providers {
            offenders.push((at, format!("nothing after it requires {name:?}, which it provides")));
        }
    }
    (entries, offenders)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+x,-y|+z` is a required buildpack providing x and requiring y, or else providing z; `?` makes it optional.
    fn candidates(text: &str) -> Vec<Candidate> {
        let choice = |text: &str| {
            let mut choice = Choice::default();
            for part in text.split(',') {
                match part.split_at_checked(1) {
                    Some(("+", name)) => choice.provides.push(Provide { name: name.to_owned() }),
                    Some(("-", name)) => choice.requires.push(Require {
                        name: name.to_owned(),
                        metadata: toml::Table::new(),
                    }),
                    _ => {}
                }
            }
            choice
        };
        text.split_whitespace()
            .enumerate()
            .map(|(buildpack, text)| {
                let (text, optional) = text.strip_suffix('?').map_or((text, false), |text| (text, true));
                let mut choices = text.split('|').map(choice);
                Candidate {
                    buildpack,
                    optional,
                    plan: BuildPlan {
                        first: choices.next().unwrap(),
                        others: choices.collect(),
                    },
                }
            })
            .collect()
    }

    fn members(text: &str) -> Option<Vec<usize>> {
        resolve(&candidates(text)).ok().map(|resolved| resolved.buildpacks)
    }

    #[test]
    fn requirements_are_met_by_earlier_ones_and_oneself() {
        assert_eq!(members("+node -node"), Some(vec![0, 1]));
        assert_eq!(members("+node,-node"), Some(vec![0]));
        assert_eq!(members("-node +node"), None);
        assert_eq!(members("+node"), None);
        assert_eq!(members("."), Some(vec![0]));
    }

    #[test]
    fn optional_offenders_are_dropped_in_turn() {
        assert_eq!(members("+a? -b?  ."), Some(vec![2]));
        // Dropping the one that requires leaves the other with nobody to provide to.
        assert_eq!(members("+a? -a,-b? ."), Some(vec![2]));
        assert_eq!(members("+a?"), None);
    }

    #[test]
    fn alternatives_are_tried_in_order() {
        assert_eq!(members("+a|. -b|-a"), Some(vec![0, 1]));
        assert_eq!(members("+a|+b -c|-b"), Some(vec![0, 1]));
        let resolved = resolve(&candidates("+a|. .|-a")).unwrap();
        assert_eq!(resolved.entries["a"].providers, [0]);
    }

    #[test]
    fn all_providers_of_a_name_get_all_requirements() {
        let resolved = resolve(&candidates("+a +a -a -a")).unwrap();
        assert_eq!(resolved.entries["a"].providers, [0, 1]);
        assert_eq!(resolved.entries["a"].requires.len(), 2);
    }

    #[test]
    fn a_plan_is_read_as_written() {
        let text =
            "[[provides]]\nname = 'a'\n[[or]]\n[[or.requires]]\nname = 'b'\n[or.requires.metadata]\nversion = 1\n";
        let plan: BuildPlan = toml::from_str(text).unwrap();
        assert_eq!(plan.first.provides[0].name, "a");
        assert_eq!(plan.others[0].requires[0].metadata["version"].as_integer(), Some(1));
    }
}
