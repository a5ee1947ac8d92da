//! The server as OpenSSH's own client sees it. What stands behind it are processes of this machine.

mod instances;
mod kit;

use instances::CODE;
use kit::{Server, client};
use std::process::Stdio;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_have_streams_variables_and_an_end() {
    let server = Server::start().await;
    let mut ssh = server.ssh(
        CODE,
        &["-o", "SetEnv=GREETING=hello"],
        &["cat; echo $GREETING >&2; exit 7"],
    );
    let mut child = ssh.spawn().expect("ssh starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"some input").await.expect("written");
    drop(stdin);
    let output = client(child).await;
    assert_eq!(output.stdout, b"some input");
    assert!(String::from_utf8_lossy(&output.stderr).contains("hello"), "{output:?}");
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(server.ended().await, "the command ended by itself");

    // Ended by a signal: this client has no code for that but its own.
    let output = server.run(CODE, &[], &["kill -TERM $$"]).await;
    assert_eq!(output.status.code(), Some(255));
    let output = server.run(CODE, &["-v"], &["kill -TERM $$"]).await;
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("exit-signal"),
        "{output:?}"
    );
    let output = server.run(CODE, &[], &["refuse me"]).await;
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("it is refused"),
        "{output:?}"
    );
    assert_eq!(output.status.code(), Some(255));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_code_lets_in_and_the_server_is_known_by_its_key() {
    let server = Server::start().await;
    let output = server.run("wrong", &[], &["true"]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(255), "{said}");
    assert!(
        said.contains("denied") || said.contains("Too many authentication failures"),
        "{said}"
    );
    assert_eq!(server.tries(), 1, "this client asks its user once");
    server.forget_key();
    let output = server.run(CODE, &[], &["true"]).await;
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("verification failed"),
        "{output:?}"
    );
    assert_eq!(server.tries(), 1, "it was not even asked for a code");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_data_goes_both_ways_at_once() {
    let server = Server::start().await;
    let data: Vec<u8> = (0..24_u32 << 20)
        .map(|n| n.to_le_bytes()[usize::from(n % 3 == 0)])
        .collect();
    // It reads nothing until it has written more than fits anywhere in between.
    let line = "head -c 8000000 /dev/zero; cat";
    let mut child = server.ssh(CODE, &[], &[line]).spawn().expect("ssh starts");
    let mut stdin = child.stdin.take().expect("piped");
    let sent = data.clone();
    let writing = tokio::spawn(async move {
        stdin.write_all(&sent).await.expect("written");
    });
    let output = client(child).await;
    writing.await.expect("written");
    assert_eq!(output.stdout.len(), data.len() + 8_000_000);
    assert!(output.stdout[8_000_000..] == data, "every byte in its place");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_go_through_or_are_refused() {
    let server = Server::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accepted");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("read");
        stream.write_all(text.to_uppercase().as_bytes()).await.expect("written");
    });
    let target = format!("localhost:{port}");
    let mut child = server.ssh(CODE, &["-W", &target], &[]).spawn().expect("ssh starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"hello through").await.expect("written");
    drop(stdin);
    assert_eq!(client(child).await.stdout, b"HELLO THROUGH");
    let output = server.run(CODE, &["-W", &target], &[]).await;
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("forwarding failed"),
        "nobody listens any more: {output:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_gone_ends_its_session() {
    let server = Server::start().await;
    let mut child = server
        .ssh(CODE, &[], &["echo begun; exec sleep 1000"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("ssh starts");
    let mut line = [0; 6];
    child
        .stdout
        .as_mut()
        .expect("piped")
        .read_exact(&mut line)
        .await
        .expect("it begins");
    child.kill().await.expect("killed");
    assert_eq!(server.ended().await, "the client is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_says_nothing_or_nonsense_hinders_nobody() {
    let server = Server::start().await;
    let mut silent = tokio::net::TcpStream::connect(server.address).await.expect("connects");
    let mut talker = tokio::net::TcpStream::connect(server.address).await.expect("connects");
    let mut banner = [0; 8];
    silent.read_exact(&mut banner).await.expect("greets");
    assert_eq!(&banner, b"SSH-2.0-");
    // It may be cut off while it still talks.
    let _ = talker.write_all(&[b'x'; 100_000]).await;
    let output = server.run(CODE, &[], &["echo fine"]).await;
    assert_eq!(output.stdout, b"fine\n");
    server.stop();
    let mut rest = Vec::new();
    // The end, in order or not.
    let _ = tokio::time::timeout(kit::PATIENCE, silent.read_to_end(&mut rest))
        .await
        .expect("it is cut off");
}
