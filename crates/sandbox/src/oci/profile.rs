//! The platform's system call filter as an OCI profile. Pure.
//!
//! A profile is a union of rules, and a rule compares each argument at most once, so what the platform
//! refuses by value has to be told as everything that is left.

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
        Test::RefuseBits(bits) => vec![one(bits, 0)],
        Test::AllowValues(values) => values.iter().map(|&value| one(u32::MAX, value)).collect(),
        Test::RefuseValues(values, from) => blocks_without(values, from)
            .into_iter()
            .map(|(value, mask)| one(mask, value))
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

/// Everything but `values` and what is `from` or above (`u32::MAX` for no such end), as the fewest aligned
/// blocks: (first number, mask of the bits that its numbers share).
fn blocks_without(values: &[u32], from: u32) -> Vec<(u32, u32)> {
    fn split(first: u32, bits: u32, values: &[u32], from: u32, blocks: &mut Vec<(u32, u32)>) {
        let last = first + (((1u64 << bits) - 1) as u32);
        let refused = |number: u32| values.contains(&number) || number >= from;
        let none_refused = last < from && !values.iter().any(|value| (first..=last).contains(value));
        if none_refused {
            let mask = if bits == 32 { 0 } else { u32::MAX << bits };
            blocks.push((first, mask));
        } else if bits > 0 && first < from {
            split(first, bits - 1, values, from, blocks);
            split(first + (1 << (bits - 1)), bits - 1, values, from, blocks);
        } else {
            debug_assert!(refused(first));
        }
    }
    let mut blocks = Vec::new();
    split(0, 32, values, from, &mut blocks);
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
        fn blocks_cover_all_but_what_is_refused(
            values in proptest::collection::vec(0u32..100, 0..5),
            from in proptest::prelude::prop_oneof![0u32..120, proptest::prelude::Just(u32::MAX)],
            probe in proptest::prelude::prop_oneof![0u32..130, proptest::prelude::any::<u32>()],
        ) {
            let blocks = blocks_without(&values, from);
            let wanted = usize::from(!values.contains(&probe) && probe < from);
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
