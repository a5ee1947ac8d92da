//! What Cloud Foundry's command line does with an API: it asks in its order, keeps what it needs, and polls.

use crate::{Platform, text};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Longest wait for anything that goes on by itself.
pub const DEADLINE: Duration = Duration::from_secs(180);

/// A session of the command line: who is logged in where, and what it knows by name.
pub struct Session<'p> {
    pub platform: &'p Platform,
    http: reqwest::blocking::Client,
    token: RefCell<String>,
    known: RefCell<BTreeMap<String, String>>,
}

/// An answer, and what was asked.
pub struct Answer {
    /// Method and path.
    pub asked: String,
    pub status: u16,
    pub location: Option<String>,
    /// JSON, or else a text.
    pub body: Value,
}

impl Answer {
    /// Fails unless it has this status.
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}: {}", self.asked, self.body);
        self
    }

    /// What is at a path such as `resources.0.guid`.
    #[track_caller]
    pub fn at(&self, path: &str) -> &Value {
        let pointer = format!("/{}", path.replace('.', "/"));
        self.body
            .pointer(&pointer)
            .unwrap_or_else(|| panic!("{}: no {path} in {}", self.asked, self.body))
    }

    /// Fails unless all of these are there.
    #[track_caller]
    pub fn has(self, paths: &[&str]) -> Self {
        for path in paths {
            self.at(path);
        }
        self
    }

    /// Fails unless there is this value at the path.
    #[track_caller]
    pub fn equals(self, path: &str, value: &Value) -> Self {
        assert_eq!(self.at(path), value, "{}: {path} in {}", self.asked, self.body);
        self
    }
}

impl<'p> Session<'p> {
    /// Of nobody yet.
    #[must_use]
    pub fn new(platform: &'p Platform) -> Self {
        let http = reqwest::blocking::Client::builder()
            .timeout(DEADLINE)
            // What it calls itself: answers that it polls for are held until there is news.
            .user_agent("cf/8.14.0 (go1.24; amd64 linux)")
            .build();
        Self {
            platform,
            http: http.expect("a client"),
            token: RefCell::default(),
            known: RefCell::default(),
        }
    }

    /// Has this token from now on.
    pub fn log_in(&self, token: &str) {
        self.token.replace(token.to_owned());
    }

    /// `$name` is what was kept under that name.
    #[must_use]
    pub fn filled(&self, text: &str) -> String {
        let known = self.known.borrow();
        let mut names: Vec<_> = known.iter().collect();
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        names.into_iter().fold(text.to_owned(), |text, (name, value)| {
            text.replace(&format!("${name}"), value)
        })
    }

    /// Keeps a text under a name.
    pub fn keep(&self, name: &str, value: &Value) {
        self.known.borrow_mut().insert(name.to_owned(), text(value).to_owned());
    }

    /// Sends a request as who is logged in.
    pub fn send(&self, asked: String, request: reqwest::blocking::RequestBuilder) -> Answer {
        let request = request.header("Authorization", format!("bearer {}", self.token.borrow()));
        let answer = request.send().unwrap_or_else(|error| panic!("{asked}: {error}"));
        let status = answer.status().as_u16();
        let location = answer.headers().get("location");
        let location = location.map(|location| location.to_str().expect("text").to_owned());
        let body = answer.text().expect("readable");
        let body = serde_json::from_str(&body).unwrap_or(Value::String(body));
        Answer {
            asked,
            status,
            location,
            body,
        }
    }

    /// A request to be completed, and what it asks.
    pub fn request(&self, method: &str, path: &str) -> (String, reqwest::blocking::RequestBuilder) {
        let path = self.filled(path);
        let url = format!("{}{path}", self.platform.api);
        let request = self.http.request(method.parse().expect("a method"), url);
        (format!("{method} {path}"), request)
    }

    /// Reads what has to be there.
    pub fn get(&self, path: &str) -> Answer {
        let (asked, request) = self.request("GET", path);
        self.send(asked, request).is(200)
    }

    /// Sends a JSON body, or none where it is null.
    pub fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        let (asked, request) = self.request(method, path);
        let body = self.filled(&body.to_string());
        let request = if body == "null" {
            request
        } else {
            request.header("Content-Type", "application/json").body(body)
        };
        self.send(asked, request)
    }

    /// Asks until `done`, as the command line does; where the platform holds the answer, that is rarely twice.
    #[track_caller]
    pub fn poll(&self, path: &str, done: impl Fn(&Answer) -> bool) -> Answer {
        let until = Instant::now() + DEADLINE;
        loop {
            let answer = self.get(path);
            if done(&answer) {
                return answer;
            }
            assert!(Instant::now() < until, "{}: {}", answer.asked, answer.body);
            std::thread::yield_now();
        }
    }

    /// The job that an answer points to.
    #[track_caller]
    pub fn job(&self, answer: Answer) {
        let answer = answer.is(202);
        let location = answer
            .location
            .unwrap_or_else(|| panic!("{}: no Location", answer.asked));
        let path = location.strip_prefix(&self.platform.api).expect("absolute").to_owned();
        let job = self.poll(&path, |job| {
            job.at("state") != "PROCESSING" && job.at("state") != "POLLING"
        });
        job.equals("state", &json!("COMPLETE"));
    }
}

/// Base64 as text.
#[must_use]
pub fn plain(encoded: &str) -> String {
    const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut held, mut bytes) = (0_u32, 0, Vec::new());
    for letter in encoded.trim_end_matches('=').chars() {
        bits = bits << 6 | u32::try_from(LETTERS.find(letter).expect("base64")).expect("small");
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 255).expect("a byte"));
        }
    }
    String::from_utf8(bytes).expect("text")
}
