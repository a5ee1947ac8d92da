//! Pages, orders and filters of lists.

use super::*;
use crate::world::world;
use store::testing::TestStore;

store::on_both_engines!(pages_and_orders_that_make_no_sense_are_refused);

/// What a list can be narrowed by, as it says itself.
pub async fn parameters(client: &Client<'_>, path: &str) -> Vec<String> {
    let asked = client.get(&format!("{path}?no_such_parameter=1")).await;
    let Some((_, named)) = asked.detail().split_once("Valid parameters are: ") else {
        return Vec::new();
    };
    named
        .split(", ")
        .map(|name| name.trim_matches('\'').to_owned())
        .collect()
}

async fn pages_and_orders_that_make_no_sense_are_refused(store: &TestStore) {
    let mut wrong = Wrong::default();
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let world = world(&admin, "good").await;
    let mut lists = 0;
    for route in guarded().filter(|route| route.method == "GET") {
        let path = roles::path(route.path, &world);
        if admin.get(&path).await.body.get("pagination").is_none() {
            continue;
        }
        lists += 1;
        for query in [
            "page=0",
            "page=-1",
            "page=x",
            "page=99999999999",
            "per_page=0",
            "per_page=5001",
            "per_page=100000",
            "per_page=1.5",
            "order_by=x",
            "order_by=-",
            "order_by=name%3Bdrop",
            "created_ats[gt]=x",
            "created_ats=2020-01-01",
            "updated_ats[about]=2020-01-01T00:00:00Z",
            "label_selector=a%20in%20(",
            "no_such_parameter=1",
        ] {
            let answer = admin.get(&format!("{path}?{query}")).await;
            let case = format!("{}?{query}", route.path);
            wrong.unless_refused(&answer, &[400], &case);
            wrong.unless(answer.body["errors"][0]["code"] == 10005, || {
                format!("{case}: {:.400}", answer.text)
            });
        }
        wrong.unless_refused(&admin.get(&format!("{path}?guids=%00")).await, &[400], &path);
        // What is merely strange finds nothing.
        for name in parameters(&admin, &path).await {
            for value in ["%27--", "%FF", ",,,", "%25", &"x,".repeat(3000)] {
                let answer = admin.get(&format!("{path}?{name}={value}")).await;
                let status = answer.status.as_u16();
                wrong.unless([200, 400, 422].contains(&status), || {
                    format!("{path}?{name}={value:.20}: {status} {:.400}", answer.text)
                });
            }
        }
    }
    assert!(lists > 30, "{lists} lists");
    wrong.none();
    let _ = store;
}
