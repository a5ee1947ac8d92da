//! What the person who pushed reads where the platform is the reason that a build fails: no network, no room, no memory.
//! One app of each language on one platform, against the real registries; what each language says of a broken app is in
//! the tests of its buildpack.
//!
//! Left out: what needs none of the three. A static site and a Procfile build without any; Go's compiler gives memory
//! back again and again before it is killed, which takes a minute; Java has a runtime on the stack unless the app asks
//! for another release.

use std::path::Path;
use std::sync::Mutex;
use tests::{Platform, app};

/// Builds that go on at once.
const AT_ONCE: usize = 2;

/// A push that must fail: its flags, and what is changed in the sample app.
struct Push {
    title: &'static str,
    sample: &'static str,
    flags: &'static [&'static str],
    files: Vec<(&'static str, String)>,
}

fn push(title: &'static str, sample: &'static str, flags: &'static [&'static str]) -> Push {
    Push {
        title,
        sample,
        flags,
        files: Vec::new(),
    }
}

impl Push {
    fn with(mut self, name: &'static str, text: impl Into<String>) -> Self {
        self.files.push((name, text.into()));
        self
    }

    /// What is read, from the line with the error on. Addresses change with every release of what is fetched.
    fn told(&self, platform: &Platform) -> String {
        let folder = app(self.sample);
        for (name, text) in &self.files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("below the app")).expect("a folder");
            std::fs::write(path, text).expect("written");
        }
        let path = folder.path().to_str().expect("UTF-8");
        let name = self.title.replace([' ', ','], "-").to_lowercase();
        let mut arguments = vec!["push", path, "-n", &name, "--no-start", "--no-route"];
        arguments.extend(self.flags);
        let ended = platform.paas(arguments);
        assert_eq!(ended.code, 1, "{}: {}{}", self.title, ended.stdout, ended.stderr);
        let from = ended.stderr.find("error: ").expect("an error");
        let plain = |line: &str| {
            let words = line
                .split(' ')
                .map(|word| if word.contains("://") { "<address>" } else { word });
            format!("{}\n", words.collect::<Vec<_>>().join(" "))
        };
        format!(
            "{}\n{}",
            self.title,
            ended.stderr[from..].lines().map(plain).collect::<String>()
        )
    }
}

/// All of them in their order, some at once.
fn told(platform: &Platform, pushes: &[Push]) -> String {
    let next = Mutex::new(0..pushes.len());
    let all = Mutex::new(vec![String::new(); pushes.len()]);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(index) = next.lock().expect("nobody panicked").next() else {
                        return;
                    };
                    let told = pushes[index].told(platform);
                    all.lock().expect("nobody panicked")[index] = told;
                }
            });
        }
    });
    all.into_inner().expect("nobody panicked").join("\n")
}

fn no_network() -> Vec<Push> {
    vec![
        push("Node", "node-http", &[]),
        push("Python", "python-flask", &[]),
        push("Go", "go-http", &[]),
        push("Java", "java-http", &[]).with("system.properties", "java.runtime.version=11\n"),
        push("Ruby", "ruby-http", &[]),
        push("PHP", "php-plain", &[]),
        push("Rust", "rust-http", &[]),
    ]
}

fn no_room() -> Vec<Push> {
    const SMALL: &[&str] = &["--staging-disk", "24M"];
    vec![
        push("Node, small disk", "node-http", SMALL),
        push("Python, small disk", "python-flask", SMALL),
        push("Go, small disk", "go-http", SMALL),
        push("Java, small disk", "java-http", SMALL).with("system.properties", "java.runtime.version=11\n"),
        push("Ruby, small disk", "ruby-http", SMALL),
        push("PHP, small disk", "php-plain", SMALL),
        push("Rust, small disk", "rust-http", SMALL),
    ]
}

/// Each takes memory without end in a step of the app's own.
fn no_memory() -> Vec<Push> {
    const SMALL: &[&str] = &["--staging-memory", "320M"];
    let manifest = |name: &str| {
        let path = tests::root().join("tests/apps").join(name);
        std::fs::read_to_string(Path::new(&path)).expect("readable")
    };
    let script = r#""scripts": {"post-autoload-dump": "@php -d memory_limit=-1 -r \"for (;;) \\$all[] = str_repeat('x', 1 << 20);\""}, "require": {"#;
    let rows: String = (0..1_500_000).map(|row| format!("\"row {row}\",\n")).collect();
    vec![
        push("Node, small memory", "node-http", SMALL)
            .with("package.json", r#"{"engines": {"node": "22.x"}, "main": "server.js", "scripts": {"build": "node fill.js"}}"#)
            .with("fill.js", "const all = []; for (;;) all.push(Buffer.alloc(1 << 20, 1));\n"),
        push("Python, small memory", "python-http", SMALL)
            .with("requirements.txt", "./own\n")
            .with(
                "own/pyproject.toml",
                "[project]\nname = 'own'\nversion = '1'\n[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n",
            )
            .with("own/backend.py", "def build_wheel(*given, **named):\n    [bytearray(1 << 20) for _ in range(1 << 20)]\n"),
        push("Java, small memory", "java-http", SMALL).with("Table.java", format!("class Table {{ static String[] all = {{\n{rows}}}; }}\n")),
        push("Ruby, small memory", "ruby-http", SMALL)
            .with("Gemfile", "source 'https://gems.test'\nall = []\nloop { all << ('x' * (1 << 20)) }\n"),
        push("PHP, small memory", "php-composer", SMALL)
            .with("composer.json", manifest("php-composer/composer.json").replacen("\"require\": {", script, 1)),
        push("Rust, small memory", "rust-http", &["--staging-memory", "512M"])
            .with("build.rs", "fn main() {\n    let mut all = Vec::new();\n    loop {\n        all.push(vec![1u8; 1 << 20]);\n    }\n}\n"),
    ]
}

#[test]
fn builds_without_network_room_or_memory_say_so() {
    let platform = Platform::start();
    insta::assert_snapshot!("no_room", told(&platform, &no_room()));
    insta::assert_snapshot!("no_memory", told(&platform, &no_memory()));
    for group in ["public_networks", "dns"] {
        let _ = platform.paas(["unbind-staging-security-group", group]).ok();
    }
    insta::assert_snapshot!("no_network", told(&platform, &no_network()));
}
