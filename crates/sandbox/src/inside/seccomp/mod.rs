//! The system call filter: a list as data, rules for four calls' arguments, and an emitter
//! that makes one search tree over ranges of numbers of it.
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
        for family in [AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET] {
            assert_eq!(verdict(SYS_socket, &[family as u64]), Action::Allow, "{family}");
        }
        for family in [AF_ALG, AF_VSOCK, 12, 63] {
            assert_eq!(verdict(SYS_socket, &[family as u64]), REFUSED, "{family}");
        }
        for (persona, wanted) in [
            (0, Action::Allow),
            (0xffff_ffff, Action::Allow),
            (0x20008, Action::Allow),
            (4, REFUSED),
        ] {
            assert_eq!(verdict(SYS_personality, &[persona]), wanted);
        }
        assert_eq!(verdict(SYS_ioctl, &[0, TIOCSTI]), REFUSED);
        assert_eq!(verdict(SYS_ioctl, &[0, TIOCGWINSZ]), Action::Allow);
    }

    #[test]
    fn the_program_stays_small() {
        assert!(program().len() < 260, "{}", program().len());
    }

    #[test]
    fn the_list_is_ascending() {
        assert!(list::ALLOWED.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(list::ALLOWED.iter().all(|(number, _)| *number <= list::NEWEST));
    }
}
