//! Turns a table of actions into a filter program: a balanced tree of comparisons over runs
//! of numbers with the same action.

use super::Action;
use super::rules::{Rule, Test};
use crate::sys::Instruction;

pub const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
pub const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
pub const JUMP_EQ: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
pub const JUMP_GE: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
pub const JUMP_GT: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
pub const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP_SET: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
pub const RETURN: u16 = 0x06; // BPF_RET | BPF_K

const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
pub const OFFSET_ARGS: u32 = 16;
const ARCH_X86_64: u32 = 0xC000_003E;

pub const RETURN_ALLOW: u32 = 0x7FFF_0000;
pub const RETURN_ERRNO: u32 = 0x0005_0000;
const REFUSED: u32 = RETURN_ERRNO | libc::EPERM as u32;
const UNKNOWN: u32 = RETURN_ERRNO | libc::ENOSYS as u32;

pub fn op(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

pub fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// The program for `table`; calls beyond it and other architectures get ENOSYS.
pub(super) fn emit(table: &[Action]) -> Vec<Instruction> {
    emit_with(table, Action::Errno(libc::ENOSYS as u16), leaf)
}

/// The program for a table of anything that `leaf` turns into code which ends with an answer; calls beyond the
/// table are answered as `beyond`, other architectures get ENOSYS.
pub fn emit_with<A: Copy + PartialEq>(
    table: &[A],
    beyond: A,
    leaf: impl Fn(A) -> Vec<Instruction>,
) -> Vec<Instruction> {
    let mut program = vec![
        op(LOAD, OFFSET_ARCH),
        jump(JUMP_EQ, ARCH_X86_64, 1, 0),
        op(RETURN, UNKNOWN),
        op(LOAD, OFFSET_NUMBER),
    ];
    program.extend(tree(&runs(table, beyond), &leaf));
    program
}

/// First numbers of runs of equal actions, the last one being everything beyond the table.
fn runs<A: Copy + PartialEq>(table: &[A], beyond: A) -> Vec<(u32, A)> {
    let mut runs: Vec<(u32, A)> = Vec::new();
    for (number, action) in table.iter().chain([&beyond]).enumerate() {
        if runs.last().is_none_or(|(_, last)| last != action) {
            runs.push((number as u32, *action));
        }
    }
    runs
}

/// `number >= middle ? right : left`, the left half following at once.
fn tree<A: Copy>(runs: &[(u32, A)], leaf: &impl Fn(A) -> Vec<Instruction>) -> Vec<Instruction> {
    if let [(_, action)] = runs {
        return leaf(*action);
    }
    let (low, high) = runs.split_at(runs.len() / 2);
    let (left, right) = (tree(low, leaf), tree(high, leaf));
    let mut code = Vec::with_capacity(left.len() + right.len() + 2);
    match u8::try_from(left.len()) {
        Ok(distance) => code.push(jump(JUMP_GE, high[0].0, distance, 0)),
        // Conditional jumps reach 255 instructions only.
        Err(_) => {
            code.push(jump(JUMP_GE, high[0].0, 0, 1));
            code.push(op(JUMP, left.len() as u32));
        }
    }
    code.extend(left);
    code.extend(right);
    code
}

fn leaf(action: Action) -> Vec<Instruction> {
    match action {
        Action::Allow => vec![op(RETURN, RETURN_ALLOW)],
        Action::Errno(errno) => vec![op(RETURN, RETURN_ERRNO | u32::from(errno))],
        Action::Rule(rule) => judge(rule),
    }
}

fn judge(Rule { arg, test }: Rule) -> Vec<Instruction> {
    // Lower half first: x86-64 is little endian.
    let mut code = vec![op(LOAD, OFFSET_ARGS + 8 * u32::from(arg))];
    match test {
        Test::OnlyBits(bits) => code.push(jump(JUMP_SET, !bits, 0, 1)),
        Test::OneOf(values) => {
            for (at, value) in values.iter().enumerate() {
                // To what allows, behind what refuses.
                code.push(jump(JUMP_EQ, *value, (values.len() - at) as u8, 0));
            }
        }
        Test::Within(bits, ranges) => {
            code.push(op(AND, bits));
            for (at, (first, last)) in ranges.iter().enumerate() {
                // Below this range and above the one before is refused; they ascend.
                let left = 2 * (ranges.len() - at) as u8;
                code.push(jump(JUMP_GE, *first, 0, left - 1));
                code.push(jump(JUMP_GT, *last, 0, left - 1));
            }
        }
    }
    code.extend([op(RETURN, REFUSED), op(RETURN, RETURN_ALLOW)]);
    code
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// One call as the kernel shows it to a filter.
    pub struct Call {
        pub number: u32,
        pub arch: u32,
        pub args: [u64; 6],
    }

    impl Call {
        pub fn new(number: u32, args: &[u64]) -> Call {
            let mut all = [0; 6];
            all[..args.len()].copy_from_slice(args);
            Call {
                number,
                arch: ARCH_X86_64,
                args: all,
            }
        }

        fn load(&self, offset: u32) -> u32 {
            match offset {
                OFFSET_NUMBER => self.number,
                OFFSET_ARCH => self.arch,
                _ => {
                    let offset = offset - OFFSET_ARGS;
                    (self.args[offset as usize / 8] >> (8 * (offset % 8))) as u32
                }
            }
        }
    }

    /// Interprets a program as the kernel would.
    pub(in crate::inside::seccomp) fn run(program: &[Instruction], call: &Call) -> Action {
        match answer(program, call) {
            RETURN_ALLOW => Action::Allow,
            other => Action::Errno((other & 0xffff) as u16),
        }
    }

    /// The same, with the answer as the kernel gets it.
    pub fn answer(program: &[Instruction], call: &Call) -> u32 {
        let (mut at, mut acc) = (0usize, 0u32);
        loop {
            let Instruction { code, jt, jf, k } = program[at];
            at += 1;
            let taken = match code {
                LOAD => {
                    acc = call.load(k);
                    continue;
                }
                AND => {
                    acc &= k;
                    continue;
                }
                JUMP => {
                    at += k as usize;
                    continue;
                }
                JUMP_EQ => acc == k,
                JUMP_GE => acc >= k,
                JUMP_GT => acc > k,
                JUMP_SET => acc & k != 0,
                RETURN => return k,
                other => panic!("unknown instruction {other:#x}"),
            };
            at += usize::from(if taken { jt } else { jf });
        }
    }

    proptest::proptest! {
        #[test]
        fn any_table_is_obeyed(picks in proptest::collection::vec(0u8..3, 1..1200), probe in 0u32..1300) {
            let table: Vec<Action> = picks
                .iter()
                .map(|pick| [Action::Allow, Action::Errno(1), Action::Errno(2)][usize::from(*pick)])
                .collect();
            let wanted = table.get(probe as usize).copied().unwrap_or(Action::Errno(libc::ENOSYS as u16));
            proptest::prop_assert_eq!(run(&emit(&table), &Call::new(probe, &[])), wanted);
        }
    }
}
