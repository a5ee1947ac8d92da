//! Texts that developers write.

use model::name::{AppName, Hostname, ProcessType};
use model::{Digest, limits, manifest};

/// `manifest.yml`.
pub fn manifest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match manifest::parse(text) {
        Ok(manifest) => {
            // It goes over the wire as JSON.
            let _ = serde_json::to_string(&format!("{manifest:?}"));
        }
        Err(problems) => assert!(!problems.to_string().is_empty(), "refused without a reason"),
    }
}

pub fn manifest_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "applications:\n- name: web\n  memory: 256M\n  instances: 2\n  routes:\n  - route: a.example/path\n  env: {A: b, N: 1}\n",
        "---\napplications:\n- name: a\n  buildpacks: [nodejs_buildpack]\n  command: run it\n  health-check-type: http\n  health-check-http-endpoint: /up\n  timeout: 90\n",
        "version: 1\napplications:\n- name: a\n  processes:\n  - type: web\n    instances: 1\n    disk_quota: 1G\n  - type: worker\n    command: work\n    log-rate-limit-per-second: 16K\n",
        "defaults: &d\n  memory: 1G\napplications:\n- <<: *d\n  name: a\n- <<: *d\n  name: b\n  no-route: true\n",
        "applications:\n- name: a\n  services: [db, {name: q, parameters: {a: [1, 2]}}]\n  metadata: {labels: {x: y}, annotations: {z: null}}\n  random-route: true\n",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: &d [*c, *c]\napplications: *d\n",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// `Procfile`.
pub fn procfile(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(processes) = lifecycle::procfile::parse(text) {
        for (name, command) in processes {
            assert!(
                !name.is_empty() && !command.trim().is_empty(),
                "{name:?} runs {command:?}"
            );
        }
    }
}

pub fn procfile_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "web: node server.js\nworker: node worker.js\n",
        "---\nweb: \"bundle exec rackup -p $PORT\"\nrelease: >\n  rake\n  migrate\n",
        "web: a: b\n# comment\nclock_1: x\n",
        "--- {}\n",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Single values: names, sizes, digests.
pub fn values(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(name) = text.parse::<AppName>() {
        assert_eq!(name.as_str(), text, "a name changed");
    }
    if let Ok(name) = text.parse::<Hostname>() {
        assert!(name.as_str().len() <= 63, "{name} is no host's name");
    }
    let _ = text.parse::<ProcessType>();
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(
            digest.to_string().parse::<Digest>().ok(),
            Some(digest),
            "a digest changed"
        );
    }
    let _ = limits::parse_megabytes(text);
    let _ = manifest::check_env_name(text);
    let _ = model::name::host_label(text);
}

pub fn value_seeds() -> Vec<Vec<u8>> {
    let digest = format!("sha256:{}", "0a".repeat(32));
    let texts = [
        "web-app",
        "512M",
        "1G",
        "1.5GB",
        "10000000000T",
        "a_b",
        "PORT",
        "xn--bcher-kva",
        "*.example.com",
        &digest,
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
