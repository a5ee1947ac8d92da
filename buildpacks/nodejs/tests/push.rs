//! Apps pushed against the real registry, started from their layers, and pushed again.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use lifecycle::testing::{Running, Stage, told, written};
use model::staging::{BuildResult, LayerKind};
use std::path::Path;

fn stage() -> Stage {
    Stage::of(
        "nodejs_buildpack",
        env!("CARGO_MANIFEST_DIR"),
        env!("CARGO_BIN_EXE_buildpack-nodejs"),
    )
}

fn start(stage: &Stage, result: &BuildResult) -> Running {
    stage.web(result, "256m")
}

/// No test may wait for a registry that an unchanged push must not ask.
fn cut_off(stage: &mut Stage) {
    stage
        .platform
        .push(("npm_config_registry".to_owned(), "http://127.0.0.1:9".to_owned()));
}

#[test]
fn express_by_its_lock_file() {
    let mut stage = stage();
    stage.copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/apps/node-express"));
    let first = stage.push().unwrap();
    assert_eq!(first.buildpacks[0].detected, "Node.js 22.x (package.json engines.node)");
    assert_eq!(first.processes[0].command, "node server.js");
    assert_eq!(first.processes[0].source, "package.json scripts.start");
    assert_eq!(
        written(&first),
        ["app", "config", "paas/nodejs:deps", "paas/nodejs:node"]
    );
    assert!(first.layers.iter().any(|layer| layer.kind == LayerKind::Dependencies));
    let mut running = start(&stage, &first);
    assert!(running.get("/").contains("Hello from Express on Node.js v22."));
    let env = running.get("/env");
    for part in [
        r#""node_env":"production""#,
        "--max-old-space-size=192",
        r#""web_concurrency":"1""#,
    ] {
        assert!(env.contains(part), "{env}");
    }
    assert!(running.stop().success(), "SIGTERM reaches the app itself");

    cut_off(&mut stage);
    assert_eq!(written(&stage.push().unwrap()), ["app", "config"], "an unchanged push");
    let source = std::fs::read_to_string(stage.source().join("server.js")).unwrap();
    stage.write("server.js", source.replace("Hello from", "Greetings from"));
    let changed = stage.push().unwrap();
    assert_eq!(written(&changed), ["app", "config"], "one file changed");
    assert!(start(&stage, &changed).get("/").contains("Greetings from Express"));
}

#[test]
fn modules_find_each_other_and_what_is_for_development_stays_behind() {
    let mut stage = stage();
    stage.write(
        "package.json",
        r#"{"type":"module","main":"dist/main.js","scripts":{"build":"node build.js"},
            "dependencies":{"express":"4.21.2"},"devDependencies":{"kleur":"4.1.5"}}"#,
    );
    stage.write(
        "build.js",
        "import 'kleur'; import fs from 'fs'; fs.mkdirSync('dist', { recursive: true });
         fs.mkdirSync('node_modules/.cache', { recursive: true }); fs.writeFileSync('node_modules/.cache/x', 'x');
         fs.copyFileSync('main.js', 'dist/main.js'); console.log('built', process.env.NODE_ENV)",
    );
    stage.write(
        "main.js",
        "import express from 'express'; import { createRequire } from 'module';
         const require = createRequire(import.meta.url); let kleur = 'absent';
         try { await import('kleur'); kleur = 'present' } catch {}
         const same = require('express') === express;
         express().get('/', (q, r) => r.send(`kleur ${kleur}, same ${same}`)).listen(process.env.PORT)",
    );
    let first = stage.push().unwrap();
    assert_eq!(first.processes[0].command, "node dist/main.js");
    let expected = [
        "app",
        "config",
        "paas/nodejs:build-deps",
        "paas/nodejs:deps",
        "paas/nodejs:node",
        "paas/nodejs:tool-cache",
    ];
    assert_eq!(written(&first), expected);
    assert!(start(&stage, &first).get("/").ends_with("kleur absent, same true"));
    cut_off(&mut stage);
    let again = stage.push().unwrap();
    assert_eq!(written(&again), ["app", "config"]);
    assert!(start(&stage, &again).get("/").ends_with("kleur absent, same true"));
}

#[test]
fn pages_that_vite_bundles() {
    let mut stage = stage();
    stage.copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/apps/node-vite"));
    let first = stage.push().unwrap();
    assert_eq!(first.processes[0].command, "node server.js");
    let mut running = start(&stage, &first);
    let page = running.get("/a/page/of/its/own");
    let script = page.split('"').find(|part| part.starts_with("/assets/")).unwrap();
    assert!(page.contains("Hello from Vite") && running.get(script).contains("Bundled for"));
    drop(running);
    let deps = stage.paths().layers.join("paas_nodejs/deps/node_modules");
    assert!(
        deps.join("sirv").exists() && !deps.join("vite").exists(),
        "the bundler stays behind"
    );
    cut_off(&mut stage);
    let source = std::fs::read_to_string(stage.source().join("src/greeting.js")).unwrap();
    stage.write("src/greeting.js", source.replace("Bundled for", "Bundled again for"));
    let changed = stage.push().unwrap();
    assert_eq!(written(&changed), ["app", "config"], "packages are as they were");
}

#[test]
fn workspaces_and_install_scripts() {
    let mut stage = stage();
    stage.write(
        "package.json",
        r#"{"workspaces":["packages/*"],"scripts":{"start":"node index.js","postinstall":"node generate.js"}}"#,
    );
    stage.write(
        "generate.js",
        "require('fs').writeFileSync('node_modules/generated.js', 'module.exports = 1')",
    );
    stage.write("index.js", "require('http').createServer((q, r) => r.end(require('one')() + require('generated'))).listen(process.env.PORT)");
    stage.write(
        "packages/one/package.json",
        r#"{"name":"one","version":"1.0.0","dependencies":{"ms":"2.1.3"}}"#,
    );
    stage.write("packages/one/index.js", "module.exports = () => require('ms')(60000)");
    let first = stage.push().unwrap();
    assert!(start(&stage, &first).get("/").ends_with("1m1"));
    cut_off(&mut stage);
    let again = stage.push().unwrap();
    assert_eq!(written(&again), ["app", "config"]);
    assert!(start(&stage, &again).get("/").ends_with("1m1"));
}

#[test]
fn pnpm_and_yarn_by_their_lock_files() {
    let yarn = "# yarn lockfile v1\n\n\nms@2.1.3:\n  version \"2.1.3\"\n  integrity sha512-6FlzubTLZG3J2a/NVCAleEhjzq5oxgHyaCU9yYXvcLsvoVaHJq/s5xXI6/XXP6tz7R9xAOtHnSO/tXtF3WRTlA==\n";
    let pnpm = "lockfileVersion: '9.0'\nsettings:\n  autoInstallPeers: true\n  excludeLinksFromLockfile: false\nimporters:\n  .:\n    dependencies:\n      ms:\n        specifier: 2.1.3\n        version: 2.1.3\npackages:\n  ms@2.1.3:\n    resolution: {integrity: sha512-6FlzubTLZG3J2a/NVCAleEhjzq5oxgHyaCU9yYXvcLsvoVaHJq/s5xXI6/XXP6tz7R9xAOtHnSO/tXtF3WRTlA==}\nsnapshots:\n  ms@2.1.3: {}\n";
    let berry = "# This file is generated by running \"yarn install\" inside your project.\n# Manual changes might be lost - proceed with caution!\n\n__metadata:\n  version: 8\n  cacheKey: 10c0\n\n\"app@workspace:.\":\n  version: 0.0.0-use.local\n  resolution: \"app@workspace:.\"\n  dependencies:\n    ms: \"npm:2.1.3\"\n  languageName: unknown\n  linkType: soft\n\n\"ms@npm:2.1.3\":\n  version: 2.1.3\n  resolution: \"ms@npm:2.1.3\"\n  checksum: 10c0/d924b57e7312b3b63ad21fc5b3dc0af5e78d61a1fc7cfb5457edaf26326bf62be5307cc87ffb6862ef1c2b33b0233cdb5d4f01c4c958cc0d660948b65a287a48\n  languageName: node\n  linkType: hard\n";
    for (name, lock) in [("yarn.lock", yarn), ("yarn.lock", berry), ("pnpm-lock.yaml", pnpm)] {
        let mut stage = stage();
        stage.write("package.json", r#"{"name":"app","dependencies":{"ms":"2.1.3"}}"#);
        stage.write(name, lock);
        stage.write(
            "server.js",
            "require('http').createServer((q, r) => r.end(require('ms')(1000))).listen(process.env.PORT)",
        );
        let first = stage.push().unwrap();
        assert!(start(&stage, &first).get("/").ends_with("1s"), "{name}");
        cut_off(&mut stage);
        assert_eq!(written(&stage.push().unwrap()), ["app", "config"], "{name}");
    }
}

#[test]
fn a_lock_of_later_yarns_that_is_stale_is_told() {
    let mut stage = stage();
    stage.write("package.json", r#"{"name":"app","dependencies":{"ms":"2.1.2"}}"#);
    stage.write("yarn.lock", "__metadata:\n  version: 8\n  cacheKey: 10c0\n");
    stage.write("server.js", "");
    let failure = stage.push().unwrap_err().explain();
    assert_eq!(failure.cause, "package.json and the lock file disagree");
}

#[test]
fn failures_say_what_to_do() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/apps/node-express");
    let package = std::fs::read_to_string(sample.join("package.json")).unwrap();
    let scripted = |script: &str| package.replace("\"start\":", &format!("\"build\": \"{script}\", \"start\":"));
    let mut all = String::new();
    for (what, text) in [
        (
            "wrong lock file",
            package.replace("\"morgan\"", "\"kleur\": \"4.1.5\", \"morgan\""),
        ),
        ("no version", package.replace("22.x", "banana")),
        ("missing runtime version", package.replace("22.x", "^99")),
        ("failing build script", scripted("exit 3")),
        ("not valid", package.replace('}', "")),
    ] {
        let mut stage = stage();
        stage.copy(&sample);
        stage.write("package.json", text);
        let failure = stage.push().unwrap_err().explain();
        all.push_str(&format!("{what}: {}", told(&failure, &["; the newest"])));
    }
    insta::assert_snapshot!("failures", all);
}

#[test]
fn a_server_of_the_standard_library_needs_no_packages() {
    let mut stage = stage();
    stage.copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/apps/node-http"));
    let first = stage.push().unwrap();
    assert_eq!(written(&first), ["app", "config", "paas/nodejs:node"]);
    let mut running = start(&stage, &first);
    assert!(running.get("/").contains("Hello from Node.js v22."));
    assert!(running.stop().success(), "SIGTERM reaches the app itself");
}
