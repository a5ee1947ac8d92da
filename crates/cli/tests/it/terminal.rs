//! The program on a terminal of its own: a pseudo-terminal whose other end the test reads.

use super::fake::{FakeController, Plan};
use super::run::User;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Child;
use tokio::sync::mpsc;

/// Our end of a terminal.
struct Terminal {
    ours: File,
    output: mpsc::Receiver<String>,
    seen: String,
}

fn open() -> (Terminal, OwnedFd) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&ours).expect("granted");
    unlockpt(&ours).expect("unlocked");
    let name = ptsname(&ours, Vec::new()).expect("its name");
    let path = std::path::PathBuf::from(name.to_str().expect("UTF-8"));
    let theirs = File::options().read(true).write(true).open(path).expect("opens");
    let size = Winsize {
        ws_row: 40,
        ws_col: 120,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&theirs, size).expect("sized");
    let ours = File::from(ours);
    let mut reader = ours.try_clone().expect("cloned");
    let (sender, output) = mpsc::channel(1024);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        // Reading ends by an error once the program has closed its end.
        while let Ok(count) = reader.read(&mut buffer) {
            if count == 0
                || sender
                    .blocking_send(String::from_utf8_lossy(&buffer[..count]).into_owned())
                    .is_err()
            {
                return;
            }
        }
    });
    (
        Terminal {
            ours,
            output,
            seen: String::new(),
        },
        theirs.into(),
    )
}

impl Terminal {
    fn spawn(user: &User, args: &[&str]) -> (Self, Child) {
        let (terminal, theirs) = open();
        let end = || Stdio::from(theirs.try_clone().expect("cloned"));
        let mut command = user.command(args);
        command
            .env("TERM", "xterm-256color")
            .stdin(end())
            .stdout(end())
            .stderr(end());
        let child = command.spawn().expect("starts");
        (terminal, child)
    }

    /// Waits until `text` was shown.
    async fn until(&mut self, text: &str) {
        let wait = async {
            while !self.seen.contains(text) {
                let Some(more) = self.output.recv().await else {
                    panic!("{text:?} was never shown: {}", self.seen);
                };
                self.seen.push_str(&more);
            }
        };
        let result = tokio::time::timeout(Duration::from_secs(20), wait).await;
        assert!(result.is_ok(), "{text:?} is not shown: {}", self.seen);
    }

    /// All that was shown, once the program has ended.
    async fn rest(mut self) -> String {
        drop(self.ours);
        while let Some(more) = self.output.recv().await {
            self.seen.push_str(&more);
        }
        self.seen
    }
}

fn interrupt(child: &Child) {
    let pid = i32::try_from(child.id().expect("it runs")).expect("a pid");
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_on_a_terminal_has_colours_and_takes_its_bars_away() {
    let fake = FakeController::start(Plan::default()).await;
    let user = User::beside(&fake).with_app();
    let (mut terminal, mut child) = Terminal::spawn(&user, &["push", "shop"]);
    terminal.until("http://shop.localhost:8080").await;
    assert_eq!(child.wait().await.expect("ends").code(), Some(0));
    let seen = terminal.rest().await;
    assert!(seen.contains("\u{1b}[1m-----> Node 22"), "the headline is bold: {seen}");
    assert!(!seen.contains("06:"), "no time of day on a terminal");
    assert!(seen.contains("deploy   the new version serves"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_interrupt_offers_to_cancel() {
    let fake = FakeController::start(Plan {
        deploy_hangs: true,
        ..Plan::default()
    })
    .await;
    let user = User::beside(&fake).with_app();
    let (mut terminal, mut child) = Terminal::spawn(&user, &["push", "shop"]);
    terminal.until("instance 0 started").await;
    interrupt(&child);
    terminal.until("paas deploy attach shop").await;
    terminal.until("Ctrl-C again to cancel it").await;
    interrupt(&child);
    terminal.until("Cancel it [y/N]").await;
    {
        use std::io::Write as _;
        terminal.ours.write_all(b"y\n").expect("typed");
    }
    terminal.until("cancelled").await;
    assert_eq!(child.wait().await.expect("ends").code(), Some(130));
    assert_eq!(fake.count("POST /v3/deployments/deployment/actions/cancel"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_asked_for_and_not_shown() {
    let fake = FakeController::start(Plan::default()).await;
    let user = User::new();
    let (mut terminal, mut child) = Terminal::spawn(&user, &["login", &fake.api, "-u", "ann"]);
    terminal.until("Password: ").await;
    {
        use std::io::Write as _;
        terminal.ours.write_all(b"right\n").expect("typed");
    }
    terminal.until("logged in to").await;
    assert_eq!(child.wait().await.expect("ends").code(), Some(0));
    assert!(!terminal.rest().await.contains("right\r"), "what is typed is not shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dumb_terminal_gets_lines() {
    let fake = FakeController::start(Plan::default()).await;
    let user = User::beside(&fake).with_app();
    let (mut terminal, theirs) = open();
    let end = || Stdio::from(theirs.try_clone().expect("cloned"));
    let mut command = user.command(&["push", "shop"]);
    let mut child = command
        .env("TERM", "dumb")
        .stdout(end())
        .stderr(end())
        .spawn()
        .expect("starts");
    drop((command, theirs));
    terminal.until("http://shop.localhost:8080").await;
    assert_eq!(child.wait().await.expect("ends").code(), Some(0));
    assert!(!terminal.rest().await.contains('\u{1b}'));
}
