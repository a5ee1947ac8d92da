//! Folders full of things that lead elsewhere.

use std::ffi::CString;
use std::os::unix::fs::{DirBuilderExt, symlink};

use super::{sleep, syscall};

/// The subcommand, if it is one of these.
pub fn run(args: &[String]) -> bool {
    let arg = |at: usize| args.get(at).map_or("", String::as_str);
    match arg(0) {
        "lay-traps" => lay(arg(1)).expect("lay traps"),
        "sparse" => sparse(arg(1), arg(2).parse().expect("a size")).expect("make a hole"),
        _ => return false,
    }
    true
}

fn lay(folder: &str) -> std::io::Result<()> {
    let at = |name: &str| format!("{folder}/{name}");
    std::fs::create_dir_all(at("deep"))?;
    std::fs::write(at("plain"), "content")?;
    std::fs::write(at("deep/file"), "deep content")?;
    symlink("../plain", at("deep/up"))?;
    symlink("deep/file", at("sideways"))?;
    symlink("/etc/passwd", at("absolute"))?;
    symlink("../../../etc", at("outside"))?;
    let fifo = CString::new(at("pipe")).expect("no NUL");
    // SAFETY: a live C string.
    unsafe { syscall(133, fifo.as_ptr(), 0o010666, 0) };
    let _socket = std::os::unix::net::UnixListener::bind(at("socket"))?;
    std::fs::DirBuilder::new().mode(0).create(at("closed"))?;
    println!("laid");
    sleep();
    Ok(())
}

fn sparse(path: &str, bytes: u64) -> std::io::Result<()> {
    std::fs::File::create(path)?.set_len(bytes)?;
    println!("made");
    Ok(())
}
