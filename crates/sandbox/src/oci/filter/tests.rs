//! Programs made from profiles, held against a plain reading of the profile.

use oci_spec::runtime::{LinuxSeccompArgBuilder, LinuxSyscall};
use proptest::prelude::*;

use super::*;
use crate::inside::seccomp::emit::tests::{Call, answer as run};
use crate::inside::seccomp::{list, program as platform_program};

fn arg(index: usize, op: Op, value: u64, two: u64) -> LinuxSeccompArg {
    let built = LinuxSeccompArgBuilder::default()
        .index(index)
        .op(op)
        .value(value)
        .value_two(two);
    built.build().unwrap()
}

fn call(name: &str, action: Wanted, errno: Option<u32>, args: Vec<LinuxSeccompArg>) -> LinuxSyscall {
    let mut call = LinuxSyscall::default();
    call.set_names(vec![name.to_owned()])
        .set_action(action)
        .set_errno_ret(errno)
        .set_args(Some(args));
    call
}

fn profile(default: Wanted, calls: Vec<LinuxSyscall>) -> LinuxSeccomp {
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(default).set_syscalls(Some(calls));
    profile
}

fn fits(arg: &LinuxSeccompArg, value: u64) -> bool {
    match arg.op() {
        Op::ScmpCmpEq => value == arg.value(),
        Op::ScmpCmpNe => value != arg.value(),
        Op::ScmpCmpLt => value < arg.value(),
        Op::ScmpCmpLe => value <= arg.value(),
        Op::ScmpCmpGt => value > arg.value(),
        Op::ScmpCmpGe => value >= arg.value(),
        Op::ScmpCmpMaskedEq => value & arg.value() == arg.value_two().unwrap_or(0),
    }
}

fn any_value() -> impl Strategy<Value = u64> {
    prop_oneof![
        0u64..4,
        any::<u64>(),
        (0u64..4, 0u64..4).prop_map(|(high, low)| high << 32 | low)
    ]
}

fn any_arg() -> impl Strategy<Value = LinuxSeccompArg> {
    let ops = [
        Op::ScmpCmpEq,
        Op::ScmpCmpNe,
        Op::ScmpCmpLt,
        Op::ScmpCmpLe,
        Op::ScmpCmpGt,
        Op::ScmpCmpGe,
        Op::ScmpCmpMaskedEq,
    ];
    (0usize..6, 0..ops.len(), any_value(), any_value())
        .prop_map(move |(at, op, value, two)| arg(at, ops[op], value, two))
}

proptest! {
    #[test]
    fn any_rules_decide_as_they_read(
        rules in proptest::collection::vec((proptest::collection::vec(any_arg(), 0..4), 1u32..100), 0..6),
        args in proptest::collection::vec(any_value(), 6),
    ) {
        let calls = rules.iter().map(|(args, errno)| call("mount", Wanted::ScmpActErrno, Some(*errno), args.clone()));
        let filter = compile(&profile(Wanted::ScmpActAllow, calls.collect())).unwrap();
        let with_args = rules.iter().filter(|(rule, _)| !rule.is_empty());
        let wanted = with_args
            .chain(rules.iter().filter(|(rule, _)| rule.is_empty()))
            .find(|(rule, _)| rule.iter().all(|one| fits(one, args[one.index()])))
            .map_or(RETURN_ALLOW, |(_, errno)| RETURN_ERRNO | errno);
        let got = run(&filter.program, &Call::new(libc::SYS_mount as u32, &args));
        prop_assert_eq!(got, wanted);
        let other = run(&filter.program, &Call::new(libc::SYS_read as u32, &args));
        prop_assert_eq!(other, RETURN_ALLOW);
    }

    #[test]
    fn the_platforms_filter_survives_its_translation(
        number in prop_oneof![0u32..480, Just(libc::SYS_socket as u32), Just(libc::SYS_ioctl as u32),
                              Just(libc::SYS_clone as u32), Just(libc::SYS_personality as u32)],
        values in proptest::collection::vec(prop_oneof![0u64..64, 0x5400u64..0x5430, Just(0x2_0008), Just(0xffff_ffff),
                                                        any::<u64>()], 6),
    ) {
        let translated = compile(&crate::oci::profile::platform()).unwrap();
        let call = Call::new(number, &values);
        prop_assert_eq!(run(&translated.program, &call), run(platform_program(), &call), "{}", number);
    }
}

#[test]
fn the_platforms_profile_stays_small() {
    let filter = compile(&crate::oci::profile::platform()).unwrap();
    assert!(filter.program.len() < 1000, "{}", filter.program.len());
}

#[test]
fn what_is_not_known_is_refused_or_skipped() {
    let skipped = profile(
        Wanted::ScmpActErrno,
        vec![call("no_such_call", Wanted::ScmpActAllow, None, vec![])],
    );
    let filter = compile(&skipped).unwrap();
    assert_eq!(run(&filter.program, &Call::new(0, &[])), RETURN_ERRNO | 1);
    let newer = list::NEWEST + 1;
    assert_eq!(
        run(&filter.program, &Call::new(newer, &[])),
        RETURN_ERRNO | libc::ENOSYS as u32
    );
    let lenient = compile(&profile(Wanted::ScmpActAllow, vec![])).unwrap();
    assert_eq!(run(&lenient.program, &Call::new(newer, &[])), RETURN_ALLOW);
    assert_eq!(
        run(&lenient.program, &Call::new(X32, &[])),
        RETURN_ERRNO | libc::ENOSYS as u32
    );
    assert!(compile(&profile(Wanted::ScmpActNotify, vec![])).is_err());
    let left = |name: &str| {
        profile(
            Wanted::ScmpActAllow,
            vec![call(name, Wanted::ScmpActNotify, None, vec![])],
        )
    };
    assert!(compile(&left("mkdir")).is_err(), "nobody listens");
    let mut heard = left("mkdir");
    heard.set_listener_path(Some("/run/listener".into()));
    assert!(compile(&heard).unwrap().listened);
    let mut deaf = left("sendmsg");
    deaf.set_listener_path(Some("/run/listener".into()));
    assert!(compile(&deaf).is_err());
    assert!(!lenient.listened);
    let mut elsewhere = profile(Wanted::ScmpActAllow, vec![]);
    elsewhere.set_architectures(Some(vec![Arch::ScmpArchAarch64]));
    assert!(compile(&elsewhere).is_err());
    let seventh = call("read", Wanted::ScmpActErrno, None, vec![arg(6, Op::ScmpCmpEq, 0, 0)]);
    assert!(compile(&profile(Wanted::ScmpActAllow, vec![seventh])).is_err());
}

#[test]
fn actions_are_the_kernels() {
    for (action, errno, wanted) in [
        (Wanted::ScmpActKill, None, 0),
        (Wanted::ScmpActKillProcess, None, 0x8000_0000),
        (Wanted::ScmpActTrap, None, 0x0003_0000),
        (Wanted::ScmpActErrno, None, 0x0005_0001),
        (Wanted::ScmpActErrno, Some(38), 0x0005_0026),
        (Wanted::ScmpActTrace, Some(7), 0x7ff0_0007),
        (Wanted::ScmpActNotify, None, 0x7fc0_0000),
        (Wanted::ScmpActLog, None, 0x7ffc_0000),
        (Wanted::ScmpActAllow, None, 0x7fff_0000),
    ] {
        assert_eq!(answer(action, errno), Ok(wanted));
    }
    assert!(answer(Wanted::ScmpActErrno, Some(5000)).is_err());
}
