//! `META-INF/MANIFEST.MF`: names and values, long ones continued on lines that begin with a space.

use std::collections::BTreeMap;

/// The main section.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Manifest(BTreeMap<String, String>);

impl Manifest {
    /// Reads the main section, which ends with the first empty line.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut found: BTreeMap<String, String> = BTreeMap::new();
        let mut last = String::new();
        for line in text.lines() {
            if line.is_empty() {
                break;
            }
            if let Some(more) = line.strip_prefix(' ') {
                if let Some(value) = found.get_mut(&last) {
                    value.push_str(more);
                }
            } else if let Some((name, value)) = line.split_once(':') {
                last = name.trim().to_ascii_lowercase();
                found.insert(last.clone(), value.trim_start().to_owned());
            }
        }
        Self(found)
    }

    /// A value that is not empty; names are read in any case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.get(&name.to_ascii_lowercase())?.trim();
        Some(value).filter(|value| !value.is_empty())
    }

    /// `Main-Class`, where it is one.
    #[must_use]
    pub fn main_class(&self) -> Option<&str> {
        let is_name = |name: &&str| name.chars().all(|c| c.is_alphanumeric() || "._$".contains(c));
        self.get("Main-Class").filter(is_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_continued() {
        let text = "Manifest-Version: 1.0\r\nMain-Class: org.example.\r\n very.LongName\r\nSpring-Boot-Version: 3\r\n\r\nName: x\r\nMain-Class: y\r\n";
        let manifest = Manifest::parse(text);
        assert_eq!(manifest.main_class(), Some("org.example.very.LongName"));
        assert_eq!(manifest.get("spring-boot-version"), Some("3"));
        assert_eq!(Manifest::parse("Main-Class: a; rm -rf /\n").main_class(), None);
    }
}
