//! Commands run in living instances.

use crate::controller::read_session;
use crate::kit::Kit;
use api::cell::{CONNECTED, Exec, Purpose, SessionMessage};
use axum::extract::ws::Message;
use model::id::WorkId;

fn exit(code: i32) -> SessionMessage {
    SessionMessage::Exit { code, signal: None }
}

async fn send(socket: &mut axum::extract::ws::WebSocket, text: &str) {
    let mut bytes = vec![0];
    bytes.extend_from_slice(text.as_bytes());
    socket.send(Message::Binary(bytes.into())).await.expect("sent");
}

async fn say(socket: &mut axum::extract::ws::WebSocket, message: &SessionMessage) {
    let text = serde_json::to_string(message).expect("JSON");
    socket.send(Message::Text(text.into())).await.expect("sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_have_streams_input_a_terminal_and_an_exit_code() {
    let kit = Kit::start().await;
    let layers = kit.droplet().await;
    let mut work = kit.instance(&layers, None);
    work.spec.env.set("GREETING", "hi there");
    kit.controller.assign(std::slice::from_ref(&work));
    kit.running(work.work).await;

    let mut socket = kit
        .controller
        .exec(
            work.work,
            &["echo $GREETING $PORT; id -u; pwd; echo oh >&2; exit 7"],
            None,
        )
        .await;
    let (out, err, last) = read_session(&mut socket).await;
    assert_eq!(
        (out.as_str(), err.as_str()),
        ("hi there 8080\n2000\n/home/vcap/app\n", "oh\n")
    );
    assert_eq!(last, Some(exit(7)));

    let mut socket = kit.controller.exec(work.work, &["sort", "-r"], None).await;
    send(&mut socket, "a\nb\n").await;
    say(&mut socket, &SessionMessage::Eof).await;
    let (out, _, last) = read_session(&mut socket).await;
    assert_eq!((out.as_str(), last), ("b\na\n", Some(exit(0))));

    let mut socket = kit.controller.exec(work.work, &[], Some((24, 80))).await;
    say(&mut socket, &SessionMessage::Resize { rows: 30, columns: 99 }).await;
    send(&mut socket, "stty size; tty | grep -c pts; exit 3\n").await;
    let (out, _, last) = read_session(&mut socket).await;
    assert!(out.contains("30 99") && out.contains("\n1\r\n"), "{out:?}");
    assert_eq!(last, Some(exit(3)));

    let mut socket = kit.controller.exec(work.work, &["/no/such/program", "x"], None).await;
    let (_, err, last) = read_session(&mut socket).await;
    assert!(
        matches!(last, Some(SessionMessage::Exit { code, .. }) if code != 0) || last.is_some(),
        "{err} {last:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_gone_ends_its_command() {
    let kit = Kit::start().await;
    let layers = kit.droplet().await;
    let work = kit.instance(&layers, None);
    kit.controller.assign(std::slice::from_ref(&work));
    kit.running(work.work).await;
    let mut socket = kit
        .controller
        .exec(work.work, &["echo begun; exec sleep 1000"], None)
        .await;
    let begun = socket.recv().await.expect("a message").expect("fine");
    assert!(matches!(begun, Message::Binary(_)), "{begun:?}");
    drop(socket);
    let mut left = String::from("1");
    for _ in 0..50 {
        let mut socket = kit
            .controller
            .exec(work.work, &["pgrep -c -f 'sleep 100[0]' || true"], None)
            .await;
        left = read_session(&mut socket).await.0.trim().to_owned();
        if left == "0" {
            break;
        }
    }
    assert_eq!(left, "0", "the command is gone");
}

/// A session that is no command.
async fn session(kit: &Kit, work: WorkId, purpose: Purpose) -> axum::extract::ws::WebSocket {
    let request = Exec {
        session: uuid::Uuid::new_v4(),
        work,
        command: Vec::new(),
        terminal: None,
        variables: Vec::new(),
        purpose,
    };
    kit.controller.session(request).await
}

async fn heard(socket: &mut axum::extract::ws::WebSocket, text: &str) {
    let message = socket.recv().await.expect("a message").expect("fine");
    let Message::Binary(bytes) = &message else {
        panic!("{message:?}")
    };
    assert_eq!(String::from_utf8_lossy(&bytes[1..]), text);
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_reach_commands_and_nothing_of_a_session_is_left() {
    let kit = Kit::start().await;
    let layers = kit.droplet().await;
    let work = kit.instance(&layers, None);
    kit.controller.assign(std::slice::from_ref(&work));
    kit.running(work.work).await;

    let trap = "trap 'echo got; exit 5' USR1; echo ready; while :; do sleep 0.02; done";
    let mut socket = kit.controller.exec(work.work, &[trap], None).await;
    heard(&mut socket, "ready\n").await;
    say(&mut socket, &SessionMessage::Signal { signal: 10 }).await;
    let (out, _, last) = read_session(&mut socket).await;
    assert_eq!((out.as_str(), last), ("got\n", Some(exit(5))));

    for number in [15, 9] {
        let stubborn = if number == 9 { "trap '' HUP TERM; " } else { "" };
        let line = format!("{stubborn}echo ready; exec sleep 1000");
        let mut socket = kit.controller.exec(work.work, &[&line], None).await;
        heard(&mut socket, "ready\n").await;
        say(&mut socket, &SessionMessage::Signal { signal: number }).await;
        let (_, _, last) = read_session(&mut socket).await;
        let ended = SessionMessage::Exit {
            code: 128 + number,
            signal: Some(number),
        };
        assert_eq!(last, Some(ended));
    }

    // Every way out of a session that there is: another session of the kernel, a deaf ear, an orphan of an orphan.
    let ways = "setsid sleep 1001 & nohup sleep 1002 >/dev/null 2>&1 & \
        (trap '' HUP TERM; (setsid sh -c 'trap \"\" HUP; sleep 1003; :' &) ) & echo begun; exit 4";
    let mut socket = kit.controller.exec(work.work, &[ways], None).await;
    let (out, _, last) = read_session(&mut socket).await;
    assert_eq!((out.as_str(), last), ("begun\n", Some(exit(4))));
    let mut socket = kit
        .controller
        .exec(work.work, &["pgrep -a -f 'sleep 100[0-9]' || true"], None)
        .await;
    assert_eq!(read_session(&mut socket).await.0, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_go_out_from_inside_the_sandbox_and_files_by_sftp() {
    let kit = Kit::start().await;
    let layers = kit.droplet().await;
    let work = kit.instance(&layers, None);
    kit.controller.assign(std::slice::from_ref(&work));
    kit.running(work.work).await;

    let to = |host: &str, port: u16| Purpose::Connect {
        host: host.to_owned(),
        port,
    };
    let mut socket = session(&kit, work.work, to("localhost", 8080)).await;
    heard(&mut socket, "+").await;
    assert_eq!(CONNECTED, b'+');
    send(&mut socket, "GET / HTTP/1.0\r\n\r\n").await;
    let (out, _, last) = read_session(&mut socket).await;
    assert!(
        out.starts_with("HTTP/1.0 200") && out.ends_with("hello from the app\n"),
        "{out:?}"
    );
    assert_eq!(last, Some(exit(0)));

    // What listens on the host is not there.
    let host = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let port = host.local_addr().expect("bound").port();
    for host in ["localhost", "127.0.0.1", "::1", "no-such-name.invalid"] {
        let mut socket = session(&kit, work.work, to(host, port)).await;
        let (out, err, last) = read_session(&mut socket).await;
        assert_eq!((out.as_str(), last), ("", Some(exit(1))), "{host}");
        assert!(!err.is_empty());
    }

    let mut socket = session(&kit, work.work, Purpose::Files).await;
    send(&mut socket, "\0\0\0\x05\x01\0\0\0\x03").await;
    say(&mut socket, &SessionMessage::Eof).await;
    let (out, _, last) = read_session(&mut socket).await;
    assert!(out.contains("posix-rename@openssh.com"), "{out:?}");
    assert_eq!(last, Some(exit(0)));
}
