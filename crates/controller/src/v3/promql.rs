//! The part of PromQL that is understood: one metric of one app, as it is now, and what it comes to over the instances.
//! No history of metrics is kept, so nothing that looks back is; whatever else is written is refused, not guessed.
//!
//! ```text
//! memory{source_id="<app>"}    avg(cpu{source_id="<app>"})    max by (process_type) (disk{source_id="<app>"})
//! ```

use api::v3::InstanceStats;
use api::v3::logcache::Sample;
use model::Timestamp;
use serde_json::json;
use std::collections::BTreeMap;

/// Longest query, in bytes.
const MAX_BYTES: usize = 4096;
const LABELS: [&str; 3] = ["source_id", "instance_id", "process_type"];
const METRICS: [&str; 7] = [
    "cpu",
    "memory",
    "memory_quota",
    "disk",
    "disk_quota",
    "log_rate",
    "log_rate_limit",
];
const AGGREGATES: [&str; 5] = ["avg", "sum", "min", "max", "count"];

/// A query that is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The app.
    pub source: String,
    metric: String,
    /// What other labels have to be.
    labels: BTreeMap<String, String>,
    /// What the values come to, apart for each value of these labels.
    aggregate: Option<(String, Vec<String>)>,
}

/// A name, a text, or a sign.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Name(String),
    Text(String),
    Sign(char),
}

fn tokens(query: &str) -> Result<Vec<Token>, String> {
    if query.len() > MAX_BYTES {
        return Err(format!("a query has at most {MAX_BYTES} bytes"));
    }
    let mut tokens = Vec::new();
    let mut letters = query.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' | '\t' | '\n' | '\r' => {}
            '"' | '\'' => {
                let text: String = letters.by_ref().take_while(|next| *next != letter).collect();
                if text.contains('\\') {
                    return Err("texts have no escapes".to_owned());
                }
                tokens.push(Token::Text(text));
            }
            'a'..='z' | 'A'..='Z' | '_' => {
                let mut name = letter.to_string();
                while let Some(next) = letters.next_if(|next| next.is_ascii_alphanumeric() || *next == '_') {
                    name.push(next);
                }
                tokens.push(Token::Name(name));
            }
            '{' | '}' | '(' | ')' | ',' | '=' => tokens.push(Token::Sign(letter)),
            '[' => return Err("no history is kept: ask for what is now, without a range".to_owned()),
            other => return Err(format!("{other:?} is not understood here")),
        }
    }
    Ok(tokens)
}

/// What is left of a query.
struct Rest(std::iter::Peekable<std::vec::IntoIter<Token>>);

impl Rest {
    fn sign(&mut self, sign: char) -> Result<(), String> {
        match self.0.next() {
            Some(Token::Sign(found)) if found == sign => Ok(()),
            _ => Err(format!("{sign:?} is missing")),
        }
    }

    fn name(&mut self, what: &str) -> Result<String, String> {
        match self.0.next() {
            Some(Token::Name(name)) => Ok(name),
            _ => Err(format!("{what} is missing")),
        }
    }

    fn is(&mut self, token: &Token) -> bool {
        self.0.next_if_eq(token).is_some()
    }

    /// `by (label, label)`, where it stands.
    fn by(&mut self) -> Result<Option<Vec<String>>, String> {
        if !self.is(&Token::Name("by".to_owned())) {
            return Ok(None);
        }
        self.sign('(')?;
        let mut labels = Vec::new();
        loop {
            labels.push(label(self.name("a label")?)?);
            if !self.is(&Token::Sign(',')) {
                break;
            }
        }
        self.sign(')')?;
        Ok(Some(labels))
    }

    /// `metric{label="value"}`.
    fn selector(&mut self) -> Result<Wanted, String> {
        let metric = self.name("a metric")?;
        if !METRICS.contains(&metric.as_str()) {
            return Err(format!("{metric:?} is no metric; there are {}", METRICS.join(", ")));
        }
        let mut labels = BTreeMap::new();
        self.sign('{')?;
        while !self.is(&Token::Sign('}')) {
            let name = label(self.name("a label")?)?;
            self.sign('=')?;
            let Some(Token::Text(value)) = self.0.next() else {
                return Err(format!("{name} has to be equal to a text"));
            };
            labels.insert(name, value);
            if !self.is(&Token::Sign(',')) {
                self.sign('}')?;
                break;
            }
        }
        let source = labels
            .remove("source_id")
            .ok_or("the query does not request any source_ids")?;
        Ok(Wanted {
            source,
            metric,
            labels,
            aggregate: None,
        })
    }
}

fn label(name: String) -> Result<String, String> {
    if LABELS.contains(&name.as_str()) {
        Ok(name)
    } else {
        Err(format!("{name:?} is no label; there are {}", LABELS.join(", ")))
    }
}

/// Reads a query.
///
/// # Errors
/// What is not understood.
pub(super) fn parse(query: &str) -> Result<Wanted, String> {
    let mut rest = Rest(tokens(query)?.into_iter().peekable());
    let aggregate = match rest.0.peek() {
        Some(Token::Name(name)) if AGGREGATES.contains(&name.as_str()) => Some(rest.name("a name")?),
        _ => None,
    };
    let wanted = match aggregate {
        None => rest.selector()?,
        Some(aggregate) => {
            let before = rest.by()?;
            rest.sign('(')?;
            let wanted = rest.selector()?;
            rest.sign(')')?;
            let by = before.or(rest.by()?).unwrap_or_default();
            Wanted {
                aggregate: Some((aggregate, by)),
                ..wanted
            }
        }
    };
    match rest.0.next() {
        None => Ok(wanted),
        Some(_) => Err("there is more than one metric; ask for each by itself".to_owned()),
    }
}

/// Numbers of this size are told exactly by a float.
fn float(number: u64) -> f64 {
    number as f64
}

impl Wanted {
    fn value(&self, of: &InstanceStats) -> Option<f64> {
        let used = of.usage.as_ref();
        match self.metric.as_str() {
            // Of one core, in percent.
            "cpu" => used.map(|used| used.cpu * 100.0),
            "memory" => used.map(|used| float(used.mem)),
            "disk" => used.map(|used| float(used.disk)),
            "log_rate" => used.map(|used| float(used.log_rate)),
            "memory_quota" => of.mem_quota.map(float),
            "disk_quota" => of.disk_quota.map(float),
            _ => of.log_rate_limit.map(|limit| limit as f64),
        }
    }

    /// The values of those instances that run, or what they come to.
    pub fn answer(&self, instances: &[InstanceStats], now: Timestamp) -> Vec<Sample> {
        let mut groups: BTreeMap<BTreeMap<String, String>, Vec<f64>> = BTreeMap::new();
        for of in instances.iter().filter(|of| of.usage.is_some()) {
            let all = [
                ("source_id", self.source.clone()),
                ("instance_id", of.index.to_string()),
                ("process_type", of.process_type.clone()),
            ];
            let labels: BTreeMap<String, String> = all.map(|(name, value)| (name.to_owned(), value)).into();
            if self.labels.iter().any(|(name, value)| labels.get(name) != Some(value)) {
                continue;
            }
            let kept = match &self.aggregate {
                None => labels,
                Some((_, by)) => labels.into_iter().filter(|(name, _)| by.contains(name)).collect(),
            };
            groups.entry(kept).or_default().extend(self.value(of));
        }
        let groups = groups.into_iter().filter(|(_, values)| !values.is_empty());
        groups
            .map(|(mut metric, values)| {
                let sum: f64 = values.iter().sum();
                let value = match self.aggregate.as_ref().map(|(aggregate, _)| aggregate.as_str()) {
                    Some("avg") => sum / float(values.len() as u64),
                    Some("count") => float(values.len() as u64),
                    Some("min") => values.iter().copied().fold(f64::INFINITY, f64::min),
                    Some("max") => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                    _ => sum,
                };
                if self.aggregate.is_none() {
                    metric.insert("__name__".to_owned(), self.metric.clone());
                }
                let at = now.unix_timestamp_nanos() as f64 / 1e9;
                Sample {
                    metric,
                    value: vec![json!(at), json!(value.to_string())],
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::v3::Stats;

    fn instances() -> Stats {
        let one = |kind: &str, index: u32, cpu: f64, mem: u64| {
            json!({"type": kind, "index": index, "state": "RUNNING", "mem_quota": 100, "usage":
                {"time": "2026-01-01T00:00:00Z", "cpu": cpu, "mem": mem, "disk": 5, "log_rate": 0}})
        };
        let down = json!({"type": "web", "index": 2, "state": "DOWN", "mem_quota": 100});
        let all =
            json!({"resources": [one("web", 0, 0.5, 10), one("web", 1, 0.25, 30), one("worker", 0, 0.0, 50), down]});
        serde_json::from_value(all).expect("as it travels")
    }

    fn values(query: &str) -> Vec<String> {
        let answer = parse(query)
            .expect(query)
            .answer(&instances().resources, Timestamp::UNIX_EPOCH);
        let text = |sample: Sample| sample.value[1].as_str().expect("text").to_owned();
        answer.into_iter().map(text).collect()
    }

    #[test]
    fn what_instances_use_is_told_and_summed_up() {
        assert_eq!(values("memory{source_id=\"a\"}"), ["10", "50", "30"]);
        assert_eq!(values("cpu{source_id='a', instance_id='1'}"), ["25"]);
        assert_eq!(values("avg(memory{source_id=\"a\",process_type=\"web\"})"), ["20"]);
        assert_eq!(values("sum by (process_type) (memory{source_id=\"a\"})"), ["40", "50"]);
        assert_eq!(values("max(memory{source_id=\"a\"}) by (process_type)"), ["30", "50"]);
        assert_eq!(values("min(disk{source_id=\"a\"})"), ["5"]);
        assert_eq!(values("count(memory_quota{source_id=\"a\"})"), ["3"]);
        assert!(values("sum(memory{source_id=\"a\",instance_id=\"9\"})").is_empty());
        let one = parse("cpu{source_id=\"a\",instance_id=\"1\"}").expect("sound");
        let told = one.answer(&instances().resources, Timestamp::UNIX_EPOCH);
        assert_eq!(told[0].metric["__name__"], "cpu");
        assert_eq!(told[0].metric["source_id"], "a");
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (query, part) in [
            ("", "a metric is missing"),
            ("memory", "'{' is missing"),
            ("memory{}", "any source_ids"),
            ("memory{source_id=\"a\"", "'}' is missing"),
            ("memory{source_id=~\"a\"}", "'~' is not understood"),
            ("memory{source_id=a}", "equal to a text"),
            ("memory{colour=\"a\"}", "is no label"),
            ("requests{source_id=\"a\"}", "is no metric"),
            ("avg_over_time(memory{source_id=\"a\"}[5m])", "no history"),
            (
                "memory{source_id=\"a\"} + disk{source_id=\"a\"}",
                "'+' is not understood",
            ),
            ("memory{source_id=\"a\"} memory{source_id=\"a\"}", "more than one"),
            ("avg(memory{source_id=\"a\"}", "')' is missing"),
        ] {
            let problem = parse(query).expect_err(query);
            assert!(problem.contains(part), "{query}: {problem}");
        }
        assert!(parse(&"a".repeat(5000)).expect_err("too long").contains("4096"));
    }
}
