//! What the probe does to disks, memory and processes.

use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Instant;

use super::{_exit, fork, sleep, syscall};

/// The subcommand, if it is one of these.
pub fn run(args: &[String]) -> bool {
    let arg = |at: usize| args.get(at).map_or("", String::as_str);
    match arg(0) {
        "disk-write" => disk(arg(1), arg(2), true),
        "disk-read" => disk(arg(1), arg(2), false),
        "kernel-memory" => kernel_memory(),
        "cache" => cache(arg(1), arg(2)),
        "churn" => churn(),
        "spin" => spin(),
        "zombie-flood" => {
            zombie_flood();
            sleep();
        }
        "zombie-flood-end" => zombie_flood(),
        _ => return false,
    }
    true
}

const DIRECT: i32 = 0o40000;
const BLOCK: usize = 64 << 10;

/// Writes or reads past the cache; prints how long it took.
fn disk(path: &str, bytes: &str, write: bool) {
    let bytes: usize = bytes.parse().unwrap_or(1 << 20);
    let mut memory = vec![0x5au8; BLOCK + 4096];
    let shift = memory.as_ptr().align_offset(4096);
    let block = &mut memory[shift..shift + BLOCK];
    let mut options = std::fs::OpenOptions::new();
    options.read(!write).write(write).create(write).custom_flags(DIRECT);
    let mut file = options.open(path).expect("open for direct I/O");
    let began = Instant::now();
    let mut done = 0;
    while done < bytes {
        if write {
            file.write_all(block).expect("write");
        } else {
            file.read_exact(block).expect("read");
        }
        done += BLOCK;
    }
    println!("ms={}", began.elapsed().as_millis());
}

/// Takes memory of the kernel's only: full pipes.
fn kernel_memory() {
    println!("filling pipes");
    let block = vec![1u8; 64 << 10];
    let mut held = Vec::new();
    for _ in 0..8000 {
        let mut ends = [0i32; 2];
        // SAFETY: two descriptors are written to a live array; the buffer is live.
        unsafe {
            syscall(293, ends.as_mut_ptr(), 0o4000);
            syscall(1, i64::from(ends[1]), block.as_ptr(), block.len());
        }
        held.push(ends);
    }
    println!("filled {}", held.len());
}

/// Leaves `bytes` of a file in the page cache.
fn cache(path: &str, bytes: &str) {
    let bytes: u64 = bytes.parse().unwrap_or(1 << 20);
    let mut file = std::fs::File::create(path).expect("create");
    // In small pieces: the memory of the probe itself stays small.
    std::io::copy(&mut std::io::repeat(7).take(bytes), &mut file).expect("write");
    println!("cached {}", file.metadata().map_or(0, |meta| meta.len()));
    sleep();
}

/// Forks as fast as it can; parents end at once, so that no process lives long.
fn churn() {
    println!("churning");
    first();
    loop {
        // SAFETY: there is one thread; whoever has a child ends.
        if unsafe { fork() } > 0 {
            // The first one is the app: it stays.
            if std::process::id() != first() {
                // SAFETY: a plain exit.
                unsafe { _exit(0) };
            }
        }
    }
}

/// The app's own pid, also in copies of it.
fn first() -> u32 {
    use std::sync::OnceLock;
    static FIRST: OnceLock<u32> = OnceLock::new();
    *FIRST.get_or_init(std::process::id)
}

fn spin() {
    println!("spinning");
    loop {
        std::hint::spin_loop();
    }
}

/// Children that end and are never waited for, until no more are permitted.
fn zombie_flood() {
    let mut made = 0;
    loop {
        // SAFETY: there is one thread; children end at once.
        match unsafe { fork() } {
            0 => unsafe { _exit(0) },
            refused if refused < 0 => break,
            _ => made += 1,
        }
    }
    println!("zombies {made}");
}
