//! Images beside trees: the kernel shows of an image what the same archive makes as files.

use super::*;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::PathBuf;
use tar::EntryType;

const LIMITS: Limits = Limits {
    bytes: 64 << 20,
    entries: 100_000,
};

/// A folder that is not in memory: from there nothing is mounted.
const DISK: &str = "/var/tmp";

/// All that can be seen of an entry: mode, owner, and what it is.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    mode: u32,
    owner: (u32, u32),
    what: What,
}

#[derive(Debug, PartialEq, Eq)]
enum What {
    Folder {
        links: u64,
        opaque: bool,
    },
    File {
        size: u64,
        hash: [u8; 32],
        links: u64,
        mtime: i64,
    },
    Symlink(Vec<u8>),
    Whiteout,
}

/// Everything below `root` and the root itself, by name.
fn seen(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut found = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    found.insert(PathBuf::new(), look(root));
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root.join(&folder)).expect("a folder") {
            let entry = entry.expect("an entry");
            let name = folder.join(entry.file_name());
            if entry.file_type().expect("its kind").is_dir() {
                folders.push(name.clone());
            }
            assert!(
                found.insert(name.clone(), look(&root.join(&name))).is_none(),
                "{name:?} twice"
            );
        }
    }
    found
}

fn look(path: &Path) -> Seen {
    let meta = std::fs::symlink_metadata(path).expect("it is there");
    let kind = meta.file_type();
    let what = if kind.is_dir() {
        What::Folder {
            links: meta.nlink(),
            opaque: is_opaque(&File::open(path).expect("opened").into()),
        }
    } else if kind.is_symlink() {
        let target = std::fs::read_link(path).expect("its target");
        What::Symlink(target.as_os_str().as_bytes().to_vec())
    } else if kind.is_char_device() && meta.rdev() == 0 {
        What::Whiteout
    } else {
        assert!(kind.is_file(), "{}", path.display());
        let contents = std::fs::read(path).expect("readable");
        assert_eq!(contents.len() as u64, meta.len());
        What::File {
            size: meta.len(),
            hash: Sha256::digest(&contents).into(),
            links: meta.nlink(),
            mtime: meta.mtime(),
        }
    };
    Seen {
        mode: meta.mode(),
        owner: (meta.uid(), meta.gid()),
        what,
    }
}

/// Makes a tree and an image of `tar`, which must agree; that they are equal is checked where both took it.
pub(super) fn same(tar: &[u8], limits: Limits, form: Form) -> Option<usize> {
    let folder = tempfile::tempdir_in(DISK).expect("a folder");
    let root = folder.path().join("root");
    std::fs::create_dir(&root).expect("a folder");
    let as_tree = archive(tar, Target::Folder(&root), limits, form);
    let path = folder.path().join("image");
    let as_image = archive(tar, Target::Image(File::create(&path).expect("a file")), limits, form);
    assert_eq!(
        as_image.as_ref().ok(),
        as_tree.as_ref().ok(),
        "{as_image:?} and {as_tree:?}"
    );
    as_tree.ok()?;
    let mount = erofs::mount(&path).expect("the kernel takes it");
    let shown = PathBuf::from(format!("/proc/self/fd/{}/.", mount.as_raw_fd()));
    let (tree, image) = (seen(&root), seen(&shown));
    for (name, entry) in &tree {
        assert_eq!(image.get(name), Some(entry), "{name:?}");
    }
    assert_eq!(image.len(), tree.len());
    let again = folder.path().join("again");
    archive(tar, Target::Image(File::create(&again).expect("a file")), limits, form).expect("as before");
    assert!(
        std::fs::read(&path).expect("read") == std::fs::read(&again).expect("read"),
        "equal images"
    );
    Some(tree.len())
}

/// An archive in the making.
struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn add(&mut self, kind: EntryType, name: &str, link: &str, contents: &[u8], mode: u32) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(7);
        header.set_gid(65_535);
        header.set_mtime(1_700_000_000);
        header.set_size(contents.len() as u64);
        match kind {
            EntryType::Symlink | EntryType::Link => {
                self.0.append_link(&mut header, name, link).expect("appended");
            }
            _ => self.0.append_data(&mut header, name, contents).expect("appended"),
        }
    }

    fn finish(self) -> Vec<u8> {
        self.0.into_inner().expect("finished")
    }
}

/// Bytes that tell where they are.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|at| u8::try_from((at / 7) % 251).expect("below 251"))
        .collect()
}

#[test]
fn sizes_around_blocks_and_chunks() {
    let mut tar = Tar::new();
    let offs = [-65_i64, -64, -63, -33, -32, -1, 0, 1, 63, 64, 2048, 4031, 4033];
    let near = [0, 4096, 8192, 64 * 4096, 65 * 4096];
    let sizes: BTreeSet<i64> = near.iter().flat_map(|near| offs.map(|off| near + off)).collect();
    for size in sizes.into_iter().filter_map(|size| usize::try_from(size).ok()) {
        tar.add(EntryType::Regular, &format!("files/{size}"), "", &pattern(size), 0o6754);
    }
    tar.add(EntryType::Regular, "zeros", "", &vec![0; 200_000], 0o644);
    assert!(same(&tar.finish(), LIMITS, Form::Droplet).is_some());
}

#[test]
fn folders_of_thousands_long_names_and_deep_ones() {
    let mut tar = Tar::new();
    for at in 0..6000 {
        tar.add(EntryType::Regular, &format!("many/file-{at}"), "", b"x", 0o644);
    }
    for at in 0..400 {
        tar.add(EntryType::Directory, &format!("folders/{at}/"), "", b"", 0o1777);
        tar.add(EntryType::Symlink, &format!("folders/{at}/up"), "../0", b"", 0o777);
    }
    for length in [1, 100, 254, 255] {
        tar.add(
            EntryType::Regular,
            &format!("long/{}", "n".repeat(length)),
            "",
            b"",
            0o600,
        );
    }
    for length in [1, 60, 127] {
        tar.add(
            EntryType::Regular,
            &format!("long/{}", "ä".repeat(length)),
            "",
            b"u",
            0o600,
        );
    }
    for name in [
        "!", "-", "+", ",x", ".hidden", "..two", "...", "~", " ", "\u{1}", "a\nb",
    ] {
        tar.add(EntryType::Regular, &format!("odd/{name}"), "", name.as_bytes(), 0o644);
    }
    // The root's own names do not fit behind the superblock.
    for at in 0..300 {
        tar.add(EntryType::Directory, &format!("in-the-root-{at:0>40}/"), "", b"", 0o755);
    }
    tar.add(
        EntryType::Regular,
        &format!("{}deep", "d/".repeat(120)),
        "",
        b"down",
        0o644,
    );
    for length in [1, 60, 4000, 4032, 4033, 4095] {
        tar.add(
            EntryType::Symlink,
            &format!("links/{length}"),
            &"t".repeat(length),
            b"",
            0o777,
        );
    }
    assert!(same(&tar.finish(), LIMITS, Form::Droplet).is_some_and(|entries| entries > 7000));
}

#[test]
fn hard_links_count_and_empty_layers_are_layers() {
    let mut tar = Tar::new();
    tar.add(EntryType::Regular, "a/one", "", &pattern(5000), 0o755);
    for at in 0..300 {
        tar.add(EntryType::Link, &format!("b/link{at}"), "a/one", b"", 0o644);
    }
    tar.add(EntryType::Link, "b/of-a-link", "b/link7", b"", 0o644);
    assert!(same(&tar.finish(), LIMITS, Form::Droplet).is_some());
    assert_eq!(same(&Tar::new().finish(), LIMITS, Form::Droplet), Some(1));
}

#[test]
fn files_beyond_four_gibibytes() {
    use std::os::unix::fs::FileExt as _;
    let size = (5 << 30) + 77;
    let file = tempfile::NamedTempFile::new_in(DISK).expect("a file");
    let meta = erofs::Meta {
        mode: 0o644,
        owner: (0, 0),
        mtime: 5,
    };
    let mut writer = erofs::Writer::new(file.reopen().expect("opened"));
    let mut contents = io::repeat(0).take(size - 3).chain(&b"end"[..]);
    let leaf = writer.file(&meta, size, &mut contents).expect("written");
    let mut root = erofs::Folder::new(meta);
    root.names.insert((*b"large").into(), erofs::Node::Leaf(leaf));
    assert!(writer.finish(&root).expect("finished") > size);
    let mount = erofs::mount(file.path()).expect("the kernel takes it");
    let large = File::open(format!("/proc/self/fd/{}/large", mount.as_raw_fd())).expect("opened");
    assert_eq!(large.metadata().expect("its size").len(), size);
    let mut end = [1; 5];
    large.read_exact_at(&mut end, size - 5).expect("read");
    assert_eq!(end, *b"\0\0end");
    assert!(
        file.as_file().metadata().expect("its size").blocks() < 100,
        "zeros take no room"
    );
}

#[test]
fn an_image_is_shown_after_its_file_is_gone_and_ends_with_its_descriptor() {
    let mut tar = Tar::new();
    tar.add(EntryType::Regular, "file", "", b"text", 0o644);
    let file = tempfile::NamedTempFile::new_in(DISK).expect("a file");
    let target = Target::Image(file.reopen().expect("opened"));
    archive(tar.finish().as_slice(), target, LIMITS, Form::Droplet).expect("unpacked");
    let mount = erofs::mount(file.path()).expect("mounted");
    drop(file);
    let path = format!("/proc/self/fd/{}/file", mount.as_raw_fd());
    assert_eq!(std::fs::read_to_string(&path).expect("read"), "text");
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
    assert!(!mounts.lines().any(|line| line.contains("erofs")), "attached nowhere");
}

/// Kind, name, target of a link, mode, size.
type Drawn = (u8, Vec<u8>, Vec<u8>, u32, u16);

/// Entries from few names, so that they meet: what archives of droplets and images may hold, and what they may not.
fn entries() -> impl Strategy<Value = Vec<Drawn>> {
    let name = || prop::collection::vec(0..5_u8, 1..4);
    prop::collection::vec((0..8_u8, name(), name(), 0..0o10000_u32, 0..12_000_u16), 0..40)
}

fn path(parts: &[u8], prefix: &str) -> String {
    let names = ["a", "b", "c!", "d", ".e"];
    let mut all: Vec<String> = parts.iter().map(|part| names[usize::from(*part)].to_owned()).collect();
    if let Some(last) = all.last_mut() {
        *last = format!("{prefix}{last}");
    }
    all.join("/")
}

/// One of [`entries`], as an archive has it.
fn add(tar: &mut Tar, (kind, name, other, mode, size): &Drawn) {
    let (plain, other) = (path(name, ""), path(other, ""));
    match kind {
        0 | 1 => tar.add(EntryType::Directory, &plain, "", b"", *mode),
        2 | 3 => tar.add(EntryType::Regular, &plain, "", &pattern(usize::from(*size)), *mode),
        4 => tar.add(EntryType::Symlink, &plain, &other, b"", *mode),
        5 => tar.add(EntryType::Link, &plain, &other, b"", *mode),
        6 => tar.add(EntryType::Regular, &path(name, ".wh."), "", b"", *mode),
        _ => tar.add(EntryType::Regular, &format!("{plain}/.wh..wh..opq"), "", b"", *mode),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_an_archive_holds_its_image_shows_what_its_tree_does(entries in entries(), of_image in any::<bool>()) {
        let form = if of_image { Form::Image } else { Form::Droplet };
        let (mut all, mut taken) = (Tar::new(), Tar::new());
        for entry in &entries {
            add(&mut all, entry);
            let before = taken.0.get_ref().len();
            add(&mut taken, entry);
            let image = Target::Image(tempfile::tempfile().expect("a file"));
            if archive(taken.0.get_ref().as_slice(), image, LIMITS, form).is_err() {
                // What follows comes to something again without it.
                taken.0.get_mut().truncate(before);
            }
        }
        same(&all.finish(), LIMITS, form);
        prop_assert!(same(&taken.finish(), LIMITS, form).is_some());
    }
}
