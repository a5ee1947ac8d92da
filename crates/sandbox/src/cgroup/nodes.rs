//! Rules for devices, as a program that the kernel runs whenever a process of a v2 group opens or makes one.
//! What v1 has a controller for is this on v2.
//!
//! The last rule that says something about a device decides, as with v1: later ones are exceptions to earlier ones.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use crate::inside::layout::NODES;
use crate::sys;

/// Making a node.
pub const MAKE: u32 = 1;
/// Reading.
pub const READ: u32 = 2;
/// Writing.
pub const WRITE: u32 = 4;
/// All three.
pub const ANY_USE: u32 = MAKE | READ | WRITE;

/// Most rules of one program.
const MAX_RULES: usize = 1000;

/// Block or character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Disks.
    Block,
    /// All others.
    Character,
}

/// One rule; what is `None` is any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    /// Or refuse.
    pub allow: bool,
    /// Of which kind.
    pub kind: Option<Kind>,
    /// Major number.
    pub major: Option<u32>,
    /// Minor number.
    pub minor: Option<u32>,
    /// Bits of what is done.
    pub access: u32,
}

/// All or nothing of everything.
pub fn everything(allow: bool) -> DeviceRule {
    DeviceRule {
        allow,
        kind: None,
        major: None,
        minor: None,
        access: ANY_USE,
    }
}

/// Character devices `major`:`minor` may be used.
pub fn character(major: u32, minor: Option<u32>, access: u32) -> DeviceRule {
    DeviceRule {
        allow: true,
        kind: Some(Kind::Character),
        major: Some(major),
        minor,
        access,
    }
}

/// What a sandbox has: its own nodes, which its init makes, and terminals.
pub fn of_sandboxes() -> Vec<DeviceRule> {
    let mut rules = vec![everything(false)];
    rules.extend(NODES.map(|(_, major, minor)| character(major, Some(minor), ANY_USE)));
    rules.push(character(136, None, READ | WRITE));
    rules.push(character(5, Some(2), READ | WRITE));
    rules
}

/// Makes `rules` hold for the v2 group at `group` and all below it, beside others that judge there, or in place of
/// what was set so before.
pub fn guard(group: &Path, rules: &[DeviceRule], beside: bool) -> io::Result<()> {
    if rules.len() > MAX_RULES {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let folder = std::fs::File::open(group)?;
    let program = sys::bpf_load_device(&program(rules))?;
    sys::bpf_attach_device(folder.as_fd(), program.as_fd(), beside)
}

// Instructions as the kernel has them: operation, target and source register, jump, number.
const LOAD: u8 = 0x61;
const COPY: u8 = 0xBF;
const SET: u8 = 0xB7;
const AND: u8 = 0x54;
const SHIFT_DOWN: u8 = 0x74;
const JUMP_NOT: u8 = 0x55;
const JUMP: u8 = 0x05;
const JUMP_BITS: u8 = 0x45;
const EXIT: u8 = 0x95;

// Registers: the answer, what is asked (first as a whole), kind, major, minor, what is still undecided, a spare.
const ANSWER: u8 = 0;
const ASKED: u8 = 1;
const KIND: u8 = 2;
const MAJOR: u8 = 3;
const MINOR: u8 = 4;
const OPEN: u8 = 5;

fn op(code: u8, to: u8, from: u8, jump: i16, number: u32) -> u64 {
    u64::from(code) | u64::from(from << 4 | to) << 8 | u64::from(jump as u16) << 16 | u64::from(number) << 32
}

/// From the last rule to the first: each takes what it allows off what is undecided, or refuses.
fn program(rules: &[DeviceRule]) -> Vec<u64> {
    let mut code = vec![
        op(LOAD, KIND, ASKED, 0, 0),
        op(LOAD, MAJOR, ASKED, 4, 0),
        op(LOAD, MINOR, ASKED, 8, 0),
        op(COPY, OPEN, KIND, 0, 0),
        op(SHIFT_DOWN, OPEN, 0, 0, 16),
        op(AND, KIND, 0, 0, 0xFFFF),
    ];
    for rule in rules.iter().rev() {
        let decides = if rule.allow {
            vec![
                op(AND, OPEN, 0, 0, !rule.access),
                op(JUMP_NOT, OPEN, 0, 2, 0),
                op(SET, ANSWER, 0, 0, 1),
                op(EXIT, 0, 0, 0, 0),
            ]
        } else {
            vec![
                op(JUMP_BITS, OPEN, 0, 1, rule.access),
                op(JUMP, 0, 0, 2, 0),
                op(SET, ANSWER, 0, 0, 0),
                op(EXIT, 0, 0, 0, 0),
            ]
        };
        let kind = rule.kind.map(|kind| if kind == Kind::Block { 1 } else { 2 });
        let tests: Vec<(u8, u32)> = [(KIND, kind), (MAJOR, rule.major), (MINOR, rule.minor)]
            .into_iter()
            .filter_map(|(register, wanted)| Some((register, wanted?)))
            .collect();
        for (at, (register, wanted)) in tests.iter().enumerate() {
            let behind = tests.len() - at - 1 + decides.len();
            code.push(op(JUMP_NOT, *register, 0, behind as i16, *wanted));
        }
        code.extend(decides);
    }
    // What nobody spoke about is as if there were no rules.
    code.extend([op(SET, ANSWER, 0, 0, 1), op(EXIT, 0, 0, 0, 0)]);
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would.
    fn judge(code: &[u64], kind: Kind, (major, minor): (u32, u32), access: u32) -> bool {
        let kind = if kind == Kind::Block { 1 } else { 2 };
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0u64; 6];
        let mut at = 0usize;
        loop {
            let word = code[at];
            at += 1;
            let (to, from) = ((word >> 8 & 0xF) as usize, (word >> 12 & 0xF) as usize);
            let (jump, number) = ((word >> 16) as u16 as i16, (word >> 32) as u32);
            let hit = match word as u8 {
                LOAD => {
                    assert_eq!(from, 1, "only the context is read");
                    registers[to] = u64::from(context[jump as usize / 4]);
                    continue;
                }
                COPY => {
                    registers[to] = registers[from];
                    continue;
                }
                SET => {
                    registers[to] = u64::from(number);
                    continue;
                }
                AND => {
                    registers[to] &= u64::from(number);
                    continue;
                }
                SHIFT_DOWN => {
                    registers[to] >>= number;
                    continue;
                }
                JUMP => true,
                JUMP_NOT => registers[to] != u64::from(number),
                JUMP_BITS => registers[to] & u64::from(number) != 0,
                EXIT => return registers[0] == 1,
                other => panic!("unknown instruction {other:#x}"),
            };
            if hit {
                at += jump as usize;
            }
        }
    }

    #[test]
    fn a_sandbox_has_its_nodes_and_terminals_only() {
        let code = program(&of_sandboxes());
        let may = |kind, device, access| judge(&code, kind, device, access);
        assert!(may(Kind::Character, (1, 3), READ | WRITE) && may(Kind::Character, (1, 9), MAKE));
        assert!(may(Kind::Character, (136, 77), READ | WRITE) && may(Kind::Character, (5, 2), READ));
        assert!(!may(Kind::Character, (136, 77), MAKE));
        // Memory, the kernel's log, loop control; disks, and one with a harmless device's numbers.
        for device in [(1, 1), (1, 11), (10, 237)] {
            assert!(!may(Kind::Character, device, READ), "{device:?}");
        }
        for device in [(7, 0), (254, 0), (1, 3)] {
            assert!(
                !may(Kind::Block, device, READ) && !may(Kind::Block, device, MAKE),
                "{device:?}"
            );
        }
    }

    #[test]
    fn later_rules_are_exceptions_to_earlier_ones() {
        let disks = |allow, access| DeviceRule {
            allow,
            kind: Some(Kind::Block),
            major: Some(8),
            minor: None,
            access,
        };
        let code = program(&[
            everything(false),
            disks(true, READ),
            disks(true, WRITE),
            disks(false, MAKE),
        ]);
        assert!(
            judge(&code, Kind::Block, (8, 1), READ | WRITE),
            "each allowed by a rule of its own"
        );
        assert!(!judge(&code, Kind::Block, (8, 1), MAKE | READ));
        assert!(!judge(&code, Kind::Character, (8, 1), READ));
        let lenient = program(&[disks(false, WRITE)]);
        assert!(judge(&lenient, Kind::Block, (8, 1), READ) && !judge(&lenient, Kind::Block, (8, 1), READ | WRITE));
        assert!(judge(&program(&[]), Kind::Block, (8, 1), ANY_USE));
    }

    #[test]
    fn the_kernel_takes_the_program() {
        let many = vec![character(1, Some(3), READ); MAX_RULES];
        for rules in [of_sandboxes(), Vec::new(), many] {
            // Kernels without such programs say so; what they take they have checked.
            match sys::bpf_load_device(&program(&rules)) {
                Ok(_) => {}
                Err(e) => assert!(
                    matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) && !has_programs(),
                    "{e}"
                ),
            }
        }
    }

    fn has_programs() -> bool {
        Path::new("/sys/kernel/btf").exists() || Path::new("/proc/sys/kernel/unprivileged_bpf_disabled").exists()
    }
}
