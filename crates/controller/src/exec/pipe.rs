//! A session of the SSH proxy: its ends are channels, which are joined with the cell's WebSocket.

use super::{Command, LAST_WORDS, begin, silence};
use crate::Control;
use crate::error::Failure;
use api::cell::SessionMessage;
use api::error::Code;
use axum::extract::ws::{Message, WebSocket};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use model::work::Work;
use ssh::{Input, Output, Session};
use tokio::sync::{Notify, mpsc};

/// Messages that wait for a slow reader, each way.
const QUEUE: usize = 8;
/// Streams, as the first byte of a message has them.
const STDIN: u8 = 0;
const STDERR: u8 = 2;

/// Opens a session in `work`, and returns once its cell has dialled. The caller has checked that it may be opened.
///
/// # Errors
/// As [`super::open`], and where the cell does not dial in time.
pub(crate) async fn pipe(control: &Control, work: &Work, command: Command) -> Result<Session, Failure> {
    let (ticket, dialled) = begin(control, work, command)?;
    let Ok(Ok(cell)) = tokio::time::timeout(control.timing.exec_dial, dialled).await else {
        return Err(Failure::new(
            Code::ServiceUnavailable,
            "the instance's cell did not answer in time",
        ));
    };
    let (input, inputs) = mpsc::channel(QUEUE);
    let (outputs, output) = mpsc::channel(QUEUE);
    let control = control.clone();
    tokio::spawn(async move {
        carry(&control, cell, inputs, outputs).await;
        drop(ticket);
    });
    Ok(Session { input, output })
}

/// Until either end is gone, both are silent for too long, or the controller stops.
async fn carry(control: &Control, cell: WebSocket, mut inputs: mpsc::Receiver<Input>, outputs: mpsc::Sender<Output>) {
    let (mut to_cell, mut from_cell) = cell.split();
    let activity = Notify::new();
    tokio::select! {
        () = feed(&mut inputs, &mut to_cell, &activity) => {}
        () = drain(&mut from_cell, &outputs, &activity) => {}
        () = silence(&activity, control.timing.exec_idle) => {
            let _ = outputs.try_send(Output::Failed("the session was idle for too long".to_owned()));
        }
        () = control.shutdown.cancelled() => {}
    }
    let _ = tokio::time::timeout(LAST_WORDS, to_cell.send(Message::Close(None))).await;
}

async fn feed(inputs: &mut mpsc::Receiver<Input>, to_cell: &mut SplitSink<WebSocket, Message>, activity: &Notify) {
    while let Some(input) = inputs.recv().await {
        activity.notify_one();
        if to_cell.send(message(input)).await.is_err() {
            return;
        }
    }
}

fn message(input: Input) -> Message {
    let control = match input {
        Input::Data(bytes) => {
            let mut message = BytesMut::with_capacity(bytes.len() + 1);
            message.put_u8(STDIN);
            message.put(bytes);
            return Message::Binary(message.freeze());
        }
        Input::Eof => SessionMessage::Eof,
        Input::Resize { rows, columns } => SessionMessage::Resize { rows, columns },
        Input::Signal(signal) => SessionMessage::Signal { signal },
    };
    Message::Text(serde_json::to_string(&control).unwrap_or_default().into())
}

async fn drain(from_cell: &mut SplitStream<WebSocket>, outputs: &mpsc::Sender<Output>, activity: &Notify) {
    while let Some(Ok(message)) = from_cell.next().await {
        activity.notify_one();
        let Some(output) = output(message) else { continue };
        let last = matches!(output, Output::Exit { .. } | Output::Failed(_));
        if outputs.send(output).await.is_err() || last {
            return;
        }
    }
}

/// What a message of the cell means to the client; `None` where it means nothing.
fn output(message: Message) -> Option<Output> {
    match message {
        Message::Binary(bytes) => {
            let (stream, data): (u8, Bytes) = (*bytes.first()?, bytes.slice(1..));
            Some(if stream == STDERR {
                Output::Err(data)
            } else {
                Output::Out(data)
            })
        }
        Message::Text(text) => match serde_json::from_str(&text).ok()? {
            SessionMessage::Exit { code, signal } => Some(Output::Exit { code, signal }),
            SessionMessage::Failed { message } => Some(Output::Failed(message)),
            SessionMessage::Resize { .. } | SessionMessage::Eof | SessionMessage::Signal { .. } => None,
        },
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_has_its_form_on_the_other_side() {
        let data = message(Input::Data(Bytes::from_static(b"hi")));
        assert_eq!(data, Message::Binary(Bytes::from_static(b"\0hi")));
        let text = |message: Message| message.into_text().expect("text").to_string();
        assert_eq!(text(message(Input::Eof)), r#"{"type":"eof"}"#);
        assert_eq!(text(message(Input::Signal(15))), r#"{"type":"signal","signal":15}"#);
        let of = |text: &'static str| output(Message::Text(text.into()));
        assert!(matches!(
            of(r#"{"type":"exit","code":3}"#),
            Some(Output::Exit { code: 3, signal: None })
        ));
        assert!(matches!(
            of(r#"{"type":"failed","message":"no"}"#),
            Some(Output::Failed(_))
        ));
        assert!(of("rubbish").is_none() && output(Message::Binary(Bytes::new())).is_none());
        let bytes = |first: u8| Message::Binary(vec![first, b'x'].into());
        assert!(matches!(output(bytes(2)), Some(Output::Err(data)) if data == "x"));
        assert!(matches!(output(bytes(1)), Some(Output::Out(_))));
    }
}
