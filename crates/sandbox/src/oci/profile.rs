//! The platform's system call filter as an OCI profile. Pure.
//!
//! A profile is a union of rules that compare bits, so a range has to be told as aligned blocks.

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompOperator, LinuxSyscall,
};

use crate::inside::seccomp::list::ALLOWED;
use crate::inside::seccomp::rules::{RULES, Rule, Test};

/// The platform's filter.
pub fn platform() -> LinuxSeccomp {
    let mut syscalls = vec![allow(ALLOWED.iter().map(|&(_, name)| name.to_owned()).collect(), None)];
    for (number, rule) in RULES {
        syscalls.extend(ruled(name(number), rule));
    }
    let mut clone3 = LinuxSyscall::default();
    // Its flags are out of a filter's sight; every libc falls back to clone.
    clone3
        .set_names(vec!["clone3".to_owned()])
        .set_action(LinuxSeccompAction::ScmpActErrno)
        .set_errno_ret(Some(libc::ENOSYS as u32));
    syscalls.push(clone3);
    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(LinuxSeccompAction::ScmpActErrno)
        .set_default_errno_ret(Some(libc::EPERM as u32))
        .set_architectures(Some(vec![Arch::ScmpArchX86_64]))
        .set_syscalls(Some(syscalls));
    profile
}

fn name(number: u32) -> &'static str {
    match i64::from(number) {
        libc::SYS_clone => "clone",
        libc::SYS_socket => "socket",
        libc::SYS_personality => "personality",
        libc::SYS_ioctl => "ioctl",
        libc::SYS_socketpair => "socketpair",
        libc::SYS_mknod => "mknod",
        libc::SYS_mknodat => "mknodat",
        // A test holds every rule to have a name.
        _ => "",
    }
}

fn allow(names: Vec<String>, arg: Option<LinuxSeccompArg>) -> LinuxSyscall {
    let mut call = LinuxSyscall::default();
    call.set_names(names)
        .set_action(LinuxSeccompAction::ScmpActAllow)
        .set_args(arg.map(|arg| vec![arg]));
    call
}

/// One entry for each way in which the call is allowed.
fn ruled(name: &str, Rule { arg, test }: Rule) -> Vec<LinuxSyscall> {
    let one = |mask, value| allow(vec![name.to_owned()], Some(masked(arg, mask, value)));
    match test {
        Test::OnlyBits(bits) => vec![one(!bits, 0)],
        Test::OneOf(values) => values.iter().map(|&value| one(u32::MAX, value)).collect(),
        Test::Within(bits, ranges) => ranges
            .iter()
            .flat_map(|&(first, last)| blocks(first, last))
            .map(|(value, mask)| one(mask & bits, value))
            .collect(),
    }
}

/// The lower half of the argument, as in the platform's rules: `arg & mask == value`.
fn masked(arg: u8, mask: u32, value: u32) -> LinuxSeccompArg {
    LinuxSeccompArgBuilder::default()
        .index(usize::from(arg))
        .op(LinuxSeccompOperator::ScmpCmpMaskedEq)
        .value(mask)
        .value_two(value)
        .build()
        .expect("every field has a default")
}

/// `first..=last` as the fewest aligned blocks: (first number, mask of the bits that its numbers share).
fn blocks(first: u32, last: u32) -> Vec<(u32, u32)> {
    let (mut at, end) = (u64::from(first), u64::from(last) + 1);
    let mut blocks = Vec::new();
    while at < end {
        let aligned = if at == 0 { 32 } else { at.trailing_zeros() };
        let fits = (end - at).ilog2();
        let bits = aligned.min(fits);
        blocks.push((at as u32, u32::MAX.checked_shl(bits).unwrap_or(0)));
        at += 1 << bits;
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covered(blocks: &[(u32, u32)], number: u32) -> usize {
        blocks.iter().filter(|(value, mask)| number & mask == *value).count()
    }

    proptest::proptest! {
        #[test]
        fn blocks_cover_a_range_and_nothing_else(
            first in 0u32..200,
            length in proptest::prop_oneof![0u32..200, proptest::prelude::Just(u32::MAX - 200)],
            probe in proptest::prop_oneof![0u32..500, proptest::prelude::any::<u32>()],
        ) {
            let blocks = blocks(first, first + length);
            let wanted = usize::from((first..=first + length).contains(&probe));
            proptest::prop_assert_eq!(covered(&blocks, probe), wanted);
        }
    }

    #[test]
    fn every_rule_has_a_name_and_few_entries() {
        for (number, rule) in RULES {
            assert!(!name(number).is_empty(), "{number}");
            assert!(ruled(name(number), rule).len() < 70);
        }
    }
}
