//! The program that `cargo xtask fuzz` runs, once for each target: `FUZZ_TARGET` names it. With `FUZZ_SEEDS` it
//! first writes the target's seeds into that folder. With `FUZZ_LIST` it names the targets and ends.
#![no_main]
#![allow(
    clippy::print_stdout,
    clippy::exit,
    reason = "an answer to its caller, before anything is fed"
)]

use std::path::PathBuf;
use std::sync::OnceLock;

fn target() -> &'static fuzz::Target {
    static TARGET: OnceLock<&'static fuzz::Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        fuzz::find(&name).unwrap_or_else(|| panic!("FUZZ_TARGET is {name:?}, not one of {}", fuzz::names().join(" ")))
    })
}

libfuzzer_sys::fuzz_target!(
    init: {
        if std::env::var_os("FUZZ_LIST").is_some() {
            println!("{}", fuzz::names().join("\n"));
            std::process::exit(0);
        }
        if let Some(folder) = std::env::var_os("FUZZ_SEEDS") {
            fuzz::write_seeds(target(), &PathBuf::from(folder)).expect("seeds can be written");
        }
    },
    |data: &[u8]| {
        (target().run)(data);
    }
);
