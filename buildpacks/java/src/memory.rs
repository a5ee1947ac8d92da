//! Memory that adds up: the JVM's own settings, made from the memory of the instance when it starts.

use buildpack_kit::{Layer, Result, memory};

const SCRIPT: &str = include_str!("memory.sh");
const PORT: &str = include_str!("port.sh");
/// Classes of the runtime itself.
const RUNTIME: u64 = 27_000;
/// Classes of the runtime that a small program loads.
const SMALL: u64 = 4_000;

/// Classes that an app with so many of its own will have loaded: a third of all there are, and of a small app not more than
/// it has.
fn loaded(classes: u64) -> u64 {
    ((RUNTIME + classes) * 35 / 100).min(SMALL + classes)
}

/// Writes the programs that set up each start.
///
/// # Errors
/// Where they cannot be written.
pub fn write(layer: &Layer, classes: u64) -> Result<()> {
    let script = memory::program(&format!("loaded={}\n{SCRIPT}", loaded(classes)));
    layer.write_program("exec.d", "java-memory", &script)?;
    layer.write_program("exec.d", "java-port", PORT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn run(megabytes: u64, classes: u64, set: &[(&str, &str)]) -> (bool, String) {
        let script = memory::program(&format!("loaded={}\n{SCRIPT}", loaded(classes)));
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", &format!("exec 3>&1 2>&1; {script}")])
            .env_clear()
            .env("MEMORY_LIMIT", format!("{megabytes}m"))
            .envs(set.iter().copied());
        let output = shell.output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    }

    /// What is told for sizes of instances and apps, for reading.
    #[test]
    fn figures_in_words() {
        let mut told = String::new();
        for (megabytes, classes) in [
            (64, 3),
            (128, 3),
            (256, 3),
            (256, 12_000),
            (512, 12_000),
            (768, 12_000),
            (1024, 20_000),
            (4096, 30_000),
        ] {
            let (ok, text) = run(megabytes, classes, &[]);
            told.push_str(&format!(
                "{megabytes} MB, {classes} classes, {}\n{text}\n",
                if ok { "starts" } else { "refused" }
            ));
        }
        insta::assert_snapshot!(told);
    }

    #[test]
    fn what_the_app_sets_stays() {
        let sized = [("JAVA_OPTS", "-Xmx100m")];
        assert_eq!(run(256, 3, &sized), (true, String::new()));
        let (_, text) = run(256, 3, &[("JAVA_TOOL_OPTIONS", "-Da=b"), ("BPL_JVM_THREAD_COUNT", "5")]);
        assert!(
            text.trim_end().ends_with("-XX:+UseSerialGC -Da=b\"") && text.contains("(5 threads)"),
            "{text}"
        );
    }

    #[test]
    fn the_parts_are_the_whole() {
        for megabytes in [128, 200, 256, 400, 512, 700, 1024, 2048] {
            let (_, text) = run(megabytes, 100, &[]);
            let line = text.lines().next().unwrap();
            let numbers = ["heap ", "classes ", "code ", "stacks ", "buffers ", "spare "].map(|name| {
                let rest = line.split(name).nth(1).unwrap();
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                digits.parse::<u64>().unwrap()
            });
            assert_eq!(numbers.iter().sum::<u64>(), megabytes, "{line}");
        }
    }
}
