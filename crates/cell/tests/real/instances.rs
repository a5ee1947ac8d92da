//! App instances: started, healthy, stopped, crashed, out of memory, never listening.

use crate::kit::{Kit, get, until};
use model::work::{Cause, Wanted, WorkKind, WorkState};

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_starts_answers_logs_and_stops() {
    let kit = Kit::start().await;
    let layers = kit.droplet().await;
    let mut work = kit.instance(
        &layers,
        Some("echo port $PORT user $USER home $HOME; exec python3 -m http.server $PORT"),
    );
    work.spec.env.set("GREETING", "hi");
    kit.controller.assign(std::slice::from_ref(&work));
    let seen = kit.running(work.work).await;
    assert!(seen.routable);
    let phases: Vec<&str> = seen.phases.iter().map(|phase| phase.name.as_str()).collect();
    assert_eq!(phases, ["fetch", "unpack", "sandbox", "healthy"]);
    assert_eq!(get(&seen, "/index.html").await, "hello from the app\n");
    let line = kit.line(work.work, "port 8080 user vcap home /home/vcap/app").await;
    assert_eq!(
        (line.source_type.as_str(), line.instance.as_str(), line.app),
        ("APP/PROC/WEB", "0", kit.app)
    );
    kit.line(work.work, "Container became healthy").await;

    work.wanted = Wanted::Drain;
    kit.controller.assign(std::slice::from_ref(&work));
    let drained = kit.controller.revision();
    kit.controller
        .wait("drained", |seen| (seen.revision == drained).then_some(()))
        .await;
    assert_eq!(
        get(&seen, "/index.html").await,
        "hello from the app\n",
        "it goes on while it drains"
    );

    work.wanted = Wanted::Stop;
    kit.controller.assign(std::slice::from_ref(&work));
    assert_eq!(kit.ended(work.work).await, Cause::Stopped { killed: false });
    kit.line(work.work, "Exit status").await;
    kit.gone(work.work).await;
    let states = kit.controller.seen(|seen| seen.states[&work.work].clone());
    assert_eq!(states.last().map(String::as_str), Some("exited"));
    kit.controller.assign(&[]);
    let forgotten = kit.state().join("ledger").join(format!("{}.json", work.work));
    until("forgotten", || !forgotten.exists()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_have_their_true_causes() {
    let kit = Kit::start().await;
    let layers = kit.droplet().await;
    let crash = kit.instance(&layers, Some("echo dying >&2; exit 3"));
    let signal = kit.instance(&layers, Some("kill -SEGV $$"));
    let mut hungry = kit.instance(
        &layers,
        Some("exec python3 -c 'b = [bytearray(1 << 20) for _ in range(1 << 20)]'"),
    );
    hungry.spec.limits.memory_mb = 48;
    let absent = kit.instance(
        &[model::staging::DropletLayer {
            digest: model::Digest::from_sha256([7; 32]),
            ..layers[0].clone()
        }],
        None,
    );
    let all = [crash.clone(), signal.clone(), hungry.clone(), absent.clone()];
    kit.controller.assign(&all);
    assert_eq!(kit.ended(crash.work).await, Cause::Exited { code: 3 });
    assert!(kit.line(crash.work, "dying").await.err);
    kit.line(crash.work, "Exit status 3").await;
    assert_eq!(kit.ended(signal.work).await, Cause::Signalled { signal: 11 });
    let Cause::OutOfMemory {
        limit_bytes,
        peak_bytes,
    } = kit.ended(hungry.work).await
    else {
        panic!("{:?}", kit.ended(hungry.work).await)
    };
    assert_eq!(limit_bytes, 48 << 20);
    assert!(peak_bytes > 40 << 20, "{peak_bytes}");
    kit.line(hungry.work, "Exit status 137 (out of memory)").await;
    let Cause::NotStarted { detail, retryable } = kit.ended(absent.work).await else {
        panic!("no layer")
    };
    assert!(detail.contains("there is no layer") && retryable, "{detail}");
    for work in &all {
        kit.gone(work.work).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_listens_elsewhere_is_told_where() {
    let kit = Kit::start().await;
    let layers = kit.droplet().await;
    let mut work = kit.instance(&layers, Some("exec python3 -m http.server --bind 127.0.0.1 3000"));
    if let WorkKind::Instance(instance) = &mut work.spec.kind {
        instance.health.start_timeout_seconds = 2;
        instance.grace_seconds = 1;
    }
    kit.controller.assign(std::slice::from_ref(&work));
    let Cause::StartTimeout { detail } = kit.ended(work.work).await else {
        panic!("never healthy")
    };
    assert!(detail.contains("port 8080: connection refused"), "{detail}");
    assert!(
        detail.contains("listening on 127.0.0.1:3000, expected 0.0.0.0:8080"),
        "{detail}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_end_in_its_grace_is_killed_and_what_stops_answering_is_ended() {
    let kit = Kit::start().await;
    let layers = kit.droplet().await;
    let stubborn = "trap '' TERM; python3 -m http.server $PORT & while true; do sleep 1; done";
    let mut stubborn = kit.instance(&layers, Some(stubborn));
    let deaf = "import http.server, os, threading\n\
        class H(http.server.SimpleHTTPRequestHandler):\n\
        \x20   def do_GET(self):\n\
        \x20       self.send_response(200 if not os.path.exists('/tmp/sick') else 500); self.end_headers()\n\
        \x20       if self.path == '/sicken': open('/tmp/sick', 'w')\n\
        http.server.HTTPServer(('', 8080), H).serve_forever()\n";
    let mut sick = kit.instance(&layers, Some(&format!("exec python3 -c \"{deaf}\"")));
    for (work, grace) in [(&mut stubborn, 1), (&mut sick, 1)] {
        if let WorkKind::Instance(instance) = &mut work.spec.kind {
            instance.grace_seconds = grace;
            instance.health.interval_seconds = 1;
        }
    }
    if let WorkKind::Instance(instance) = &mut sick.spec.kind {
        instance.health.probe = model::health::Probe::Http {
            endpoint: "/health".to_owned(),
        };
    }
    kit.controller.assign(&[stubborn.clone(), sick.clone()]);
    let seen = kit.running(sick.work).await;
    kit.running(stubborn.work).await;
    get(&seen, "/sicken").await;
    stubborn.wanted = Wanted::Stop;
    kit.controller.assign(&[stubborn.clone(), sick.clone()]);
    assert_eq!(kit.ended(stubborn.work).await, Cause::Stopped { killed: true });
    let Cause::Unhealthy { detail } = kit.ended(sick.work).await else {
        panic!("unhealthy")
    };
    assert!(
        detail.contains("GET /health on port 8080 was answered with 500, expected 200"),
        "{detail}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_start_at_once_from_one_copy_of_their_layers() {
    let kit = Kit::start().await;
    let layers = kit.droplet().await;
    let works: Vec<_> = (0..10).map(|_| kit.instance(&layers, None)).collect();
    let began = std::time::Instant::now();
    kit.controller.assign(&works);
    for work in &works {
        kit.running(work.work).await;
    }
    println!("10 instances healthy after {:?}", began.elapsed());
    let trees = std::fs::read_dir(kit.state().join("layers")).expect("layers");
    // Folders by digest, of images or of trees; files beside them describe them.
    let trees = trees
        .map(|entry| entry.expect("entry"))
        .filter(|entry| entry.file_name().len() >= 64 && entry.path().is_dir())
        .count();
    assert_eq!(trees, layers.len());
    kit.controller
        .wait("figures", |seen| {
            works
                .iter()
                .all(|work| seen.measured.contains(&work.work))
                .then_some(())
        })
        .await;
    // Not assigned any more: no right to run.
    kit.controller.assign(&[]);
    for work in &works {
        kit.gone(work.work).await;
    }
    let left = kit.controller.seen(|seen| {
        seen.work
            .values()
            .filter(|seen| seen.state == WorkState::Running)
            .count()
    });
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sidecars_have_their_share_of_memory_and_end_the_instance_in_their_own_name() {
    let kit = Kit::start().await;
    let layers = kit.droplet().await;
    let mut work = kit.instance(
        &layers,
        Some("echo left $MEMORY_LIMIT; exec python3 -m http.server $PORT"),
    );
    work.spec.limits.memory_mb = 160;
    let WorkKind::Instance(instance) = &mut work.spec.kind else {
        unreachable!("it is an instance")
    };
    let sidecar = |name: &str, command: &str, memory_mb| model::staging::SidecarTemplate {
        name: name.to_owned(),
        command: command.to_owned(),
        process_types: vec!["web".to_owned()],
        memory_mb,
    };
    let hungry = "echo share $MEMORY_LIMIT; while [ ! -e full ]; do sleep 0.1; done; \
                  exec python3 -c 'b = [bytearray(1 << 20) for _ in range(1 << 20)]'";
    instance.sidecars = vec![
        sidecar("my agent", "echo all $MEMORY_LIMIT; exec sleep 1000", None),
        sidecar("hungry", hungry, Some(48)),
    ];
    kit.controller.assign(std::slice::from_ref(&work));
    let seen = kit.running(work.work).await;
    assert_eq!(get(&seen, "/index.html").await, "hello from the app\n");
    assert_eq!(kit.line(work.work, "left 112m").await.source_type, "APP/PROC/WEB");
    let line = kit.line(work.work, "share 48m").await;
    assert_eq!(line.source_type, "APP/PROC/WEB/SIDECAR/HUNGRY");
    let line = kit.line(work.work, "all 160m").await;
    assert_eq!(line.source_type, "APP/PROC/WEB/SIDECAR/MY AGENT");
    let mut socket = kit.controller.exec(work.work, &["touch full"], None).await;
    crate::controller::read_session(&mut socket).await;
    let Cause::Sidecar { name, why } = kit.ended(work.work).await else {
        panic!("it is not the sidecar's end")
    };
    assert_eq!(name, "hungry");
    assert!(
        matches!(*why, Cause::OutOfMemory { limit_bytes, .. } if limit_bytes == 48 << 20),
        "{why}"
    );
    kit.line(work.work, "sidecar hungry exceeded its memory limit of 50331648 bytes")
        .await;
    kit.line(work.work, "Exit status 137 (out of memory) of the sidecar hungry")
        .await;
    kit.gone(work.work).await;
}
