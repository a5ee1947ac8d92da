//! One entry of a package: what it is, what it holds and where its bytes lie.

use model::Digest;
use serde::{Deserialize, Serialize};

/// What an entry is, with its permission bits; as `st_mode` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mode(u32);

const KIND: u32 = 0o170_000;
const FILE: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const LINK: u32 = 0o120_000;

impl Mode {
    /// A file with these permissions. The owner can always read it; set-uid, set-gid and sticky bits do not survive.
    #[must_use]
    pub const fn file(permissions: u32) -> Self {
        Self(FILE | (permissions & 0o777) | 0o400)
    }

    /// A folder; all are alike, because a package has no use for one that its owner cannot enter.
    pub const FOLDER: Self = Self(FOLDER | 0o755);

    /// A symbolic link.
    pub const LINK: Self = Self(LINK | 0o777);

    /// What `st_mode` means, `None` for devices, pipes and sockets. No type at all means a file.
    #[must_use]
    pub const fn from_unix(mode: u32) -> Option<Self> {
        match mode & KIND {
            FILE | 0 => Some(Self::file(mode)),
            FOLDER => Some(Self::FOLDER),
            LINK => Some(Self::LINK),
            _ => None,
        }
    }

    /// As `st_mode` has it.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The permission bits alone.
    #[must_use]
    pub const fn permissions(self) -> u32 {
        self.0 & 0o777
    }

    /// Whether it is a file.
    #[must_use]
    pub const fn is_file(self) -> bool {
        self.0 & KIND == FILE
    }

    /// Whether it is a symbolic link.
    #[must_use]
    pub const fn is_link(self) -> bool {
        self.0 & KIND == LINK
    }

    /// Whether it is a folder.
    #[must_use]
    pub const fn is_folder(self) -> bool {
        self.0 & KIND == FOLDER
    }

    /// Whether it is a mode that [`Self::from_unix`] makes; one read from outside may not be.
    pub(crate) fn is_normal(self) -> bool {
        Self::from_unix(self.0) == Some(self)
    }
}

/// How a file's bytes are stored in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// As they are.
    Raw,
    /// One zstd frame.
    Zstd,
}

/// Where the bytes of a file lie.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The pack.
    pub pack: Digest,
    /// First byte in the pack.
    pub offset: u64,
    /// Stored bytes.
    pub length: u64,
    /// How they are stored.
    pub compression: Compression,
}

/// A file, link or empty folder of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the package's root, components separated by `/`.
    pub path: String,
    /// What it is.
    pub mode: Mode,
    /// Bytes of the contents; of a link, of its target; 0 for a folder.
    pub size: u64,
    /// SHA-1 of the contents, by which clients ask what is known.
    pub sha1: [u8; 20],
    /// SHA-256 of the contents, by which they are verified.
    pub sha256: Digest,
    /// Where the contents lie, `None` where there are none.
    pub place: Option<Place>,
}
