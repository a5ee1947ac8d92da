//! [`Envelope`]: one line of an app's log with where and when it was said, and its two encodings.
//!
//! JSON (payload in base64) for people and other programs; a compact binary frame for files and between hosts:
//! ```text
//! length u32 │ crc32 u32 │ ts_ns i64 │ stream u8 │ source_id, instance_id, source_type: length u8, bytes │ payload
//! ```
//! Little-endian; `length` counts what follows the checksum and the checksum covers it. A frame that a crash cut off
//! is told apart from one that is damaged.

use serde::{Deserialize, Serialize};

/// Bytes before the part that `length` counts.
const HEAD: usize = 8;
/// Time and stream.
const FIXED: usize = 9;

/// Which output a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Stream {
    /// Standard output, and everything that the platform says.
    Out,
    /// Standard error.
    Err,
}

/// One line of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Unix time in nanoseconds at which the line was read from the app.
    pub ts_ns: i64,
    /// Guid of the app.
    pub source_id: String,
    /// Index of the instance, or the guid of a task or build.
    pub instance_id: String,
    /// Who speaks: `APP/PROC/WEB`, `STG`, `RTR`, `CELL`, `API`.
    pub source_type: String,
    /// Which output.
    pub stream: Stream,
    /// The line without its end, any bytes.
    #[serde(with = "payload")]
    pub payload: Vec<u8>,
}

/// Bytes that are no frame, and will not become one by more bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an encoded log line")]
pub struct Malformed;

impl Envelope {
    /// Longest payload in bytes; writers split longer lines before.
    pub const MAX_PAYLOAD: usize = 64 << 10;
    /// Longest id or source type in bytes.
    pub const MAX_NAME: usize = 255;

    /// Whether it fits a frame.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.payload.len() <= Self::MAX_PAYLOAD && self.names().iter().all(|name| name.len() <= Self::MAX_NAME)
    }

    /// Appends the frame. Names and payloads beyond what [`Self::fits`] allows are cut off.
    pub fn encode(&self, target: &mut Vec<u8>) {
        let start = target.len();
        target.extend([0; HEAD]);
        target.extend(self.ts_ns.to_le_bytes());
        target.push(match self.stream {
            Stream::Out => 0,
            Stream::Err => 1,
        });
        for name in self.names() {
            let cut = name.floor_char_boundary(Self::MAX_NAME);
            target.push(u8::try_from(cut).unwrap_or(u8::MAX));
            target.extend(&name.as_bytes()[..cut]);
        }
        target.extend(&self.payload[..self.payload.len().min(Self::MAX_PAYLOAD)]);
        let body = start + HEAD;
        let length = u32::try_from(target.len() - body).unwrap_or(u32::MAX);
        let sum = crc32(&target[body..]);
        target[start..start + 4].copy_from_slice(&length.to_le_bytes());
        target[start + 4..body].copy_from_slice(&sum.to_le_bytes());
    }

    /// The first frame of `bytes` and how many bytes it took; `None` where more bytes are needed.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, Malformed> {
        let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let [a, b, c, d, sum @ ..] = *head;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if !(FIXED + 3..=FIXED + 3 * (1 + Self::MAX_NAME) + Self::MAX_PAYLOAD).contains(&length) {
            return Err(Malformed);
        }
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        if crc32(body) != u32::from_le_bytes(sum) {
            return Err(Malformed);
        }
        Self::decode_body(body)
            .map(|envelope| Some((envelope, HEAD + length)))
            .ok_or(Malformed)
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        let (time, rest) = body.split_first_chunk::<8>()?;
        let (stream, mut rest) = rest.split_first()?;
        let mut name = || {
            let (length, after) = rest.split_first()?;
            let (name, after) = after.split_at_checked(usize::from(*length))?;
            rest = after;
            String::from_utf8(name.to_vec()).ok()
        };
        let (source_id, instance_id, source_type) = (name()?, name()?, name()?);
        Some(Self {
            ts_ns: i64::from_le_bytes(*time),
            source_id,
            instance_id,
            source_type,
            stream: match stream {
                0 => Stream::Out,
                1 => Stream::Err,
                _ => return None,
            },
            payload: rest.to_vec(),
        })
    }

    fn names(&self) -> [&str; 3] {
        [&self.source_id, &self.instance_id, &self.source_type]
    }
}

/// Payloads are any bytes, so JSON carries them in base64.
mod payload {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        STANDARD.decode(text.as_bytes()).map_err(D::Error::custom)
    }
}

/// CRC-32 (IEEE) of each byte value.
const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let (mut value, mut bit) = (at as u32, 0);
        while bit < 8 {
            value = if value & 1 == 1 {
                value >> 1 ^ 0xedb8_8320
            } else {
                value >> 1
            };
            bit += 1;
        }
        table[at] = value;
        at += 1;
    }
    table
};

fn crc32(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(!0, |crc, byte| crc >> 8 ^ CRC[(crc as u8 ^ byte) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn envelope(payload: &[u8]) -> Envelope {
        Envelope {
            ts_ns: 1_700_000_000_123_456_789,
            source_id: "0d1f".to_owned(),
            instance_id: "0".to_owned(),
            source_type: "APP/PROC/WEB".to_owned(),
            stream: Stream::Err,
            payload: payload.to_vec(),
        }
    }

    #[test]
    fn json_reads_back() {
        let json = serde_json::to_string(&envelope(b"\xff hello")).unwrap();
        assert!(
            json.contains(r#""stream":"ERR""#) && json.contains(r#""payload":"/yBoZWxsbw==""#),
            "{json}"
        );
        assert_eq!(
            serde_json::from_str::<Envelope>(&json).unwrap(),
            envelope(b"\xff hello")
        );
    }

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn what_does_not_fit_is_cut() {
        let mut large = envelope(&vec![b'x'; Envelope::MAX_PAYLOAD + 1]);
        large.instance_id = "é".repeat(200);
        assert!(!large.fits());
        let mut bytes = Vec::new();
        large.encode(&mut bytes);
        let (read, taken) = Envelope::decode(&bytes).unwrap().unwrap();
        assert_eq!(taken, bytes.len());
        assert!(read.fits() && read.payload.len() == Envelope::MAX_PAYLOAD && read.instance_id == "é".repeat(127));
    }

    #[test]
    fn a_cut_frame_wants_more_and_a_damaged_one_is_refused() {
        let mut bytes = Vec::new();
        envelope(b"line").encode(&mut bytes);
        for cut in 0..bytes.len() {
            assert_eq!(Envelope::decode(&bytes[..cut]), Ok(None), "{cut}");
        }
        for at in 4..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x20;
            assert_eq!(Envelope::decode(&damaged), Err(Malformed), "{at}");
        }
        assert_eq!(Envelope::decode(&[0xff; 100]), Err(Malformed));
    }

    proptest! {
        #[test]
        fn frames_read_back(
            ts_ns: i64, source_id in ".{0,60}", instance_id in ".{0,60}", source_type in "[A-Z/]{0,20}", err: bool,
            payload in prop::collection::vec(any::<u8>(), 0..500),
        ) {
            let stream = if err { Stream::Err } else { Stream::Out };
            let envelope = Envelope { ts_ns, source_id, instance_id, source_type, stream, payload };
            let mut bytes = b"before".to_vec();
            envelope.encode(&mut bytes);
            bytes.extend(b"after");
            let (read, taken) = Envelope::decode(&bytes[6..]).unwrap().unwrap();
            prop_assert_eq!(read, envelope);
            prop_assert_eq!(taken, bytes.len() - 11);
        }

        #[test]
        fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Envelope::decode(&bytes);
        }
    }
}
