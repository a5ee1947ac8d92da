//! Files in and out of a running sandbox, with an app that lays traps and a stream that does.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::time::Instant;

use sandbox::{Copied, CopyLimits, Error, OpenHow, Result, Sandbox};

use crate::kit::{Host, PATIENCE, chain, eventually, printed};
use crate::lifecycle::exec_output;

const APP: u32 = 2000;
const LIMITS: CopyLimits = CopyLimits {
    bytes: 8 << 20,
    entries: 100,
    depth: 10,
};

/// What comes out: (path, kind and content).
fn out(sandbox: &Sandbox, path: &str, limits: CopyLimits) -> Result<(BTreeMap<String, String>, Copied)> {
    let (bytes, copied) = sandbox
        .copy_out(path, APP, limits)?
        .read_all(Instant::now() + PATIENCE)?;
    let mut archive = tar::Archive::new(&bytes[..]);
    let mut entries = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut text = match entry.link_name().unwrap() {
            Some(target) => format!("-> {}", target.display()),
            None => String::new(),
        };
        entry.read_to_string(&mut text).unwrap();
        entries.insert(path, text);
    }
    Ok((entries, copied))
}

fn put(sandbox: &Sandbox, path: &str, limits: CopyLimits, stream: &[u8]) -> Result<Copied> {
    let mut copy = sandbox.copy_in(path, APP, limits)?;
    let mut data = std::fs::File::from(copy.data.take().unwrap());
    // The other end may have had enough.
    let _ = data.write_all(stream);
    drop(data);
    copy.finish(Instant::now() + PATIENCE)
}

fn reason(error: Error) -> String {
    match error {
        Error::Copy { reason, .. } => reason,
        other => panic!("{}", chain(&other)),
    }
}

fn entry(kind: tar::EntryType, path: &str, content: &str) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o4755);
    let is_link = kind == tar::EntryType::Symlink || kind == tar::EntryType::Link;
    header.set_size(if is_link { 0 } else { content.len() as u64 });
    // Past the library's own caution.
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    if is_link {
        header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
    }
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder
        .append(&header, if is_link { &[][..] } else { content.as_bytes() })
        .unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn trees_come_out_without_their_traps() {
    let host = Host::new();
    let sandbox = host.create(&host.spec("out", &["lay-traps", "/home/vcap/t"]));
    printed(&sandbox, "laid");
    let (entries, copied) = out(&sandbox, "/home/vcap/t", LIMITS).unwrap();
    let expected = [
        ("deep", ""),
        ("deep/file", "deep content"),
        ("deep/up", "-> ../plain"),
        ("plain", "content"),
        ("sideways", "-> deep/file"),
    ];
    assert_eq!(
        entries,
        expected.map(|(path, text)| (path.to_owned(), text.to_owned())).into()
    );
    // Links to /etc/passwd and out of the tree, a pipe, a socket, a folder nobody may read.
    assert_eq!((copied.entries, copied.skipped), (5, 5));
    // One file, through a link, is the file it leads to within the sandbox.
    let (entries, _) = out(&sandbox, "/home/vcap/t/sideways", LIMITS).unwrap();
    assert_eq!(entries, [("sideways".to_owned(), "deep content".to_owned())].into());
    let (entries, _) = out(&sandbox, "/home/vcap/t/absolute", LIMITS).unwrap();
    assert!(
        entries["absolute"].contains("vcap:x:2000"),
        "the sandbox's file, not the host's"
    );
    assert!(reason(out(&sandbox, "/etc/secret", LIMITS).unwrap_err()).contains("Permission denied"));
    assert!(reason(out(&sandbox, "/home/vcap/t/pipe", LIMITS).unwrap_err()).contains("neither"));
    assert!(reason(out(&sandbox, "/nowhere", LIMITS).unwrap_err()).contains("No such file"));
    assert!(reason(out(&sandbox, "relative", LIMITS).unwrap_err()).contains("absolute"));
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn what_is_too_much_is_told() {
    let host = Host::new();
    let sandbox = host.create(&host.spec("much", &["lay-traps", "/home/vcap/t"]));
    printed(&sandbox, "laid");
    let few = CopyLimits { entries: 3, ..LIMITS };
    let shallow = CopyLimits { depth: 0, ..LIMITS };
    let small = CopyLimits { bytes: 10, ..LIMITS };
    for (limits, words) in [
        (few, "more than 3 files"),
        (shallow, "deeper"),
        (small, "more than 10 bytes"),
    ] {
        let told = reason(out(&sandbox, "/home/vcap/t", limits).unwrap_err());
        assert!(told.contains(words), "{told}");
    }
    // A terabyte of nothing.
    assert_eq!(
        exec_output(&sandbox, &["sparse", "/home/vcap/t/hole", "1099511627776"]).1,
        "made\n"
    );
    let began = Instant::now();
    let told = reason(out(&sandbox, "/home/vcap/t", LIMITS).unwrap_err());
    assert!(told.contains("more than 8388608 bytes"), "{told}");
    assert!(began.elapsed() < PATIENCE);
    // Whoever does not read ends the copy by leaving.
    assert_eq!(
        exec_output(&sandbox, &["sparse", "/home/vcap/big", "4194304"]).1,
        "made\n"
    );
    let copy = sandbox.copy_out("/home/vcap/big", APP, LIMITS).unwrap();
    drop(copy);
    eventually("nothing copies any more", || sandbox.stats().unwrap().pids == 2);
    sandbox.freeze(true).unwrap();
    assert!(matches!(sandbox.copy_out("/", APP, LIMITS), Err(Error::Frozen { .. })));
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn trees_go_in_as_the_apps_own() {
    use tar::EntryType::{Directory, Regular, Symlink};
    let host = Host::new();
    let sandbox = host.create(&host.spec("in", &["sleep"]));
    let stream = [
        entry(Directory, "d/", ""),
        entry(Regular, "./d/file", "from outside"),
        entry(Symlink, "d/link", "file"),
    ];
    // Only the last archive's end is the stream's.
    let mut whole: Vec<u8> = stream.iter().flat_map(|one| one[..one.len() - 1024].to_vec()).collect();
    whole.extend([0; 1024]);
    let copied = put(&sandbox, "/home/vcap/new", LIMITS, &whole).unwrap();
    assert_eq!((copied.entries, copied.bytes), (3, 12));
    assert_eq!(
        exec_output(&sandbox, &["read", "/home/vcap/new/d/link"]).1,
        "from outside\n"
    );
    // No set-user bit, whatever the stream says.
    let host_view = sandbox.open_file("/home/vcap/new/d/file", OpenHow::Read, APP).unwrap();
    let meta = host_view.metadata().unwrap();
    drop(host_view);
    use std::os::unix::fs::MetadataExt;
    assert_eq!(meta.mode() & 0o7777, 0o755);
    assert!(host.uids().contains(&meta.uid()) && meta.uid() % 65_536 == APP);
    assert!(reason(put(&sandbox, "/etc", LIMITS, &entry(Regular, "x", "y")).unwrap_err()).contains("Permission"));
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn hostile_streams_are_refused_at_their_first_trick() {
    use tar::EntryType::{Block, Char, Fifo, Link, Regular, Symlink};
    let host = Host::new();
    let sandbox = host.create(&host.spec("hostile", &["lay-traps", "/home/vcap/t"]));
    printed(&sandbox, "laid");
    for (kind, path, content) in [
        (Regular, "../up", "x"),
        (Regular, "/home/vcap/absolute", "x"),
        (Regular, "a/../../up", "x"),
        (Symlink, "out", "/etc"),
        (Symlink, "out", "../../etc"),
        (Link, "hard", "/etc/passwd"),
        (Fifo, "fifo", ""),
        (Char, "null", ""),
        (Block, "disk", ""),
        // Through what the app has laid there.
        (Regular, "outside/file", "x"),
        (Regular, "absolute", "x"),
        (Regular, "pipe", "x"),
        (Regular, "a/b/c/d/e/f/g/h/i/j/k/l", "x"),
    ] {
        let told = put(&sandbox, "/home/vcap/t", LIMITS, &entry(kind, path, content));
        assert!(matches!(&told, Err(Error::Copy { .. })), "{kind:?} {path}: {told:?}");
    }
    let bomb = CopyLimits { bytes: 3, ..LIMITS };
    assert!(reason(put(&sandbox, "/tmp", bomb, &entry(Regular, "x", "four")).unwrap_err()).contains("3 bytes"));
    assert!(
        put(
            &sandbox,
            "/tmp",
            LIMITS,
            b"not an archive, but long enough to be taken for one"
        )
        .is_err()
    );
    assert_eq!(exec_output(&sandbox, &["list", "/home/vcap"]).1, "t\n");
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn files_are_opened_as_the_app_would() {
    let host = Host::new();
    let sandbox = host.create(&host.spec("open", &["lay-traps", "/home/vcap/t"]));
    printed(&sandbox, "laid");
    let read = |path: &str, uid| {
        let mut text = String::new();
        sandbox.open_file(path, OpenHow::Read, uid).map(|mut file| {
            file.read_to_string(&mut text).unwrap();
            text
        })
    };
    assert_eq!(read("/home/vcap/t/sideways", APP).unwrap(), "deep content");
    assert!(read("/home/vcap/t/absolute", APP).unwrap().contains("vcap:x:2000"));
    assert_eq!(read("/etc/secret", 0).unwrap(), "only for root\n");
    for bad in [
        "/etc/secret",
        "/home/vcap/t/pipe",
        "/dev/null",
        "/proc/self/exe/x",
        "/proc/1/mem",
    ] {
        assert!(matches!(read(bad, APP), Err(Error::Copy { .. })), "{bad}");
    }
    let mut file = sandbox.open_file("/home/vcap/made", OpenHow::Write, APP).unwrap();
    file.write_all(b"by the host").unwrap();
    assert_eq!(exec_output(&sandbox, &["read", "/home/vcap/made"]).1, "by the host\n");
    assert!(sandbox.open_file("/etc/new", OpenHow::Write, APP).is_err());
    let folder = sandbox.open_file("/home/vcap/t", OpenHow::Read, APP).unwrap();
    assert!(folder.metadata().unwrap().is_dir());
    drop((file, folder));
    sandbox.destroy().unwrap();
    host.finish();
}
