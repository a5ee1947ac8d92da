//! Certificates on real connections: who is let in, who is not, and what a renewal changes.

use identity::{Authority, Credentials, Held, JoinToken, Request, machine_of};
use model::Timestamp;
use model::machine::{Machine, Role};
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use uuid::Uuid;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn authority() -> Authority {
    Authority::open(&Authority::create(now()).expect("made")).expect("opens")
}

fn now() -> Timestamp {
    Timestamp::now_utc()
}

fn machine(role: Role, id: u128) -> Machine {
    Machine {
        role,
        id: Uuid::from_u128(id),
    }
}

fn controller(authority: &Authority) -> Held {
    let names = vec!["127.0.0.1".to_owned()];
    let made = authority.controller(machine(Role::Controller, 1), names, now(), DAY);
    Held::new(&made.expect("issued")).expect("sound")
}

fn issued(authority: &Authority, machine: Machine, at: Timestamp, life: Duration) -> Credentials {
    let request = Request::new(None).expect("a key");
    let issued = authority.issue(machine, &request.pem, at, life).expect("issued");
    let joined = api::machine::Joined {
        machine,
        certificate: issued.certificate,
        authority: authority.pem().to_owned(),
        from: issued.from,
        until: issued.until,
        controllers: Vec::new(),
        blobs: None,
    };
    request.credentials(joined).expect("they fit")
}

/// Connects, and says who the server took the client for; `None` where there was no connection.
async fn seen(server: &Held, client: rustls::ClientConfig, name: &str) -> Option<Option<Machine>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("free");
    let address = listener.local_addr().expect("bound");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server.server().expect("sound")));
    let serving = async {
        let (socket, _) = listener.accept().await.expect("accepted");
        let mut stream = acceptor.accept(socket).await.ok()?;
        stream.write_all(b"k").await.ok()?;
        let machine = stream.get_ref().1.peer_certificates().and_then(machine_of);
        stream.shutdown().await.ok()?;
        Some(machine)
    };
    let connecting = async {
        let socket = tokio::net::TcpStream::connect(address).await.expect("connected");
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let mut stream = connector.connect(name, socket).await.ok()?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await.ok()
    };
    let (seen, read) = tokio::join!(serving, connecting);
    read.and(seen)
}

#[tokio::test]
async fn a_machine_is_known_by_its_certificate_and_by_nothing_else() {
    let (ours, other) = (authority(), authority());
    let server = controller(&ours);
    let cell = machine(Role::Cell, 7);
    let held = |credentials: &Credentials| Held::new(credentials).expect("sound");
    let client = |credentials: &Credentials| held(credentials).client().expect("sound");
    let sound = issued(&ours, cell, now(), DAY);
    assert_eq!(seen(&server, client(&sound), "127.0.0.1").await, Some(Some(cell)));
    assert_eq!(seen(&server, client(&sound), "10.0.0.1").await, None, "another host");
    let foreign = issued(&other, cell, now(), DAY);
    assert_eq!(
        seen(&server, client(&foreign), "127.0.0.1").await,
        None,
        "another platform"
    );
    let mixed = Credentials {
        authority: ours.pem().to_owned(),
        ..foreign
    };
    assert_eq!(
        seen(&server, client(&mixed), "127.0.0.1").await,
        None,
        "a forged certificate"
    );
    let old = issued(&ours, cell, now() - 3 * DAY, DAY);
    assert_eq!(seen(&server, client(&old), "127.0.0.1").await, None, "expired");
    // A cell is no server that machines talk to.
    assert_eq!(seen(&held(&sound), client(&sound), "127.0.0.1").await, None);
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_by_the_next_connection() {
    let ours = authority();
    let server = controller(&ours);
    let cell = machine(Role::Cell, 7);
    let old = issued(&ours, cell, now() - 3 * DAY, DAY);
    let held = Held::new(&old).expect("sound");
    let client = held.client().expect("sound");
    assert_eq!(seen(&server, client.clone(), "127.0.0.1").await, None);
    held.replace(&issued(&ours, cell, now(), DAY)).expect("sound");
    assert_eq!(seen(&server, client, "127.0.0.1").await, Some(Some(cell)));
}

#[tokio::test]
async fn a_token_leads_to_its_own_platform_alone() {
    let (ours, other) = (authority(), authority());
    let token = JoinToken::create(Uuid::nil(), ours.fingerprint(), vec!["https://127.0.0.1:1".to_owned()]);
    let text = token.text();
    let read: JoinToken = text.expose().parse().expect("whole");
    assert_eq!(read.secret.expose(), token.secret.expose());
    assert!(!format!("{read:?}").contains(read.secret.expose()));
    let client = read.client().expect("sound");
    assert_eq!(seen(&controller(&ours), client.clone(), "127.0.0.1").await, Some(None));
    assert_eq!(seen(&controller(&other), client, "127.0.0.1").await, None);
    for damaged in ["", "paasjoin_", "paasjoin_e30", &text.expose()[..80]] {
        assert!(damaged.parse::<JoinToken>().is_err(), "{damaged}");
    }
}

#[test]
fn a_request_gets_the_names_that_the_authority_gives() {
    let ours = authority();
    let cell = machine(Role::Cell, 7);
    let request = Request::new(None).expect("a key");
    assert!(ours.issue(cell, "nonsense", now(), DAY).is_err());
    assert!(ours.issue(cell, &"x".repeat(20_000), now(), DAY).is_err());
    // The last characters are of the signature.
    let mut forged = request.pem.clone();
    let at = forged.trim_end().len() - "-----END CERTIFICATE REQUEST-----".len() - 8;
    let other = if &forged[at..=at] == "A" { "B" } else { "A" };
    forged.replace_range(at..=at, other);
    assert!(ours.issue(cell, &forged, now(), DAY).is_err(), "not signed by its key");
    let first = issued(&ours, cell, now(), DAY);
    assert!(first.renewal() > now() && first.renewal() < now() + DAY / 2);
    // The same host asks with the key that it had.
    let again = Request::new(Some(&first)).expect("the same key");
    let (a, b) = (
        ours.issue(cell, &again.pem, now(), DAY).expect("issued"),
        ours.issue(cell, &request.pem, now(), DAY).expect("issued"),
    );
    assert_ne!(a.key_digest, b.key_digest);
    let stolen = Credentials {
        certificate: b.certificate,
        ..first
    };
    let joined = api::machine::Joined {
        machine: cell,
        certificate: stolen.certificate,
        authority: ours.pem().to_owned(),
        from: now(),
        until: now(),
        controllers: Vec::new(),
        blobs: None,
    };
    assert!(again.credentials(joined).is_err(), "another key's certificate");
}
