//! Attempts through files: descriptors left open, `/proc`, `/sys`, devices, mounts.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};

use super::{Outcome, answer, error_name};
use crate::{_exit, fork, syscall, waitpid};

pub const ALL: &[(&str, super::Attempt)] = &[
    ("leaked-descriptor", leaked_descriptor),
    ("working-folder", working_folder),
    ("program-of-init", program_of_init),
    ("masked-paths", masked_paths),
    ("core-pattern", core_pattern),
    ("proc-writable", proc_writable),
    ("sys-writable", sys_writable),
    ("device-creation", device_creation),
    ("device-access", device_access),
    ("setuid-program", setuid_program),
    ("console", console),
    ("shared-mounts", shared_mounts),
    ("memory-of-init", memory_of_init),
    ("root-file", root_file),
];

fn open(path: &str) -> Result<File, String> {
    File::open(path).map_err(|e| error_name(&e))
}

fn open_to_write(path: &str) -> Result<File, String> {
    OpenOptions::new().write(true).open(path).map_err(|e| error_name(&e))
}

/// The first success, else every way it was refused, each once.
fn any_of(attempts: impl Iterator<Item = Outcome>) -> Outcome {
    let mut refused: Vec<String> = Vec::new();
    for attempt in attempts {
        match attempt {
            Ok(reached) => return Ok(reached),
            Err(error) if !refused.contains(&error) => refused.push(error),
            Err(_) => {}
        }
    }
    refused.sort();
    Err(if refused.is_empty() { "nothing there".into() } else { refused.join(", ") })
}

/// A folder that was left open leads out, whatever the root is: looks for the file that the
/// test put beside its folder (argument), through each.
fn leaked_descriptor(arguments: &[String]) -> Outcome {
    let wanted = CString::new(arguments.first().map_or("etc/hostname", String::as_str)).expect("no NUL");
    for descriptor in 3..256 {
        for way in ["", "../", "../../../../../../../../"] {
            let path = CString::new(format!("{way}{}", wanted.to_string_lossy())).expect("no NUL");
            // SAFETY: a live string; numbers that are no descriptors are refused.
            if unsafe { syscall(257, descriptor, path.as_ptr(), 0) } >= 0 {
                return Ok("a file of the host through a descriptor left open".into());
            }
        }
    }
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    // The three standard ones and that of the listing.
    Err(format!("{} descriptors", open - 1))
}

/// A working folder outside of the root leads out as well.
fn working_folder(arguments: &[String]) -> Outcome {
    let wanted = arguments.first().map_or("etc/hostname", String::as_str);
    match std::env::current_dir() {
        Ok(folder) if !folder.to_string_lossy().starts_with("(unreachable)") => {
            return Err("the working folder is inside".into());
        }
        _ => {}
    }
    open(wanted)?;
    Ok("a file of the host through the working folder".into())
}

/// The program that made the sandbox, through every process whose program it may still be; with an argument, by that
/// name ("any": all), and looking for it again and again.
fn program_of_init(arguments: &[String]) -> Outcome {
    let own = std::fs::read("/proc/self/exe").unwrap_or_default();
    let name = arguments.first().map_or("any", String::as_str);
    let rounds = if arguments.is_empty() { 1 } else { 150 };
    let mut told = Err("nothing there".to_owned());
    for _ in 0..rounds {
        let pids = crate::list("/proc").into_iter().filter(|name| name.parse::<u32>().is_ok());
        told = any_of(pids.map(|pid| overwrite(&format!("/proc/{pid}/exe"), &own, name)));
        // What was looked at in vain is looked at again: a process may become another program.
        if told.is_ok() || matches!(&told, Err(why) if why.contains("EACCES")) {
            break;
        }
        super::pause(if rounds > 1 { 20 } else { 0 });
    }
    told
}

/// Takes hold of the program at `path`, and writes into it as soon as nobody runs it.
fn overwrite(path: &str, own: &[u8], name: &str) -> Outcome {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::FileExt;
    let mut held = open(path)?;
    let target = std::fs::read_link(path).map_err(|e| error_name(&e))?;
    if name != "any" && !target.to_string_lossy().ends_with(name) {
        return Err("another program".into());
    }
    let mut content = Vec::new();
    held.read_to_end(&mut content).map_err(|e| error_name(&e))?;
    if content == own {
        return Err("only its own program".into());
    }
    for _ in 0..300 {
        match open_to_write(&format!("/proc/self/fd/{}", held.as_raw_fd())) {
            // Its last byte gets the value that it has.
            Ok(file) => {
                let last = content.last().copied().unwrap_or(0);
                file.write_at(&[last], content.len() as u64 - 1).map_err(|e| error_name(&e))?;
                return Ok("the program that starts sandboxes, writable".into());
            }
            Err(busy) if busy == "ETXTBSY" => super::pause(10),
            Err(other) => return Err(other),
        }
    }
    Err("ETXTBSY".into())
}

fn masked_paths(_: &[String]) -> Outcome {
    let files = ["/proc/timer_list", "/proc/keys", "/proc/interrupts", "/proc/sched_debug", "/proc/key-users"];
    any_of(files.into_iter().map(|path| {
        let mut first = [0u8; 1];
        match open(path)?.read(&mut first) {
            Ok(0) => Err("empty".into()),
            Ok(_) => Ok(format!("{path} of the host")),
            Err(e) => Err(error_name(&e)),
        }
    }))
}

/// Opens it for writing and writes what it holds.
fn rewrite(path: &str) -> Result<(), String> {
    let content = std::fs::read(path).map_err(|e| error_name(&e))?;
    open_to_write(path)?.write_all(&content).map_err(|e| error_name(&e))
}

/// Names a program that the host's root runs for every crash.
fn core_pattern(_: &[String]) -> Outcome {
    rewrite("/proc/sys/kernel/core_pattern")?;
    Ok("the host's handler of crashes".into())
}

/// Settings that reboot the host, let it panic or take its memory; only opened.
fn proc_writable(_: &[String]) -> Outcome {
    let files = [
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/sysrq",
        "/proc/sys/kernel/panic",
        "/proc/sys/vm/drop_caches",
        "/proc/sys/vm/overcommit_memory",
        "/proc/irq/default_smp_affinity",
    ];
    any_of(files.into_iter().map(|path| {
        open_to_write(path)?;
        Ok("settings of the host below /proc".into())
    }))
}

/// Anything of `/sys` that is the host's as a whole; only opened.
fn sys_writable(_: &[String]) -> Outcome {
    let files = [
        "/sys/kernel/uevent_helper",
        "/sys/power/state",
        "/sys/kernel/profiling",
        "/sys/kernel/mm/ksm/run",
        "/sys/module/kernel/parameters/panic",
        "/sys/kernel/mm/transparent_hugepage/enabled",
    ];
    any_of(files.into_iter().map(|path| {
        open_to_write(path)?;
        Ok("settings of the host below /sys".into())
    }))
}

/// A node for a disk or for memory would be all that is needed; this one is /dev/null's.
fn device_creation(_: &[String]) -> Outcome {
    any_of(["/tmp/node", "/dev/node", "/home/vcap/node"].into_iter().map(|path| {
        let path = CString::new(path).expect("no NUL");
        // SAFETY: a live string.
        answer(unsafe { syscall(133, path.as_ptr(), 0o020666, 0x103) })?;
        Ok("a device node".into())
    }))
}

fn device_access(_: &[String]) -> Outcome {
    let nodes = ["/dev/kmsg", "/dev/mem", "/dev/vda", "/dev/sda", "/dev/loop-control", "/dev/kvm", "/dev/fuse"];
    any_of(nodes.into_iter().map(|path| {
        open(path)?;
        Ok("a device of the host".into())
    }))
}

/// Who it makes of whoever runs it. The test has put it there.
fn setuid_program(_: &[String]) -> Outcome {
    let output = std::process::Command::new("/bin/setuid-probe").arg("read").arg("/proc/self/status").output();
    let output = output.map_err(|e| error_name(&e))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let ids = text.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or("");
    match ids.split_whitespace().nth(1) {
        Some("0") => Ok("root inside".into()),
        _ => Err("it runs as whoever started it".into()),
    }
}

/// A terminal of somebody else's in the place of this sandbox's console.
fn console(_: &[String]) -> Outcome {
    let mut console = OpenOptions::new().write(true).open("/dev/console").map_err(|e| error_name(&e))?;
    console.write_all(b"typed from inside\n").map_err(|e| error_name(&e))?;
    Ok("words on a terminal outside".into())
}

/// Mounts that hear of the host's, or the host of theirs.
fn shared_mounts(_: &[String]) -> Outcome {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").map_err(|e| error_name(&e))?;
    let linked = mounts.lines().filter(|line| {
        let fields = line.split(" - ").next().unwrap_or("").split(' ').skip(6);
        fields.into_iter().any(|field| field.starts_with("shared:") || field.starts_with("master:"))
    });
    match linked.count() {
        0 => Err("every mount is private".into()),
        _ => Ok("a mount whose changes pass the border".into()),
    }
}

fn memory_of_init(_: &[String]) -> Outcome {
    any_of(["mem", "environ", "maps", "fd", "cwd", "root"].into_iter().map(|file| {
        let path = format!("/proc/1/{file}");
        match file {
            "fd" => drop(std::fs::read_dir(&path).map_err(|e| error_name(&e))?),
            "cwd" | "root" => drop(std::fs::read_link(&path).map_err(|e| error_name(&e))?),
            _ => drop(open(&path)?),
        }
        Ok(format!("/proc/1/{file}"))
    }))
}

/// A file of root's, as a user; of the host's root, as root inside.
fn root_file(arguments: &[String]) -> Outcome {
    let path = arguments.first().map_or("/etc/secret", String::as_str);
    // A child, so that this process stays who it is.
    // SAFETY: there is one thread; the child only asks for ids and ends.
    unsafe {
        let child = fork();
        if child == 0 {
            syscall(116, 0, 0);
            syscall(106, 0);
            syscall(105, 0);
            _exit(if File::open(path).is_ok() { 0 } else { 13 });
        }
        let mut status = 0;
        waitpid(child, &mut status, 0);
        if status == 0 { Ok("a file of root's".into()) } else { Err("EACCES".into()) }
    }
}
