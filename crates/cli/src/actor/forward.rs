//! Ports of this machine that lead into an instance: each connection is a session of its own.

use super::{Cx, Target};
use crate::args::ssh::Forward;
use crate::client::exec::ExecRequest;
use crate::errors::Error;
use api::cell::{CONNECTED, SessionMessage};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

/// Streams, as the first byte of a message has them.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const CHUNK: usize = 16 * 1024;

/// The instance that connections go through.
#[derive(Debug, Clone)]
pub struct Through {
    pub app: String,
    pub process: String,
    pub index: u32,
}

/// Opens every port, and serves them for as long as the result lives.
///
/// # Errors
/// Where a port can't be had.
pub async fn open(cx: &Cx, target: &Target, through: &Through, forwards: &[Forward]) -> Result<JoinSet<()>, Error> {
    let mut serving = JoinSet::new();
    for forward in forwards {
        let at = (forward.address, forward.port);
        let taken = |error: std::io::Error| Error::Usage {
            message: format!("port {} can't be opened here: {error}", forward.port),
            hint: Some("choose another: -L PORT:HOST:PORT".into()),
        };
        let listener = TcpListener::bind(at).await.map_err(taken)?;
        let address = listener.local_addr().map_err(taken)?;
        cx.ui.say(&format!(
            "{address} leads to {} from inside the instance",
            forward.target
        ));
        let one = Arc::new((cx.clone(), target.clone(), through.clone(), forward.target.clone()));
        serving.spawn(serve(listener, one));
    }
    Ok(serving)
}

type Shared = Arc<(Cx, Target, Through, String)>;

async fn serve(listener: TcpListener, shared: Shared) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(attend(stream, Arc::clone(&shared)))),
                Err(error) => {
                    shared.0.ui.warn(&format!("a connection could not be taken: {error}"));
                    return;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn attend(stream: TcpStream, shared: Shared) {
    let (cx, target, through, to) = &*shared;
    let request = ExecRequest {
        app: &through.app,
        process: &through.process,
        index: through.index,
        command: &[],
        terminal: None,
        connect: Some(to),
    };
    let why = match target.client.exec(&request).await {
        Ok(socket) => match carry(stream, socket).await {
            Ok(()) => return,
            Err(why) => why,
        },
        Err(error) => error.report().message,
    };
    cx.ui.warn(&format!("no connection to {to}: {why}"));
}

type Socket = tokio_tungstenite::WebSocketStream<reqwest::Upgraded>;

/// Carries bytes both ways until the other side ends.
async fn carry(stream: TcpStream, socket: Socket) -> Result<(), String> {
    let (mut sender, mut receiver) = socket.split();
    let (mut read, mut write) = stream.into_split();
    let forth = async {
        let mut buffer = vec![0; CHUNK];
        while let Ok(count) = read.read(&mut buffer).await
            && count > 0
        {
            let mut data = Vec::with_capacity(count + 1);
            data.push(STDIN);
            data.extend_from_slice(&buffer[..count]);
            if sender.send(Message::Binary(Bytes::from(data))).await.is_err() {
                return;
            }
        }
        let end = serde_json::to_string(&SessionMessage::Eof).unwrap_or_default();
        let _ = sender.send(Message::Text(end.into())).await;
        // The other side may still speak.
        std::future::pending().await
    };
    let back = async {
        let (mut connected, mut why) = (false, String::new());
        while let Some(Ok(message)) = receiver.next().await {
            match message {
                Message::Binary(data) if data.first() == Some(&STDOUT) => {
                    let skipped = if connected { 1 } else { 2 };
                    connected = connected || data.get(1) == Some(&CONNECTED);
                    if !connected || write.write_all(data.get(skipped..).unwrap_or_default()).await.is_err() {
                        break;
                    }
                }
                Message::Binary(data) => why.push_str(&String::from_utf8_lossy(data.get(1..).unwrap_or_default())),
                Message::Text(text) => {
                    if let Ok(SessionMessage::Failed { message }) = serde_json::from_str(&text) {
                        why = message;
                    }
                    break;
                }
                Message::Close(_) => break,
                _ => {}
            }
        }
        if connected {
            Ok(())
        } else {
            Err(why.trim().trim_start_matches('!').trim().to_owned())
        }
    };
    tokio::select! {
        () = forth => Ok(()),
        ended = back => ended,
    }
}
