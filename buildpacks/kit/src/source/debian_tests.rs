//! Lists, closures and versions of Debian, and a folder that is an archive.

use super::*;

const LIST: &str = "Package: ruby3.1\nVersion: 3.1.2-7+deb12u1\nDepends: libruby3.1 (= 3.1.2-7), libc6 (>= 2.34), rubygems | gems:any\n\
    Filename: pool/r.deb\nSHA256: 00\nDescription: x\n a: b\n\nPackage: libruby3.1\nVersion: 3.1.2-7\nFilename: pool/l.deb\n\
    SHA256: 01\n\nPackage: rubygems-integration\nVersion: 1.18\nProvides: gems (= 2), other\nFilename: pool/g.deb\nSHA256: 02\n";

fn index() -> BTreeMap<String, Package> {
    let mut index = BTreeMap::new();
    read(
        LIST.lines().map(|line| Ok(line.to_owned())),
        "https://a.test",
        &mut index,
    )
    .unwrap();
    index
}

fn debian() -> Debian {
    Debian {
        places: Vec::new(),
        codename: "bookworm".to_owned(),
        family: "ruby",
        is_runtime: |name| name == "ruby3.1",
        variables: Variables::default(),
        index: OnceCell::from(index()),
    }
}

#[test]
fn a_list_is_read_and_the_newer_version_stays() {
    let mut index = index();
    assert_eq!((index.len(), index["ruby3.1"].upstream()), (3, "3.1.2"));
    assert_eq!(index["ruby3.1"].url, "https://a.test/pool/r.deb");
    for version in ["3.1.2-7", "3.1.2-7+deb12u2"] {
        let text = format!("Package: ruby3.1\nVersion: {version}\n");
        read(text.lines().map(|line| Ok(line.to_owned())), "", &mut index).unwrap();
    }
    assert_eq!(index["ruby3.1"].version, "3.1.2-7+deb12u2");
}

#[test]
fn what_is_needed_is_found_with_alternatives_and_providers() {
    let (debian, index) = (debian(), index());
    let there: BTreeSet<&str> = ["libc6"].into();
    let found = debian.closure_beside(&index, &["ruby3.1"], &there).unwrap();
    assert_eq!(found, ["libruby3.1", "ruby3.1", "rubygems-integration"]);
    let there: BTreeSet<&str> = ["libc6", "gems"].into();
    assert_eq!(
        debian.closure_beside(&index, &["ruby3.1"], &there).unwrap(),
        ["libruby3.1", "ruby3.1"]
    );
    let failure = debian
        .closure_beside(&index, &["ruby3.1"], &BTreeSet::new())
        .unwrap_err();
    assert!(failure.cause.contains("bookworm has no libc6"), "{failure:?}");
}

/// A package that installs one file.
fn deb() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    header.set_mode(0o755);
    tar.append_data(&mut header, "bin/ruby3.1", &b"hi"[..]).unwrap();
    let data = tar.into_inner().unwrap();
    let mut deb = b"!<arch>\n".to_vec();
    deb.extend(format!("{:<16}{:<32}{:<10}`\n", "data.tar", "", data.len()).bytes());
    deb.extend(data);
    deb
}

#[test]
fn a_folder_is_as_good_as_an_archive() {
    use sha2::{Digest as _, Sha256};
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    };
    let deb = deb();
    write("pool/r.deb", &deb);
    let list = format!(
        "Package: ruby3.1\nVersion: 3.1.7-1\nFilename: pool/r.deb\nSHA256: {}\n",
        hex::encode(Sha256::digest(&deb))
    );
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, list.as_bytes()).unwrap();
    let packages = gzip.finish().unwrap();
    let path = format!("main/binary-{}/Packages.gz", architecture());
    let release = format!(
        "Suite: x\nSHA256:\n {} 1 {path}\n",
        hex::encode(Sha256::digest(&packages))
    );
    write(&format!("dists/bookworm/{path}"), &packages);
    write("dists/bookworm/InRelease", release.as_bytes());
    let debian = || Debian {
        places: vec![(address(folder.path().to_str().unwrap()), "bookworm".to_owned())],
        index: OnceCell::new(),
        ..self::debian()
    };
    let client = Client::new(&Variables::default()).unwrap();
    let found = debian();
    assert_eq!(found.releases(&client).unwrap()[0].version, "3.1.7");
    let target = folder.path().join("target");
    let place = |path: &Path| path.strip_prefix("usr").ok().map(Path::to_owned);
    found.unpack(&client, &["ruby3.1".to_owned()], &target, &place).unwrap();
    assert_eq!(std::fs::read(target.join("bin/ruby3.1")).unwrap(), b"hi");
    write("pool/r.deb", b"other");
    assert!(found.unpack(&client, &["ruby3.1".to_owned()], &target, &place).is_err());
    write(&format!("dists/bookworm/{path}"), b"other");
    assert!(debian().releases(&client).is_err());
}

#[test]
fn a_release_file_names_the_digest() {
    let text = "Codename: x\nMD5Sum:\n aa 1 main/P.gz\nSHA256:\n bb 1 main/Q.gz\n cc 2 main/P.gz\n-----BEGIN";
    assert_eq!(digest_of(text, "main/P.gz").as_deref(), Some("cc"));
    assert_eq!(digest_of(text, "main/R.gz"), None);
}

#[test]
fn only_debian_is_debian() {
    let debian = "PRETTY_NAME=\"Debian\"\nVERSION_CODENAME=bookworm\nID=debian\n";
    assert_eq!(codename(debian).as_deref(), Some("bookworm"));
    assert_eq!(codename(&debian.replace("ID=debian", "ID=alpine")), None);
    assert_eq!(codename(&debian.replace("bookworm", "../x")), None);
}

#[test]
fn packages_of_a_stack_are_known() {
    let status = "Package: a\nStatus: install ok installed\n\nPackage: b\nStatus: deinstall ok config-files\n";
    assert_eq!(installed(status).collect::<Vec<_>>(), ["a"]);
}

#[test]
fn versions_are_ordered_as_debian_orders_them() {
    for (smaller, larger) in [
        ("1.9", "1.10"),
        ("1.0~rc1", "1.0"),
        ("1.0", "1.0+deb12u1"),
        ("9.9", "1:0.1"),
        ("1.0-1", "1.0-1+b1"),
        ("1.0a", "1.0b"),
        ("2.7.4", "2.7.10"),
    ] {
        assert_eq!(compare(smaller, larger), Ordering::Less, "{smaller} {larger}");
        assert_eq!(compare(larger, smaller), Ordering::Greater, "{larger} {smaller}");
        assert_eq!(compare(larger, larger), Ordering::Equal, "{larger}");
    }
}
