//! Requests as clients send them, on real files.

use super::wire::{self, Attributes, Fields, Packet};
use super::{BAD_MESSAGE, EOF, FAILURE, NO_SUCH_FILE, OK, UNSUPPORTED, serve};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

const ID: u32 = 9;
const WRITE_NEW: u32 = 2 | 8 | 16;
const READ: u32 = 1;

/// The answers to requests, in order: kind and the rest.
fn ask(requests: impl IntoIterator<Item = Packet>) -> Vec<(u8, Vec<u8>)> {
    let input: Vec<u8> = requests.into_iter().flat_map(Packet::finish).collect();
    let mut output = Vec::new();
    serve(&mut &input[..], &mut output).expect("served");
    let mut rest = &output[..];
    let mut answers = Vec::new();
    while let Some(packet) = wire::read(&mut rest).expect("whole") {
        let mut fields = Fields(&packet);
        let kind = fields.byte().expect("a kind");
        if kind != wire::VERSION {
            assert_eq!(fields.number().expect("an id"), ID);
        }
        answers.push((kind, fields.0.to_vec()));
    }
    answers
}

fn request(kind: u8, path: &Path) -> Packet {
    Packet::answer(kind, ID).bytes(path.as_os_str().as_encoded_bytes())
}

fn open(path: &Path, flags: u32) -> Packet {
    request(wire::OPEN, path).number(flags).attributes(&Attributes {
        mode: Some(0o640),
        ..Attributes::default()
    })
}

fn handle(number: u32, kind: u8) -> Packet {
    Packet::answer(kind, ID).bytes(&number.to_be_bytes())
}

fn code(answer: &(u8, Vec<u8>)) -> u32 {
    assert_eq!(answer.0, wire::STATUS);
    Fields(&answer.1).number().expect("a code")
}

#[test]
fn a_file_goes_in_and_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a");
    let times = Attributes {
        times: Some((1_000_000_000, 1_000_000_001)),
        mode: Some(0o600),
        ..Attributes::default()
    };
    let answers = ask([
        Packet::new(wire::INIT).number(3),
        open(&path, WRITE_NEW),
        handle(1, wire::WRITE).long(0).bytes(b"hello "),
        handle(1, wire::WRITE).long(6).bytes(b"world"),
        handle(1, wire::FSETSTAT).attributes(&times),
        handle(1, wire::CLOSE),
        handle(1, wire::CLOSE),
        open(&path, READ),
        handle(2, wire::READ).long(6).number(100),
        handle(2, wire::READ).long(11).number(100),
        request(wire::STAT, &path),
    ]);
    let kinds: Vec<u8> = answers.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds[..2], [wire::VERSION, wire::HANDLE]);
    assert_eq!(answers[2..6].iter().map(code).collect::<Vec<_>>(), [OK; 4]);
    assert_eq!(code(&answers[6]), FAILURE, "closed twice");
    assert_eq!(Fields(&answers[8].1).bytes().expect("data"), b"world");
    assert_eq!(code(&answers[9]), EOF);
    let found = Fields(&answers[10].1).attributes().expect("attributes");
    // When it was read last is another matter since it was read.
    let written = found.times.map(|(_, written)| written);
    assert_eq!((found.size, written), (Some(11), Some(1_000_000_001)));
    let there = std::fs::metadata(&path).expect("there");
    assert_eq!(
        (there.permissions().mode() & 0o777, there.mtime()),
        (0o600, 1_000_000_001)
    );
}

#[test]
fn folders_are_made_listed_renamed_and_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    std::fs::write(folder.path().join("file"), "x").expect("written");
    let rename = |kind: Packet| kind.bytes(other.as_os_str().as_encoded_bytes());
    let answers = ask([
        request(wire::MKDIR, &one).attributes(&Attributes::default()),
        request(wire::OPENDIR, folder.path()),
        handle(1, wire::READDIR),
        handle(1, wire::READDIR),
        rename(request(wire::RENAME, &one)),
        request(wire::LSTAT, &one),
        rename(request(wire::RENAME, &folder.path().join("file"))),
        request(wire::RMDIR, &other),
        request(wire::REALPATH, &folder.path().join("./file/../new")),
        Packet::answer(wire::EXTENDED, ID).bytes(b"nothing@known"),
        Packet::answer(99, ID).bytes(b"x"),
        Packet::answer(wire::STAT, ID).number(1000),
    ]);
    assert_eq!(code(&answers[0]), OK);
    let mut names = Fields(&answers[2].1);
    assert_eq!(names.number().expect("a count"), 2);
    let first = names.bytes().expect("a name");
    assert!(first == b"one" || first == b"file");
    assert!(names.bytes().expect("the line").ends_with(first));
    assert_eq!(code(&answers[3]), EOF);
    assert_eq!((code(&answers[4]), code(&answers[5])), (OK, NO_SUCH_FILE));
    assert_eq!(code(&answers[6]), FAILURE, "what is there stays");
    assert_eq!(code(&answers[7]), OK);
    assert_eq!((code(&answers[9]), code(&answers[10])), (UNSUPPORTED, UNSUPPORTED));
    assert_eq!(code(&answers[11]), BAD_MESSAGE, "a length that leads beyond the packet");
}
