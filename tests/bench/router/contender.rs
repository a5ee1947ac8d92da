//! The proxies that are measured, each with one worker, and what stands behind them.

use crate::feed::Controller;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Port of the backend.
pub const BACKEND: u16 = 9000;
/// Bytes of the large body.
const LARGE: usize = 1_000_000;
/// Longest time to start.
const START: Duration = Duration::from_secs(60);

/// Which proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// With its defaults for proxying, connections kept, no log.
    Nginx,
    /// Connections used again always, no log.
    Haproxy,
    /// This router, with access log, ids, trace context and metrics.
    Ours {
        /// Routes in its table.
        routes: usize,
    },
}

/// A proxy that runs.
pub struct Contender {
    /// For people.
    pub name: String,
    /// Port for plain HTTP.
    pub port: u16,
    /// Port for TLS.
    pub tls_port: u16,
    kind: Kind,
    process: Child,
}

impl Contender {
    /// Starts it and waits until it answers.
    pub async fn start(kind: Kind, folder: &Path, controller: &Controller) -> Self {
        let (name, port) = match kind {
            Kind::Nginx => ("nginx".to_owned(), 9100),
            Kind::Haproxy => ("haproxy".to_owned(), 9200),
            Kind::Ours { routes } => (
                format!("router, {routes} routes"),
                if routes == 1 { 9300 } else { 9400 },
            ),
        };
        let tls_port = port + 1;
        certificate(folder);
        let mut command = match kind {
            Kind::Nginx => nginx(folder, port),
            Kind::Haproxy => haproxy(folder, port),
            Kind::Ours { routes } => ours(folder, port, routes, controller),
        };
        let process = command.stdin(Stdio::null()).spawn().expect("installed");
        let contender = Self {
            name,
            port,
            tls_port,
            kind,
            process,
        };
        contender.wait().await;
        contender
    }

    /// Whether it is this router.
    pub fn is_ours(&self) -> bool {
        matches!(self.kind, Kind::Ours { .. })
    }

    async fn wait(&self) {
        let began = Instant::now();
        let client = reqwest::Client::builder().timeout(START).build().expect("a client");
        loop {
            let request = client.get(format!("http://127.0.0.1:{}/", self.port));
            let answered = request.header("host", crate::feed::HOST).send().await;
            if answered.is_ok_and(|response| response.status() == 200) {
                return;
            }
            assert!(began.elapsed() < START, "{} does not answer", self.name);
            // sleeps: a proxy tells nobody when it listens.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Its processes.
    fn pids(&self) -> Vec<u32> {
        let own = self.process.id();
        let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        std::iter::once(own).chain(children).collect()
    }

    /// CPU time that it took so far.
    pub fn cpu(&self) -> Duration {
        let ticks: u64 = self.pids().into_iter().map(ticks).sum();
        // The kernel tells in hundredths.
        Duration::from_millis(ticks * 10)
    }

    /// Memory that is its own, in KB.
    pub fn memory_kb(&self) -> u64 {
        self.pids().into_iter().map(proportional_kb).sum()
    }
}

impl Drop for Contender {
    /// Ends it, also where a measurement failed.
    fn drop(&mut self) {
        for pid in self.pids().into_iter().rev() {
            let _ = Command::new("kill").arg(pid.to_string()).status();
        }
        let _ = self.process.wait();
    }
}

fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let field = |n: usize| fields.get(n).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    field(11) + field(12)
}

fn proportional_kb(pid: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

fn certificate(folder: &Path) {
    if folder.join("default.pem").exists() {
        return;
    }
    let made = rcgen::generate_simple_self_signed(vec!["bench.test".to_owned()]).expect("signed");
    let both = made.cert.pem() + &made.signing_key.serialize_pem();
    std::fs::write(folder.join("default.pem"), both).expect("written");
}

/// What answers: two bytes, or a megabyte.
pub fn backend(folder: &Path) -> Contender {
    std::fs::write(folder.join("large"), vec![b'x'; LARGE]).expect("written");
    let folder_name = folder.display();
    let server = format!(
        "server {{ listen 127.0.0.1:{BACKEND} backlog=4096; location = / {{ return 200 ok; }} location / {{ root {folder_name}; }} }}"
    );
    let process = nginx_with(folder, "backend", &server).spawn().expect("installed");
    let (port, tls_port, kind) = (BACKEND, 0, Kind::Nginx);
    let name = "backend".to_owned();
    Contender {
        name,
        port,
        tls_port,
        kind,
        process,
    }
}

fn nginx_with(folder: &Path, name: &str, servers: &str) -> Command {
    let path = folder.join(format!("{name}.conf"));
    let folder = folder.display();
    let text = format!(
        "worker_processes 1; daemon off; user root; pid {folder}/{name}.pid; error_log /dev/null;\n\
         events {{ worker_connections 20000; }}\n\
         http {{ access_log off; keepalive_requests 10000000; keepalive_timeout 300s; sendfile on;\n\
         client_body_temp_path {folder}/{name}-body; proxy_temp_path {folder}/{name}-proxy;\n{servers} }}\n"
    );
    std::fs::write(&path, text).expect("written");
    let mut command = Command::new("nginx");
    command.arg("-c").arg(path).stderr(Stdio::null());
    command
}

fn nginx(folder: &Path, port: u16) -> Command {
    let (folder_name, tls) = (folder.display(), port + 1);
    let servers = format!(
        "upstream app {{ server 127.0.0.1:{BACKEND}; keepalive 256; keepalive_requests 10000000; }}\n\
         server {{ listen 127.0.0.1:{port} backlog=4096; listen 127.0.0.1:{tls} ssl backlog=4096;\n\
         ssl_certificate {folder_name}/default.pem; ssl_certificate_key {folder_name}/default.pem;\n\
         location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
         proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
         proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Request-Start $msec;\n\
         proxy_set_header X-Vcap-Request-Id $request_id; }} }}"
    );
    nginx_with(folder, "nginx", &servers)
}

fn haproxy(folder: &Path, port: u16) -> Command {
    let (path, folder_name, tls) = (folder.join("haproxy.cfg"), folder.display(), port + 1);
    let text = format!(
        "global\n maxconn 8000\n nbthread 1\n\
         defaults\n mode http\n timeout connect 5s\n timeout client 300s\n timeout server 300s\n http-reuse always\n\
         frontend f\n bind 127.0.0.1:{port}\n bind 127.0.0.1:{tls} ssl crt {folder_name}/default.pem\n\
         option forwardfor\n http-request set-header X-Forwarded-Proto http\n\
         unique-id-format %{{+X}}o%ci%cp%fi%fp%Ts%rt%pid\n http-request set-header X-Vcap-Request-Id %[unique-id]\n\
         default_backend b\n\
         backend b\n server s 127.0.0.1:{BACKEND}\n"
    );
    std::fs::write(&path, text).expect("written");
    let mut command = Command::new("haproxy");
    command.arg("-f").arg(path).stderr(Stdio::null());
    command
}

/// This program itself, as a router.
fn ours(folder: &Path, port: u16, routes: usize, controller: &Controller) -> Command {
    let path = folder.join(format!("router-{port}"));
    let mut file = std::fs::File::create(&path).expect("a file");
    writeln!(file, "{port} {routes} {} {}", controller.url, folder.display()).expect("written");
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg(format!("--serve={}", path.display()));
    command
}

/// Is the router that a file describes.
pub fn serve(path: &Path) {
    let text = std::fs::read_to_string(path).expect("a file");
    let mut words = text.split_whitespace();
    let mut word = || words.next().expect("all of them");
    let (port, routes): (u16, u128) = (word().parse().expect("a port"), word().parse().expect("a number"));
    let (url, folder) = (word().to_owned(), PathBuf::from(word()));
    let listen = ([127, 0, 0, 1], port).into();
    let token = model::Secret::new("bench");
    let controllers = router::Controllers::new([url]).expect("an address");
    let mut config = router::Config::new(uuid::Uuid::from_u128(routes), listen, controllers, token);
    config.listen.tls = Some(([127, 0, 0, 1], port + 1).into());
    config.limits.idle_client = Duration::from_secs(300);
    config.access.file = Some(folder.join(format!("access-{port}.log")));
    config.tls = Some(router::TlsSettings {
        certificates: folder,
        only_1_3: false,
        client_auth: router::ClientAuth::None,
        client_authorities: None,
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let router = router::Router::bind(config, tokio_util::sync::CancellationToken::new()).expect("bound");
        router.run(tokio::sync::oneshot::channel().0).await;
    });
}
