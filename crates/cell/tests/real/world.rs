//! What lies beyond a cell's uplink in tests about the network: a namespace of its own that answers at a few addresses,
//! so that nothing depends on what this machine can reach.

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

/// Answers on [`PORT`] and [`OTHER`], behind a router.
const FAR: [u8; 2] = [198, 18];
/// Where the world answers: what comes is sent back, after a greeting.
pub const PORT: u16 = 9000;
/// Another such port.
pub const OTHER: u16 = 9001;

const SERVER: &str = "
import socket, sys, threading
def echo(stream):
    try:
        stream.sendall(b'hi')
        while True:
            some = stream.recv(65536)
            if not some: return
            if some[:1] != b'-': stream.sendall(some)
    except OSError: pass
def serve(port):
    server = socket.create_server(('0.0.0.0', port))
    while True: threading.Thread(target=echo, args=(server.accept()[0],), daemon=True).start()
for port in sys.argv[1:]: threading.Thread(target=serve, args=(int(port),)).start()
print('ready', flush=True)
";

/// A world; gone when dropped.
pub struct World {
    slot: u8,
    server: Child,
}

/// The host's interface towards the world.
pub fn uplink(slot: u8) -> String {
    format!("paasu{slot}")
}

fn ip(arguments: &str) -> bool {
    let words = arguments.split_whitespace();
    let done = Command::new("ip").args(words).stderr(Stdio::null()).status();
    done.expect("iproute2 is installed").success()
}

fn space(slot: u8) -> String {
    format!("paasw{slot}")
}

impl World {
    /// Makes the world of a slot.
    pub fn make(slot: u8) -> Self {
        let (uplink, space) = (uplink(slot), space(slot));
        // Of a test that was itself killed.
        ip(&format!("netns del {space}"));
        ip(&format!("link del {uplink}"));
        for line in [
            format!("netns add {space}"),
            format!("link add {uplink} type veth peer name w0 netns {space}"),
            format!("addr add 198.19.{slot}.1/30 dev {uplink}"),
            format!("link set {uplink} up"),
            format!("-n {space} addr add 198.19.{slot}.2/30 dev w0"),
            format!("-n {space} link set w0 up"),
            format!("-n {space} link set lo up"),
            format!("-n {space} route add local 198.18.{slot}.0/24 dev lo"),
            format!("-n {space} route add local 169.254.169.254/32 dev lo"),
            format!("route add 198.18.{slot}.0/24 via 198.19.{slot}.2 dev {uplink}"),
        ] {
            assert!(ip(&line), "ip {line}");
        }
        let mut server = Command::new("ip")
            .args([
                "netns",
                "exec",
                &space,
                "python3",
                "-c",
                SERVER,
                &PORT.to_string(),
                &OTHER.to_string(),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the world's server");
        let mut ready = [0; 5];
        let out = server.stdout.as_mut().expect("piped");
        std::io::Read::read_exact(out, &mut ready).expect("it gets ready");
        Self { slot, server }
    }

    /// A program in it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &space(self.slot), program]);
        command
    }

    /// One of its addresses, neither on the host nor beside it.
    pub fn far(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(FAR[0], FAR[1], self.slot, host)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        ip(&format!("link del {}", uplink(self.slot)));
        ip(&format!("netns del {}", space(self.slot)));
    }
}
