//! A sandbox with an address: who reaches whom, across the death of the agent. What the
//! network itself promises is tested beside it; here it is the joint with the sandbox.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use sandbox::log::Stream;
use sandbox::net::Egress;
use sandbox::{Network, Sandbox, Spec};

use crate::kit::{Host, printed, text};
use crate::lifecycle::exec_output;

fn networked(host: &Host, id: &str, argv: &[&str]) -> Spec {
    let mut spec = host.spec(id, argv);
    spec.network = Network::Isolated {
        policy: Egress::public(),
    };
    spec
}

fn ask(sandbox: &Sandbox, port: u16) -> String {
    let address = SocketAddr::from((sandbox.address().unwrap(), port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10)).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_host_reaches_in_and_nobody_reaches_the_host_or_a_neighbour() {
    let host = Host::new();
    let server = host.create(&networked(&host, "server", &["serve", "8080"]));
    printed(&server, "serving");
    assert_eq!(ask(&server, 8080), "from inside\n");

    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let neighbour = host.create(&networked(&host, "neighbour", &["sleep"]));
    let address = server.address().unwrap();
    assert_ne!(Some(address), neighbour.address());
    let gateway = {
        let [a, b, c, _] = address.octets();
        std::net::Ipv4Addr::new(a, b, c, 1)
    };
    let targets = [
        format!("{address}:8080"),
        format!("{gateway}:{port}"),
        "169.254.169.254:80".to_owned(),
    ];
    let mut argv = vec!["connect"];
    argv.extend(targets.iter().map(String::as_str));
    let (code, output) = exec_output(&neighbour, &argv);
    assert_eq!(code, Some(0));
    assert_eq!(output.lines().count(), 3);
    assert!(!output.contains("=connected"), "{output}");
    let (_, resolvers) = exec_output(&neighbour, &["read", "/etc/resolv.conf"]);
    assert!(resolvers.starts_with("nameserver "), "{resolvers}");
    assert!(exec_output(&neighbour, &["list", "/sys/class/net"]).1.contains("eth0"));
    neighbour.destroy().unwrap();
    server.destroy().unwrap();
    host.finish();
}

#[test]
fn an_address_outlives_the_agent_and_ends_with_the_sandbox() {
    let mut host = Host::new();
    let server = host.create(&networked(&host, "server", &["serve", "8080"]));
    printed(&server, "serving");
    let address = server.address();
    drop(server);
    drop(host.runtime.take());
    host.open();
    let server = host.runtime().adopt("server").unwrap().unwrap();
    assert_eq!(server.address(), address);
    assert_eq!(ask(&server, 8080), "from inside\n");
    server.destroy().unwrap();
    let target = SocketAddr::from((address.unwrap(), 8080));
    assert!(TcpStream::connect_timeout(&target, Duration::from_millis(500)).is_err());
    host.finish();
}

#[test]
fn without_a_network_there_is_only_loopback() {
    let host = Host::new();
    let (exit, records) = host.run(&host.spec("none", &["connect", "127.0.0.1:1", "10.0.0.1:80"]));
    assert_eq!(exit.code, Some(0));
    let output = text(&records, Stream::Out);
    assert!(output.contains("127.0.0.1:1=ConnectionRefused"), "{output}");
    assert!(output.contains("10.0.0.1:80=NetworkUnreachable"), "{output}");
    host.finish();
}
