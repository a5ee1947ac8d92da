//! Which Ruby the app wants, said by whom, and which of those that can be had that is.

use crate::lock::Lock;
use buildpack_kit::app::{first_line, read_text, tool_version};
use buildpack_kit::source::Release;
use buildpack_kit::{Failure, Result, Variables, Version, output};
use std::path::Path;

/// What the app wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// As written.
    pub text: String,
    /// Where it is written.
    pub said_by: &'static str,
    conditions: Vec<(Operator, Version)>,
    /// Whether another patch of the same line will do: Bundler insists only on what the Gemfile says.
    lenient: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Greater,
    AtLeast,
    Less,
    AtMost,
    /// `~>`: at least this, and only its last number may grow.
    Near,
}

const OPERATORS: [(&str, Operator); 7] = [
    (">=", Operator::AtLeast),
    ("<=", Operator::AtMost),
    ("~>", Operator::Near),
    ("!=", Operator::NotEqual),
    (">", Operator::Greater),
    ("<", Operator::Less),
    ("=", Operator::Equal),
];

/// `ruby` in the Gemfile, `BP_RUBY_VERSION`, `.ruby-version`, `.tool-versions`, `Gemfile.lock`; else what there is.
///
/// # Errors
/// Where what is written is no version of Ruby.
pub fn wanted(app: &Path, variables: &Variables) -> Result<Wanted> {
    if let Some(text) = variables.get("BP_RUBY_VERSION") {
        return parse(text, "BP_RUBY_VERSION", true);
    }
    let gemfile = read_text(app, "Gemfile")?.unwrap_or_default();
    if let Some(said) = directive(&gemfile) {
        return match said {
            Said::Version(text) => parse(&text, "Gemfile", false),
            Said::File(name) => {
                let line = if name == ".tool-versions" {
                    tool_version(app, &["ruby"])?
                } else {
                    first_line(app, &name)?
                };
                parse(&line.unwrap_or_default(), "the file that the Gemfile names", false)
            }
        };
    }
    if let Some(line) = first_line(app, ".ruby-version")? {
        return parse(&line, ".ruby-version", true);
    }
    if let Some(text) = tool_version(app, &["ruby"])? {
        return parse(&text, ".tool-versions", true);
    }
    match Lock::read(app)?.and_then(|lock| lock.ruby) {
        Some(text) => parse(&text, "Gemfile.lock", true),
        None => Ok(Wanted {
            text: "3".to_owned(),
            said_by: "default",
            conditions: Vec::new(),
            lenient: true,
        }),
    }
}

enum Said {
    Version(String),
    File(String),
}

/// The line `ruby "3.1"` or `ruby file: ".ruby-version"` of a Gemfile.
fn directive(gemfile: &str) -> Option<Said> {
    let line = gemfile.lines().map(str::trim).find_map(|line| {
        let rest = line.strip_prefix("ruby")?;
        rest.starts_with([' ', '(', '"', '\'']).then_some(rest)
    })?;
    let line = line.split('#').next().unwrap_or_default();
    let quoted: Vec<&str> = line.split(['"', '\'']).skip(1).step_by(2).collect();
    if let Some(before) = line.split(['"', '\'']).next().filter(|before| before.contains("file:")) {
        let _ = before;
        return quoted.first().map(|name| Said::File((*name).to_owned()));
    }
    // Engines other than Ruby's own are said behind the version.
    let versions = quoted
        .iter()
        .filter(|text| text.starts_with(|c: char| c.is_ascii_digit() || "<>=~!".contains(c)));
    let text: Vec<&str> = versions.copied().collect();
    let odd = quoted.first().copied().unwrap_or_default();
    Some(Said::Version(if text.is_empty() {
        odd.to_owned()
    } else {
        text.join(", ")
    }))
}

fn parse(text: &str, said_by: &'static str, lenient: bool) -> Result<Wanted> {
    let odd = || {
        Failure::new(
            format!("{said_by} asks for Ruby {text:?}, which is no version of a release"),
            "Write a version such as 3.1.2, or a range such as \"~> 3.1\".",
        )
    };
    let text = text.trim();
    let condition = |part: &str| {
        let part = part.trim();
        let (operator, version) = OPERATORS
            .iter()
            .find_map(|(sign, operator)| Some((*operator, part.strip_prefix(sign)?)))
            .unwrap_or((Operator::Equal, part));
        let version = version.trim();
        let version = version
            .strip_prefix("ruby-")
            .or(version.strip_prefix("ruby "))
            .unwrap_or(version);
        // A patch level, as old releases have it: 3.1.2p20.
        let version = version.split(['p', '-']).next().unwrap_or_default();
        Some((operator, Version::parse(version)?))
    };
    let conditions: Option<Vec<_>> = text.split(',').map(condition).collect();
    Ok(Wanted {
        text: text.to_owned(),
        said_by,
        conditions: conditions.filter(|all| all.len() <= 8).ok_or_else(odd)?,
        lenient,
    })
}

impl Wanted {
    fn allows(&self, version: &Version) -> bool {
        self.conditions.iter().all(|(operator, named)| match operator {
            // `3.1` as a version is any of its line, since nobody releases that.
            Operator::Equal if named.parts() < 3 => version.is_of(named),
            Operator::Equal => version == named,
            Operator::NotEqual => version != named,
            Operator::Greater => version > named,
            Operator::AtLeast => version >= named,
            Operator::Less => version < named,
            Operator::AtMost => version <= named,
            Operator::Near => version >= named && version.is_of(&named.line(named.parts().saturating_sub(1).max(1))),
        })
    }

    fn is_near(&self, version: &Version) -> bool {
        let same_line =
            |(operator, named): &(Operator, Version)| *operator == Operator::Equal && version.is_of(&named.line(2));
        self.lenient && !self.conditions.is_empty() && self.conditions.iter().all(same_line)
    }

    /// The newest that is allowed; where a file for people says a patch that cannot be had, another of its line.
    ///
    /// # Errors
    /// Where none will do.
    pub fn choose(&self, releases: &[Release]) -> Result<Release> {
        let mut published: Vec<(Version, &Release)> = releases
            .iter()
            .filter_map(|release| Some((Version::parse(&release.version)?, release)))
            .collect();
        published.sort_by(|a, b| b.0.cmp(&a.0));
        if let Some((_, release)) = published.iter().find(|(version, _)| self.allows(version)) {
            return Ok((*release).clone());
        }
        if let Some((_, release)) = published.iter().find(|(version, _)| self.is_near(version)) {
            output::alert(&format!(
                "Ruby {} ({}) cannot be had here; {} is taken.",
                self.text, self.said_by, release.version
            ));
            return Ok((*release).clone());
        }
        let there: Vec<&str> = published.iter().map(|(_, release)| release.version.as_str()).collect();
        Err(Failure::new(
            format!(
                "Ruby {} ({}) cannot be had on this stack; there is {}",
                self.text,
                self.said_by,
                there.join(", ")
            ),
            "Ask for a range that has it in it, such as ruby \"~> 3.1\"; or use a stack of another release of Debian, which has another Ruby.",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use buildpack_kit::http::Integrity;
    use buildpack_kit::source::{Form, Root};

    fn chosen(text: &str, lenient: bool) -> Option<String> {
        let release = |version: &str| Release {
            version: version.to_owned(),
            url: String::new(),
            integrity: Integrity::Sha256(Vec::new()),
            form: Form::Deb,
            root: Root::Strip(0),
        };
        let wanted = parse(text, "test", lenient).ok()?;
        wanted.choose(&[release("3.1.7")]).ok().map(|release| release.version)
    }

    #[test]
    fn ranges_are_read_as_bundler_reads_them() {
        for (text, lenient, fits) in [
            ("3.1", false, true),
            ("3.1.7", false, true),
            ("3.1.2", false, false),
            ("3.1.2", true, true),
            ("ruby-3.1.2p20", true, true),
            ("3.2.0", true, false),
            ("~> 3.1", false, true),
            ("~> 3.1.2", false, true),
            ("~> 3.0.0", false, false),
            (">= 2.7, < 4", false, true),
            ("< 3", false, false),
            ("!= 3.1.7", false, false),
            ("three", false, false),
            ("", false, false),
        ] {
            assert_eq!(chosen(text, lenient).is_some(), fits, "{text} {lenient}");
        }
    }

    #[test]
    fn the_first_that_says_something_wins() {
        let folder = tempfile::tempdir().unwrap();
        let app = folder.path();
        let said = |variables: &Variables| {
            let wanted = wanted(app, variables).unwrap();
            format!("{} {}", wanted.text, wanted.said_by)
        };
        let none = Variables::default();
        assert_eq!(said(&none), "3 default");
        std::fs::write(
            app.join("Gemfile.lock"),
            "GEM\n  specs:\n\nRUBY VERSION\n   ruby 3.1.2p20\n",
        )
        .unwrap();
        assert_eq!(said(&none), "3.1.2p20 Gemfile.lock");
        std::fs::write(app.join(".ruby-version"), "ruby-3.1.4\n").unwrap();
        assert_eq!(said(&none), "ruby-3.1.4 .ruby-version");
        std::fs::write(app.join("Gemfile"), "source 'x'\nruby '>= 3.0', '< 4' # why\n").unwrap();
        assert_eq!(said(&none), ">= 3.0, < 4 Gemfile");
        std::fs::write(app.join("Gemfile"), "ruby file: \".ruby-version\"\n").unwrap();
        assert_eq!(said(&none), "ruby-3.1.4 the file that the Gemfile names");
        let variables = Variables([("BP_RUBY_VERSION".into(), "3.3".into())].into());
        assert_eq!(said(&variables), "3.3 BP_RUBY_VERSION");
    }
}
