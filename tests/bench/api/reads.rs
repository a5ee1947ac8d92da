//! The reads that are measured: those that the `cf` command line makes most, and two over everything.

use crate::seed::World;

/// A read, asked for another app each round.
pub struct Read {
    pub what: &'static str,
    pub path: fn(&World, usize) -> String,
    /// By an administrator instead of a developer of the space.
    pub admin: bool,
    /// Whether the list has to hold something.
    pub finds: bool,
}

const fn read(what: &'static str, path: fn(&World, usize) -> String) -> Read {
    Read {
        what,
        path,
        admin: false,
        finds: true,
    }
}

/// All of them.
pub fn all() -> Vec<Read> {
    let mut reads = of_one_app();
    reads.extend(of_a_space());
    reads.extend(of_everything());
    reads
}

fn of_one_app() -> Vec<Read> {
    vec![
        read("app by name", |w, n| {
            format!(
                "/v3/apps?names={}&space_guids={}&page=1&per_page=1",
                w.app(n).name,
                w.space
            )
        }),
        read("app", |w, n| format!("/v3/apps/{}", w.app(n).app)),
        read("its processes", |w, n| format!("/v3/apps/{}/processes", w.app(n).app)),
        read("a process", |w, n| format!("/v3/processes/{}", w.app(n).process)),
        read("its stats", |w, n| format!("/v3/processes/{}/stats", w.app(n).process)),
        Read {
            finds: false,
            ..read("its sidecars", |w, n| {
                format!("/v3/processes/{}/sidecars", w.app(n).process)
            })
        },
        read("its routes", |w, n| format!("/v3/apps/{}/routes", w.app(n).app)),
        read("its current droplet", |w, n| {
            format!("/v3/apps/{}/droplets/current", w.app(n).app)
        }),
        Read {
            finds: false,
            ..read("its active deployment", |w, n| {
                format!(
                    "/v3/deployments?app_guids={}&order_by=-created_at&page=1&per_page=1&status_values=ACTIVE",
                    w.app(n).app
                )
            })
        },
        read("its newest package", |w, n| {
            format!(
                "/v3/packages?app_guids={}&order_by=-created_at&page=1&per_page=1",
                w.app(n).app
            )
        }),
        read("its environment", |w, n| format!("/v3/apps/{}/env", w.app(n).app)),
        read("its events", |w, n| {
            format!(
                "/v3/audit_events?order_by=-created_at&page=1&target_guids={}",
                w.app(n).app
            )
        }),
        read("a route by address", |w, n| {
            format!(
                "/v3/routes?domain_guids={}&hosts={}&page=1&paths=&per_page=1",
                w.domain,
                w.app(n).name
            )
        }),
    ]
}

fn of_a_space() -> Vec<Read> {
    vec![
        read("organisations by name", |_, _| {
            "/v3/organizations?order_by=name".to_owned()
        }),
        read("spaces of one", |w, _| {
            format!("/v3/spaces?order_by=name&organization_guids={}", w.org)
        }),
        read("domains of one", |w, _| format!("/v3/organizations/{}/domains", w.org)),
        read("apps of a space", |w, _| {
            format!("/v3/apps?order_by=name&per_page=5000&space_guids={}", w.space)
        }),
        read("processes of a space, with instances", |w, _| {
            format!(
                "/v3/processes?embed=process_instances&per_page=5000&space_guids={}",
                w.space
            )
        }),
        read("routes of all its apps", |w, _| {
            let apps: Vec<&str> = w.mine.iter().map(|app| app.app.as_str()).collect();
            format!("/v3/routes?per_page=5000&app_guids={}", apps.join(","))
        }),
        read("its apps by label", |w, _| {
            format!(
                "/v3/apps?per_page=5000&space_guids={}&label_selector=tier%3Dweb",
                w.space
            )
        }),
    ]
}

fn of_everything() -> Vec<Read> {
    let all = |what, path| Read {
        admin: true,
        ..read(what, path)
    };
    vec![
        all("first 5,000 apps of all", |_, _| "/v3/apps?per_page=5000".to_owned()),
        all("all apps by label, first page", |_, _| {
            "/v3/apps?per_page=50&label_selector=tier%3Dweb".to_owned()
        }),
        all("routes of all, first 5,000", |_, _| {
            "/v3/routes?per_page=5000".to_owned()
        }),
    ]
}
