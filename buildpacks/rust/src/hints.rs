//! What the end of cargo's output means.

use buildpack_kit::tool::Hint;

/// What cargo says, and what it means.
pub const HINTS: &[Hint] = &[
    Hint {
        words: &[
            "needs to be updated but --locked was passed",
            "cannot update the lock file",
        ],
        cause: "Cargo.toml and Cargo.lock disagree (see above)",
        remedy: "Run `cargo update --workspace` or `cargo build`, and push Cargo.toml and Cargo.lock together.",
    },
    Hint {
        words: &["failed to parse lock file", "lock file version"],
        cause: "this cargo cannot read Cargo.lock (see above)",
        remedy: "Ask for a newer Rust in rust-toolchain.toml, or write the file again by `cargo generate-lockfile`.",
    },
    Hint {
        words: &["checksum for", "checksum changed", "failed to verify the checksum"],
        cause: "a crate is not the one that Cargo.lock describes (see above)",
        remedy: "Find out why it changed; `cargo update` writes the new checksum.",
    },
    Hint {
        words: &[
            "is not supported by the following package",
            "requires rustc",
            "is incompatible with the following",
        ],
        cause: "a package needs a newer Rust (see above)",
        remedy: "Ask for it in rust-toolchain.toml: channel = \"stable\".",
    },
    Hint {
        words: &[
            "no matching package",
            "failed to select a version",
            "couldn't find a version",
        ],
        cause: "a crate that Cargo.toml asks for is not in the registry (see above)",
        remedy: "Correct its name and version; `cargo search NAME` finds it.",
    },
    Hint {
        words: &["no bin target named"],
        cause: "BP_RUST_PROGRAMS names a program that is not there (see above)",
        remedy: "Name those of [[bin]], or of src/bin.",
    },
    Hint {
        words: &[
            "failed to parse manifest",
            "failed to load manifest",
            "failed to read `",
        ],
        cause: "Cargo.toml is not as it should be (see above)",
        remedy: "Repair it; `cargo metadata` in a fresh copy of the app should fail in the same way. Path dependencies have to be pushed along.",
    },
    Hint {
        words: &[
            "Could not find directory of OpenSSL",
            "pkg-config",
            "unable to find library",
            "cannot find -l",
        ],
        cause: "a crate needs a C library that the stack does not have for building (see above)",
        remedy: "Prefer a pure Rust one (rustls instead of OpenSSL, or a feature `vendored`); or the operator adds it to the stack.",
    },
    Hint {
        words: &[
            "Couldn't resolve host",
            "failed to download",
            "spurious network error",
            "failed to get `",
            "Unable to update registry",
        ],
        cause: "a crate could not be downloaded (see above)",
        remedy: "Try again; if it persists, the operator checks the egress policy, the proxy and the mirror settings of staging (BP_CARGO_MIRROR).",
    },
    Hint {
        words: &["signal: 9", "SIGKILL"],
        cause: "the compiler was killed, most likely for its memory",
        remedy: "Raise the staging memory, or set CARGO_BUILD_JOBS=1.",
    },
];
