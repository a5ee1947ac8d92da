//! A connection from inside the instance, carried over standard input and output: it goes where the app could go, and
//! nowhere else.

use buildpack_kit::dns::Resolver;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Longest time for one address.
const CONNECT: Duration = Duration::from_secs(10);
/// Addresses of a name that are tried.
const ADDRESSES: usize = 4;
/// Said first once the connection is made.
const CONNECTED: u8 = b'+';
const BUFFER: usize = 32 << 10;
/// What people call the instance itself, whatever its files say.
const LOCAL: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Connects and carries until the other side ends. That our input ends is told to the other side, which may still speak.
///
/// # Errors
/// Where there is no connection.
pub fn run(host: &str, port: u16) -> io::Result<()> {
    let stream = connect(host, port)?;
    stream.set_nodelay(true)?;
    let mut output = io::stdout();
    output.write_all(&[CONNECTED])?;
    output.flush()?;
    let forth = stream.try_clone()?;
    std::thread::Builder::new().name("input".to_owned()).spawn(move || {
        // What fails here is seen by the other direction too.
        let _ = copy(&mut io::stdin(), &mut &forth);
        let _ = forth.shutdown(Shutdown::Write);
    })?;
    copy(&mut &stream, &mut output)
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses(host, port)? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(LOCAL.map(|address| SocketAddr::new(address, port)).to_vec());
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let found = Resolver::of_the_system().resolve(host)?;
    let all = found.into_iter().take(ADDRESSES);
    Ok(all.map(|address| SocketAddr::new(address, port)).collect())
}

/// Passes on what comes as it comes.
fn copy(from: &mut impl io::Read, to: &mut impl io::Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => {
                to.write_all(&buffer[..n])?;
                to.flush()?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn the_instance_itself_is_found_without_asking_anybody() {
        let local = addresses("LocalHost", 80).expect("known");
        assert_eq!(
            local,
            [
                "127.0.0.1:80".parse().expect("valid"),
                "[::1]:80".parse().expect("valid")
            ]
        );
        assert_eq!(
            addresses("10.1.2.3", 1).expect("literal"),
            ["10.1.2.3:1".parse().expect("valid")]
        );
    }

    #[test]
    fn bytes_are_passed_on_whole() {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let port = listener.local_addr().expect("bound").port();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accepted");
            let mut text = String::new();
            stream.read_to_string(&mut text).expect("read");
            stream.write_all(text.to_uppercase().as_bytes()).expect("written");
        });
        let stream = connect("localhost", port).expect("connected");
        copy(&mut &b"hello"[..], &mut &stream).expect("sent");
        stream.shutdown(Shutdown::Write).expect("shut");
        let mut got = Vec::new();
        copy(&mut &stream, &mut got).expect("received");
        assert_eq!(got, b"HELLO");
        served.join().expect("served");
    }
}
