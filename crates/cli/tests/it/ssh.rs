//! Sessions in instances, codes for them, and log-ins without a password.

use super::fake::{FakeController, Plan};
use super::run::User;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

async fn shop() -> (FakeController, User) {
    let fake = FakeController::start(Plan::default()).await.with_app("shop", 1);
    let user = User::beside(&fake);
    (fake, user)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_runs_inside_and_its_exit_code_is_ours() {
    let (_fake, user) = shop().await;
    let ran = user.run_with_input(&["ssh", "shop", "-c", "cat -n"], "typed\n").await;
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert_eq!(
        (ran.stdout.as_str(), ran.stderr.as_str()),
        ("ran [\"cat -n\"]\n", "typed\n")
    );
    for wrong in [
        &["ssh", "shop", "-N"][..],
        &["ssh", "shop", "-L", "80"],
        &["ssh", "shop", "-t", "-T"],
        &["ssh", "shop", "-c", "true", "--json"],
    ] {
        assert_eq!(user.run(wrong).await.code, 2, "{wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_lead_into_the_instance_until_it_is_interrupted() {
    let (_fake, user) = shop().await;
    let mut child = user
        .command(&["ssh", "shop", "-N", "-L", "0:localhost:8080", "-L", "[::1]:0:db:5432"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let line = lines.next_line().await.expect("reads").expect("a line");
    assert!(line.contains("leads to localhost:8080"), "{line}");
    let address = line
        .split_whitespace()
        .find(|word| word.starts_with("127.0.0.1:"))
        .expect("an address");
    for _ in 0..2 {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
        stream.write_all(b"hello").await.expect("written");
        stream.shutdown().await.expect("shut");
        let mut said = String::new();
        stream.read_to_string(&mut said).await.expect("text");
        assert_eq!(said, "ready\nhello");
    }
    let pid = rustix::process::Pid::from_raw(child.id().expect("it runs").cast_signed()).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("ours");
    let ended = tokio::time::timeout(std::time::Duration::from_secs(20), child.wait()).await;
    assert_eq!(ended.expect("in time").expect("waited").code(), Some(130));
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_and_switches() {
    let (_fake, user) = shop().await;
    assert_eq!(user.run(&["ssh-code"]).await.stdout, "one-time\n");
    assert_eq!(user.run(&["ssh-code", "--json"]).await.json()["code"], "one-time");
    let said = user.run(&["disable-ssh", "shop"]).await;
    assert_eq!(said.stdout, "ssh support is disabled for app 'shop'\n");
    let said = user.run(&["ssh-enabled", "shop"]).await;
    assert!(said.stdout.contains(": ssh is disabled for app"), "{}", said.stdout);
    let said = user.run(&["allow-space-ssh", "dev"]).await;
    assert_eq!(said.stdout, "ssh support is enabled in space 'dev'\n");
    assert_eq!(
        user.run(&["space-ssh-allowed", "dev", "--json"]).await.json()["enabled"],
        true
    );
    assert_eq!(user.run(&["enable-ssh", "shop"]).await.code, 0);
    assert_eq!(user.run(&["disallow-space-ssh", "none"]).await.code, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_or_another_device_logs_in() {
    let (fake, _) = shop().await;
    let user = User::new();
    let ran = user.run_with_input(&["login", &fake.api, "--sso"], "right\n").await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("{}/passcode", fake.api)), "{}", ran.stderr);
    assert_eq!(user.run(&["apps", "-o", "name"]).await.stdout, "shop\n");
    let wrong = user
        .run_with_input(&["login", &fake.api, "--sso", "--json"], "wrong\n")
        .await;
    assert_eq!(wrong.code, 3);

    let (fake, _) = shop().await;
    let user = User::new();
    let ran = user.run(&["login", &fake.api, "--device"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("with the code BCDF-GHJK"), "{}", ran.stderr);
    assert_eq!(fake.count("POST /oauth/token"), 2, "it asked until it was allowed");
    assert_eq!(user.run(&["apps", "-o", "name"]).await.stdout, "shop\n");
    let both = user.run(&["login", &fake.api, "--device", "--sso"]).await;
    assert_eq!(both.code, 2);
}
