//! Jars and wars, and folders with what was in one: their manifest, for which Java they are compiled, and how many classes
//! they hold.

use crate::manifest::Manifest;
use buildpack_kit::app;
use std::fs::File;
use std::io::{Cursor, Read, Seek};
use std::path::Path;
use zip::ZipArchive;

/// Largest jar within a jar that is looked into.
const NESTED: u64 = 128 * 1024 * 1024;
/// Largest manifest.
const MANIFEST: u64 = 1024 * 1024;
/// First release of Java less one, as class files count them.
const CLASS_OFFSET: u16 = 44;

/// What is known of a jar, or of the contents of one.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Its manifest.
    pub manifest: Manifest,
    /// The newest Java that a class of the app itself is compiled for.
    pub release: Option<u16>,
    /// Class files, those of jars within it included.
    pub classes: u64,
    /// Whether it is laid out for a servlet container.
    pub is_war: bool,
}

impl Archive {
    /// Reads a jar or war; `None` where it is damaged.
    #[must_use]
    pub fn of_file(path: &Path) -> Option<Self> {
        let mut zip = ZipArchive::new(File::open(path).ok()?).ok()?;
        let mut found = Self::default();
        found.read_zip(&mut zip, true);
        Some(found)
    }

    /// Reads a folder with the contents of one.
    #[must_use]
    pub fn of_folder(folder: &Path) -> Self {
        let mut found = Self::default();
        for name in app::files(folder) {
            let path = folder.join(&name);
            if is_jar(&name) {
                let zip = File::open(&path).ok().and_then(|file| ZipArchive::new(file).ok());
                if let Some(mut zip) = zip {
                    found.read_zip(&mut zip, false);
                }
            } else if let Ok(mut file) = File::open(&path) {
                found.entry(&name, &mut file, true);
            }
        }
        found
    }

    fn read_zip<R: Read + Seek>(&mut self, zip: &mut ZipArchive<R>, top: bool) {
        for index in 0..zip.len() {
            let Ok(mut entry) = zip.by_index(index) else { continue };
            let Ok(name) = entry.name().map(std::borrow::Cow::into_owned) else {
                continue;
            };
            if top && is_jar(&name) && entry.size() <= NESTED {
                let mut bytes = Vec::new();
                let read = entry.by_ref().take(NESTED).read_to_end(&mut bytes);
                if let (Ok(_), Ok(mut inner)) = (read, ZipArchive::new(Cursor::new(bytes))) {
                    self.read_zip(&mut inner, false);
                }
            } else {
                self.entry(&name, &mut entry, top);
            }
        }
    }

    fn entry(&mut self, name: &str, content: &mut impl Read, top: bool) {
        if name.ends_with(".class") {
            self.classes += 1;
            // Variants for newer releases are not what is needed at least.
            let own = top && !name.starts_with("META-INF/") && !name.ends_with("module-info.class");
            let release = if own { release(content) } else { None };
            self.release = self.release.max(release);
        } else if top && name.eq_ignore_ascii_case("META-INF/MANIFEST.MF") {
            let mut text = String::new();
            if content.take(MANIFEST).read_to_string(&mut text).is_ok() {
                self.manifest = Manifest::parse(&text);
            }
        }
        self.is_war |= top && name.starts_with("WEB-INF/");
    }
}

fn is_jar(name: &str) -> bool {
    name.ends_with(".jar")
}

/// The release of Java that a class file is compiled for: its eighth byte, after a mark.
fn release(content: &mut impl Read) -> Option<u16> {
    let mut head = [0; 8];
    content.read_exact(&mut head).ok()?;
    let major = u16::from_be_bytes([head[6], head[7]]);
    (head[..4] == [0xca, 0xfe, 0xba, 0xbe]).then(|| major.saturating_sub(CLASS_OFFSET))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::io::Write as _;

    /// A zip of `entries`.
    pub fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in entries {
            writer
                .start_file(*name, zip::write::SimpleFileOptions::default())
                .unwrap();
            writer.write_all(content).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    /// The beginning of a class file for `release` of Java.
    pub fn class(release: u8) -> [u8; 8] {
        [0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, release + 44]
    }

    #[test]
    fn a_jar_and_its_contents_are_read_alike() {
        let folder = tempfile::tempdir().unwrap();
        let nested = zip(&[
            ("x/Library.class", &class(25)),
            ("META-INF/MANIFEST.MF", b"Main-Class: Wrong\n"),
        ]);
        let entries: &[(&str, &[u8])] = &[
            ("META-INF/MANIFEST.MF", b"Main-Class: a.Main\nSpring-Boot-Version: 3\n"),
            ("BOOT-INF/classes/a/Main.class", &class(21)),
            ("META-INF/versions/25/a/Main.class", &class(25)),
            ("BOOT-INF/lib/x.jar", &nested),
        ];
        let jar = folder.path().join("app.jar");
        std::fs::write(&jar, zip(entries)).unwrap();
        let exploded = folder.path().join("exploded");
        for (name, content) in entries {
            let path = exploded.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let found = Archive::of_file(&jar).unwrap();
        assert_eq!((found.release, found.classes, found.is_war), (Some(21), 3, false));
        assert_eq!(found.manifest.main_class(), Some("a.Main"));
        assert_eq!(found, Archive::of_folder(&exploded));
        std::fs::write(&jar, "damaged").unwrap();
        assert_eq!(Archive::of_file(&jar), None);
    }
}
