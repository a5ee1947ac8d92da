//! A session inside an instance: bytes both ways, window sizes, and the command's exit code.

use super::{Cx, Target};
use crate::client::exec::ExecRequest;
use crate::errors::Error;
use crate::terminal;
use api::cell::SessionMessage;
use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

/// Stream numbers, the first byte of a binary message.
const STDIN: u8 = 0;
const STDERR: u8 = 2;
/// Bytes of input sent at once.
const CHUNK: usize = 16 * 1024;
/// How often the other side is asked whether it is there, and after which silence it is not.
const PING: Duration = Duration::from_secs(15);
const SILENCE: Duration = Duration::from_secs(60);

/// Runs `request` and returns the exit code of the command.
///
/// # Errors
/// Where it can't be run, or the connection breaks.
pub async fn run(cx: &Cx, target: &Target, request: &ExecRequest<'_>) -> Result<u8, Error> {
    let socket = target.client.exec(request).await?;
    let raw = request.terminal.is_some().then(terminal::Raw::new);
    let (sender, receiver) = socket.split();
    let outcome = if request.terminal.is_some() {
        pump(sender, receiver, tokio::io::stdin(), Resizes::new(), false).await
    } else {
        pump(sender, receiver, tokio::io::stdin(), Resizes::none(), !cx.env.stdin_tty).await
    };
    drop(raw);
    outcome
}

/// Changes of the terminal's size.
struct Resizes {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Resizes {
    fn new() -> Self {
        #[cfg(unix)]
        return Self {
            signal: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::window_change()).ok(),
        };
        #[cfg(not(unix))]
        Self {}
    }

    fn none() -> Self {
        #[cfg(unix)]
        return Self { signal: None };
        #[cfg(not(unix))]
        Self {}
    }

    async fn next(&mut self) -> (u16, u16) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal {
            while signal.recv().await.is_some() {
                if let Some(size) = terminal::size() {
                    return size;
                }
            }
        }
        std::future::pending().await
    }
}

/// Passes messages until the command ends. `until_eof` says whether the end of the input is passed on.
async fn pump(
    mut sender: impl Sink<Message, Error = WsError> + Unpin,
    mut receiver: impl Stream<Item = Result<Message, WsError>> + Unpin,
    mut input: impl AsyncRead + Unpin,
    mut resizes: Resizes,
    until_eof: bool,
) -> Result<u8, Error> {
    let mut buffer = vec![0_u8; CHUNK];
    let mut open = true;
    let mut heard = Instant::now();
    let mut ping = tokio::time::interval_at(Instant::now() + PING, PING);
    loop {
        let message = tokio::select! {
            received = receiver.next() => match received {
                Some(Ok(message)) => match take(&message)? {
                    Some(code) => return Ok(code),
                    None => {
                        heard = Instant::now();
                        continue;
                    }
                },
                Some(Err(error)) => return Err(broken(&error.to_string())),
                None => return Err(broken("the session was closed before the command ended")),
            },
            read = input.read(&mut buffer), if open => match read {
                Ok(count) if count > 0 => {
                    let mut data = Vec::with_capacity(count + 1);
                    data.push(STDIN);
                    data.extend_from_slice(&buffer[..count]);
                    Message::Binary(Bytes::from(data))
                }
                _ => {
                    open = false;
                    if !until_eof {
                        continue;
                    }
                    control(&SessionMessage::Eof)
                }
            },
            _ = ping.tick() => {
                if heard.elapsed() > SILENCE {
                    return Err(broken(&format!("nothing was heard of it for {} s", SILENCE.as_secs())));
                }
                Message::Ping(Bytes::new())
            }
            (rows, columns) = resizes.next() => control(&SessionMessage::Resize { rows, columns }),
        };
        sender.send(message).await.map_err(|error| broken(&error.to_string()))?;
    }
}

fn control(message: &SessionMessage) -> Message {
    Message::Text(serde_json::to_string(message).unwrap_or_default().into())
}

/// Writes what came; the exit code where the command ended.
fn take(message: &Message) -> Result<Option<u8>, Error> {
    match message {
        Message::Binary(data) => {
            if let Some((stream, data)) = data.split_first() {
                crate::ui::raw_out(*stream == STDERR, data);
            }
            Ok(None)
        }
        Message::Text(text) => match serde_json::from_str::<SessionMessage>(text) {
            Ok(SessionMessage::Exit { code, .. }) => Ok(Some(u8::try_from(code).unwrap_or(255))),
            Ok(SessionMessage::Failed { message }) => Err(Error::ExecFailed { detail: message }),
            Ok(SessionMessage::Resize { .. } | SessionMessage::Eof | SessionMessage::Signal { .. }) => Ok(None),
            Err(error) => Err(Error::Protocol {
                request: "the session".into(),
                detail: error.to_string(),
            }),
        },
        Message::Close(_) => Err(broken("the session was closed before the command ended")),
        _ => Ok(None),
    }
}

fn broken(detail: &str) -> Error {
    Error::OutcomeUnknown {
        request: "the session".into(),
        detail: detail.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(code: i32) -> SessionMessage {
        SessionMessage::Exit { code, signal: None }
    }

    #[tokio::test]
    async fn input_and_its_end_go_out_and_the_exit_code_comes_back() {
        let (sent, seen) = std::sync::mpsc::sync_channel(8);
        let (end, ended) = tokio::sync::oneshot::channel();
        let mut end = Some(end);
        let sender = futures_util::sink::unfold((), move |(), message: Message| {
            let last = matches!(message, Message::Text(_));
            sent.send(message).expect("the test listens");
            if last && let Some(end) = end.take() {
                end.send(()).expect("the test listens");
            }
            async { Ok::<_, WsError>(()) }
        });
        let receiver = futures_util::stream::once(async move {
            ended.await.expect("the end of the input");
            Ok(control(&exit(3)))
        });
        let code = pump(Box::pin(sender), Box::pin(receiver), &b"hi"[..], Resizes::none(), true).await;
        assert_eq!(code, Ok(3));
        let seen: Vec<Message> = seen.try_iter().collect();
        assert_eq!(
            seen,
            [
                Message::Binary(Bytes::from_static(b"\0hi")),
                control(&SessionMessage::Eof)
            ]
        );
    }

    #[test]
    fn what_comes_from_the_cell_is_understood() {
        assert_eq!(take(&control(&exit(0))), Ok(Some(0)));
        assert_eq!(take(&control(&exit(-1))), Ok(Some(255)));
        assert!(matches!(
            take(&control(&SessionMessage::Failed { message: "no".into() })),
            Err(Error::ExecFailed { .. })
        ));
        assert!(take(&Message::Text("rubbish".into())).is_err());
        assert!(take(&Message::Close(None)).is_err());
    }
}
