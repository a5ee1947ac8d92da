//! Trace context: W3C `traceparent` and `tracestate`, and B3 in both its forms. What came is continued, what did not
//! is begun; the request's id and a trace that begins here are the same number. Pure.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const B3: HeaderName = HeaderName::from_static("b3");
const B3_TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const B3_SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const B3_PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");

/// Fields that carry trace context.
pub const FIELDS: [HeaderName; 8] = [
    TRACEPARENT,
    TRACESTATE,
    B3,
    B3_TRACE,
    B3_SPAN,
    B3_PARENT,
    HeaderName::from_static("x-b3-sampled"),
    HeaderName::from_static("x-b3-flags"),
];

/// Longest `tracestate` that is passed on, in bytes.
const MAX_STATE: usize = 2048;
/// Our name in `tracestate`, which tools for Cloud Foundry look for.
const MEMBER: &str = "gorouter";

/// A request's place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trace {
    /// The trace.
    pub trace: u128,
    /// What the app sees as its parent.
    pub span: u64,
    /// The client's span, where it named one.
    pub parent: Option<u64>,
}

/// Continues the trace of `headers`, or begins one with `fresh` as its id; `span` is the router's own span.
pub fn carry_on(headers: &mut HeaderMap, fresh: Uuid, span: u64) -> Trace {
    // All zero is no valid span.
    let span = span.max(1);
    let w3c = text(headers, &TRACEPARENT).and_then(parse_w3c);
    let multiple = text(headers, &B3_TRACE).and_then(hex_id).zip(
        text(headers, &B3_SPAN)
            .and_then(hex_id)
            .and_then(|span| u64::try_from(span).ok()),
    );
    let single = text(headers, &B3).and_then(parse_b3);
    let known = w3c.map(|(trace, parent, _)| (trace, parent)).or(multiple).or(single);
    let (trace, parent) = match known {
        Some((trace, parent)) => (trace, Some(parent)),
        None => (fresh.as_u128(), None),
    };
    write_w3c(headers, w3c, trace, span);
    write_b3(headers, multiple.or(single), trace, span);
    Trace { trace, span, parent }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// 16 or 32 hexadecimal digits that are not all zero.
fn hex_id(text: &str) -> Option<u128> {
    let sound = matches!(text.len(), 16 | 32) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    sound
        .then(|| u128::from_str_radix(text, 16).ok())
        .flatten()
        .filter(|id| *id != 0)
}

/// Trace, parent and flags of a `traceparent` of any version.
fn parse_w3c(text: &str) -> Option<(u128, u64, u8)> {
    let mut parts = text.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let lower = text.bytes().all(|byte| !byte.is_ascii_uppercase());
    let sound = version.len() == 2 && version != "ff" && trace.len() == 32 && parent.len() == 16 && flags.len() == 2;
    if !sound || !lower || (version == "00" && parts.next().is_some()) {
        return None;
    }
    u8::from_str_radix(version, 16).ok()?;
    let parent = u64::try_from(hex_id(parent)?).ok()?;
    Some((hex_id(trace)?, parent, u8::from_str_radix(flags, 16).ok()?))
}

/// Trace and span of a single `b3` field.
fn parse_b3(text: &str) -> Option<(u128, u64)> {
    let mut parts = text.split('-');
    let trace = hex_id(parts.next()?)?;
    let span = parts.next().filter(|span| span.len() == 16)?;
    Some((trace, u64::try_from(hex_id(span)?).ok()?))
}

fn write_w3c(headers: &mut HeaderMap, came: Option<(u128, u64, u8)>, trace: u128, span: u64) {
    let flags = came.map_or(1, |(.., flags)| flags & 1);
    let mut line = *b"00-00000000000000000000000000000000-0000000000000000-00";
    digits(&mut line[3..35], trace);
    digits(&mut line[36..52], u128::from(span));
    digits(&mut line[53..55], u128::from(flags));
    set(headers, TRACEPARENT, &line);
    let mut state = format!("{MEMBER}={span:016x}");
    // A state belongs to the parent it came with.
    if came.is_some() {
        let own = |member: &&str| member.split('=').next().is_some_and(|name| name.trim() == MEMBER);
        let values = headers
            .get_all(&TRACESTATE)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let others: Vec<&str> = values
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .filter(|member| !member.is_empty() && !own(member))
            .collect();
        let length: usize = others.iter().map(|member| member.len() + 1).sum();
        if state.len() + length <= MAX_STATE {
            for member in others {
                state.push(',');
                state.push_str(member);
            }
        }
    }
    set(headers, TRACESTATE, state.as_bytes());
}

/// What is there stays: its spans were begun by the one that sent it.
fn write_b3(headers: &mut HeaderMap, came: Option<(u128, u64)>, trace: u128, span: u64) {
    let (trace, span) = came.unwrap_or((trace, span));
    let mut both = *b"00000000000000000000000000000000-0000000000000000";
    digits(&mut both[..32], trace);
    digits(&mut both[33..], u128::from(span));
    if came.is_none() || !headers.contains_key(&B3) {
        set(headers, B3, &both);
    }
    if came.is_none() || !headers.contains_key(&B3_TRACE) {
        set(headers, B3_TRACE, &both[..32]);
        set(headers, B3_SPAN, &both[33..]);
    }
}

/// Writes a number in hexadecimal into all of `place`.
fn digits(place: &mut [u8], mut number: u128) {
    for digit in place.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &[u8]) {
    if let Ok(value) = HeaderValue::from_bytes(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn carried(fields: &[(&'static str, &str)]) -> (HeaderMap, Trace) {
        let mut headers: HeaderMap = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("sound")))
            .collect();
        let trace = carry_on(&mut headers, Uuid::from_u128(0xabc), 0xf00);
        (headers, trace)
    }

    #[test]
    fn a_trace_begins_with_the_id_of_the_request() {
        let (headers, trace) = carried(&[]);
        assert_eq!((trace.trace, trace.span, trace.parent), (0xabc, 0xf00, None));
        let id = format!("{:032x}", 0xabc);
        assert_eq!(headers["traceparent"], format!("00-{id}-0000000000000f00-01"));
        assert_eq!(headers["tracestate"], "gorouter=0000000000000f00");
        assert_eq!(headers["b3"], format!("{id}-0000000000000f00"));
        assert_eq!(headers["x-b3-traceid"], id);
        assert_eq!(headers["x-b3-spanid"], "0000000000000f00");
    }

    #[test]
    fn w3c_context_is_continued_with_our_span_in_front() {
        let parent = format!("00-{TRACE}-00f067aa0ba902b7-00");
        let (headers, trace) = carried(&[("traceparent", &parent), ("tracestate", "a=1, gorouter=12,b=2")]);
        assert_eq!(format!("{:032x}", trace.trace), TRACE);
        assert_eq!(trace.parent, Some(0x00f0_67aa_0ba9_02b7));
        assert_eq!(headers["traceparent"], format!("00-{TRACE}-0000000000000f00-00"));
        assert_eq!(headers["tracestate"], "gorouter=0000000000000f00,a=1,b=2");
        assert_eq!(headers["x-b3-traceid"], TRACE);
    }

    #[test]
    fn a_state_that_is_too_long_or_has_no_parent_is_left_out() {
        let long = format!("a={}", "x".repeat(3000));
        let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
        for fields in [
            vec![("traceparent", parent.as_str()), ("tracestate", &long)],
            vec![("tracestate", "a=1")],
        ] {
            let (headers, _) = carried(&fields);
            assert_eq!(headers["tracestate"], "gorouter=0000000000000f00");
        }
    }

    #[test]
    fn b3_context_stays_as_it_came() {
        let (headers, trace) = carried(&[("x-b3-traceid", TRACE), ("x-b3-spanid", "00000000000000aa")]);
        assert_eq!(
            (format!("{:032x}", trace.trace), trace.parent),
            (TRACE.to_owned(), Some(0xaa))
        );
        assert_eq!(headers["x-b3-spanid"], "00000000000000aa");
        assert_eq!(headers["b3"], format!("{TRACE}-00000000000000aa"));
        assert_eq!(headers["traceparent"], format!("00-{TRACE}-0000000000000f00-01"));
        let single = format!("{TRACE}-00000000000000bb-1");
        let (headers, trace) = carried(&[("b3", &single)]);
        assert_eq!(trace.parent, Some(0xbb));
        assert_eq!(
            (&headers["b3"], &headers["x-b3-spanid"]),
            (
                &single.parse().expect("sound"),
                &"00000000000000bb".parse().expect("sound")
            )
        );
    }

    proptest! {
        #[test]
        fn whatever_comes_what_goes_on_is_sound(parent in "[0-9a-fA-F-]{0,60}", state in "[ -~]{0,40}", b3 in "[0-9a-f-]{0,60}", span: u64) {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, parent.parse().expect("ascii"));
            headers.insert(TRACESTATE, state.parse().expect("ascii"));
            headers.insert(B3, b3.parse().expect("ascii"));
            let trace = carry_on(&mut headers, Uuid::from_u128(1), span);
            let sent = parse_w3c(headers[TRACEPARENT].to_str().expect("ascii")).expect("sound");
            prop_assert_eq!((sent.0, sent.1), (trace.trace, trace.span));
            prop_assert!(parse_b3(headers[B3].to_str().expect("ascii")).is_some());
        }
    }
}
