//! Manifests that are read, and manifests that are refused with words that help.

use super::*;

fn problems(text: &str) -> Vec<String> {
    match parse(text) {
        Ok(manifest) => panic!("accepted: {manifest:?}"),
        Err(problems) => problems
            .0
            .iter()
            .map(|p| format!("{p}{}", p.hint.as_ref().map(|h| format!(" ({h})")).unwrap_or_default()))
            .collect(),
    }
}

#[test]
fn a_full_manifest_is_read() {
    let manifest = parse(
        "_defaults: &defaults\n  memory: 64M\n  env: {A: 1, B: true, C: x}\n\
         version: 1\napplications:\n- name: shop\n  <<: *defaults\n  path: ./app\n  buildpacks: [nodejs_buildpack]\n  \
         stack: host\n  instances: 2\n  disk_quota: 1G\n  command: node server.js\n  timeout: 30\n  \
         health-check-type: http\n  health-check-http-endpoint: /health\n  default-route: true\n  \
         log-rate-limit-per-second: 16K\n  metadata: {labels: {team: a}}\n  \
         routes:\n  - route: shop.example.com/cart\n  processes:\n  - type: worker\n    instances: 3\n    memory: 32M\n  \
         - type: web\n    memory: 128M\n",
    )
    .expect("valid");
    let app = &manifest.apps[0];
    assert_eq!(app.path.as_deref(), Some("./app"));
    assert_eq!(
        app.env
            .iter()
            .map(|(k, v)| (k.as_str(), v.expose()))
            .collect::<Vec<_>>(),
        [("A", "1"), ("B", "true"), ("C", "x")]
    );
    assert_eq!(app.routes.named[0].address, "shop.example.com/cart");
    assert!(app.routes.default);
    let [web, worker] = &app.processes[..] else {
        panic!("{:?}", app.processes)
    };
    assert_eq!(
        (web.memory_mb, web.instances, web.disk_mb),
        (Some(128), Some(2), Some(1024))
    );
    assert_eq!(web.command, Some(Some("node server.js".into())));
    assert_eq!(web.log_bytes_per_second, Some(Some(16384)));
    assert_eq!(web.health.kind, Some(HealthKind::Http));
    assert_eq!((worker.memory_mb, worker.instances), (Some(32), Some(3)));
}

#[test]
fn unknown_keys_are_named_with_what_was_meant() {
    assert_eq!(
        problems("applications:\n- name: a\n  memroy: 64M\n  disk_qouta: 1G\n  colour: red\n"),
        [
            "applications[0].memroy: unknown key (did you mean \"memory\"?)",
            "applications[0].disk_qouta: unknown key (did you mean \"disk-quota\"?)",
            "applications[0].colour: unknown key",
        ]
    );
    assert_eq!(
        problems("aplications: []\n"),
        [
            "aplications: unknown key (did you mean \"applications\"?)",
            "applications: is missing (list at least one app under it, each with a name)"
        ]
    );
}

#[test]
fn wrong_types_and_limits_are_all_found() {
    let found = problems(
        "applications:\n- name: a\n  instances: many\n  memory: lots\n  env: [a]\n  routes: x\n  buildpacks: [1]\n  \
         timeout: 9999\n  no-route: maybe\n  health-check-type: ping\n  processes:\n  - instances: 1\n",
    );
    assert_eq!(found.len(), 9, "{found:#?}");
    assert!(found.contains(&"applications[0].instances: has to be a whole number, not a text".to_owned()));
    assert!(found.contains(&"applications[0].timeout: has to be between 1 and 600".to_owned()));
    assert!(found.contains(&"applications[0].processes[0].type: is missing".to_owned()));
}

#[test]
fn what_is_not_done_yet_is_refused_by_name() {
    let found = problems("applications:\n- name: a\n  user: x\n");
    assert_eq!(
        found[0],
        "applications[0].user: is not supported (apps run as vcap: remove the key)"
    );
}

#[test]
fn sidecars_have_a_name_a_command_and_types() {
    let text = "applications:\n- name: a\n  sidecars:\n  - name: agent\n    process_types: [web, worker]\n    \
                command: ./agent\n    memory: 16M\n  - {name: two, process_types: [web], command: x}\n";
    let manifest = parse(text).expect("reads");
    let sidecars = &manifest.apps[0].sidecars;
    assert_eq!((sidecars[0].name.as_str(), sidecars[0].memory_mb), ("agent", Some(16)));
    assert_eq!(sidecars[0].process_types, ["web", "worker"]);
    assert_eq!((sidecars[1].command.as_str(), sidecars[1].memory_mb), ("x", None));
    let found = problems(
        "applications:\n- name: a\n  sidecars: [{name: b, memory: lots}, {name: b, process_types: web, command: x, y: 1}]\n",
    );
    for (place, what) in [
        ("[0].command", "is missing"),
        ("[0].process_types", "has to name at least one process type"),
        ("[0].memory", ""),
        ("[1].name", "there is another sidecar of this name"),
        ("[1].process_types", "has to be a list"),
        ("[1].y", "unknown key"),
    ] {
        let begin = format!("applications[0].sidecars{place}: {what}");
        assert!(
            found.iter().any(|problem| problem.starts_with(&begin)),
            "{begin}: {found:?}"
        );
    }
    assert!(parse("applications:\n- name: a\n  sidecars: []\n").is_ok());
}

#[test]
fn services_are_names_with_or_without_a_name_of_the_binding() {
    let manifest =
        parse("applications:\n- name: a\n  services: [db, {name: mail, binding_name: out}]\n").expect("reads");
    let services = &manifest.apps[0].services;
    assert_eq!((services[0].name.as_str(), &services[0].binding_name), ("db", &None));
    assert_eq!(services[1].binding_name.as_deref(), Some("out"));
    assert!(parse("applications:\n- name: a\n  services: []\n").is_ok());
    let found = problems("applications:\n- name: a\n  services: [{binding_name: x}, {name: y, parameters: {a: 1}}]\n");
    assert_eq!(found[0], "applications[0].services[0].name: is missing");
    assert!(
        found[1].starts_with("applications[0].services[1].parameters: is not supported"),
        "{found:?}"
    );
}

#[test]
fn broken_documents_are_refused() {
    assert!(problems("applications: [")[0].contains("not valid YAML"));
    assert!(problems("- a")[0].contains("has to be a map"));
    assert!(problems("applications: []")[0].contains("at least one app"));
    assert!(problems("applications:\n- name: a\n- name: a\n")[0].contains("another app named"));
    assert!(problems("applications:\n- path: x\n")[0].contains("name: is missing"));
    assert!(problems(&"#".repeat(MAX_BYTES + 1))[0].contains("larger"));
    let bomb = "a: &a [1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e]\n\
                g: [*e,*e,*e,*e,*e,*e,*e,*e]\n";
    assert!(!problems(bomb).is_empty());
}

#[test]
fn names_of_the_platform_are_kept_free() {
    for name in ["PORT", "VCAP_SERVICES", "vcap_x", "VMC_A", "", "A=B"] {
        assert!(check_env_name(name).is_err(), "{name}");
    }
    assert!(check_env_name("DATABASE_URL").is_ok());
    assert!(problems("applications:\n- name: a\n  env: {PORT: 1}\n")[0].contains("set by the platform"));
    assert!(!problems("applications:\n- name: a\n  env: {A: {b: hunter2}}\n")[0].contains("hunter2"));
}

#[test]
fn null_goes_back_to_the_default() {
    let manifest =
        parse("applications:\n- name: a\n  command: null\n  buildpack: default\n  memory: 1G\n").expect("valid");
    let app = &manifest.apps[0];
    assert_eq!(app.processes[0].command, Some(None));
    assert_eq!(app.buildpacks, Some(Vec::new()));
}

#[test]
fn health_checks_change_where_something_is_said() {
    let check = HealthCheck::default();
    let http = HealthChange {
        kind: Some(HealthKind::Http),
        start_timeout_seconds: Some(5),
        ..HealthChange::default()
    }
    .apply(&check);
    assert_eq!(http.probe, Probe::Http { endpoint: "/".into() });
    assert_eq!(
        (http.start_timeout_seconds, http.interval_seconds),
        (5, check.interval_seconds)
    );
    let other = HealthChange {
        endpoint: Some("/h".into()),
        ..HealthChange::default()
    };
    assert_eq!(other.apply(&http).probe, Probe::Http { endpoint: "/h".into() });
    assert_eq!(other.apply(&check).probe, Probe::Port);
}

#[test]
fn an_image_is_one_thing_and_source_another() {
    let manifest = parse("applications:\n- name: a\n  docker: {image: r/x, username: me}\n- name: b\n").expect("reads");
    assert_eq!((manifest.apps[0].docker, manifest.apps[1].docker), (true, false));
    assert!(
        parse("applications: [{name: a, lifecycle: docker}]")
            .expect("reads")
            .apps[0]
            .docker
    );
    for (text, part) in [
        (
            "docker: {image: x}, buildpacks: [y]",
            "Cannot specify both buildpack(s) and docker keys",
        ),
        ("docker: {username: x}", "docker.image: is missing"),
        ("docker: {image: x, password: y}", "password"),
        ("docker: {image: x}, path: .", "path"),
        ("docker: x", "docker"),
    ] {
        let found = problems(&format!("applications: [{{name: a, {text}}}]"));
        assert!(found.iter().any(|problem| problem.contains(part)), "{text}: {found:?}");
    }
}
