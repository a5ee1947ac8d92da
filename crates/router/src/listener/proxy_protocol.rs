//! The PROXY protocol, versions 1 and 2: what a load balancer in front puts before a connection's first byte, to say
//! whose connection it is. Where it is switched on it has to be there: who may leave it out may also forge it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// What version 1 begins with.
const TEXT: &[u8] = b"PROXY ";
/// Longest line of version 1.
const MAX_LINE: usize = 107;
/// Longest header of version 2, behind its first 16 bytes.
const MAX_HEADER: usize = 2048;

/// Reads the header and nothing behind it. The client's address, or `None` where the balancer speaks for itself.
///
/// # Errors
/// Where there is no header, or one that can't be read.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    // No header of either version is shorter.
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE {
        let mut fixed = [0; 4];
        stream.read_exact(&mut fixed).await?;
        let length = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        if length > MAX_HEADER {
            return Err(malformed());
        }
        let mut addresses = vec![0; length];
        stream.read_exact(&mut addresses).await?;
        return binary(fixed[0], fixed[1], &addresses).ok_or_else(malformed);
    }
    if !start.starts_with(TEXT) {
        return Err(malformed());
    }
    let mut line = start.to_vec();
    while line.last() != Some(&b'\n') {
        if line.len() >= MAX_LINE {
            return Err(malformed());
        }
        line.push(stream.read_u8().await?);
    }
    text(&line).ok_or_else(malformed)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no PROXY protocol header")
}

fn binary(version: u8, family: u8, addresses: &[u8]) -> Option<Option<SocketAddr>> {
    match (version, family) {
        // LOCAL: a check of the balancer's own.
        (0x20, _) => Some(None),
        (0x21, 0x11) => {
            let ip = Ipv4Addr::from(<[u8; 4]>::try_from(addresses.get(..4)?).ok()?);
            let port = u16::from_be_bytes(addresses.get(8..10)?.try_into().ok()?);
            Some(Some((ip, port).into()))
        }
        (0x21, 0x21) => {
            let ip = Ipv6Addr::from(<[u8; 16]>::try_from(addresses.get(..16)?).ok()?);
            let port = u16::from_be_bytes(addresses.get(32..34)?.try_into().ok()?);
            Some(Some((ip, port).into()))
        }
        // Something that has no such address.
        (0x21, _) => Some(None),
        _ => None,
    }
}

fn text(line: &[u8]) -> Option<Option<SocketAddr>> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix("\r\n")?;
    let mut words = line.split(' ').skip(1);
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(None);
    }
    let source: IpAddr = words.next()?.parse().ok()?;
    let target: IpAddr = words.next()?.parse().ok()?;
    let port: u16 = words.next()?.parse().ok()?;
    let _: u16 = words.next()?.parse().ok()?;
    let right = match family {
        "TCP4" => source.is_ipv4() && target.is_ipv4(),
        "TCP6" => source.is_ipv6() && target.is_ipv6(),
        _ => false,
    };
    (right && words.next().is_none()).then(|| Some((source, port).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn of(input: &[u8]) -> Result<(Option<SocketAddr>, Vec<u8>), io::ErrorKind> {
        let mut input = input;
        let address = read(&mut input).await.map_err(|error| error.kind())?;
        Ok((address, input.to_vec()))
    }

    fn version_2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).expect("short").to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, addresses, b"GET"].concat()
    }

    #[tokio::test]
    async fn both_versions_name_the_client_and_leave_what_follows() {
        let four = Some("192.0.2.1:56324".parse().expect("an address"));
        let six = Some("[2001:db8::1]:80".parse().expect("an address"));
        let text = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nGET";
        assert_eq!(of(text).await, Ok((four, b"GET".to_vec())));
        assert_eq!(
            of(b"PROXY TCP6 2001:db8::1 ::1 80 443\r\nGET").await,
            Ok((six, b"GET".to_vec()))
        );
        assert_eq!(of(b"PROXY UNKNOWN a b c\r\nGET").await, Ok((None, b"GET".to_vec())));
        let binary = version_2(0x21, 0x11, &[192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 0x04, 1, 187]);
        assert_eq!(of(&binary).await, Ok((four, b"GET".to_vec())));
        let ip = "2001:db8::1".parse::<Ipv6Addr>().expect("an address").octets();
        let binary = version_2(0x21, 0x21, &[&ip[..], &[0; 16], &[0, 80, 0, 80], b"a TLV"].concat());
        assert_eq!(of(&binary).await, Ok((six, b"GET".to_vec())));
        assert_eq!(of(&version_2(0x20, 0, &[])).await, Ok((None, b"GET".to_vec())));
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        for bad in [
            b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\nGET ".to_vec(),
            b"PROXY TCP4 ::1 ::1 1 2\r\n".to_vec(),
            b"PROXY TCP4 1.1.1.1 1.1.1.1 70000 2\r\n".to_vec(),
            format!("PROXY UNKNOWN {}\r\n", "x".repeat(200)).into_bytes(),
            version_2(0x31, 0x11, &[0; 12]),
            version_2(0x21, 0x11, &[0; 3]),
        ] {
            assert_eq!(of(&bad).await, Err(io::ErrorKind::InvalidData), "{bad:?}");
        }
        assert_eq!(of(b"PROXY TCP4").await, Err(io::ErrorKind::UnexpectedEof));
    }
}
