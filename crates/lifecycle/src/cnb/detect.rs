//! Runs `bin/detect` of every candidate at once, each exactly once, then picks the first group that passes.

use super::descriptor::Buildpack;
use super::order::Member;
use super::plan::{self, BuildPlan, Candidate, Resolved};
use super::process::Surroundings;
use crate::{Error, runner};
use std::collections::BTreeMap;
use std::path::Path;

/// Exit code of a bin/detect that declines.
const DECLINED: i32 = 100;
/// First minor version of the Buildpack API in which a buildpack need not have a bin/detect.
const DETECT_OPTIONAL: u32 = 10;
/// Longest text shown of what a bin/detect said.
const WORDS: usize = 200;
/// Longest text of a bin/detect that explains its failure.
const ALERTS: usize = 2000;

/// What a bin/detect answered.
#[derive(Debug, Clone)]
pub enum Answer {
    /// It takes part, with this plan; what it said it found.
    Passed(Box<BuildPlan>, String),
    /// It does not; what it said it looked for.
    Declined(String),
    /// It broke.
    Failed(String),
}

/// The group that builds.
#[derive(Debug, Default)]
pub struct Detected {
    /// Who takes part, and the plan between them.
    pub resolved: Resolved,
    /// What each said it found, by buildpack.
    pub found: BTreeMap<usize, String>,
}

/// Detects among `groups`. With `chosen` the user named the buildpacks: one that declines is run all the same.
///
/// # Errors
/// [`Error::NotDetected`], or [`Error::DetectFailed`] where nothing matched and something broke.
pub fn detect(
    buildpacks: &[Buildpack],
    groups: &[Vec<Member>],
    around: &Surroundings,
    tmp: &Path,
    chosen: bool,
) -> Result<Detected, Error> {
    let answers = ask_all(buildpacks, groups, around, tmp)?;
    let mut unresolved = None;
    for group in groups {
        let Some(candidates) = candidates(group, &answers, chosen) else {
            continue;
        };
        match plan::resolve(&candidates) {
            Ok(resolved) => {
                let found = resolved.buildpacks.iter().filter_map(|index| match answers.get(index) {
                    Some(Answer::Passed(_, text)) => Some((*index, text.clone())),
                    _ => None,
                });
                return Ok(Detected {
                    found: found.collect(),
                    resolved,
                });
            }
            Err(reason) => unresolved = Some((group[0].buildpack, reason)),
        }
    }
    let broken = answers.iter().find_map(|(index, answer)| match answer {
        Answer::Failed(reason) => Some((*index, reason.clone())),
        _ => None,
    });
    if let Some((index, reason)) = broken {
        return Err(Error::DetectFailed {
            buildpack: buildpacks[index].name.clone(),
            reason,
        });
    }
    let mut tried: Vec<(String, String)> = Vec::new();
    for (index, answer) in &answers {
        let reason = match (answer, &unresolved) {
            (Answer::Declined(reason), _) => reason.clone(),
            (_, Some((first, reason))) if first == index => reason.clone(),
            _ => continue,
        };
        tried.push((buildpacks[*index].name.clone(), reason));
    }
    Err(Error::NotDetected {
        tried,
        empty: is_empty(&around.app),
    })
}

/// The members of `group` that take part, or none where a required one does not.
fn candidates(group: &[Member], answers: &BTreeMap<usize, Answer>, chosen: bool) -> Option<Vec<Candidate>> {
    let mut candidates = Vec::new();
    for member in group {
        let plan = match answers.get(&member.buildpack) {
            Some(Answer::Passed(plan, _)) => (**plan).clone(),
            Some(Answer::Declined(_)) if chosen && !member.optional => BuildPlan::default(),
            _ if member.optional => continue,
            _ => return None,
        };
        candidates.push(Candidate {
            buildpack: member.buildpack,
            optional: member.optional,
            plan,
        });
    }
    (!candidates.is_empty()).then_some(candidates)
}

fn is_empty(app: &Path) -> bool {
    std::fs::read_dir(app).map_or(true, |mut entries| entries.next().is_none())
}

fn ask_all(
    buildpacks: &[Buildpack],
    groups: &[Vec<Member>],
    around: &Surroundings,
    tmp: &Path,
) -> Result<BTreeMap<usize, Answer>, Error> {
    let mut indices: Vec<usize> = groups.iter().flatten().map(|member| member.buildpack).collect();
    indices.sort_unstable();
    indices.dedup();
    let plans = tmp.join("plans");
    std::fs::create_dir_all(&plans).map_err(Error::file("create folder", &plans))?;
    Ok(std::thread::scope(|scope| {
        let threads: Vec<_> = indices
            .into_iter()
            .map(|index| {
                let plan = plans.join(format!("{index}.toml"));
                let buildpack = &buildpacks[index];
                (index, scope.spawn(move || ask(buildpack, around, &plan)))
            })
            .collect();
        threads
            .into_iter()
            .map(|(index, thread)| {
                let answer = thread.join();
                (
                    index,
                    answer.unwrap_or_else(|_| Answer::Failed("the detection was interrupted".to_owned())),
                )
            })
            .collect()
    }))
}

fn ask(buildpack: &Buildpack, around: &Surroundings, plan: &Path) -> Answer {
    if buildpack.api >= DETECT_OPTIONAL && !buildpack.dir.join("bin/detect").exists() {
        // Without a bin/detect a buildpack always takes part.
        return Answer::Passed(Box::default(), String::new());
    }
    if let Err(error) = std::fs::write(plan, "") {
        return Answer::Failed(format!("its plan could not be created: {error}"));
    }
    let mut command = around.command(buildpack, "detect", &around.base);
    command.arg(&around.platform).arg(plan).env("CNB_BUILD_PLAN_PATH", plan);
    let said = match runner::run_quiet(&mut command) {
        Ok(said) => said,
        Err(error) => return Answer::Failed(format!("bin/detect could not be started: {error}")),
    };
    let words = first_words(&said.stdout);
    match said.status.code() {
        Some(0) => {
            let text = std::fs::read_to_string(plan).unwrap_or_default();
            match toml::from_str::<BuildPlan>(&text) {
                Ok(plan) => Answer::Passed(Box::new(plan), words),
                Err(error) => Answer::Failed(format!("its build plan is invalid: {}", error.message())),
            }
        }
        Some(DECLINED) if words.is_empty() => Answer::Declined("it does not match".to_owned()),
        Some(DECLINED) => Answer::Declined(words),
        _ => Answer::Failed(alerts(&said.stdout).unwrap_or_else(|| {
            let last = first_words(&last_line(&said.stderr, &said.stdout));
            format!("bin/detect ended with {}: {last}", runner::describe(said.status))
        })),
    }
}

/// What the buildpack itself says of its failure, in lines that begin with ` !`.
fn alerts(text: &str) -> Option<String> {
    let alerts: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix('!'))
        .map(str::trim)
        .collect();
    let all = alerts.join("\n");
    (!all.is_empty()).then(|| all.chars().take(ALERTS).collect())
}

fn first_words(text: &str) -> String {
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(WORDS).collect()
}

fn last_line(stderr: &str, stdout: &str) -> String {
    let last = |text: &str| {
        text.lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .map(str::to_owned)
    };
    last(stderr).or_else(|| last(stdout)).unwrap_or_default()
}
