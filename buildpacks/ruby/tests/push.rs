//! Apps pushed with a real Ruby and Bundler, started from their layers, and pushed again.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use flate2::{Compression, write::GzEncoder};
use lifecycle::testing::{Stage, written};
use std::io::Write as _;
use std::path::Path;

fn sample(stage: &Stage, name: &str) {
    stage.copy(
        &Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/apps")
            .join(name),
    );
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// What a gem says of itself.
const ABOUT: &str = r#"--- !ruby/object:Gem::Specification
name: greeting
version: !ruby/object:Gem::Version
  version: 1.0.0
platform: ruby
authors:
- us
bindir: bin
date: 2026-01-01 00:00:00.000000000 Z
dependencies: []
files:
- lib/greeting.rb
require_paths:
- lib
required_ruby_version: !ruby/object:Gem::Requirement
  requirements:
  - - ">="
    - !ruby/object:Gem::Version
      version: '0'
required_rubygems_version: !ruby/object:Gem::Requirement
  requirements:
  - - ">="
    - !ruby/object:Gem::Version
      version: '0'
specification_version: 4
summary: Greets
"#;

/// The gem `greeting`, as `gem build` would make it.
fn gem(greeting: &str) -> Vec<u8> {
    let code = format!("module Greeting\n  TEXT = {greeting:?}\nend\n");
    let data = tar(&[("lib/greeting.rb", code.as_bytes())]);
    tar(&[("metadata.gz", &gzip(ABOUT.as_bytes())), ("data.tar.gz", &gzip(&data))])
}

/// One test, since each Ruby is the same: an app without gems, one with a vendored gem, changes of it, and the failures.
#[test]
fn plain_with_gems_changed_and_broken() {
    let mut stage = Stage::of(
        "ruby_buildpack",
        env!("CARGO_MANIFEST_DIR"),
        env!("CARGO_BIN_EXE_buildpack-ruby"),
    );
    sample(&stage, "ruby-http");
    let first = stage.push().unwrap();
    assert!(
        first.buildpacks[0].detected.starts_with("Ruby ~> 3.1"),
        "{}",
        first.buildpacks[0].detected
    );
    assert_eq!(first.processes[0].source, "app.rb");
    let mut running = stage.web(&first, "2048m");
    assert!(running.get("/").contains("Hello from Ruby 3."));
    let env = running.get("/env");
    assert!(
        env.contains("RACK_ENV=production") && env.contains("WEB_CONCURRENCY=4"),
        "{env}"
    );
    let again = stage.push().unwrap();
    assert_eq!(written(&again), ["app", "config"], "an unchanged push");

    stage.write("Gemfile", "source 'https://gems.test'\ngem 'greeting'\n");
    let lock = "GEM\n  remote: https://gems.test/\n  specs:\n    greeting (1.0.0)\n\nPLATFORMS\n  ruby\n  x86_64-linux\n\n\
        DEPENDENCIES\n  greeting\n\nBUNDLED WITH\n   2.3.27\n";
    stage.write("Gemfile.lock", lock);
    stage.write("vendor/cache/greeting-1.0.0.gem", gem("Hello from a gem"));
    let source = std::fs::read_to_string(stage.source().join("app.rb")).unwrap();
    stage.write(
        "app.rb",
        format!(
            "require 'greeting'\n{}",
            source.replace("\"Hello from Ruby #{RUBY_VERSION}\"", "Greeting::TEXT")
        ),
    );
    let with_gem = stage.push().unwrap();
    assert!(!written(&with_gem).contains(&"paas/ruby:ruby"), "the same Ruby");
    assert!(stage.web(&with_gem, "256m").get("/").contains("Hello from a gem"));
    let again = stage.push().unwrap();
    assert!(!written(&again).contains(&"paas/ruby:gems"), "the same gems");

    failures(&mut stage, lock);
}

fn failures(stage: &mut Stage, lock: &str) {
    let broken: [&[(&str, String)]; 5] = [
        &[(
            "Gemfile",
            "source 'https://gems.test'\nruby '2.1.0'\ngem 'greeting'\n".to_owned(),
        )],
        &[(
            "Gemfile",
            "source 'https://gems.test'\nruby 'banana'\ngem 'greeting'\n".to_owned(),
        )],
        &[(
            "Gemfile",
            "source 'https://gems.test'\ngem 'greeting', '2.0'\n".to_owned(),
        )],
        &[("Gemfile", "source 'https://gems.test'\ngem 'greeting\n".to_owned())],
        &[("Gemfile.lock", lock.replace("1.0.0", "1.0.1"))],
    ];
    let mut told = String::new();
    for files in broken {
        stage.write("Gemfile", "source 'https://gems.test'\ngem 'greeting'\n");
        stage.write("Gemfile.lock", lock);
        for (file, text) in files {
            stage.write(file, text);
        }
        let failure = stage.push().unwrap_err().explain();
        // What can be had changes from day to day.
        let cause = failure.cause.split("; there is").next().unwrap_or_default();
        told.push_str(&format!("{}\n  {cause}\n  -> {}\n\n", failure.title, failure.remedy));
    }
    insta::assert_snapshot!("failures", told);
}
