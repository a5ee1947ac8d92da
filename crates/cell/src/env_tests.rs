//! The environment against the list of what Cloud Foundry gives to apps, tasks and builds.

use super::*;
use crate::testing;
use model::work::WorkKind;

const ADDRESS: &str = "10.180.0.9";

fn instance_env(change: impl FnOnce(&mut WorkSpec, &mut InstanceSpec)) -> BTreeMap<String, String> {
    let mut spec = testing::instance_spec();
    let WorkKind::Instance(mut shape) = spec.kind.clone() else {
        panic!("an instance")
    };
    change(&mut spec, &mut shape);
    instance(testing::work(7), &spec, &shape, &Account::default(), Some(ADDRESS))
        .into_iter()
        .collect()
}

#[test]
fn an_app_gets_all_that_cloud_foundry_promises() {
    let env = instance_env(|spec, shape| {
        spec.limits.memory_mb = 256;
        shape.index = 2;
        shape.port = Some(8080);
    });
    let guid = testing::work(7).to_string();
    let address = format!("{ADDRESS}:8080");
    for (name, value) in [
        ("PORT", "8080"),
        ("VCAP_APP_PORT", "8080"),
        ("VCAP_APP_HOST", "0.0.0.0"),
        ("LANG", "en_US.UTF-8"),
        ("MEMORY_LIMIT", "256m"),
        ("HOME", "/home/vcap/app"),
        ("PWD", "/home/vcap/app"),
        ("TMPDIR", "/home/vcap/tmp"),
        ("DEPS_DIR", "/home/vcap/deps"),
        ("USER", "vcap"),
        ("PATH", PATH),
        ("VCAP_SERVICES", "{}"),
        ("INSTANCE_GUID", guid.as_str()),
        ("INSTANCE_INDEX", "2"),
        ("CF_INSTANCE_GUID", guid.as_str()),
        ("CF_INSTANCE_INDEX", "2"),
        ("CF_INSTANCE_IP", ADDRESS),
        ("CF_INSTANCE_INTERNAL_IP", ADDRESS),
        ("CF_INSTANCE_PORT", "8080"),
        ("CF_INSTANCE_ADDR", address.as_str()),
        ("CF_INSTANCE_PORTS", r#"[{"external":8080,"internal":8080}]"#),
    ] {
        assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
    }
}

#[test]
fn vcap_application_is_completed() {
    let env = instance_env(|spec, shape| {
        spec.env.set(
            "VCAP_APPLICATION",
            r#"{"application_name":"shop","limits":{"fds":16384}}"#,
        );
        shape.index = 1;
        shape.port = Some(9000);
    });
    let value: Value = serde_json::from_str(&env["VCAP_APPLICATION"]).expect("JSON");
    assert_eq!(
        value,
        json!({
            "application_name": "shop", "limits": {"fds": 16384, "mem": 256}, "host": "0.0.0.0", "port": 9000,
            "instance_id": testing::work(7).to_string(), "instance_index": 1,
        })
    );
}

#[test]
fn users_win_over_defaults_and_not_over_the_platform() {
    let env = instance_env(|spec, shape| {
        shape.port = Some(8080);
        for (name, value) in [
            ("PATH", "/mine"),
            ("LANG", "C"),
            ("PORT", "1"),
            ("HOME", "/"),
            ("CF_INSTANCE_IP", "1"),
        ] {
            spec.env.set(name, value);
        }
        spec.env.set("GREETING", "hello");
        spec.env.set("VCAP_APPLICATION", "not JSON");
    });
    assert_eq!((env["PATH"].as_str(), env["LANG"].as_str()), ("/mine", "C"));
    assert_eq!((env["PORT"].as_str(), env["HOME"].as_str()), ("8080", HOME));
    assert_eq!(env["CF_INSTANCE_IP"], ADDRESS);
    assert_eq!(
        (env["GREETING"].as_str(), env["VCAP_APPLICATION"].as_str()),
        ("hello", "not JSON")
    );
}

#[test]
fn a_process_without_a_port_has_none() {
    let env = instance_env(|_, shape| shape.port = None);
    assert!(!env.contains_key("PORT") && !env.contains_key("VCAP_APP_PORT"));
    assert_eq!(
        (env["CF_INSTANCE_PORT"].as_str(), env["CF_INSTANCE_PORTS"].as_str()),
        ("", "[]")
    );
}

#[test]
fn tasks_and_builds_are_reached_by_nobody() {
    let spec = testing::instance_spec();
    let platform = [("npm_config_registry".to_owned(), "https://mirror.example".to_owned())];
    for env in [
        task(testing::work(1), &spec, &Account::default(), None),
        build(testing::work(1), &spec, &platform, true, None),
    ] {
        let env: BTreeMap<_, _> = env.into_iter().collect();
        for (name, value) in [
            ("CF_INSTANCE_ADDR", ""),
            ("CF_INSTANCE_PORT", ""),
            ("CF_INSTANCE_PORTS", "[]"),
        ] {
            assert_eq!(env[name], value, "{name}");
        }
        assert!(!env.contains_key("PORT") && !env.contains_key("CF_INSTANCE_IP"));
    }
}

#[test]
fn builds_get_certificates_mirrors_and_the_stack() {
    let mut spec = testing::instance_spec();
    spec.env.set("npm_config_registry", "https://own.example");
    let platform = [
        ("npm_config_registry".to_owned(), "https://mirror.example".to_owned()),
        ("UV_DEFAULT_INDEX".to_owned(), "https://index.example".to_owned()),
    ];
    let env: BTreeMap<_, _> = build(testing::work(1), &spec, &platform, true, None)
        .into_iter()
        .collect();
    for name in CA_VARIABLES {
        assert_eq!(env[name], CA_BUNDLE, "{name}");
    }
    assert_eq!(
        env["npm_config_registry"], "https://own.example",
        "the user knows better"
    );
    assert_eq!(env["UV_DEFAULT_INDEX"], "https://index.example");
    assert_eq!(
        (env["CF_STACK"].as_str(), env["HOME"].as_str()),
        (spec.stack.as_str(), BUILD_HOME)
    );
}

#[test]
fn what_no_process_can_be_given_is_left_out() {
    let env = instance_env(|spec, _| {
        spec.env.set("A=B", "1");
        spec.env.set("", "1");
        spec.env.set("NUL", "a\0b");
        spec.env.set("BIG", "x".repeat(MAX_VARIABLE_BYTES));
        spec.env.set("FINE", "x".repeat(100_000));
    });
    assert!(["A=B", "", "NUL", "BIG"].iter().all(|name| !env.contains_key(*name)));
    assert!(env.contains_key("FINE"));
}

#[test]
fn a_session_has_what_the_person_brings_and_a_terminal_has_a_type() {
    let has = |env: &[(String, String)]| env.iter().any(|(name, _)| name == "TERM");
    assert!(has(&session(Vec::new(), &[], true)) && !has(&session(Vec::new(), &[], false)));
    let brought = [("TERM", "vt100"), ("A", "2"), ("B=", "3")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let env = session(vec![("A".to_owned(), "1".to_owned())], &brought, true);
    let expected = [("A", "2"), ("TERM", "vt100")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(env, expected);
}

#[test]
fn an_image_has_its_own_variables_below_the_users_and_none_of_the_folders_of_apps() {
    let mut spec = testing::instance_spec();
    spec.env.set("MINE", "user");
    let WorkKind::Instance(shape) = &mut spec.kind else {
        panic!("an instance")
    };
    let mut image = model::image::ImageConfig::default();
    for (name, value) in [("PATH", "/opt/bin"), ("MINE", "image"), ("OWN", "1"), ("PORT", "1")] {
        image.env.set(name, value);
    }
    shape.image = Some(image);
    let shape = shape.clone();
    let account = Account {
        uid: 5,
        gid: 5,
        name: "app".to_owned(),
        home: "/srv".to_owned(),
    };
    let env: std::collections::BTreeMap<String, String> =
        instance(testing::work(7), &spec, &shape, &account, Some(ADDRESS))
            .into_iter()
            .collect();
    for (name, value) in [
        ("PATH", "/opt/bin"),
        ("MINE", "user"),
        ("OWN", "1"),
        ("PORT", "8080"),
        ("HOME", "/srv"),
        ("USER", "app"),
        ("MEMORY_LIMIT", "256m"),
    ] {
        assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!env.contains_key("TMPDIR") && !env.contains_key("DEPS_DIR") && !env.contains_key("LANG"));
}
