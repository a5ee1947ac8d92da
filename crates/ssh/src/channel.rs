//! One channel: what the client sends waits in a queue, and what the session says goes out as the client takes it.
//!
//! The library gives a client new room as soon as its data has arrived, and waits for nobody. A reader in the instance may
//! be slow, though, and must not hold up the connection, on which its own output goes back. So the queue is long, and room
//! is given only while it is short: see [`Feed::room`].

use crate::{CONNECTED, Input, Output, Session, signal};
use bytes::Bytes;
use russh::server::{ChannelOpenHandle, Handle, Msg};
use russh::{ChannelOpenFailure, ChannelWriteHalf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Room for a client's data, in bytes.
pub(crate) const WINDOW: u32 = 256 << 10;
/// Inputs that wait for a session: at the pace of [`TRICKLE`] and [`PAUSE`], nearly an hour of them. How long one waits for
/// room in it before the session counts as stuck, and ends.
const QUEUE: usize = 1 << 16;
const STUCK: Duration = Duration::from_secs(30);
/// Bytes in the queue above which no more room is given.
const HIGH: usize = 256 << 10;
/// Room while the queue is long: so little that the client stands still, and yet asks again.
const TRICKLE: u32 = 2;
/// How long the connection waits for a long queue, each time that data arrives nevertheless.
const PAUSE: Duration = Duration::from_millis(50);
/// Code of a session that could not be had; OpenSSH's own for what went wrong in between.
const BROKEN: u32 = 255;
/// The stream of standard error.
const STDERR: u32 = 1;

/// What is known of a session before it begins, or while it goes on.
#[derive(Debug)]
pub(crate) struct Feed {
    queue: mpsc::Sender<Input>,
    load: Arc<Load>,
    gone: CancellationToken,
    /// Ends the channel's task with the channel.
    _gone: DropGuard,
}

#[derive(Debug, Default)]
struct Load {
    bytes: AtomicUsize,
    less: Notify,
}

/// The other end of a [`Feed`].
#[derive(Debug)]
pub(crate) struct Fed {
    queue: mpsc::Receiver<Input>,
    load: Arc<Load>,
    gone: CancellationToken,
}

impl Feed {
    pub(crate) fn new() -> (Self, Fed) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let (load, gone) = (Arc::<Load>::default(), CancellationToken::new());
        let feed = Self {
            queue,
            load: Arc::clone(&load),
            gone: gone.clone(),
            _gone: gone.clone().drop_guard(),
        };
        let fed = Fed {
            queue: receiver,
            load,
            gone,
        };
        (feed, fed)
    }

    /// Takes data; waits a little while the queue is long.
    pub(crate) async fn data(&self, data: &[u8]) {
        self.load.bytes.fetch_add(data.len(), Ordering::Relaxed);
        let input = Input::Data(Bytes::copy_from_slice(data));
        // Where the channel's task has ended, the channel closes soon.
        if tokio::time::timeout(STUCK, self.queue.send(input)).await.is_err() {
            self.gone.cancel();
        }
        if self.is_long() {
            let less = self.load.less.notified();
            // Too long again or still: the client has no room to speak of, and nothing else must wait for this one.
            let _ = tokio::time::timeout(PAUSE, less).await;
        }
    }

    /// Takes anything else.
    pub(crate) fn tell(&self, input: Input) {
        // Whoever reads it may have ended; the channel closes soon. A client that floods a session with requests loses it.
        if let Err(mpsc::error::TrySendError::Full(_)) = self.queue.try_send(input) {
            self.gone.cancel();
        }
    }

    /// How much room the client is to have when it next gets some.
    pub(crate) fn room(&self) -> u32 {
        if self.is_long() { TRICKLE } else { WINDOW }
    }

    fn is_long(&self) -> bool {
        self.load.bytes.load(Ordering::Relaxed) > HIGH && !self.is_over()
    }

    /// Whether the channel's task has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.queue.is_closed()
    }
}

/// The client's end of a channel.
pub(crate) struct Client {
    pub(crate) writer: ChannelWriteHalf<Msg>,
    pub(crate) handle: Handle,
}

/// Carries a session that runs something until it ends or the channel does. `opening` gives the session.
pub(crate) async fn run(client: Client, mut fed: Fed, opening: impl Future<Output = Result<Session, String>> + Send) {
    let gone = fed.gone.clone();
    let carried = async {
        match opening.await {
            Ok(Session { input, output }) => {
                tokio::select! {
                    () = client.tell(output) => {}
                    () = fed.hand_on(input) => {}
                }
            }
            Err(why) => client.fail(&why).await,
        }
    };
    tokio::select! {
        () = carried => {}
        () = gone.cancelled() => {}
    }
}

/// Carries a connection through the instance. The channel is opened for the client once the connection is made.
pub(crate) async fn connect(
    client: Client,
    mut fed: Fed,
    reply: ChannelOpenHandle,
    opening: impl Future<Output = Result<Session, String>> + Send,
) {
    let gone = fed.gone.clone();
    let carried = async {
        let session = match opening.await {
            Ok(session) => session,
            Err(why) => {
                tracing::debug!(why, "a connection through an instance could not be had");
                return reply.reject(ChannelOpenFailure::ResourceShortage).await;
            }
        };
        let Session { input, mut output } = session;
        let Some(first) = connected(&mut output).await else {
            return reply.reject(ChannelOpenFailure::ConnectFailed).await;
        };
        reply.accept().await;
        tokio::select! {
            () = async {
                if client.out(first).await.is_ok() {
                    client.tell(output).await;
                }
            } => {}
            () = fed.hand_on(input) => {}
        }
    };
    tokio::select! {
        () = carried => {}
        () = gone.cancelled() => {}
    }
}

/// What came with the word that the connection is made; `None` where it is not.
async fn connected(output: &mut mpsc::Receiver<Output>) -> Option<Bytes> {
    match output.recv().await? {
        Output::Out(mut bytes) if bytes.first() == Some(&CONNECTED) => Some(bytes.split_off(1)),
        other => {
            tracing::debug!(?other, "a connection through an instance failed");
            None
        }
    }
}

impl Fed {
    /// Gives the session what the client sends, until the session takes no more or the channel is gone.
    async fn hand_on(&mut self, input: mpsc::Sender<Input>) {
        while let Some(next) = self.queue.recv().await {
            let bytes = match &next {
                Input::Data(data) => data.len(),
                Input::Eof | Input::Resize { .. } | Input::Signal(_) => 0,
            };
            let sent = input.send(next).await;
            self.load.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.load.less.notify_one();
            if sent.is_err() {
                break;
            }
        }
        // It ended by itself: its output has the last word, or the channel's end.
        std::future::pending().await
    }
}

impl Client {
    async fn out(&self, data: Bytes) -> Result<(), russh::Error> {
        self.writer.data_bytes(data).await
    }

    /// Says what the session says, to its end.
    async fn tell(&self, mut output: mpsc::Receiver<Output>) {
        let mut ended = None;
        while let Some(next) = output.recv().await {
            let sent = match next {
                Output::Out(data) => self.out(data).await,
                Output::Err(data) => self.writer.extended_data_bytes(STDERR, data).await,
                Output::Exit { code, signal } => {
                    ended = Some((code, signal));
                    break;
                }
                Output::Failed(why) => return self.fail(&why).await,
            };
            if sent.is_err() {
                return;
            }
        }
        let _ = self.writer.eof().await;
        match ended {
            Some((code, signal)) => self.ended(code, signal).await,
            None => drop(self.writer.exit_status(BROKEN).await),
        }
        let _ = self.writer.close().await;
    }

    async fn ended(&self, code: i32, signal: Option<i32>) {
        match signal.and_then(signal::named) {
            Some(signal) => {
                let (text, language) = (String::new(), String::new());
                let _ = self
                    .handle
                    .exit_signal_request(self.writer.id(), signal, false, text, language)
                    .await;
            }
            None => drop(self.writer.exit_status(u32::try_from(code).unwrap_or(BROKEN)).await),
        }
    }

    async fn fail(&self, why: &str) {
        let text = Bytes::from(format!("{why}\r\n"));
        let _ = self.writer.extended_data_bytes(STDERR, text).await;
        let _ = self.writer.eof().await;
        let _ = self.writer.exit_status(BROKEN).await;
        let _ = self.writer.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_reader_leaves_the_client_no_room_and_a_fast_one_does() {
        let (feed, mut fed) = Feed::new();
        assert_eq!(feed.room(), WINDOW);
        feed.data(&vec![0; HIGH + 1]).await;
        assert_eq!(feed.room(), TRICKLE, "nobody reads");
        let (input, mut inputs) = mpsc::channel(1);
        let reading = tokio::spawn(async move { fed.hand_on(input).await });
        assert!(matches!(inputs.recv().await, Some(Input::Data(data)) if data.len() == HIGH + 1));
        feed.data(b"x").await;
        inputs.recv().await.expect("it goes on");
        assert_eq!(feed.room(), WINDOW);
        reading.abort();
        let _ = reading.await;
        assert!(feed.is_over());
    }

    #[tokio::test]
    async fn only_a_connection_that_was_made_counts() {
        let (sender, mut output) = mpsc::channel(4);
        sender
            .send(Output::Out(Bytes::from_static(b"+hi")))
            .await
            .expect("room");
        assert_eq!(connected(&mut output).await, Some(Bytes::from_static(b"hi")));
        sender
            .send(Output::Err(Bytes::from_static(b"refused")))
            .await
            .expect("room");
        assert_eq!(connected(&mut output).await, None);
    }
}
