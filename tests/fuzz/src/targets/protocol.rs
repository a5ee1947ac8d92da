//! What comes out of a sandbox, and what goes between agent, spawner and init.

use crate::scratch::Scratch;
use sandbox::log::{Position, Reader};
use sandbox::net::{Cidr, Egress};
use sandbox::{Spec, oci};
use std::path::Path;
use telemetry::{Envelope, Stream};

/// A sandbox as its agent describes it.
const SPEC: &[u8] = br#"{"id":"a","hostname":"a","layers":["/l"],"disk_bytes":67108864,"inodes":1000,
    "binds":[{"source":"/s","target":"/t","readonly":true}],"process":{"argv":["/x"],"env":[["A","b"]],"cwd":"/",
    "uid":2000,"gid":2000,"terminal":false,"rlimits":[]},"limits":{"memory_bytes":67108864,"cpu_weight":100,
    "cpu_quota":1.5,"pids":64},"network":"none","log":{"rate_bytes_per_second":1,"burst_bytes":1,"keep_bytes":1,
    "max_line":100},"files":[["/etc/x",[1,2],420]]}"#;

/// The configuration of a bundle that somebody brought.
pub fn bundle(data: &[u8]) {
    if let Ok(spec) = oci::config::parse(data) {
        let text = serde_json::to_vec(&spec).expect("what was read can be written");
        let again = oci::config::parse(&text);
        assert!(again.is_ok(), "what was taken once is refused: {again:?}");
    }
}

pub fn bundle_seeds() -> Vec<Vec<u8>> {
    let spec: Spec = serde_json::from_slice(SPEC).expect("it is one");
    let place = oci::Place::here(Path::new("/rootfs"), 100_000, Path::new("/paas/a"));
    let whole = oci::from_spec(&spec, &place);
    let mut small = whole.clone();
    if let Some(linux) = small.linux_mut() {
        linux.set_seccomp(None);
    }
    let text = |spec| serde_json::to_vec(spec).expect("it is plain data");
    let least = br#"{"ociVersion":"1.0.2","root":{"path":"rootfs"},"process":{"cwd":"/","args":["/x"]},"linux":{"namespaces":
        [{"type":"pid"},{"type":"mount"},{"type":"network","path":"/n"}],"resources":{"memory":{"limit":1},"pids":{"limit":-1},
        "devices":[{"allow":false,"access":"rwm"}]},"sysctl":{"net.ipv4.ip_forward":"1"},"rootfsPropagation":"rslave"},
        "hooks":{"prestart":[{"path":"/h","timeout":1}]},"mounts":[{"destination":"/proc","type":"proc","source":"proc",
        "options":["nosuid","rbind","mode=755"]}]}"#;
    vec![text(&whole), text(&small), least.to_vec()]
}

/// Messages in every direction, specifications and records.
pub fn messages(data: &[u8]) {
    sandbox::fuzzing::message(data);
}

pub fn message_seeds() -> Vec<Vec<u8>> {
    let mut seeds = sandbox::fuzzing::message_seeds();
    seeds.push(
        br#"{"argv":["/bin/sh","-c","x"],"env":[["A","b"]],"cwd":"/home/vcap","uid":2000,"tty":[24,80]}"#.to_vec(),
    );
    seeds.push(SPEC.to_vec());
    seeds
}

/// Segments of a log that a captured init could have written: the first byte cuts the rest in two.
pub fn segments(data: &[u8]) {
    let Some((cut, data)) = data.split_first() else { return };
    let (first, second) = data.split_at(data.len() * usize::from(*cut) / 256);
    let scratch = Scratch::new();
    scratch.write("0000000001.log", first);
    scratch.write("0000000002.log", second);
    let reader = Reader::new(scratch.path());
    let mut position = Position::default();
    let mut payload = 0;
    // Every batch but the last brings it further.
    for _ in 0..data.len() + 3 {
        let batch = reader.read(position, 64).expect("the folder is readable");
        payload += batch.records.iter().map(|record| record.payload.len()).sum::<usize>();
        if batch.next == position {
            break;
        }
        position = batch.next;
    }
    assert!(payload <= data.len(), "more came out than was in it");
    assert!(
        reader.tail(3).expect("the folder is readable").len() <= 3,
        "more than asked for"
    );
}

pub fn segment_seeds() -> Vec<Vec<u8>> {
    vec![
        b"\x80100 O one\n101 E two\n102 S three\n103 O four\n".to_vec(),
        b"\x00100 O \n\n1 X no\n18446744073709551616 O late\n".to_vec(),
        b"\xff1 O whole\n2 O not yet".to_vec(),
    ]
}

/// Lines of logs between hosts and in files.
pub fn envelopes(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some((envelope, taken))) = Envelope::decode(rest) {
        assert!(taken > 0 && taken <= rest.len(), "{taken} of {} bytes", rest.len());
        assert!(envelope.fits(), "it is larger than allowed");
        let mut again = Vec::new();
        envelope.encode(&mut again);
        assert_eq!(again, &rest[..taken], "it changed on the way");
        rest = &rest[taken..];
    }
    if let Ok(envelope) = serde_json::from_slice::<Envelope>(data) {
        let mut frame = Vec::new();
        envelope.encode(&mut frame);
        assert!(
            Envelope::decode(&frame).is_ok_and(|decoded| decoded.is_some()),
            "it cannot be read back"
        );
    }
}

pub fn envelope_seeds() -> Vec<Vec<u8>> {
    let envelope = Envelope {
        ts_ns: 1_700_000_000_000_000_000,
        source_id: "app".to_owned(),
        instance_id: "0".to_owned(),
        source_type: "APP/PROC/WEB".to_owned(),
        stream: Stream::Err,
        payload: b"a line".to_vec(),
    };
    let mut two = Vec::new();
    envelope.encode(&mut two);
    let one = two.clone();
    envelope.encode(&mut two);
    vec![one, two, serde_json::to_vec(&envelope).expect("it is plain data")]
}

/// What a space may connect to.
pub fn egress(data: &[u8]) {
    if let Ok(policy) = serde_json::from_slice::<Egress>(data) {
        let _ = policy.check();
    }
    if let Some(block) = std::str::from_utf8(data)
        .ok()
        .and_then(|text| text.parse::<Cidr>().ok())
    {
        assert_eq!(block.to_string().parse::<Cidr>().ok(), Some(block), "a block changed");
        assert!(
            block.contains(block.address()) && block.covers(&block),
            "a block does not hold itself"
        );
    }
}

pub fn egress_seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![serde_json::to_vec(&Egress::public()).expect("it is plain data")];
    seeds.extend(["10.0.0.0/8", "0.0.0.0/0", "192.0.2.1", "1.2.3.4/33"].map(|text| text.as_bytes().to_vec()));
    seeds
}
