//! Commands that people run inside living work: from the sandbox's descriptors to a session at the controller.

use crate::account::Account;
use crate::core::Core;
use crate::error::chain;
use crate::fd::{Fd, readable};
use crate::steps::{prepare, shape};
use api::cell::{Exec as Request, SessionMessage};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use model::work::WorkSpec;
use sandbox::{Exec, Sandbox};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

/// Time to reach the controller.
const DIAL: Duration = Duration::from_secs(10);
/// Largest message of a session.
const MAX_MESSAGE: usize = 1 << 20;
/// Bytes of output in one message.
const OUTPUT_BYTES: usize = 32 << 10;
/// Time for the rest of the output once the command has ended: what it left running may hold its pipes open.
const LAST_OUTPUT: Duration = Duration::from_millis(500);
/// Time for a hung-up command's exit to be known.
const END: Duration = Duration::from_secs(5);
/// Sent to a command whose session is gone.
const SIGHUP: i32 = 1;
/// Nobody can watch over what is killed like this: its supervisor is told to kill instead, by the signal that it takes
/// for that.
const SIGKILL: i32 = 9;
const SIGPWR: i32 = 30;
/// The largest number of a signal that people may send.
const LAST_SIGNAL: i32 = 15;

type Socket = WebSocketStream<reqwest::Upgraded>;
type Sink = SplitSink<Socket, Message>;

/// Runs `request` in `sandbox` in the background. Everything that goes wrong is told to the session.
pub(crate) fn start(core: Arc<Core>, spec: WorkSpec, sandbox: Arc<Sandbox>, request: Request) {
    core.tasks.clone().spawn(async move {
        let session = request.session;
        let result = tokio::select! {
            result = run(&core, &spec, sandbox, request) => result,
            () = core.shutdown.cancelled() => return,
        };
        if let Err(error) = result {
            tracing::warn!(session.id = %session, error = %chain(&error), "an exec session failed");
        }
    });
}

/// Ends the session of `request` at once, because of `why`.
pub(crate) fn refuse(core: Arc<Core>, request: Request, why: &'static str) {
    tokio::spawn(async move {
        let refused = async {
            let (mut sink, _) = dial(&core, &request).await?.split();
            fail(&mut sink, why.to_owned()).await
        };
        if let Err(error) = refused.await {
            tracing::debug!(session.id = %request.session, error = %chain(&error), "failed to refuse an exec session");
        }
    });
}

async fn run(core: &Core, spec: &WorkSpec, sandbox: Arc<Sandbox>, request: Request) -> Result<(), WsError> {
    let Ok(_turn) = core.sessions.try_acquire() else {
        let (mut sink, _) = dial(core, &request).await?.split();
        return fail(
            &mut sink,
            "too many sessions on this cell: close one, or try again later".to_owned(),
        )
        .await;
    };
    let account = prepare::account(core, spec).unwrap_or_else(|error| {
        tracing::warn!(work.id = %request.work, error = %chain(&error), "a session has the usual user, not its image's");
        Account::default()
    });
    let shape = match shape::session(&core.config, spec, &account, &request) {
        Ok(shape) => shape,
        Err(why) => {
            let (mut sink, _) = dial(core, &request).await?.split();
            return fail(&mut sink, why.to_owned()).await;
        }
    };
    let starting = tokio::task::spawn_blocking(move || sandbox.exec(&shape));
    let (socket, started) = tokio::join!(dial(core, &request), starting);
    let (mut sink, stream) = socket?.split();
    match started {
        Ok(Ok(exec)) => bridge(&mut sink, stream, Arc::new(exec)).await,
        Ok(Err(error)) => fail(&mut sink, chain(&error)).await,
        Err(_) => fail(&mut sink, "the cell's agent is shutting down".to_owned()).await,
    }
}

async fn dial(core: &Core, request: &Request) -> Result<Socket, WsError> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let dialled = tokio::time::timeout(DIAL, core.client.session(request.session)).await;
    let dialled = dialled.map_err(|_| WsError::Io(std::io::ErrorKind::TimedOut.into()))?;
    let connection = dialled.map_err(|failure| WsError::Io(std::io::Error::other(failure)))?;
    Ok(WebSocketStream::from_raw_socket(connection, Role::Client, Some(config)).await)
}

async fn fail(sink: &mut Sink, message: String) -> Result<(), WsError> {
    say(sink, &SessionMessage::Failed { message }).await?;
    sink.close().await
}

async fn say(sink: &mut Sink, message: &SessionMessage) -> Result<(), WsError> {
    let text = serde_json::to_string(message).map_err(|error| WsError::Io(error.into()))?;
    sink.send(Message::text(text)).await
}

/// Carries data both ways until the command ends or the session is gone.
async fn bridge(sink: &mut Sink, stream: SplitStream<Socket>, mut exec: Arc<Exec>) -> Result<(), WsError> {
    let Some(ends) = Arc::get_mut(&mut exec).map(Ends::take) else {
        return fail(sink, "the command's descriptors are gone".to_owned()).await;
    };
    let Ends { input, outputs } = match ends {
        Ok(ends) => ends,
        Err(error) => return fail(sink, error.to_string()).await,
    };
    let (sender, mut output) = mpsc::channel::<Bytes>(16);
    for (number, fd) in outputs {
        tokio::spawn(pump(number, fd, sender.clone()));
    }
    drop(sender);
    let mut feeding = tokio::spawn(feed(stream, input, Arc::clone(&exec)));
    let ended = Arc::clone(&exec);
    let ended = async move { readable(ended.pidfd()).await };
    tokio::pin!(ended);
    let mut last: Option<tokio::time::Instant> = None;
    let mut gone = false;
    loop {
        tokio::select! {
            bytes = output.recv() => match bytes {
                Some(bytes) => sink.send(Message::Binary(bytes)).await?,
                None if last.is_some() => break,
                None => { let _ = (&mut ended).await; break }
            },
            _ = &mut ended, if last.is_none() => last = Some(tokio::time::Instant::now() + LAST_OUTPUT),
            () = until(last) => break,
            _ = &mut feeding, if !gone => {
                // The session is gone: the command hears it as a terminal's hang-up.
                gone = true;
                signal(&exec, SIGHUP).await;
            }
        }
    }
    feeding.abort();
    say(sink, &exit(&exec).await).await?;
    sink.close().await
}

async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn signal(exec: &Arc<Exec>, signal: i32) {
    let exec = Arc::clone(exec);
    let _ = tokio::task::spawn_blocking(move || exec.signal(signal)).await;
}

async fn exit(exec: &Arc<Exec>) -> SessionMessage {
    let exec = Arc::clone(exec);
    let ended = tokio::task::spawn_blocking(move || exec.wait(Instant::now() + END)).await;
    match ended {
        Ok(Ok(Some(ended))) => SessionMessage::Exit {
            code: ended.code.unwrap_or_else(|| 128 + ended.signal.unwrap_or(0)),
            signal: ended.signal,
        },
        _ => SessionMessage::Exit {
            code: 255,
            signal: None,
        },
    }
}

/// The command's ends of its pipes or its terminal.
struct Ends {
    input: Option<Fd>,
    /// Each with the number of its stream.
    outputs: Vec<(u8, Fd)>,
}

impl Ends {
    fn take(exec: &mut Exec) -> std::io::Result<Self> {
        if let Some(terminal) = exec.terminal.as_ref() {
            // Two descriptors of one terminal; the sandbox's own stays for changes of its size.
            return Ok(Self {
                input: Some(Fd::new(terminal.try_clone()?)?),
                outputs: vec![(1, Fd::new(terminal.try_clone()?)?)],
            });
        }
        let mut outputs = Vec::new();
        for (number, fd) in [(1, exec.stdout.take()), (2, exec.stderr.take())] {
            if let Some(fd) = fd {
                outputs.push((number, Fd::new(fd)?));
            }
        }
        let input = exec.stdin.take().map(Fd::new).transpose()?;
        Ok(Self { input, outputs })
    }
}

async fn pump(number: u8, mut from: Fd, to: mpsc::Sender<Bytes>) {
    let mut buffer = vec![0; OUTPUT_BYTES];
    buffer[0] = number;
    while let Ok(n) = from.read(&mut buffer[1..]).await
        && n > 0
        && to.send(Bytes::copy_from_slice(&buffer[..=n])).await.is_ok()
    {}
}

/// Takes what the session sends until it is gone.
async fn feed(mut stream: SplitStream<Socket>, mut input: Option<Fd>, exec: Arc<Exec>) {
    while let Some(Ok(message)) = stream.next().await {
        match message {
            Message::Binary(bytes) if bytes.first() == Some(&0) => {
                if let Some(fd) = &mut input
                    && fd.write_all(&bytes[1..]).await.is_err()
                {
                    // It reads no more; its end is seen elsewhere.
                    input = None;
                }
            }
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(SessionMessage::Resize { rows, columns }) => drop(exec.resize(rows, columns)),
                Ok(SessionMessage::Eof) => end_input(&mut input, &exec).await,
                Ok(SessionMessage::Signal { signal: SIGKILL }) => signal(&exec, SIGPWR).await,
                Ok(SessionMessage::Signal { signal: number }) if (1..=LAST_SIGNAL).contains(&number) => {
                    signal(&exec, number).await;
                }
                _ => {}
            },
            Message::Close(_) => return,
            _ => {}
        }
    }
}

/// Closes a pipe; a terminal is told by its end-of-file character.
async fn end_input(input: &mut Option<Fd>, exec: &Exec) {
    const END_OF_FILE: u8 = 4;
    if exec.terminal.is_some() {
        if let Some(fd) = input {
            let _ = fd.write_all(&[END_OF_FILE]).await;
        }
    } else {
        *input = None;
    }
}
