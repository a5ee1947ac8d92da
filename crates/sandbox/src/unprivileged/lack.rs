//! What sandboxes lack whose agent is not the host's root: data, and the words for it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Runs the same with everything in force.
const AS_ROOT: &str = "sudo paasd dev";
const MANY_IDS: &str = "install newuidmap (Debian package uidmap) and give your account subordinate ids: \
                        sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER";

/// Which part of the isolation it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// Memory, CPU and disks are not limited nor measured.
    Resources,
    /// Ids are shared with other sandboxes, or with the caller.
    Users,
    /// Private layers are in memory.
    Disk,
    /// Nothing outside is reached.
    Network,
    /// Sandboxes end with the agent.
    Survival,
}

/// One thing that is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lack {
    /// What it is about.
    pub subject: Subject,
    /// What follows from it, as a clause.
    pub effect: String,
    /// What would bring it back: a command, or what to install.
    pub remedy: String,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.effect, self.remedy)
    }
}

/// All of it. `one_id`: why there is one id only; `cut_off`: why there is no way out, and what would help.
pub fn all(one_id: Option<&str>, cut_off: Option<(String, String)>) -> Vec<Lack> {
    let lack = |subject, effect: &str, remedy: &str| Lack {
        subject,
        effect: effect.to_owned(),
        remedy: remedy.to_owned(),
    };
    let users = match one_id {
        None => lack(
            Subject::Users,
            "all apps share your account's subordinate user ids: one is kept from another's files and processes by \
             namespaces, not by ids as well",
            AS_ROOT,
        ),
        Some(why) => lack(
            Subject::Users,
            &format!(
                "apps run under your own user id and groups: they are kept from your files and processes by \
                 namespaces, not by ids as well, because {why}"
            ),
            MANY_IDS,
        ),
    };
    let mut all = vec![
        lack(
            Subject::Resources,
            "memory, CPU and disk use of apps are neither limited nor measured, and none can be paused: one app can \
             exhaust this machine; only the number of its processes is bounded",
            AS_ROOT,
        ),
        users,
        lack(
            Subject::Disk,
            "what apps write is held in memory, up to the size of their disk",
            AS_ROOT,
        ),
    ];
    if let Some((why, remedy)) = cut_off {
        let effect = format!("apps and builds reach nothing outside of this platform, because {why}");
        all.push(lack(Subject::Network, &effect, &remedy));
    }
    all.push(lack(
        Subject::Survival,
        "apps end together with the platform, and start again with it",
        AS_ROOT,
    ));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_what_follows_and_what_would_help() {
        let few = all(None, None);
        assert!(!few.iter().any(|lack| lack.subject == Subject::Network));
        let cut_off = (
            "slirp4netns is not installed".to_owned(),
            "apt-get install it".to_owned(),
        );
        let many = all(Some("there is no newuidmap"), Some(cut_off));
        assert_eq!(many.len(), few.len() + 1);
        let said: Vec<String> = many.iter().map(Lack::to_string).collect();
        assert!(
            said.iter()
                .any(|text| text.contains("own user id") && text.contains("there is no newuidmap"))
        );
        assert!(said.iter().any(|text| text.ends_with("(apt-get install it)")));
        for lack in few.iter().chain(&many) {
            assert!(!lack.effect.is_empty() && !lack.remedy.is_empty());
        }
        let json = serde_json::to_value(&many[0]).unwrap();
        assert_eq!(json["subject"], "resources");
    }
}
