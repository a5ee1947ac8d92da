//! Archives that no client of ours would make: each is refused with a name for what is wrong, and nothing of it stays.

use serde_json::{Value, json};
use std::io::Write as _;
use tests::{Api, Platform, text};
use zip::write::SimpleFileOptions;

type Zip = zip::ZipWriter<std::io::Cursor<Vec<u8>>>;

fn archive(fill: impl FnOnce(&mut Zip)) -> Vec<u8> {
    let mut zip = Zip::new(std::io::Cursor::new(Vec::new()));
    fill(&mut zip);
    zip.finish().expect("written").into_inner()
}

fn named(name: &str) -> Vec<u8> {
    archive(|zip| {
        zip.start_file(name, SimpleFileOptions::default()).expect("begun");
        zip.write_all(b"content").expect("written");
    })
}

/// An entry whose Unix mode has this type.
fn of_type(kind: u32) -> Vec<u8> {
    let mut bytes = named("special");
    // The upper half of the external attributes, in the central directory's only entry.
    let entry = bytes
        .windows(4)
        .rposition(|window| window == b"PK\x01\x02")
        .expect("a central directory");
    bytes[entry + 5] = 3;
    bytes[entry + 40..entry + 42].copy_from_slice(&u16::try_from(kind | 0o644).expect("16 bits").to_le_bytes());
    bytes
}

fn bomb() -> Vec<u8> {
    archive(|zip| {
        zip.start_file("zeros", SimpleFileOptions::default().large_file(true))
            .expect("begun");
        let block = vec![0; 1 << 20];
        for _ in 0..256 {
            zip.write_all(&block).expect("written");
        }
    })
}

/// Files of the blob store.
fn blobs(platform: &Platform) -> usize {
    let files = walkdir::WalkDir::new(platform.path("blobs")).into_iter().flatten();
    files.filter(|entry| entry.file_type().is_file()).count()
}

fn upload(api: &Api, app: &str, bits: Vec<u8>) -> (u16, Value, String) {
    let app = json!({ "type": "bits", "relationships": { "app": { "data": { "guid": app } } } });
    let (status, package) = api.call("POST", "/v3/packages", &app);
    assert_eq!(status, 201, "{package}");
    let part = reqwest::blocking::multipart::Part::bytes(bits).file_name("package.zip");
    let form = reqwest::blocking::multipart::Form::new().part("bits", part);
    let guid = text(&package["guid"]).to_owned();
    let request = api
        .request("POST", &format!("/v3/packages/{guid}/upload"))
        .multipart(form);
    let answer = request.send().expect("answered");
    (answer.status().as_u16(), answer.json().unwrap_or_default(), guid)
}

#[test]
fn each_is_refused_by_name() {
    let platform = Platform::start();
    let api = Api::of(&platform);
    let (_, spaces) = api.call("GET", "/v3/spaces", &Value::Null);
    let space = &spaces["resources"][0]["guid"];
    let app = json!({ "name": "hostile", "relationships": { "space": { "data": { "guid": space } } } });
    let (status, app) = api.call("POST", "/v3/apps", &app);
    assert_eq!(status, 201, "{app}");
    let app = text(&app["guid"]);
    let before = blobs(&platform);
    for (what, bits) in [
        ("parent", named("../escape")),
        ("parent inside", named("a/../../escape")),
        ("absolute", named("/etc/passwd")),
        ("backslashes", named("..\\escape")),
        ("device", of_type(0o020_000)),
        ("fifo", of_type(0o010_000)),
        ("bomb", bomb()),
        ("no archive", b"not a zip at all".to_vec()),
        ("cut off", named("whole")[..60].to_vec()),
    ] {
        let (status, answer, guid) = upload(&api, app, bits);
        assert_eq!(status, 422, "{what}: {answer}");
        let detail = text(&answer["errors"][0]["detail"]);
        assert!(
            !detail.is_empty() && !detail.contains("nknown error"),
            "{what}: {detail}"
        );
        let (_, package) = api.call("GET", &format!("/v3/packages/{guid}"), &Value::Null);
        assert_ne!(package["state"], "READY", "{what}");
    }
    assert_eq!(blobs(&platform), before, "refused uploads left blobs");
}
