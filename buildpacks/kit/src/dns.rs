//! Name resolution without the C library, whose own loads parts of the stack at run time: of no use in a static program.
//!
//! `/etc/hosts`, then the servers of `/etc/resolv.conf`, by UDP and for long answers by TCP. No cache, no search domains for
//! names with a dot: a buildpack asks for a handful of registries.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// How long one server gets for one answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often each server is asked.
const ATTEMPTS: usize = 2;
/// Question types.
const A: u16 = 1;
const AAAA: u16 = 28;

/// Where to ask.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolver {
    hosts: Vec<(String, IpAddr)>,
    servers: Vec<SocketAddr>,
    search: Vec<String>,
}

impl Resolver {
    /// As the machine is configured.
    #[must_use]
    pub fn of_the_system() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self::parse(&read("/etc/hosts"), &read("/etc/resolv.conf"))
    }

    /// From the text of the two files.
    #[must_use]
    pub fn parse(hosts: &str, resolv: &str) -> Self {
        let mut resolver = Self::default();
        for line in hosts.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let Some(Ok(address)) = words.next().map(str::parse) else {
                continue;
            };
            resolver
                .hosts
                .extend(words.map(|name| (name.to_ascii_lowercase(), address)));
        }
        for line in resolv.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let address = words.next().and_then(|word| word.split('%').next()?.parse().ok());
                    resolver
                        .servers
                        .extend(address.map(|address: IpAddr| SocketAddr::new(address, 53)));
                }
                Some("search" | "domain") => resolver.search = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        if resolver.servers.is_empty() {
            resolver.servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 53));
        }
        resolver
    }

    /// Addresses of `host`, IPv4 first.
    ///
    /// # Errors
    /// Where it has none, or no server answers.
    pub fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let host = host
            .trim_start_matches('[')
            .trim_end_matches([']', '.'])
            .to_ascii_lowercase();
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let known = self
            .hosts
            .iter()
            .filter(|(name, _)| *name == host)
            .map(|(_, address)| *address);
        let mut found: Vec<IpAddr> = known.collect();
        if found.is_empty() && (host == "localhost" || host.ends_with(".localhost")) {
            found.push(Ipv4Addr::LOCALHOST.into());
        }
        if !found.is_empty() {
            return Ok(found);
        }
        let mut names = vec![host.clone()];
        if !host.contains('.') {
            names.splice(..0, self.search.iter().map(|domain| format!("{host}.{domain}")));
        }
        for name in names {
            for kind in [A, AAAA] {
                let addresses = self.query(&name, kind)?;
                if !addresses.is_empty() {
                    return Ok(addresses);
                }
            }
        }
        Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("the name {host} does not resolve"),
        ))
    }

    fn query(&self, name: &str, kind: u16) -> io::Result<Vec<IpAddr>> {
        let mut last = io::Error::from(io::ErrorKind::TimedOut);
        for _ in 0..ATTEMPTS {
            for server in &self.servers {
                match ask(*server, name, kind) {
                    Ok(addresses) => return Ok(addresses),
                    Err(error) => last = error,
                }
            }
        }
        let servers: Vec<String> = self.servers.iter().map(|server| server.ip().to_string()).collect();
        let servers = servers.join(", ");
        Err(io::Error::new(
            last.kind(),
            format!("no name server answers for {name} ({servers}): {last}"),
        ))
    }
}

fn ask(server: SocketAddr, name: &str, kind: u16) -> io::Result<Vec<IpAddr>> {
    let id = u16::try_from(RandomState::new().build_hasher().finish() & 0xffff).unwrap_or(0);
    let question = question(id, name, kind)?;
    let local: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((local, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(&question)?;
    let mut answer = [0; 4096];
    loop {
        let length = socket.recv(&mut answer)?;
        let answer = &answer[..length];
        // Anything else is an answer to an earlier question, or a forgery.
        if answer.get(..2) == question.get(..2) && answer.get(12..question.len()) == question.get(12..) {
            return match parse(answer, kind)? {
                Some(addresses) => Ok(addresses),
                None => ask_by_tcp(server, &question, kind),
            };
        }
    }
}

fn ask_by_tcp(server: SocketAddr, question: &[u8], kind: u16) -> io::Result<Vec<IpAddr>> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = u16::try_from(question.len()).map_err(|_| malformed())?;
    stream.write_all(&[&length.to_be_bytes(), question].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    parse(&answer, kind)?.ok_or_else(malformed)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed answer of a name server")
}

/// One question, recursion desired.
fn question(id: u16, name: &str, kind: u16) -> io::Result<Vec<u8>> {
    let mut message = Vec::with_capacity(64);
    message.extend(id.to_be_bytes());
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length));
        let length =
            length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is no host name")))?;
        message.push(length);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    Ok(message)
}

/// Addresses of an answer, none for a name without any; `None` where it was cut off and has to be asked by TCP.
fn parse(message: &[u8], kind: u16) -> io::Result<Option<Vec<IpAddr>>> {
    let word = |at: usize| -> io::Result<u16> {
        let bytes = message.get(at..at + 2).ok_or_else(malformed)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let flags = word(2)?;
    if flags & 0x0200 != 0 {
        return Ok(None);
    }
    match flags & 0xf {
        0 => {}
        3 => return Ok(Some(Vec::new())),
        code => return Err(io::Error::other(format!("the name server answers with error {code}"))),
    }
    let mut at = 12;
    for _ in 0..word(4)? {
        at = skip_name(message, at)? + 4;
    }
    let mut addresses = Vec::new();
    for _ in 0..word(6)? {
        at = skip_name(message, at)?;
        let (found, length) = (word(at)?, usize::from(word(at + 8)?));
        let data = message.get(at + 10..at + 10 + length).ok_or_else(malformed)?;
        at += 10 + length;
        if found != kind {
            continue;
        }
        if let Ok(bytes) = <[u8; 4]>::try_from(data) {
            addresses.push(Ipv4Addr::from(bytes).into());
        } else if let Ok(bytes) = <[u8; 16]>::try_from(data) {
            addresses.push(Ipv6Addr::from(bytes).into());
        }
    }
    Ok(Some(addresses))
}

/// Where the name at `at` ends: after its zero, or after a pointer to the rest of it.
fn skip_name(message: &[u8], mut at: usize) -> io::Result<usize> {
    loop {
        match message.get(at).copied().ok_or_else(malformed)? {
            0 => return Ok(at + 1),
            length if length & 0xc0 == 0xc0 => return Ok(at + 2),
            length if length & 0xc0 == 0 => at += 1 + usize::from(length),
            _ => return Err(malformed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(answers: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                socket.send_to(&answers(&buffer[..length]), from).unwrap();
            }
        });
        address
    }

    /// An alias and then an address, both by a pointer to the question's name.
    fn answer(question: &[u8]) -> Vec<u8> {
        let mut message = question.to_vec();
        message[2..4].copy_from_slice(&[0x81, 0x80]);
        message[7] = 2;
        message.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 2, 0xc0, 12]);
        if question[question.len() - 3] == 1 {
            message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
        } else {
            message[7] = 1;
        }
        message
    }

    fn resolver(server: SocketAddr) -> Resolver {
        Resolver {
            servers: vec![server],
            ..Resolver::parse("192.0.2.1 known # comment\n::1 ip6\nbad line\n", "")
        }
    }

    #[test]
    fn the_files_are_read() {
        let resolver = Resolver::parse(
            "",
            "# c\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\nsearch a.test b.test\n",
        );
        assert_eq!(resolver.servers.len(), 2);
        assert_eq!(resolver.search, ["a.test", "b.test"]);
    }

    #[test]
    fn names_are_found_in_files_then_by_servers() {
        let resolver = resolver(server(answer));
        let first = |host: &str| resolver.resolve(host).unwrap()[0].to_string();
        assert_eq!(first("KNOWN"), "192.0.2.1");
        assert_eq!(first("[::2]"), "::2");
        assert_eq!(first("app.localhost"), "127.0.0.1");
        assert_eq!(first("registry.test."), "192.0.2.7");
    }

    #[test]
    fn bad_names_and_answers_are_errors() {
        let refused = server(|question| {
            let mut message = question.to_vec();
            message[3] = 5;
            message
        });
        assert!(
            resolver(refused)
                .resolve("a.test")
                .unwrap_err()
                .to_string()
                .contains("error 5")
        );
        assert!(resolver(refused).resolve("a..test").is_err());
        let unknown = server(|question| {
            let mut message = question.to_vec();
            message[3] = 3;
            message
        });
        assert_eq!(
            resolver(unknown).resolve("a.test").unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn no_answer_makes_the_parser_panic() {
        let whole = answer(&question(7, "registry.test", A).unwrap());
        for length in 0..whole.len() {
            let _ = parse(&whole[..length], A);
            for value in [0, 0x40, 0xc0, 0xff] {
                let mut broken = whole.clone();
                broken[length] = value;
                let _ = parse(&broken, A);
            }
        }
    }
}
