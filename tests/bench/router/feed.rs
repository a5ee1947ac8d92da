//! A controller that only has the edge feed: one route, or many, and changes by the thousand.

use api::edge::{Endpoint, Protocol, RouteEntry, RouteKey, RouteOptions, Table};
use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::StreamExt as _;
use model::id::{AppId, RouteId, WorkId};
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use uuid::Uuid;

/// Host of the route that is asked for.
pub const HOST: &str = "r0.bench.test";
/// Changes in one message, and how often one comes: 1,000 a second.
const CHANGES: (usize, Duration) = (10, Duration::from_millis(10));

/// The controller.
pub struct Controller {
    /// Its address.
    pub url: String,
    routes: usize,
    changes: broadcast::Sender<Bytes>,
    revision: Arc<AtomicU64>,
}

fn entry(n: usize, turn: u64) -> RouteEntry {
    let endpoint = |copy: u64| Endpoint {
        work: WorkId(Uuid::from_u64_pair(n as u64, copy)),
        app: AppId(Uuid::from_u64_pair(n as u64, 0)),
        index: copy as u32,
        address: SocketAddrV4::new([127, 0, 0, 1].into(), super::contender::BACKEND),
        process: None,
        protocol: Protocol::Http1,
        weight: None,
        zone: None,
    };
    RouteEntry {
        key: RouteKey {
            host: format!("r{n}.bench.test"),
            path: String::new(),
        },
        route: RouteId(Uuid::from_u64_pair(n as u64, 1)),
        // A change is another instance beside one that stays.
        endpoints: vec![endpoint(1), endpoint(2 + turn)],
        options: RouteOptions::default(),
    }
}

fn line(message: &Table) -> Bytes {
    let mut line = serde_json::to_vec(message).expect("serialises");
    line.push(b'\n');
    line.into()
}

impl Controller {
    /// One that has so many routes for routers that ask for many.
    pub async fn start(routes: usize) -> Self {
        let (changes, _) = broadcast::channel::<Bytes>(1024);
        let sender = changes.clone();
        // A router's id says how many routes it is to have.
        let feed = get(move |Path(router): Path<Uuid>| async move {
            let count = router.as_u128() as usize;
            let routes = (0..count).map(|n| entry(n, 0)).collect();
            let first = line(&Table::Snapshot { revision: 1, routes });
            let changes = BroadcastStream::new(sender.subscribe()).filter_map(move |change| async move {
                // Those with one route have nothing that changes.
                change.ok().filter(|_| count > 1).map(Ok::<_, std::io::Error>)
            });
            Body::from_stream(futures_util::stream::iter([Ok(first)]).chain(changes))
        });
        let app = Router::new()
            .route(api::edge::FEED.path, feed)
            .route(api::edge::ACK.path, post(|| async {}))
            .route(api::edge::LOGS.path, post(|| async {}));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let revision = Arc::new(AtomicU64::new(1));
        Self {
            url,
            routes,
            changes,
            revision,
        }
    }

    /// Changes routes until it is ended.
    pub fn change(&self) -> tokio::task::JoinHandle<()> {
        let (changes, revision, routes) = (self.changes.clone(), Arc::clone(&self.revision), self.routes);
        tokio::spawn(async move {
            let mut turn = tokio::time::interval(CHANGES.1);
            let mut at = 0;
            loop {
                turn.tick().await;
                let base = revision.fetch_add(1, Ordering::SeqCst);
                let upserts = (0..CHANGES.0).map(|n| entry((at + n) % routes, base)).collect();
                at += CHANGES.0;
                let (revision, removes) = (base + 1, Vec::new());
                let _ = changes.send(line(&Table::Delta {
                    revision,
                    base,
                    upserts,
                    removes,
                }));
            }
        })
    }
}
