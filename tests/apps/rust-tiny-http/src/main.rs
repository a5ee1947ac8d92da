//! A web server by a small framework.

use tiny_http::{Response, Server};

fn main() {
    let port = std::env::var("PORT").unwrap_or_else(|_| "8080".into());
    let server = Server::http(format!("0.0.0.0:{port}")).expect("listens");
    for request in server.incoming_requests() {
        let answer = match request.url() {
            "/env" => std::env::vars().map(|(name, value)| format!("{name}={value}\n")).collect(),
            _ => "Hello from tiny_http\n".to_owned(),
        };
        let _ = request.respond(Response::from_string(answer));
    }
}
