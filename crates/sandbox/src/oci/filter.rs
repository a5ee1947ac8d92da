//! Any OCI seccomp profile as a filter program, by the emitter that makes the platform's own. Pure.
//!
//! A call's rules are tried in the order in which they stand, those with arguments first; the first that
//! fits decides. Calls this architecture does not have are skipped. Other architectures (32-bit and x32
//! programs) have no calls at all, whatever the profile says of them; calls newer than the known ones get
//! ENOSYS where the profile refuses by default, so that programs fall back as on an older kernel.

use std::collections::BTreeMap;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Wanted, LinuxSeccompArg, LinuxSeccompFilterFlag,
    LinuxSeccompOperator as Op,
};

use crate::inside::seccomp::emit::{
    AND, JUMP, JUMP_EQ, JUMP_GE, JUMP_GT, LOAD, OFFSET_ARGS, RETURN, RETURN_ALLOW, RETURN_ERRNO, emit_with, jump, op,
};
use crate::inside::seccomp::list::NEWEST;
use crate::inside::seccomp::names;
use crate::sys::Instruction;

/// The kernel's own limit for one program.
const MAX_INSTRUCTIONS: usize = 4096;
/// Rules in one profile.
const MAX_RULES: usize = 8192;
/// Numbers of x32 begin here.
const X32: u32 = 0x4000_0000;
const RETURN_KILL_PROCESS: u32 = 0x8000_0000;
const RETURN_KILL_THREAD: u32 = 0;
const RETURN_USER_NOTIF: u32 = 0x7FC0_0000;
const RETURN_TRAP: u32 = 0x0003_0000;
const RETURN_TRACE: u32 = 0x7FF0_0000;
const RETURN_LOG: u32 = 0x7FFC_0000;

/// A program and how it is to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The program.
    pub program: Vec<Instruction>,
    /// `SECCOMP_FILTER_FLAG_*` bits.
    pub flags: u32,
    /// Whether it leaves calls to somebody who listens.
    pub listened: bool,
}

/// One way in which a call may fit.
#[derive(Clone, Debug)]
struct Rule {
    args: Vec<LinuxSeccompArg>,
    answer: u32,
}

/// Compiles `profile`; in words what is wrong with it or cannot be done.
pub fn compile(profile: &LinuxSeccomp) -> Result<Filter, String> {
    architectures(profile)?;
    let listened = listened(profile)?;
    let default = answer(profile.default_action(), profile.default_errno_ret())?;
    let mut rules: BTreeMap<u32, Vec<Rule>> = BTreeMap::new();
    let mut count = 0;
    for call in profile.syscalls().iter().flatten() {
        let rule = Rule {
            args: call.args().clone().unwrap_or_default(),
            answer: answer(call.action(), call.errno_ret())?,
        };
        if rule.args.iter().any(|arg| arg.index() > 5) {
            return Err("a system call has six arguments, a rule names a seventh".to_owned());
        }
        for number in call.names().iter().filter_map(|name| names::number(name)) {
            rules.entry(number).or_default().push(rule.clone());
            count += 1;
        }
        if count > MAX_RULES {
            return Err(format!("more than {MAX_RULES} rules"));
        }
    }
    let program = program(rules, default);
    if program.len() > MAX_INSTRUCTIONS {
        return Err(format!(
            "it takes {} instructions, the kernel runs at most {MAX_INSTRUCTIONS}",
            program.len()
        ));
    }
    Ok(Filter {
        program,
        flags: flags(profile, listened)?,
        listened,
    })
}

/// Verdicts are told apart by their code, so that equal neighbours share it.
fn program(rules: BTreeMap<u32, Vec<Rule>>, default: u32) -> Vec<Instruction> {
    let mut verdicts: Vec<Vec<Instruction>> = vec![vec![op(RETURN, default)]];
    let mut table = vec![0usize; NEWEST as usize + 1];
    for (number, mut rules) in rules {
        // Stable: otherwise in the order given.
        rules.sort_by_key(|rule| rule.args.is_empty());
        let code = decide(&rules, default);
        let at = verdicts.iter().position(|known| *known == code).unwrap_or_else(|| {
            verdicts.push(code);
            verdicts.len() - 1
        });
        table[number as usize] = at;
    }
    let lenient = matches!(default, RETURN_ALLOW | RETURN_LOG);
    let unknown = RETURN_ERRNO | libc::ENOSYS as u32;
    verdicts.push(vec![
        jump(JUMP_GE, X32, 0, 1),
        op(RETURN, unknown),
        op(RETURN, if lenient { default } else { unknown }),
    ]);
    emit_with(&table, verdicts.len() - 1, |at| verdicts[at].clone())
}

/// Rule after rule; the default if none fits.
fn decide(rules: &[Rule], default: u32) -> Vec<Instruction> {
    let mut code = Vec::new();
    for rule in rules {
        let mut checks: Vec<Vec<Instruction>> = rule.args.iter().map(check).collect();
        checks.push(vec![op(RETURN, rule.answer)]);
        // Each check falls through if it fits, else jumps to where it is told: behind this rule.
        let length: usize = checks.iter().map(Vec::len).sum();
        let mut done = 0;
        for mut block in checks {
            let behind = length - done - block.len();
            done += block.len();
            for instruction in &mut block {
                if instruction.code == JUMP && instruction.k == MISS {
                    instruction.k = behind as u32;
                }
            }
            code.extend(block);
        }
        if rule.args.is_empty() {
            return code;
        }
    }
    code.push(op(RETURN, default));
    code
}

/// Stands for "behind this rule" until that is known; only ever the last instruction of a check.
const MISS: u32 = u32::MAX;

/// Code that goes on behind its end if the argument fits, else jumps to [`MISS`].
fn check(arg: &LinuxSeccompArg) -> Vec<Instruction> {
    // Low half first in memory: x86-64 is little endian.
    let low_at = OFFSET_ARGS + 8 * arg.index() as u32;
    let (low, high) = (op(LOAD, low_at), op(LOAD, low_at + 4));
    let value = arg.value();
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    let (value_high, value_low) = halves(value);
    let miss = op(JUMP, MISS);
    match arg.op() {
        Op::ScmpCmpEq => vec![
            high,
            jump(JUMP_EQ, value_high, 0, 2),
            low,
            jump(JUMP_EQ, value_low, 1, 0),
            miss,
        ],
        Op::ScmpCmpNe => vec![
            high,
            jump(JUMP_EQ, value_high, 0, 3),
            low,
            jump(JUMP_EQ, value_low, 0, 1),
            miss,
        ],
        Op::ScmpCmpMaskedEq => {
            let (mask_high, mask_low) = halves(value);
            let (wanted_high, wanted_low) = halves(arg.value_two().unwrap_or(0));
            vec![
                high,
                op(AND, mask_high),
                jump(JUMP_EQ, wanted_high, 0, 3),
                low,
                op(AND, mask_low),
                jump(JUMP_EQ, wanted_low, 1, 0),
                miss,
            ]
        }
        Op::ScmpCmpGt => ordered(high, low, (value_high, value_low), JUMP_GT, true),
        Op::ScmpCmpGe => ordered(high, low, (value_high, value_low), JUMP_GE, true),
        Op::ScmpCmpLe => ordered(high, low, (value_high, value_low), JUMP_GT, false),
        Op::ScmpCmpLt => ordered(high, low, (value_high, value_low), JUMP_GE, false),
    }
}

/// Fits if the argument compares to the value by `compare` on its low half as `wanted`.
fn ordered(
    high: Instruction,
    low: Instruction,
    (value_high, value_low): (u32, u32),
    compare: u16,
    wanted: bool,
) -> Vec<Instruction> {
    let miss = op(JUMP, MISS);
    if wanted {
        vec![
            high,
            jump(JUMP_GT, value_high, 4, 0),
            jump(JUMP_EQ, value_high, 0, 2),
            low,
            jump(compare, value_low, 1, 0),
            miss,
        ]
    } else {
        vec![
            high,
            jump(JUMP_GT, value_high, 3, 0),
            jump(JUMP_EQ, value_high, 0, 3),
            low,
            jump(compare, value_low, 0, 1),
            miss,
        ]
    }
}

fn answer(action: Wanted, errno: Option<u32>) -> Result<u32, String> {
    let data = |default: i32| match errno {
        None => Ok(default as u32),
        Some(number) if number <= 4095 => Ok(number),
        Some(number) => Err(format!("{number} is not an error number")),
    };
    Ok(match action {
        Wanted::ScmpActAllow => RETURN_ALLOW,
        Wanted::ScmpActLog => RETURN_LOG,
        Wanted::ScmpActErrno => RETURN_ERRNO | data(libc::EPERM)?,
        Wanted::ScmpActTrace => RETURN_TRACE | data(libc::EPERM)?,
        Wanted::ScmpActTrap => RETURN_TRAP,
        Wanted::ScmpActKill | Wanted::ScmpActKillThread => RETURN_KILL_THREAD,
        Wanted::ScmpActKillProcess => RETURN_KILL_PROCESS,
        Wanted::ScmpActNotify => RETURN_USER_NOTIF,
    })
}

fn architectures(profile: &LinuxSeccomp) -> Result<(), String> {
    let Some(all) = profile.architectures().as_ref().filter(|all| !all.is_empty()) else {
        return Ok(());
    };
    let native = |arch: &Arch| matches!(arch, Arch::ScmpArchX86_64 | Arch::ScmpArchNative);
    if all.iter().any(native) {
        Ok(())
    } else {
        Err("its architectures do not include x86-64".to_owned())
    }
}

/// Whether calls are left to somebody, who then has to be named, and to whom the way is not one of these calls.
fn listened(profile: &LinuxSeccomp) -> Result<bool, String> {
    if profile.default_action() == Wanted::ScmpActNotify {
        return Err("SCMP_ACT_NOTIFY cannot be the default: nothing could be told to the listener".to_owned());
    }
    let calls = profile.syscalls().iter().flatten();
    let mut left = calls.filter(|call| call.action() == Wanted::ScmpActNotify).peekable();
    let any = left.peek().is_some();
    if left.any(|call| call.names().iter().any(|name| name == "sendmsg")) {
        return Err("sendmsg cannot have SCMP_ACT_NOTIFY: the listener gets its descriptor by it".to_owned());
    }
    let named = profile
        .listener_path()
        .as_ref()
        .is_some_and(|path| !path.as_os_str().is_empty());
    match (any, named) {
        (true, false) => Err("SCMP_ACT_NOTIFY needs listenerPath".to_owned()),
        (_, false) if profile.listener_metadata().is_some() => Err("listenerMetadata needs listenerPath".to_owned()),
        (any, _) => Ok(any),
    }
}

fn flags(profile: &LinuxSeccomp, listened: bool) -> Result<u32, String> {
    let mut bits = 0;
    for flag in profile.flags().iter().flatten() {
        bits |= match flag {
            // One thread, so there is nothing to synchronise.
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => 2,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => 4,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv if listened => 32,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
                return Err("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs SCMP_ACT_NOTIFY".to_owned());
            }
        };
    }
    Ok(bits)
}

#[cfg(test)]
mod tests;
