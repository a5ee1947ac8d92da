//! Exec sessions: the client's WebSocket and the cell's, joined.

use crate::cell::FakeCell;
use crate::platform::{Controller, Folders, PATIENCE, TOKEN, event};
use crate::seed;
use api::cell::SessionMessage;
use axum::extract::ws::WebSocketUpgrade;
use axum::routing::get;
use controller::exec::{Command, open};
use futures_util::{SinkExt as _, StreamExt as _};
use model::work::Work;
use store::testing::{Engine, TestStore};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

/// The client's end, as the public API serves it, without its authorisation.
async fn client(controller: &Controller, work: Work) -> Socket {
    let control = controller.control.clone();
    let handler = move |upgrade: WebSocketUpgrade| async move {
        let command = Command {
            argv: vec!["ls".to_owned(), "-l".to_owned()],
            terminal: Some((24, 80)),
            ..Command::default()
        };
        open(&control, &work, command, upgrade)
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().route("/", get(handler))).await });
    tokio_tungstenite::connect_async(format!("ws://{address}/"))
        .await
        .expect("connects")
        .0
}

async fn dial(controller: &Controller, session: uuid::Uuid) -> Result<Socket, tokio_tungstenite::tungstenite::Error> {
    let url = format!("ws://{}/cell/v1/sessions/{session}", controller.address);
    let mut request = url.into_client_request().expect("a request");
    request
        .headers_mut()
        .insert("authorization", format!("Bearer {TOKEN}").parse().expect("valid"));
    Ok(tokio_tungstenite::connect_async(request).await?.0)
}

async fn next(socket: &mut Socket) -> Message {
    tokio::time::timeout(PATIENCE, socket.next())
        .await
        .expect("in time")
        .expect("goes on")
        .expect("read")
}

async fn running(store: &TestStore, cell: &FakeCell) -> Work {
    let mut seed = seed::app(store, 1).await;
    seed.deploy(store, "good").await;
    event(store, seed.app.id, "deployment.finished", 0).await;
    store.work_fetch(cell.running()[0]).await.expect("read").expect("there")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_pass_both_ways_until_the_command_ends() {
    let store = TestStore::open(Engine::Sqlite).await;
    let folders = Folders::new();
    let controller = Controller::start(store.store.clone(), &folders, None).await;
    let mut cell = FakeCell::new(&controller.url(), "a", 4096);
    cell.join();
    let work = running(&store, &cell).await;
    let mut client = client(&controller, work.clone()).await;
    let exec = cell.execs.recv().await.expect("told");
    assert_eq!(
        (exec.work, exec.command.len(), exec.terminal),
        (work.id, 2, Some((24, 80)))
    );
    let mut inside = dial(&controller, exec.session).await.expect("dials");
    client
        .send(Message::Binary(vec![0, b'h', b'i'].into()))
        .await
        .expect("sent");
    assert_eq!(next(&mut inside).await, Message::Binary(vec![0, b'h', b'i'].into()));
    inside
        .send(Message::Binary(vec![1, b'o', b'k'].into()))
        .await
        .expect("sent");
    assert_eq!(next(&mut client).await, Message::Binary(vec![1, b'o', b'k'].into()));
    let exit = serde_json::to_string(&SessionMessage::Exit { code: 7, signal: None }).expect("JSON");
    inside.send(Message::Text(exit.clone().into())).await.expect("sent");
    assert_eq!(next(&mut client).await, Message::Text(exit.into()));
    inside.close(None).await.expect("closes");
    assert!(matches!(next(&mut client).await, Message::Close(_)));
    assert!(
        dial(&controller, exec.session).await.is_err(),
        "a session is good for one dial"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cell_that_does_not_dial_is_told_of() {
    let store = TestStore::open(Engine::Sqlite).await;
    let folders = Folders::new();
    let controller = Controller::start(store.store.clone(), &folders, None).await;
    let mut cell = FakeCell::new(&controller.url(), "a", 4096);
    cell.join();
    let work = running(&store, &cell).await;
    let mut client = client(&controller, work).await;
    let Message::Text(text) = next(&mut client).await else {
        panic!("no text")
    };
    let message: SessionMessage = serde_json::from_str(&text).expect("JSON");
    assert!(matches!(message, SessionMessage::Failed { .. }), "{message:?}");
}
