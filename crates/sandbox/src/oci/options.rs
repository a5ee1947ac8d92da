//! The options of a mount, as words of a configuration, taken apart. Pure.

use crate::sys::{attr, propagation};

/// What the options of one mount ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// A copy of what is elsewhere: with what is mounted below it?
    pub bind: Option<bool>,
    /// Attributes set and cleared on the mount.
    pub own: Change,
    /// The same on it and all below it.
    pub below: Change,
    /// `MS_SHARED` and so on, and whether below as well.
    pub propagation: Option<(u64, bool)>,
    /// Shift owners as the mappings say: also below?
    pub idmap: Option<bool>,
    /// For the file system: a flag or a setting each, in order.
    pub data: Vec<(String, Option<String>)>,
}

/// Attributes of a mount to be changed, as `MOUNT_ATTR_*` bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// To be set.
    pub set: u64,
    /// To be cleared before.
    pub clear: u64,
}

impl Change {
    /// Whether there is nothing to do.
    pub fn is_empty(self) -> bool {
        self.set == 0 && self.clear == 0
    }

    fn apply(&mut self, set: bool, bits: u64) {
        let (to, from) = if set {
            (&mut self.set, &mut self.clear)
        } else {
            (&mut self.clear, &mut self.set)
        };
        *to |= bits;
        *from &= !bits;
    }

    fn time(&mut self, kind: u64) {
        self.set = (self.set & !attr::TIME_MASK) | kind;
        self.clear |= attr::TIME_MASK;
    }
}

/// Takes `options` apart; in words what is not understood.
pub fn parse(options: &[String]) -> Result<Options, String> {
    let mut all = Options::default();
    for word in options {
        if attribute(&mut all, word) || time(&mut all, word) || way(&mut all, word) {
            continue;
        }
        match word.as_str() {
            "defaults" | "silent" | "loud" | "mand" | "nomand" | "async" | "nolazytime" => {}
            // Every mount of terminals is a new one.
            "newinstance" => {}
            "remount" | "tmpcopyup" => return Err(format!("mount option {word} is not supported")),
            word => match word.split_once('=') {
                Some((key, value)) => all.data.push((key.to_owned(), Some(value.to_owned()))),
                None => all.data.push((word.to_owned(), None)),
            },
        }
    }
    Ok(all)
}

fn attribute(all: &mut Options, word: &str) -> bool {
    let (change, word) = match word.strip_prefix('r') {
        Some(rest) if NAMES.iter().any(|(name, ..)| *name == rest) => (&mut all.below, rest),
        _ => (&mut all.own, word),
    };
    let Some((_, bits, set)) = NAMES.iter().find(|(name, ..)| *name == word) else {
        return false;
    };
    change.apply(*set, *bits);
    true
}

/// Words that set or clear an attribute; with `r` before them also below.
const NAMES: [(&str, u64, bool); 12] = [
    ("ro", attr::RDONLY, true),
    ("rw", attr::RDONLY, false),
    ("nosuid", attr::NOSUID, true),
    ("suid", attr::NOSUID, false),
    ("nodev", attr::NODEV, true),
    ("dev", attr::NODEV, false),
    ("noexec", attr::NOEXEC, true),
    ("exec", attr::NOEXEC, false),
    ("nodiratime", attr::NODIRATIME, true),
    ("diratime", attr::NODIRATIME, false),
    ("nosymfollow", attr::NOSYMFOLLOW, true),
    ("symfollow", attr::NOSYMFOLLOW, false),
];

/// Every word that is not left to a file system, as `features` tells them.
pub const WORDS: [&str; 51] = [
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "exec",
    "idmap",
    "loud",
    "mand",
    "newinstance",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "unbindable",
];

fn time(all: &mut Options, word: &str) -> bool {
    let kind = |word: &str| match word {
        "relatime" | "atime" | "nostrictatime" => Some(attr::RELATIME),
        "noatime" | "norelatime" => Some(attr::NOATIME),
        "strictatime" => Some(attr::STRICTATIME),
        _ => None,
    };
    let below = word.strip_prefix('r').and_then(kind);
    match (kind(word), below) {
        (Some(kind), _) => all.own.time(kind),
        (None, Some(kind)) => all.below.time(kind),
        (None, None) => return false,
    }
    true
}

/// How it hangs together with other mounts.
fn way(all: &mut Options, word: &str) -> bool {
    match word {
        "bind" => all.bind = Some(all.bind.unwrap_or(false)),
        "rbind" => all.bind = Some(true),
        "idmap" => all.idmap = Some(false),
        "ridmap" => all.idmap = Some(true),
        word => match propagation(word) {
            Some(kind) => all.propagation = Some(kind),
            None => return false,
        },
    }
    true
}

/// `MS_*` of a word like `rslave`, and whether it is meant below as well.
pub fn propagation(word: &str) -> Option<(u64, bool)> {
    let kind = |word: &str| match word {
        "shared" => Some(propagation::SHARED),
        "slave" => Some(propagation::SLAVE),
        "private" => Some(propagation::PRIVATE),
        "unbindable" => Some(propagation::UNBINDABLE),
        _ => None,
    };
    match (kind(word), word.strip_prefix('r').and_then(kind)) {
        (Some(kind), _) => Some((kind, false)),
        (None, Some(kind)) => Some((kind, true)),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Options {
        parse(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn attributes_are_set_and_cleared() {
        let all = parsed(&["nosuid", "noexec", "ro", "rw", "mode=755", "size=64k", "strictatime"]);
        assert_eq!(all.own.set, attr::NOSUID | attr::NOEXEC | attr::STRICTATIME);
        assert_eq!(all.own.clear, attr::RDONLY | attr::TIME_MASK);
        assert_eq!(all.data.len(), 2);
        assert_eq!(all.data[0], ("mode".to_owned(), Some("755".to_owned())));
    }

    #[test]
    fn recursive_words_are_not_mistaken() {
        let all = parsed(&["rro", "rnosuid", "relatime", "rbind", "rslave", "rnoatime"]);
        assert_eq!(all.below.set, attr::RDONLY | attr::NOSUID | attr::NOATIME);
        assert_eq!(
            all.own,
            Change {
                set: 0,
                clear: attr::TIME_MASK
            }
        );
        assert_eq!(all.bind, Some(true));
        assert_eq!(all.propagation, Some((propagation::SLAVE, true)));
        assert_eq!(parsed(&["ro"]).own.set, attr::RDONLY);
        assert!(parsed(&["ro"]).below.is_empty());
    }

    #[test]
    fn what_is_not_known_goes_to_the_file_system() {
        assert_eq!(parsed(&["hidepid=2", "sync"]).data.len(), 2);
        assert!(parse(&["tmpcopyup".to_owned()]).is_err());
    }
}
