//! One client: who it is, and what it asks for on its channels.

use crate::channel::{self, Client, Feed};
use crate::{Input, Instances, Request, Session as Opened, Terminal, signal};
use model::Secret;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, Session};
use russh::{Channel, ChannelId, ChannelOpenFailure, ChannelWriteHalf, Pty, Sig};
use std::collections::HashMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Most channels of one connection.
const CHANNELS: usize = 64;
/// Most variables that a client may send, and how long name and value of one may be.
const VARIABLES: usize = 64;
const NAME_BYTES: usize = 128;
const VALUE_BYTES: usize = 8 << 10;
/// Longest command, user name, host, and name of a terminal.
const COMMAND_BYTES: usize = 64 << 10;
const USER_BYTES: usize = 128;
const HOST_BYTES: usize = 255;
const TERMINAL_BYTES: usize = 64;
/// Longest code that is looked at.
const CODE_BYTES: usize = 256;
/// The one subsystem.
const SFTP: &str = "sftp";
/// A window of a client that says nothing sensible.
const ROWS: u16 = 24;
const COLUMNS: u16 = 80;

/// A client's connection.
pub(crate) struct Connection<I: Instances> {
    instances: Arc<I>,
    /// Told once the client is let in.
    admitted: CancellationToken,
    grant: Option<I::Grant>,
    channels: HashMap<ChannelId, Slot>,
}

/// A channel of it.
enum Slot {
    /// A session that runs nothing yet.
    Idle(Box<Idle>),
    /// Something runs, or ended.
    Busy(Feed),
}

struct Idle {
    writer: ChannelWriteHalf<Msg>,
    terminal: Option<Terminal>,
    variables: Vec<(String, String)>,
}

impl<I: Instances> Connection<I> {
    pub(crate) fn new(instances: Arc<I>, admitted: CancellationToken) -> Self {
        Self {
            instances,
            admitted,
            grant: None,
            channels: HashMap::new(),
        }
    }

    /// Whether another channel may be opened; forgets those that are over.
    fn has_room(&mut self) -> bool {
        self.channels
            .retain(|_, slot| !matches!(slot, Slot::Busy(feed) if feed.is_over()));
        self.channels.len() < CHANNELS
    }

    fn feed(&self, channel: ChannelId) -> Option<&Feed> {
        match self.channels.get(&channel) {
            Some(Slot::Busy(feed)) => Some(feed),
            Some(Slot::Idle(_)) | None => None,
        }
    }

    fn idle(&mut self, channel: ChannelId) -> Option<&mut Idle> {
        match self.channels.get_mut(&channel) {
            Some(Slot::Idle(idle)) => Some(idle),
            Some(Slot::Busy(_)) | None => None,
        }
    }

    /// The session that the request comes to; in a future of its own, as it may take a while.
    fn opening(&self, request: Request) -> Option<impl Future<Output = Result<Opened, String>> + Send + use<I>> {
        let (instances, grant) = (Arc::clone(&self.instances), self.grant.clone()?);
        Some(async move { instances.open(&grant, request).await })
    }

    /// Begins what the client asked for on an idle channel.
    fn begin(
        &mut self,
        channel: ChannelId,
        request: impl FnOnce(&mut Idle) -> Request,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let Some(Slot::Idle(mut idle)) = self.channels.remove(&channel) else {
            return session.channel_failure(channel);
        };
        let Some(opening) = self.opening(request(&mut idle)) else {
            return session.channel_failure(channel);
        };
        let (feed, fed) = Feed::new();
        self.channels.insert(channel, Slot::Busy(feed));
        session.channel_success(channel)?;
        let client = Client {
            writer: idle.writer,
            handle: session.handle(),
        };
        tokio::spawn(channel::run(client, fed, opening));
        Ok(())
    }
}

fn answer(session: &mut Session, channel: ChannelId, done: bool) -> Result<(), russh::Error> {
    if done {
        session.channel_success(channel)
    } else {
        session.channel_failure(channel)
    }
}

/// A size of a window; clients may send anything.
fn size(rows: u32, columns: u32) -> (u16, u16) {
    let of = |given: u32, default: u16| match u16::try_from(given) {
        Ok(0) => default,
        Ok(given) => given,
        Err(_) => u16::MAX,
    };
    (of(rows, ROWS), of(columns, COLUMNS))
}

/// Whether a variable may be passed on.
fn is_sound(name: &str, value: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty()
        && name.len() <= NAME_BYTES
        && name.bytes().all(letter)
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && value.len() <= VALUE_BYTES
        && !value.contains('\0')
}

impl<I: Instances> Handler for Connection<I> {
    type Error = russh::Error;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        if user.len() > USER_BYTES || password.len() > CODE_BYTES {
            return Ok(Auth::reject());
        }
        self.grant = self.instances.admit(user, Secret::new(password)).await;
        if self.grant.is_none() {
            return Ok(Auth::reject());
        }
        self.admitted.cancel();
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        if !self.has_room() {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        let id = channel.id();
        let (_, writer) = channel.split();
        let idle = Idle {
            writer,
            terminal: None,
            variables: Vec::new(),
        };
        self.channels.insert(id, Slot::Idle(Box::new(idle)));
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if !self.has_room() {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        let target = u16::try_from(port)
            .ok()
            .filter(|port| *port > 0 && host.len() <= HOST_BYTES);
        let opening = target.and_then(|port| {
            let host = host.to_owned();
            self.opening(Request::Connect { host, port })
        });
        let Some(opening) = opening else {
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
            return Ok(());
        };
        let (feed, fed) = Feed::new();
        self.channels.insert(channel.id(), Slot::Busy(feed));
        let (_, writer) = channel.split();
        let handle = session.handle();
        tokio::spawn(channel::connect(Client { writer, handle }, fed, reply, opening));
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        self.channels.remove(&channel);
        Ok(())
    }

    async fn channel_eof(&mut self, channel: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        if let Some(feed) = self.feed(channel) {
            feed.tell(Input::Eof);
        }
        Ok(())
    }

    async fn data(&mut self, channel: ChannelId, data: &[u8], _: &mut Session) -> Result<(), Self::Error> {
        if let Some(feed) = self.feed(channel) {
            feed.data(data).await;
        }
        Ok(())
    }

    fn adjust_window(&mut self, channel: ChannelId, _: u32) -> u32 {
        self.feed(channel).map_or(channel::WINDOW, Feed::room)
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        kind: &str,
        columns: u32,
        rows: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let (rows, columns) = size(rows, columns);
        let kind = kind.to_owned();
        let sound = kind.len() <= TERMINAL_BYTES && !kind.contains('\0');
        let idle = self.idle(channel).filter(|_| sound);
        let done = idle.map(|idle| idle.terminal = Some(Terminal { kind, rows, columns }));
        answer(session, channel, done.is_some())
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let idle = self.idle(channel);
        let idle = idle.filter(|idle| idle.variables.len() < VARIABLES && is_sound(name, value));
        let done = idle.map(|idle| idle.variables.push((name.to_owned(), value.to_owned())));
        answer(session, channel, done.is_some())
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        let request = |idle: &mut Idle| Request::Run {
            command: None,
            terminal: idle.terminal.take(),
            variables: std::mem::take(&mut idle.variables),
        };
        self.begin(channel, request, session)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let command = std::str::from_utf8(command).ok();
        let sound = |text: &&str| text.len() <= COMMAND_BYTES && !text.contains('\0') && !text.trim().is_empty();
        let Some(command) = command.filter(sound).map(str::to_owned) else {
            return session.channel_failure(channel);
        };
        let request = |idle: &mut Idle| Request::Run {
            command: Some(command),
            terminal: idle.terminal.take(),
            variables: std::mem::take(&mut idle.variables),
        };
        self.begin(channel, request, session)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if name != SFTP {
            return session.channel_failure(channel);
        }
        self.begin(channel, |_| Request::Files, session)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        columns: u32,
        rows: u32,
        _: u32,
        _: u32,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        let (rows, columns) = size(rows, columns);
        if let Some(feed) = self.feed(channel) {
            feed.tell(Input::Resize { rows, columns });
        }
        Ok(())
    }

    async fn signal(&mut self, channel: ChannelId, sent: Sig, _: &mut Session) -> Result<(), Self::Error> {
        if let (Some(feed), Some(number)) = (self.feed(channel), signal::number(&sent)) {
            feed.tell(Input::Signal(number));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_send_is_held_to_its_bounds() {
        assert_eq!(size(0, 0), (ROWS, COLUMNS));
        assert_eq!(size(50, 100_000), (50, u16::MAX));
        assert!(is_sound("LC_ALL", "C") && is_sound("_x1", ""));
        let long = "x".repeat(VALUE_BYTES + 1);
        for (name, value) in [
            ("", "x"),
            ("1A", "x"),
            ("A=B", "x"),
            ("A B", "x"),
            ("A", "x\0y"),
            ("A", &long),
        ] {
            assert!(!is_sound(name, value), "{name}");
        }
    }
}
