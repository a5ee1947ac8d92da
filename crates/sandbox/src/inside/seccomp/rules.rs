//! Calls that are allowed or refused by an argument.

/// The lower half of argument `arg` decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which argument.
    pub arg: u8,
    /// Against what.
    pub test: Test,
}

/// How an argument decides; refused is EPERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// Refused if any of these bits is set.
    RefuseBits(u32),
    /// Refused if it is one of these, or the number given or above.
    RefuseValues(&'static [u32], u32),
    /// Allowed only if it is one of these.
    AllowValues(&'static [u32]),
}

/// Any new namespace.
const CLONE_NEW: u32 = 0x7E02_0000;
/// The kernel's own cryptography and sockets to the hypervisor; families nobody has.
const FAMILIES_REFUSED: &[u32] = &[12, 19, 20, 23, 25, 34, 37, 38, 40];
/// Families from here on are unknown.
const FAMILIES_END: u32 = 46;
const PERSONALITIES: &[u32] = &[0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// Typing into a terminal and its kernel console sibling.
const TERMINAL_INJECTION: &[u32] = &[libc::TIOCSTI as u32, libc::TIOCLINUX as u32];

/// By system call number.
pub const RULES: [(u32, Rule); 4] = [
    (
        libc::SYS_clone as u32,
        Rule {
            arg: 0,
            test: Test::RefuseBits(CLONE_NEW),
        },
    ),
    (
        libc::SYS_socket as u32,
        Rule {
            arg: 0,
            test: Test::RefuseValues(FAMILIES_REFUSED, FAMILIES_END),
        },
    ),
    (
        libc::SYS_personality as u32,
        Rule {
            arg: 0,
            test: Test::AllowValues(PERSONALITIES),
        },
    ),
    (
        libc::SYS_ioctl as u32,
        Rule {
            arg: 1,
            test: Test::RefuseValues(TERMINAL_INJECTION, u32::MAX),
        },
    ),
];
