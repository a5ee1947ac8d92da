//! What the head of an HTTP/1.1 request may look like, and how it frames what follows. Pure.

use crate::proxy::refusal::Refusal;

/// A method that no client may use: it stands for a head that was refused.
pub const REFUSED: &str = "ROUTER-REFUSED";

/// How what follows a head is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
    /// By another protocol, if the other side agrees.
    Switch,
}

/// Where the head ends that begins here: behind its empty line, however that is written. The search begins at `from`,
/// which is at most two bytes before what was not searched yet.
pub fn end(input: &[u8], from: usize) -> Option<usize> {
    memchr::memchr_iter(b'\n', &input[from..])
        .map(|at| from + at)
        .find(|at| {
            let before = &input[..*at];
            before.ends_with(b"\n") || before.ends_with(b"\n\r")
        })
        .map(|at| at + 1)
}

/// Fields that say how a request is framed and whom it is for.
#[derive(Default)]
struct Seen {
    hosts: usize,
    length: Option<u64>,
    codings: usize,
    upgrade: bool,
    lists_upgrade: bool,
}

/// Checks a head with its empty line.
///
/// # Errors
/// What makes it unfit to be read by two readers.
pub fn check(head: &[u8], max_fields: usize) -> Result<Framing, Refusal> {
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| match line.split_last() {
        Some((b'\r', line)) if !line.contains(&b'\r') && !line.contains(&0) => Ok(line),
        _ => Err(Refusal::Malformed),
    });
    let old = request_line(lines.next().ok_or(Refusal::Malformed)??)?;
    let mut seen = Seen::default();
    for (n, line) in lines.enumerate() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if n >= max_fields {
            return Err(Refusal::HeadTooLarge);
        }
        field(line, old, &mut seen)?;
    }
    if seen.codings > 0 {
        return match seen.length {
            None => Ok(Framing::Chunked),
            // Which of the two holds is what readers differ on.
            Some(_) => Err(Refusal::Malformed),
        };
    }
    let length = seen.length.unwrap_or(0);
    if seen.upgrade && seen.lists_upgrade && !old && length == 0 {
        return Ok(Framing::Switch);
    }
    Ok(Framing::Length(length))
}

/// Whether the request is of HTTP/1.0.
fn request_line(line: &[u8]) -> Result<bool, Refusal> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (method, target, version) = (parts.next(), parts.next(), parts.next());
    let (Some(method), Some(target), Some(version), None) = (method, target, version, parts.next()) else {
        return Err(Refusal::Malformed);
    };
    if method == b"CONNECT" {
        return Err(Refusal::ConnectMethod);
    }
    let sound = !method.is_empty() && method.iter().all(|byte| is_token(*byte)) && method != REFUSED.as_bytes();
    let printable = !target.is_empty() && target.iter().all(|byte| *byte > b' ' && *byte != 127);
    match version {
        b"HTTP/1.1" if sound && printable => Ok(false),
        b"HTTP/1.0" if sound && printable => Ok(true),
        _ => Err(Refusal::Malformed),
    }
}

fn field(line: &[u8], old: bool, seen: &mut Seen) -> Result<(), Refusal> {
    let colon = memchr::memchr(b':', line).ok_or(Refusal::Malformed)?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    // A fold, or space before the colon, is no token either.
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err(Refusal::Malformed);
    }
    if line[colon..].iter().any(|byte| matches!(byte, 0..=8 | 10..=31 | 127)) {
        return Err(Refusal::Malformed);
    }
    let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
    match name.len() {
        4 if is(b"host") => {
            seen.hosts += 1;
            if seen.hosts > 1 {
                return Err(Refusal::SeveralHosts);
            }
        }
        7 if is(b"upgrade") => seen.upgrade |= !value.eq_ignore_ascii_case(b"h2c"),
        10 if is(b"connection") => {
            let mut listed = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            seen.lists_upgrade |= listed.any(|option| option.eq_ignore_ascii_case(b"upgrade"));
        }
        14 if is(b"content-length") => {
            if seen.length.is_some() || value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
                return Err(Refusal::Malformed);
            }
            let length = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
            seen.length = Some(length.ok_or(Refusal::Malformed)?);
        }
        17 if is(b"transfer-encoding") => {
            seen.codings += 1;
            if old || seen.codings > 1 {
                return Err(Refusal::Malformed);
            }
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Refusal::TransferCoding);
            }
        }
        _ => {}
    }
    Ok(())
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_end_behind_their_empty_line() {
        assert_eq!(end(b"a\r\nb\r\n\r\nc", 0), Some(8));
        assert_eq!(end(b"a\nb\n\nc", 0), Some(5));
        assert_eq!(end(b"a\r\nb\r\n", 0), None);
        assert_eq!(end(b"a\r\nb\r\n\r\n", 5), Some(8));
    }

    #[test]
    fn heads_are_framed_in_one_way_or_refused() {
        let of = |fields: &str| check(format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n").as_bytes(), 10);
        assert_eq!(of(""), Ok(Framing::Length(0)));
        assert_eq!(of("Content-Length: 12\r\n"), Ok(Framing::Length(12)));
        assert_eq!(of("Transfer-Encoding:\tChunked \r\n"), Ok(Framing::Chunked));
        assert_eq!(
            of("upgrade: websocket\r\nconnection: a, upgrade\r\n"),
            Ok(Framing::Switch)
        );
        assert_eq!(of("upgrade: h2c\r\nconnection: upgrade\r\n"), Ok(Framing::Length(0)));
        assert_eq!(of("upgrade: websocket\r\n"), Ok(Framing::Length(0)));
        for bad in [
            "content-length: 1\r\ntransfer-encoding: chunked\r\n",
            "content-length: 1\r\ncontent-length: 1\r\n",
            "content-length: +1\r\n",
            "content-length: 1, 1\r\n",
            "content-length:\r\n",
            "content-length: 99999999999999999999\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            "x : y\r\n",
            "x: y\r\n z\r\n",
            "x\r\n",
            ": y\r\n",
            "x: y\n",
            "x: \0\r\n",
            "x: a\rb\r\n",
            "x: a\x0bb\r\n",
        ] {
            assert_eq!(of(bad), Err(Refusal::Malformed), "{bad:?}");
        }
        for bad in ["gzip, chunked", "chunked, identity", "xchunked", "identity", ""] {
            assert_eq!(
                of(&format!("transfer-encoding: {bad}\r\n")),
                Err(Refusal::TransferCoding),
                "{bad:?}"
            );
        }
        assert_eq!(of("HOST: a\r\n"), Err(Refusal::SeveralHosts));
        assert_eq!(of(&"a: b\r\n".repeat(10)), Err(Refusal::HeadTooLarge));
    }

    #[test]
    fn request_lines_have_three_words() {
        let of = |line: &str| check(format!("{line}\r\n\r\n").as_bytes(), 10);
        assert_eq!(of("GET / HTTP/1.0"), Ok(Framing::Length(0)));
        assert_eq!(of("CONNECT a:1 HTTP/1.1"), Err(Refusal::ConnectMethod));
        for bad in [
            "GET  / HTTP/1.1",
            "GET / HTTP/1.1 ",
            "GET /",
            "GET / HTTP/2.0",
            " GET / HTTP/1.1",
            "G@T / HTTP/1.1",
            "GET /\tx HTTP/1.1",
            "ROUTER-REFUSED / HTTP/1.1",
        ] {
            assert_eq!(of(bad), Err(Refusal::Malformed), "{bad:?}");
        }
    }
}
