//! A throw-away host and the world it is connected to, each a network namespace, so that the tests of this
//! module never touch the machine's own network. The world answers at every address; what it gets on ports
//! 443 and 53 it can relay to the real one.

use std::{
    fs, io,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use nix::sched::{CloneFlags, unshare};

use crate::net::{Cidr, Lease, NetworkConfig, namespace};

/// The host's address towards the world.
pub const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// An address far away, like any other answered by the world.
pub const FAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);
/// Where the tests put the resolver unless they need the real one.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 53);
/// Long enough for anything that works, short enough for what is dropped without an answer.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Unusual on purpose: sandboxes must get the same.
pub const MTU: u32 = 1380;

/// The calling thread's new home, and what lies beyond its uplink.
pub struct Host {
    /// The machine's own namespace, left alone.
    pub machine: OwnedFd,
    pub world: OwnedFd,
    pub folder: PathBuf,
}

/// Runs `work` on a thread inside `namespace`.
pub fn within<T: Send>(namespace: &OwnedFd, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let run = || {
            namespace::enter(namespace).expect("enter");
            work()
        };
        scope.spawn(run).join().expect("work inside does not panic")
    })
}

/// Runs `ip` with one command per line, in the calling thread's namespace.
pub fn ip(lines: &str) {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("iproute2 is installed");
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(lines.as_bytes())
        .expect("write");
    assert!(child.wait().expect("wait").success(), "ip refused one of\n{lines}");
}

/// What a program prints, run in the calling thread's namespace.
pub fn output(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect(program);
    String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr)
}

impl Host {
    /// Moves the calling thread to a new host with an uplink `up0`.
    pub fn enter(name: &str) -> Self {
        let machine = namespace::current().expect("own namespace");
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
        let here = nix::unistd::gettid();
        let world = std::thread::scope(|scope| {
            let make = || {
                unshare(CloneFlags::CLONE_NEWNET).expect("namespace for the world");
                ip(&format!(
                    "link set lo up\nlink add w0 mtu {MTU} type veth peer name up0 mtu {MTU} netns {here}\n\
                     addr add 198.51.100.1/24 dev w0\naddr add {RESOLVER}/32 dev lo\nlink set w0 up\n\
                     route add local default dev lo\n"
                ));
                namespace::current().expect("the world's namespace")
            };
            scope.spawn(make).join().expect("the world is made")
        });
        ip("link set lo up\naddr add 198.51.100.2/24 dev up0\nlink set up0 up\nroute add default via 198.51.100.1\n");
        let folder = std::env::temp_dir().join(format!("paas-net-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("temporary folder");
        Self { machine, world, folder }
    }

    /// A small network on this host.
    pub fn config(&self) -> NetworkConfig {
        let subnet: Cidr = "10.99.0.0/20".parse().expect("a block");
        let mut config = NetworkConfig::new("test", "paastst0", subnet, self.folder.join("net"));
        config.resolvers = vec![RESOLVER];
        config.run_dir = self.folder.join("run");
        config.pool_size = 3;
        config
    }

    /// A service of the world on every address: tells each caller which address it comes from, then
    /// echoes what it gets.
    pub fn serve(&self, port: u16) {
        let listener = within(&self.world, || {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("bind")
        });
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || echo(stream));
            }
        });
    }

    /// Answers `port` (TCP, every address) by the machine's own connection to the same address and port.
    pub fn relay_tcp(&self, port: u16) {
        let listener = within(&self.world, || {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("bind")
        });
        let machine = self.machine.try_clone().expect("clone");
        std::thread::spawn(move || {
            namespace::enter(&machine).expect("enter");
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || relay(stream));
            }
        });
    }

    /// Answers DNS over UDP at `resolver` by asking the real one at the same address.
    pub fn relay_dns(&self, resolver: Ipv4Addr) {
        let socket = within(&self.world, || {
            if resolver != RESOLVER {
                ip(&format!("addr add {resolver}/32 dev lo\n"));
            }
            UdpSocket::bind((resolver, 53)).expect("bind")
        });
        let machine = self.machine.try_clone().expect("clone");
        std::thread::spawn(move || {
            namespace::enter(&machine).expect("enter");
            let mut packet = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut packet) {
                let (question, socket) = (packet[..length].to_vec(), socket.try_clone().expect("clone"));
                std::thread::spawn(move || answer(&question, from, &socket, resolver));
            }
        });
    }

    /// Answers DNS questions at [`RESOLVER`] by sending them back.
    pub fn echo_dns(&self) {
        let socket = within(&self.world, || UdpSocket::bind((RESOLVER, 53)).expect("bind"));
        std::thread::spawn(move || {
            let mut packet = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut packet) {
                let _ = socket.send_to(&packet[..length], from);
            }
        });
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn echo(mut stream: TcpStream) {
    let IpAddr::V4(peer) = stream
        .peer_addr()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip())
    else {
        return;
    };
    let _ = stream.write_all(&peer.octets());
    let mut byte = [0];
    while stream
        .read_exact(&mut byte)
        .and_then(|()| stream.write_all(&byte))
        .is_ok()
    {}
}

fn relay(inner: TcpStream) {
    let Ok(outer) = inner
        .local_addr()
        .and_then(|wanted| TcpStream::connect_timeout(&wanted, PATIENCE))
    else {
        return;
    };
    let copy = |mut from: TcpStream, mut to: TcpStream| {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    };
    let (back_from, back_to) = (outer.try_clone().expect("clone"), inner.try_clone().expect("clone"));
    let back = std::thread::spawn(move || copy(back_from, back_to));
    copy(inner, outer);
    let _ = back.join();
}

fn answer(question: &[u8], from: SocketAddr, socket: &UdpSocket, resolver: Ipv4Addr) {
    let asked = || -> io::Result<Vec<u8>> {
        let outer = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        outer.set_read_timeout(Some(PATIENCE))?;
        outer.connect((resolver, 53))?;
        outer.send(question)?;
        let mut packet = vec![0; 4096];
        let length = outer.recv(&mut packet)?;
        packet.truncate(length);
        Ok(packet)
    };
    if let Ok(packet) = asked() {
        let _ = socket.send_to(&packet, from);
    }
}

/// Connects from inside a sandbox.
pub fn connect(lease: &Lease, to: (Ipv4Addr, u16)) -> io::Result<TcpStream> {
    let stream = within(&lease.netns, || TcpStream::connect_timeout(&to.into(), PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Connects from inside a sandbox to a service of the world; the address that the service sees.
pub fn seen_as(lease: &Lease, to: (Ipv4Addr, u16)) -> io::Result<Ipv4Addr> {
    let mut octets = [0; 4];
    connect(lease, to)?.read_exact(&mut octets)?;
    Ok(octets.into())
}

/// Sends a DNS-like packet from inside a sandbox and waits for an answer.
pub fn ask_udp(lease: &Lease, to: (Ipv4Addr, u16)) -> io::Result<usize> {
    within(&lease.netns, || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(to)?;
        socket.send(b"question")?;
        socket.recv(&mut [0; 64])
    })
}

/// Sends an echo request from inside a sandbox and waits for the answer.
pub fn ping(lease: &Lease, to: Ipv4Addr) -> io::Result<usize> {
    use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, sockopt};
    within(&lease.netns, || {
        let socket = net::socket(AddressFamily::INET, SocketType::DGRAM, Some(ipproto::ICMP))?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(Duration::from_secs(2)))?;
        // Type 8, code 0; the kernel fills in the rest.
        net::sendto(
            &socket,
            &[8, 0, 0, 0, 0, 0, 0, 1],
            SendFlags::empty(),
            &SocketAddr::from((to, 0)),
        )?;
        Ok(net::recv(&socket, &mut [0; 64][..], RecvFlags::empty())?.0)
    })
}

/// Tells whoever runs the tests something.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
