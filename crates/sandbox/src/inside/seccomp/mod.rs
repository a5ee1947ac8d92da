//! The system call filter: a list of what is allowed as data, rules for seven calls' arguments, and an
//! emitter that makes one search tree over ranges of numbers of it. What is on no list is refused.
//!
//! The kernel runs a filter for every number when it is loaded, so size and shape are part
//! of the time a sandbox takes to start.

pub(crate) mod emit;
pub(crate) mod list;
pub(crate) mod names;
pub(crate) mod rules;

use std::sync::OnceLock;

use crate::sys::Instruction;

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Allow,
    /// Refuse with this error number.
    Errno(u16),
    /// Judge by arguments.
    Rule(rules::Rule),
}

/// The program, made once per process.
pub fn program() -> &'static [Instruction] {
    static PROGRAM: OnceLock<Vec<Instruction>> = OnceLock::new();
    PROGRAM.get_or_init(|| emit::emit(&table()))
}

/// Action by number, up to [`list::NEWEST`].
fn table() -> Vec<Action> {
    let mut table = vec![Action::Errno(libc::EPERM as u16); list::NEWEST as usize + 1];
    for &(number, _) in &list::ALLOWED {
        table[number as usize] = Action::Allow;
    }
    for (number, rule) in rules::RULES {
        table[number as usize] = Action::Rule(rule);
    }
    // Its flags are out of a filter's sight; every libc falls back to clone.
    table[libc::SYS_clone3 as usize] = Action::Errno(libc::ENOSYS as u16);
    table
}

#[cfg(test)]
mod runtimes;

#[cfg(test)]
mod tests {
    use super::emit::tests::{Call, run};
    use super::*;

    const REFUSED: Action = Action::Errno(libc::EPERM as u16);
    const UNKNOWN: Action = Action::Errno(libc::ENOSYS as u16);

    fn verdict(number: libc::c_long, args: &[u64]) -> Action {
        run(program(), &Call::new(number as u32, args))
    }

    #[test]
    fn every_number_gets_what_the_table_says() {
        for (number, action) in table().into_iter().enumerate() {
            if !matches!(action, Action::Rule(_)) {
                assert_eq!(verdict(number as libc::c_long, &[]), action, "{number}");
            }
        }
        assert_eq!(verdict(470, &[]), UNKNOWN);
        assert_eq!(verdict(0x4000_0000, &[]), UNKNOWN);
        assert_eq!(verdict(-1, &[]), UNKNOWN);
    }

    #[test]
    fn another_architecture_has_no_calls_at_all() {
        let mut call = Call::new(libc::SYS_read as u32, &[]);
        call.arch = 0x4000_0003;
        assert_eq!(run(program(), &call), UNKNOWN);
    }

    #[test]
    fn what_breaks_out_is_refused() {
        use libc::*;
        for number in [
            SYS_mount,
            SYS_umount2,
            SYS_unshare,
            SYS_setns,
            SYS_pivot_root,
            SYS_chroot,
            SYS_bpf,
            SYS_keyctl,
            SYS_add_key,
            SYS_request_key,
            SYS_perf_event_open,
            SYS_userfaultfd,
            SYS_io_uring_setup,
            SYS_io_uring_enter,
            SYS_process_vm_readv,
            SYS_process_vm_writev,
            SYS_name_to_handle_at,
            SYS_open_by_handle_at,
            SYS_pidfd_getfd,
            SYS_kexec_load,
            SYS_init_module,
            SYS_reboot,
            SYS_syslog,
            SYS_open_tree,
            SYS_move_mount,
            SYS_fsopen,
            SYS_mount_setattr,
            SYS_swapon,
            SYS_quotactl,
            SYS_acct,
            SYS_settimeofday,
            SYS_clock_settime,
            SYS_sethostname,
            SYS_iopl,
            SYS_ioperm,
            SYS_kcmp,
            SYS_kexec_file_load,
            SYS_finit_module,
            SYS_move_pages,
            SYS_lookup_dcookie,
            SYS_fanotify_init,
            SYS_vhangup,
        ] {
            assert_eq!(verdict(number, &[]), REFUSED, "{number}");
        }
        assert_eq!(verdict(SYS_clone3, &[]), UNKNOWN);
    }

    #[test]
    fn arguments_are_judged() {
        use libc::*;
        assert_eq!(
            verdict(SYS_clone, &[(CLONE_VM | CLONE_THREAD | SIGCHLD) as u64]),
            Action::Allow
        );
        for flag in [
            CLONE_NEWNS,
            CLONE_NEWUSER,
            CLONE_NEWPID,
            CLONE_NEWNET,
            CLONE_NEWIPC,
            CLONE_NEWUTS,
            CLONE_NEWCGROUP,
        ] {
            assert_eq!(verdict(SYS_clone, &[(flag | SIGCHLD) as u64]), REFUSED);
        }
        for family in 0..64 {
            let known = [AF_UNSPEC, AF_UNIX, AF_INET, AF_INET6, AF_NETLINK].contains(&family);
            let wanted = if known { Action::Allow } else { REFUSED };
            assert_eq!(verdict(SYS_socket, &[family as u64]), wanted, "{family}");
        }
        assert_eq!(verdict(SYS_socketpair, &[AF_UNIX as u64]), Action::Allow);
        assert_eq!(verdict(SYS_socketpair, &[30]), REFUSED);
        for (persona, wanted) in [
            (0, Action::Allow),
            (0xffff_ffff, Action::Allow),
            (0x20008, Action::Allow),
            (4, REFUSED),
        ] {
            assert_eq!(verdict(SYS_personality, &[persona]), wanted);
        }
        for (call, at) in [(SYS_mknod, 1), (SYS_mknodat, 2)] {
            let mode = |kind: u32| [[0, u64::from(kind) | 0o644, 0], [0, 0, u64::from(kind) | 0o644]][at - 1];
            for kind in [0, S_IFREG, S_IFIFO, S_IFSOCK] {
                assert_eq!(verdict(call, &mode(kind)), Action::Allow, "{kind:o}");
            }
            for kind in [S_IFCHR, S_IFBLK, S_IFDIR, S_IFLNK] {
                assert_eq!(verdict(call, &mode(kind)), REFUSED, "{kind:o}");
            }
        }
    }

    #[test]
    fn requests_are_those_of_files_terminals_and_sockets() {
        use libc::*;
        // Typing, the console's own, taking the console, line disciplines, loop devices, virtual machines, disks, interfaces.
        for request in [
            TIOCSTI,
            TIOCLINUX,
            TIOCCONS,
            TIOCSETD,
            TIOCVHANGUP,
            0x4C00,
            0xAE01,
            0x1260,
            0x4004_54CA,
            0x8B01,
        ] {
            for size in [0u64, 0x8004_0000, 0x7_0000_0000] {
                let request = request & 0xFFFF | size;
                assert_eq!(verdict(SYS_ioctl, &[0, request]), REFUSED, "{request:#x}");
            }
        }
        for request in [
            TCGETS,
            TCSETSW,
            TIOCSCTTY,
            TIOCGPGRP,
            TIOCGWINSZ,
            TIOCSWINSZ,
            FIONREAD,
            FIONBIO,
            FIOCLEX,
            FIONCLEX,
            TIOCNOTTY,
            0x8004_5430,
            0x4004_5431,
            0x5441,
            SIOCGIFCONF,
            SIOCGIFHWADDR,
            SIOCETHTOOL,
            0x8008_6601,
            0x4004_9409,
            0x802c_542a,
            0xC0C0_6611,
            0xB703,
        ] {
            assert_eq!(verdict(SYS_ioctl, &[0, request]), Action::Allow, "{request:#x}");
        }
    }

    #[test]
    fn the_program_stays_small() {
        assert!(program().len() < 340, "{}", program().len());
    }

    #[test]
    fn the_list_is_ascending() {
        assert!(list::ALLOWED.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(list::ALLOWED.iter().all(|(number, _)| *number <= list::NEWEST));
    }
}
