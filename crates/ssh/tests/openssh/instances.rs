//! Instances that are processes of this machine.

use bytes::Bytes;
use model::Secret;
use ssh::{CONNECTED, Input, Instances, Output, Request, Session};
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::sync::mpsc;

/// What lets in, with [`USER`].
pub const CODE: &str = "the-code";
pub const USER: &str = "cf:someone/0";

pub struct Local {
    pub tries: AtomicUsize,
    /// How each session ended.
    pub ends: mpsc::Sender<&'static str>,
}

impl Instances for Local {
    type Grant = ();

    async fn admit(&self, user: &str, code: Secret) -> Option<()> {
        self.tries.fetch_add(1, Ordering::SeqCst);
        (user == USER && code.expose() == CODE).then_some(())
    }

    async fn open(&self, (): &(), request: Request) -> Result<Session, String> {
        let (input, inputs) = mpsc::channel(2);
        let (outputs, output) = mpsc::channel(2);
        match request {
            Request::Run { command, variables, .. } => {
                let line = command.unwrap_or_else(|| "sh".to_owned());
                if line.contains("refuse") {
                    return Err("it is refused".to_owned());
                }
                tokio::spawn(run(line, variables, inputs, outputs, self.ends.clone()));
            }
            Request::Connect { host, port } => {
                tokio::spawn(connect(host, port, inputs, outputs));
            }
            Request::Files => return Err("there are no files".to_owned()),
        }
        Ok(Session { input, output })
    }
}

async fn run(
    line: String,
    variables: Vec<(String, String)>,
    inputs: mpsc::Receiver<Input>,
    outputs: mpsc::Sender<Output>,
    ends: mpsc::Sender<&'static str>,
) {
    let mut child = Command::new("sh")
        .args(["-c", &line])
        .envs(variables)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("a shell starts");
    let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = streams else {
        panic!("they are piped")
    };
    let said = async {
        tokio::join!(pump(stdout, &outputs, Output::Out), pump(stderr, &outputs, Output::Err));
        child.wait().await.expect("it ends")
    };
    tokio::select! {
        status = said => {
            let exit = Output::Exit {
                code: status.code().unwrap_or(255),
                signal: status.signal(),
            };
            let _ = outputs.send(exit).await;
            let _ = ends.try_send("the command ended by itself");
        }
        () = feed(inputs, stdin) => {
            let _ = ends.try_send("the client is gone");
        }
    }
}

async fn connect(host: String, port: u16, inputs: mpsc::Receiver<Input>, outputs: mpsc::Sender<Output>) {
    let Ok(stream) = tokio::net::TcpStream::connect((host, port)).await else {
        let _ = outputs.send(Output::Err(Bytes::from_static(b"no"))).await;
        return;
    };
    let _ = outputs.send(Output::Out(Bytes::from_static(&[CONNECTED]))).await;
    let (read, write) = stream.into_split();
    tokio::select! {
        () = pump(read, &outputs, Output::Out) => drop(outputs.send(Output::Exit { code: 0, signal: None }).await),
        () = feed(inputs, write) => {}
    }
}

async fn pump(mut from: impl AsyncRead + Unpin, to: &mpsc::Sender<Output>, kind: fn(Bytes) -> Output) {
    let mut buffer = vec![0; 32 << 10];
    while let Ok(n) = from.read(&mut buffer).await
        && n > 0
        && to.send(kind(Bytes::copy_from_slice(&buffer[..n]))).await.is_ok()
    {}
}

/// Until the client is gone.
async fn feed(mut inputs: mpsc::Receiver<Input>, to: impl AsyncWrite + Unpin) {
    let mut to = Some(to);
    while let Some(input) = inputs.recv().await {
        match (input, &mut to) {
            (Input::Data(data), Some(writer)) => drop(writer.write_all(&data).await),
            (Input::Eof, Some(writer)) => {
                let _ = writer.shutdown().await;
                to = None;
            }
            _ => {}
        }
    }
}
