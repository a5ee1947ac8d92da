//! The client against a real registry, open and with passwords, and against answers that a real one would not give.

use image::document::{LAYER, LAYER_GZIP};
use image::layout::Documents;
use image::registry::{Client, Credentials, Sent};
use image::{ARCHITECTURE, Config, Descriptor, Error, Reference, Settings};
use model::Secret;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use ureq::Agent;

/// `me` with the password `secret`.
const HTPASSWD: &str = "me:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// A registry with a folder of its own, gone when it is dropped.
struct Registry {
    process: Child,
    address: String,
    _dir: tempfile::TempDir,
}

impl Registry {
    fn start(auth: bool) -> Self {
        let dir = tempfile::tempdir().expect("folder");
        let mut config = format!(
            "version: 0.1\nlog: {{level: info, formatter: json}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n",
            dir.path().join("data").display()
        );
        if auth {
            let file = dir.path().join("htpasswd");
            fs::write(&file, HTPASSWD).expect("written");
            config.push_str(&format!(
                "auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
                file.display()
            ));
        }
        let file = dir.path().join("config.yml");
        fs::write(&file, config).expect("written");
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry is installed");
        // It says where it listens, and is ready then.
        let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                let after = line.split("listening on ").nth(1)?;
                let end = after.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | ':')))?;
                Some(after[..end].to_owned())
            })
            .expect("it listens");
        // What it writes from here on has to go somewhere.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            process,
            address,
            _dir: dir,
        }
    }

    fn client(&self, credentials: Option<(&str, &str)>) -> Client {
        client(&self.address, credentials)
    }

    fn reference(&self, rest: &str) -> Reference {
        format!("{}/{rest}", self.address).parse().expect("a reference")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn client(address: &str, credentials: Option<(&str, &str)>) -> Client {
    let config = Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(20)))
        .proxy(None);
    let credentials = credentials.map(|(username, password)| Credentials {
        username: username.to_owned(),
        password: Secret::new(password),
    });
    Client::new(config.build().into(), address, credentials, &[])
}

/// An image of one layer, for `architecture`.
fn image(dir: &Path, layer: &[u8], architecture: &str) -> (Documents, Descriptor, std::path::PathBuf) {
    let mut config = Config {
        architecture: architecture.to_owned(),
        os: "linux".to_owned(),
        config: Settings {
            cmd: vec!["/bin/true".to_owned()],
            ..Settings::default()
        },
        ..Config::default()
    };
    config.rootfs.diff_ids.push(image::digest(layer));
    let blob = Descriptor::new(LAYER, image::digest(layer), layer.len() as u64);
    let file = dir.join("layer");
    fs::write(&file, layer).expect("written");
    let documents = Documents::of(&config, std::slice::from_ref(&blob), None).expect("made");
    (documents, blob, file)
}

#[test]
fn what_was_pushed_is_pulled_and_nothing_is_sent_twice() {
    let (registry, dir) = (Registry::start(false), tempfile::tempdir().expect("folder"));
    let layer = vec![7; 3 << 20];
    let (documents, blob, file) = image(dir.path(), &layer, ARCHITECTURE);
    let (client, reference) = (registry.client(None), registry.reference("team/shop:1.2"));
    assert_eq!(client.push_blob(&reference, &blob, &file).expect("sent"), Sent::New);
    assert_eq!(client.push_blob(&reference, &blob, &file).expect("known"), Sent::Known);
    client.push_documents(&reference, &documents).expect("sent");
    let image = client.image(&reference).expect("pulled");
    assert_eq!(image.digest, documents.manifest.0.digest);
    assert_eq!(image.config.config.cmd, ["/bin/true"]);
    let mut bytes = Vec::new();
    client
        .layer(&reference, &image.layers[0])
        .expect("there")
        .read_to_end(&mut bytes)
        .expect("verified");
    assert!(bytes == layer);
    let pinned = reference.pinned(image.digest.clone());
    assert_eq!(client.image(&pinned).expect("by digest").digest, image.digest);
    for missing in ["team/shop:2", "team/none:1.2"] {
        let error = client.image(&registry.reference(missing)).expect_err("not there");
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
    }
    let other = registry.reference("team/other:1");
    let (documents, blob, file) = self::image(dir.path(), b"x", "m68k");
    client.push_blob(&other, &blob, &file).expect("sent");
    client.push_documents(&other, &documents).expect("sent");
    let error = client.image(&other).expect_err("for another machine");
    assert_eq!(error.to_string(), format!("no manifest for linux/{ARCHITECTURE}"));
    let lie = Descriptor::new(LAYER_GZIP, image::digest(b"other"), 1);
    assert!(
        client.push_blob(&other, &lie, &file).is_err(),
        "the registry checks too"
    );
}

#[test]
fn a_private_registry_wants_to_know_who_asks() {
    let (registry, dir) = (Registry::start(true), tempfile::tempdir().expect("folder"));
    let (documents, blob, file) = image(dir.path(), b"layer", ARCHITECTURE);
    let reference = registry.reference("team/shop:1");
    let me = registry.client(Some(("me", "secret")));
    me.push_blob(&reference, &blob, &file).expect("sent");
    me.push_documents(&reference, &documents).expect("sent");
    assert_eq!(me.image(&reference).expect("pulled").layers.len(), 1);
    for (credentials, was_given) in [
        (None, false),
        (Some(("me", "wrong")), true),
        (Some(("you", "secret")), true),
    ] {
        let error = registry.client(credentials).image(&reference).expect_err("refused");
        assert!(
            matches!(&error, Error::Unauthorized { given, .. } if *given == was_given),
            "{error}"
        );
        assert!(!format!("{error:?}").contains("secret"));
    }
}

/// Answers requests in turn; says what was asked.
fn answering(answers: Vec<String>) -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let own = address.clone();
    let (told, asked) = std::sync::mpsc::sync_channel(64);
    std::thread::spawn(move || {
        for answer in answers {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let mut head = vec![0; 8192];
            let read = stream.read(&mut head).unwrap_or(0);
            let _ = told.send(String::from_utf8_lossy(&head[..read]).into_owned());
            let _ = stream.write_all(answer.replace("{address}", &own).as_bytes());
        }
    });
    (address, asked)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

#[test]
fn a_token_is_asked_for_where_the_registry_says_and_used_again() {
    let dir = tempfile::tempdir().expect("folder");
    let (documents, ..) = image(dir.path(), b"layer", ARCHITECTURE);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let challenge = "www-authenticate: Bearer realm=\"http://{address}/token\",service=\"test\"\r\n";
    let (address, asked) = answering(vec![
        answer("401 Unauthorized", challenge, ""),
        answer("200 OK", "", r#"{"token":"t0k3n"}"#),
        answer("200 OK", "", &text(&documents.manifest.1)),
        answer("200 OK", "", &text(&documents.config.1)),
    ]);
    let reference: Reference = format!("{address}/team/shop:1").parse().expect("a reference");
    client(&address, Some(("me", "secret")))
        .image(&reference)
        .expect("pulled");
    let asked: Vec<String> = asked.iter().map(|request| request.to_lowercase()).collect();
    assert!(
        !asked[0].contains("authorization"),
        "nothing is given before it is asked for"
    );
    assert!(
        asked[1].starts_with("get /token?") && asked[1].contains("authorization: basic"),
        "{}",
        asked[1]
    );
    assert!(
        asked[1].contains("service=test") && asked[1].contains("team"),
        "{}",
        asked[1]
    );
    for request in &asked[2..] {
        assert!(request.contains("authorization: bearer t0k3n"), "{request}");
    }
}

#[test]
fn answers_that_lie_are_named() {
    let dir = tempfile::tempdir().expect("folder");
    let (documents, ..) = image(dir.path(), b"layer", ARCHITECTURE);
    let manifest = String::from_utf8(documents.manifest.1.clone()).expect("text");
    let huge = format!("{{\"schemaVersion\":2,\"x\":\"{}\"}}", "x".repeat(5 << 20));
    type Is = fn(&Error) -> bool;
    let cases: Vec<(Vec<String>, Is)> = vec![
        (vec![answer("200 OK", "", "<html>")], |error| {
            matches!(error, Error::Invalid { .. })
        }),
        (
            vec![answer("200 OK", "", r#"{"schemaVersion":1,"fsLayers":[]}"#)],
            |error| matches!(error, Error::Kind { .. }),
        ),
        (vec![answer("200 OK", "", &huge)], |error| {
            matches!(error, Error::TooMuch { .. } | Error::Unreachable { .. })
        }),
        (
            vec![answer("200 OK", "", &manifest), answer("200 OK", "", "{}")],
            |error| matches!(error, Error::Invalid { .. }),
        ),
        (
            vec![answer(
                "429 Too Many Requests",
                "",
                r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"wait"}]}"#,
            )],
            |error| error.to_string().contains("429: TOOMANYREQUESTS wait"),
        ),
        (
            vec![answer(
                "401 Unauthorized",
                "www-authenticate: Bearer realm=\"http://evil.example/t\"\r\n",
                "",
            )],
            |error| !error.to_string().is_empty(),
        ),
        (
            vec!["HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_owned()],
            |error| matches!(error, Error::Unreachable { .. }),
        ),
    ];
    for (answers, is) in cases {
        let shown = answers[0].chars().take(80).collect::<String>();
        let (address, _asked) = answering(answers);
        let reference: Reference = format!("{address}/team/shop:1").parse().expect("a reference");
        let error = client(&address, None).image(&reference).expect_err("refused");
        assert!(is(&error), "{shown}: {error:?}");
    }
    let other = format!("127.0.0.1:1/team/shop@{}", image::digest(b"x"));
    let error = client("127.0.0.1:1", None).image(&other.parse().expect("a reference"));
    assert!(matches!(error, Err(Error::Unreachable { .. })));
}
