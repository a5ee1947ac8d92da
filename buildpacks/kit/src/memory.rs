//! Programs that set variables by the memory of the instance, when it starts. What the platform says is read at run time,
//! since instances are scaled without a build.

/// Finds `$megabytes`, and ends where there is no limit.
const HEAD: &str = include_str!("memory.sh");

/// A program for a layer's `exec.d`: `body` is shell that uses `$megabytes` and calls `tell NAME VALUE`.
#[must_use]
pub fn program(body: &str) -> String {
    format!("{HEAD}{body}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn told(limit: Option<&str>) -> String {
        let script = program("tell HALF $((megabytes / 2))\n");
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", &format!("exec 3>&1; {script}")])
            .env_remove("MEMORY_LIMIT");
        if let Some(limit) = limit {
            shell.env("MEMORY_LIMIT", limit);
        }
        String::from_utf8(shell.output().unwrap().stdout).unwrap()
    }

    #[test]
    fn each_way_to_write_a_limit() {
        for (limit, expected) in [
            ("512m", "256"),
            ("512M", "256"),
            ("2g", "1024"),
            ("1G", "512"),
            ("64MB", "32"),
        ] {
            assert_eq!(told(Some(limit)), format!("HALF = \"{expected}\"\n"), "{limit}");
        }
    }

    #[test]
    fn what_is_no_limit_falls_back_to_the_control_group() {
        let own = told(None);
        assert_eq!(told(Some("much")), own);
        assert_eq!(told(Some("-1")), own);
    }
}
