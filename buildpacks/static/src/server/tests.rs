//! The server over real connections.

use super::*;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

struct Running {
    address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

fn start(files: &[(&str, &[u8])], change: impl FnOnce(&mut Settings)) -> Running {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let mut settings = Settings {
        root: folder.path().to_owned(),
        ..Settings::default()
    };
    change(&mut settings);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            accept(Arc::new(Site::new(settings)), listener, async { drop(stopped.await) }).await;
        });
    });
    Running {
        address,
        stop: Some(stop),
        thread: Some(thread),
        _folder: folder,
    }
}

impl Running {
    /// Head in lower case, and body, of the answer to `method path` with further `headers`.
    fn ask(&self, method: &str, path: &str, headers: &str) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: site.test\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        (head, answer[end + 4..].to_vec())
    }

    fn get(&self, path: &str) -> (String, String) {
        let (head, body) = self.ask("GET", path, "");
        (head, String::from_utf8(body).unwrap())
    }
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

const SITE: &[(&str, &[u8])] = &[
    ("index.html", b"<h1>home</h1>"),
    ("docs/index.html", b"docs"),
    ("files/a.txt", b"0123456789"),
    (".env", b"SECRET=1"),
    ("404.html", b"lost"),
];

#[test]
fn files_are_served_with_their_types() {
    let server = start(SITE, |_| {});
    let (head, body) = server.get("/");
    assert_eq!((status(&head), body.as_str()), (200, "<h1>home</h1>"));
    assert_eq!(header(&head, "content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(header(&head, "x-content-type-options"), Some("nosniff"));
    let (head, _) = server.get("/docs?x=1");
    assert_eq!((status(&head), header(&head, "location")), (301, Some("/docs/?x=1")));
    assert_eq!(server.get("/docs/").1, "docs");
    let (head, body) = server.ask("HEAD", "/files/a.txt", "");
    assert_eq!((header(&head, "content-length"), body.len()), (Some("10"), 0));
}

#[test]
fn what_is_not_there_gets_the_site_s_own_page() {
    let server = start(SITE, |_| {});
    for path in [
        "/nowhere",
        "/.env",
        "/../etc/passwd",
        "/%2e%2e/etc/passwd",
        "/files/",
        "/index.html/",
        "//etc/passwd",
    ] {
        let (head, body) = server.get(path);
        assert_eq!((status(&head), body.as_str()), (404, "lost"), "{path}");
    }
    let (head, _) = server.ask("POST", "/", "content-length: 0\r\n");
    assert_eq!((status(&head), header(&head, "allow")), (405, Some("get, head")));
    assert_eq!(header(&server.get("//docs").0, "location"), Some("/docs/"));
}

#[test]
fn a_client_that_has_it_gets_nothing_again() {
    let server = start(SITE, |_| {});
    let (head, _) = server.get("/files/a.txt");
    let tag = header(&head, "etag").unwrap();
    let (head, body) = server.ask("GET", "/files/a.txt", &format!("if-none-match: {tag}\r\n"));
    assert_eq!((status(&head), body.len()), (304, 0));
    let (head, _) = server.ask("GET", "/files/a.txt", "if-none-match: \"other\"\r\n");
    assert_eq!(status(&head), 200);
}

#[test]
fn ranges() {
    let server = start(SITE, |_| {});
    let ask = |headers: &str| server.ask("GET", "/files/a.txt", headers);
    let (head, body) = ask("range: bytes=2-4\r\n");
    assert_eq!((status(&head), body.as_slice()), (206, &b"234"[..]));
    assert_eq!(header(&head, "content-range"), Some("bytes 2-4/10"));
    let (head, _) = ask("range: bytes=10-\r\n");
    assert_eq!(
        (status(&head), header(&head, "content-range")),
        (416, Some("bytes */10"))
    );
    assert_eq!(status(&ask("range: bytes=2-4\r\nif-range: \"old\"\r\n").0), 200);
}

#[test]
fn large_files_arrive_whole() {
    let content: Vec<u8> = (0..1_000_003_u32).map(|at| at.to_le_bytes()[0]).collect();
    let server = start(&[("big.bin", &content)], |_| {});
    assert_eq!(server.ask("GET", "/big.bin", "").1, content);
    assert_eq!(
        server.ask("GET", "/big.bin", "range: bytes=500000-\r\n").1,
        content[500_000..]
    );
}

#[test]
fn compressed_forms_are_for_those_who_take_them() {
    let files: &[(&str, &[u8])] = &[
        ("a.css", b"plain"),
        ("a.css.gz", b"packed"),
        ("b.js", b"plain"),
        ("gz/b.js.gz", b"made"),
    ];
    let server = start(files, |settings| settings.compressed = Some(settings.root.join("gz")));
    let (head, body) = server.ask("GET", "/a.css", "accept-encoding: br, gzip\r\n");
    assert_eq!(
        (header(&head, "content-encoding"), body.as_slice()),
        (Some("gzip"), &b"packed"[..])
    );
    assert_eq!(header(&head, "vary"), Some("accept-encoding"));
    assert_eq!(server.ask("GET", "/b.js", "accept-encoding: gzip\r\n").1, b"made");
    assert_eq!(server.ask("GET", "/a.css", "accept-encoding: gzip;q=0\r\n").1, b"plain");
    assert_eq!(server.get("/b.js").1, "plain");
}

#[test]
fn settings_of_the_staticfile_hold() {
    let server = start(SITE, |settings| {
        settings.pushstate = true;
        settings.host_dot_files = true;
        settings.force_https = true;
        settings.hsts = Some("max-age=1".to_owned());
    });
    assert_eq!(server.get("/app/route").1, "<h1>home</h1>");
    assert_eq!(server.get("/.env").1, "SECRET=1");
    let (head, _) = server.ask("GET", "/a?b", "x-forwarded-proto: http\r\n");
    assert_eq!(
        (status(&head), header(&head, "location")),
        (301, Some("https://site.test/a?b"))
    );
    assert_eq!(header(&head, "strict-transport-security"), Some("max-age=1"));
    let listed = start(SITE, |settings| settings.directory = true);
    assert!(listed.get("/files/").1.contains("./a.txt"));
}

#[test]
fn a_request_in_flight_outlives_the_stop() {
    let content = vec![7; 8 * 1024 * 1024];
    let mut server = start(&[("big.bin", &content)], |_| {});
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(b"GET /big.bin HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let mut first = [0; 1024];
    stream.read_exact(&mut first).unwrap();
    drop(server.stop.take());
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(first.len() + rest.len() > content.len());
    assert!(rest.iter().rev().take(content.len() - 2048).all(|byte| *byte == 7));
}

#[test]
fn bad_settings_are_named() {
    assert!(read(Path::new("/nowhere")).unwrap_err().contains("/nowhere"));
}
