//! Calls that are allowed by an argument: what is not named here is refused, whatever the kernel may
//! come to know.

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
    /// Allowed if no other bits than these are set.
    OnlyBits(u32),
    /// Allowed if it is one of these.
    OneOf(&'static [u32]),
    /// Allowed if, with these bits of it, it is within one of the ranges: (first, last), ascending.
    Within(u32, &'static [(u32, u32)]),
}

/// Threads, processes and the signal at their end; no new namespace.
const CLONE_FLAGS: u32 = 0x81FD_FFFF;
/// None, local, the two internets, and asking the kernel about the network.
const FAMILIES: &[u32] = &[0, 1, 2, 10, 16];
const LOCAL: &[u32] = &[1];
const PERSONALITIES: &[u32] = &[0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// Of a mode: what kind of file.
const FILE_KIND: u32 = 0xF000;
/// Plain, pipe, plain by name, socket: no device.
const FILE_KINDS: &[(u32, u32)] = &[(0, 0), (0x1000, 0x1000), (0x8000, 0x8000), (0xC000, 0xC000)];
/// Of a request: whose it is, and its number; the rest is its size.
const REQUEST: u32 = 0xFFFF;
/// Requests by whose they are. What types into a terminal (TIOCSTI, TIOCLINUX), takes the console or
/// loads a line discipline is not among them, nor is anything of a driver's.
#[rustfmt::skip]
const REQUESTS: &[(u32, u32)] = &[
    // Files: size of blocks, identity.
    (0x0002, 0x0002), (0x1500, 0x1501),
    // Notifications of a filter that an app sets itself.
    (0x2100, 0x2104),
    // Terminals, and what every descriptor has.
    (0x5401, 0x5411), (0x5413, 0x541B), (0x5420, 0x5422), (0x5424, 0x5425), (0x5427, 0x542D), (0x5430, 0x5432),
    (0x5436, 0x5436), (0x5438, 0x5439), (0x5440, 0x5441), (0x5450, 0x5452), (0x5460, 0x5460),
    // Attributes and extents of files, maps and pages of a process, versions of files.
    (0x581F, 0x5820), (0x6601, 0x6602), (0x660B, 0x660B), (0x6610, 0x6611), (0x7601, 0x7602),
    // Sockets and interfaces, epoll.
    (0x8901, 0x894B), (0x89E0, 0x89E0), (0x8A01, 0x8A02),
    // Clones of files, labels.
    (0x9409, 0x9409), (0x940D, 0x940D), (0x9431, 0x9431), (0x9436, 0x9436),
    // What a namespace is, what became of a process.
    (0xB703, 0xB704), (0xFF0B, 0xFF0B),
];

/// By system call number.
pub const RULES: [(u32, Rule); 7] = [
    (libc::SYS_clone as u32, rule(0, Test::OnlyBits(CLONE_FLAGS))),
    (libc::SYS_socket as u32, rule(0, Test::OneOf(FAMILIES))),
    (libc::SYS_socketpair as u32, rule(0, Test::OneOf(LOCAL))),
    (libc::SYS_personality as u32, rule(0, Test::OneOf(PERSONALITIES))),
    (libc::SYS_ioctl as u32, rule(1, Test::Within(REQUEST, REQUESTS))),
    (libc::SYS_mknod as u32, rule(1, Test::Within(FILE_KIND, FILE_KINDS))),
    (libc::SYS_mknodat as u32, rule(2, Test::Within(FILE_KIND, FILE_KINDS))),
];

const fn rule(arg: u8, test: Test) -> Rule {
    Rule { arg, test }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_ascend_and_fit_their_bits() {
        for (number, rule) in RULES {
            let Test::Within(bits, ranges) = rule.test else {
                continue;
            };
            assert!(
                ranges.iter().all(|(first, last)| first <= last && last & !bits == 0),
                "{number}"
            );
            assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0), "{number}");
        }
    }
}
