//! Which instance gets a request, as clients see it; how the rules work in detail is shown where they are.

use crate::kit::*;
use api::edge::{LoadBalancing, RouteOptions};
use std::collections::BTreeMap;

async fn names(edge: &Edge, host: &str, count: usize, fields: &[(&str, &str)]) -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    for _ in 0..count {
        let request = edge.request(host, "/");
        let request = fields
            .iter()
            .fold(request, |request, (name, value)| request.header(*name, *value));
        let text = request.send().await.expect("answered").text().await.expect("whole");
        *names
            .entry(text.lines().next().expect("a name").to_owned())
            .or_default() += 1;
    }
    names
}

#[tokio::test]
async fn a_route_says_how_its_instances_are_chosen() {
    let edge = edge_with(|config| config.workers = 1).await;
    let instances = [(1, echo("one").await), (2, echo("two").await), (3, echo("three").await)];
    let with = |host: &str, options: RouteOptions| {
        let mut route = route(host, &instances);
        route.options = options;
        route
    };
    let policy = |policy| RouteOptions {
        loadbalancing: Some(policy),
        hash_header: Some("x-tenant".to_owned()),
        ..RouteOptions::default()
    };
    let mut canary = with("canary.test", policy(LoadBalancing::RoundRobin));
    for (endpoint, weight) in canary.endpoints.iter_mut().zip([90, 10, 0]) {
        endpoint.weight = Some(weight);
    }
    edge.controller
        .set(vec![
            with("turn.test", policy(LoadBalancing::RoundRobin)),
            with("hash.test", policy(LoadBalancing::Hash)),
            with("least.test", policy(LoadBalancing::LeastConnection)),
            canary,
        ])
        .await;
    let third = BTreeMap::from([("one", 4), ("two", 4), ("three", 4)].map(|(name, count)| (name.to_owned(), count)));
    assert_eq!(names(&edge, "turn.test", 12, &[]).await, third);
    let canary = BTreeMap::from([("one", 18), ("two", 2)].map(|(name, count)| (name.to_owned(), count)));
    assert_eq!(names(&edge, "canary.test", 20, &[]).await, canary);
    for tenant in ["a", "b", "c", "d"] {
        assert_eq!(names(&edge, "hash.test", 6, &[("x-tenant", tenant)]).await.len(), 1);
    }
    assert!(
        names(&edge, "hash.test", 60, &[]).await.len() > 1,
        "without the field the default holds"
    );
    assert!(names(&edge, "least.test", 60, &[]).await.len() > 1);
    edge.stop().await;
}

#[tokio::test]
async fn instances_of_the_own_zone_come_first() {
    let edge = edge_with(|config| config.zone = Some("b".to_owned())).await;
    let mut route = route("a.test", &[(1, echo("one").await), (2, echo("two").await)]);
    for (endpoint, zone) in route.endpoints.iter_mut().zip(["a", "b"]) {
        endpoint.zone = Some(zone.to_owned());
    }
    edge.controller.set(vec![route.clone()]).await;
    assert_eq!(
        names(&edge, "a.test", 20, &[]).await.keys().collect::<Vec<_>>(),
        ["two"]
    );
    // It is gone: the far one gets all.
    route.endpoints[1].address = "127.0.0.1:1".parse().expect("an address");
    edge.controller.set(vec![route]).await;
    assert_eq!(
        names(&edge, "a.test", 20, &[]).await.keys().collect::<Vec<_>>(),
        ["one"]
    );
    edge.stop().await;
}

#[tokio::test]
async fn a_request_that_may_have_been_worked_on_is_not_sent_again() {
    let counted = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    // An instance that reads a request and closes without an answer.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let closing = listener.local_addr().expect("bound");
    let count = std::sync::Arc::clone(&counted);
    tokio::spawn(async move {
        use tokio::io::AsyncReadExt as _;
        while let Ok((mut stream, _)) = listener.accept().await {
            if stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        }
    });
    let edge = edge().await;
    edge.controller.set(vec![route("a.test", &[(1, closing)])]).await;
    for body in [None, Some("x")] {
        let request = client()
            .post(format!("http://{}/", edge.address))
            .header("host", "a.test");
        let request = body.into_iter().fold(request, |request, body| request.body(body));
        let response = request.send().await.expect("answered");
        assert_eq!(response.status(), 502);
        assert_eq!(response.headers()["x-cf-routererror"], "endpoint_failure (EOF)");
    }
    assert_eq!(counted.load(std::sync::atomic::Ordering::SeqCst), 2);
    edge.stop().await;
}
