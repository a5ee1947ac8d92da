//! Commands run in living instances.

use crate::controller::read_session;
use crate::kit::Kit;
use api::cell::SessionMessage;
use axum::extract::ws::Message;

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
    assert_eq!(last, Some(SessionMessage::Exit { code: 7 }));

    let mut socket = kit.controller.exec(work.work, &["sort", "-r"], None).await;
    send(&mut socket, "a\nb\n").await;
    say(&mut socket, &SessionMessage::Eof).await;
    let (out, _, last) = read_session(&mut socket).await;
    assert_eq!((out.as_str(), last), ("b\na\n", Some(SessionMessage::Exit { code: 0 })));

    let mut socket = kit.controller.exec(work.work, &[], Some((24, 80))).await;
    say(&mut socket, &SessionMessage::Resize { rows: 30, columns: 99 }).await;
    send(&mut socket, "stty size; tty | grep -c pts; exit 3\n").await;
    let (out, _, last) = read_session(&mut socket).await;
    assert!(out.contains("30 99") && out.contains("\n1\r\n"), "{out:?}");
    assert_eq!(last, Some(SessionMessage::Exit { code: 3 }));

    let mut socket = kit.controller.exec(work.work, &["/no/such/program", "x"], None).await;
    let (_, err, last) = read_session(&mut socket).await;
    assert!(
        matches!(last, Some(SessionMessage::Exit { code }) if code != 0) || last.is_some(),
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
