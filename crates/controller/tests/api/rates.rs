//! How often one may ask: CF's headers and errors, by user and by address.

use crate::client::*;
use axum::body::Body;
use controller::RateLimits;
use http::{Method, Request};
use sha2::Digest as _;
use std::time::Duration;
use store::testing::TestStore;

store::on_both_engines!(
    users_are_counted_down_and_then_refused,
    nobody_in_particular_is_counted_by_address,
    without_limits_nothing_is_said,
);

fn number(answer: &Answer, name: &str) -> Option<i64> {
    answer.headers.get(name)?.to_str().ok()?.parse().ok()
}

async fn limited(store: &TestStore, requests: u32, unauthenticated: u32) -> Platform {
    platform_with(store, |config| {
        config.limits.rate = RateLimits {
            requests,
            unauthenticated,
            window: Duration::from_secs(3600),
        };
    })
    .await
}

async fn users_are_counted_down_and_then_refused(store: &TestStore) {
    let platform = limited(store, 3, 0).await;
    let (ann, bob) = (platform.user("ann").await, platform.user("bob").await);
    for left in [2, 1, 0] {
        let answer = ann.get("/v3/apps").await.expect(200);
        assert_eq!(number(&answer, "x-ratelimit-limit"), Some(3));
        assert_eq!(number(&answer, "x-ratelimit-remaining"), Some(left));
        let reset = number(&answer, "x-ratelimit-reset").expect("a time");
        let wait = reset - platform.context.now().unix_timestamp();
        assert!((3500..=3600).contains(&wait), "{wait}");
        assert!(number(&answer, "retry-after").is_none());
    }
    let refused = ann.get("/v3/apps").await.expect(429);
    let error = &refused.body["errors"][0];
    assert_eq!(
        (&error["code"], &error["title"]),
        (&10013.into(), &"CF-RateLimitExceeded".into())
    );
    assert_eq!(refused.detail(), "Rate Limit Exceeded");
    assert!((3500..=3600).contains(&number(&refused, "retry-after").expect("a wait")));
    assert_eq!(number(&refused, "x-ratelimit-remaining"), Some(0));
    assert_eq!(
        number(&bob.get("/v3/apps").await.expect(200), "x-ratelimit-remaining"),
        Some(2)
    );
    let admin = platform.admin().await;
    for _ in 0..5 {
        let answer = admin.get("/v3/apps").await.expect(200);
        assert!(
            answer.headers.get("x-ratelimit-limit").is_none(),
            "administrators have no limit"
        );
    }
    let _ = store;
}

async fn nobody_in_particular_is_counted_by_address(store: &TestStore) {
    let platform = limited(store, 0, 2).await;
    let token = platform.admin().await.token;
    for left in [1, 0] {
        let answer = platform.plain(Method::GET, "/v3/info").await.expect(200);
        assert_eq!(number(&answer, "x-ratelimit-remaining"), Some(left));
    }
    let refused = platform.plain(Method::GET, "/v3/apps").await.expect(429);
    assert_eq!(refused.body["errors"][0]["code"], 10014);
    assert!(refused.detail().ends_with("Please log in."));
    // What another controller passed on was counted there; who only says so is counted here.
    let mark = hex::encode(sha2::Sha256::digest("passed on machine"));
    for (mark, status) in [(mark.as_str(), 200), ("1", 429)] {
        let request = Request::builder().uri("/v3/info").header("x-paas-passed-on", mark);
        let answer = platform.send(request.body(Body::empty()).expect("valid")).await;
        assert_eq!(answer.status.as_u16(), status, "{mark}");
    }
    // Who has a token goes on, and everyone still finds the way.
    platform.with_token(&token).get("/v3/apps").await.expect(200);
    platform.plain(Method::GET, "/").await.expect(200);
    platform.plain(Method::GET, "/healthz").await.expect(200);
    let _ = store;
}

async fn without_limits_nothing_is_said(store: &TestStore) {
    let platform = platform(store).await;
    let ann = platform.user("ann").await;
    let answer = ann.get("/v3/apps").await.expect(200);
    assert!(
        answer
            .headers
            .keys()
            .all(|name| !name.as_str().starts_with("x-ratelimit"))
    );
    let _ = store;
}
