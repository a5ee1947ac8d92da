//! Resources to test with: valid, small, each new.
#![allow(dead_code, reason = "each test binary uses some")]

use model::Timestamp;
use model::health::HealthCheck;
use model::id::*;
use model::limits::Limits;
use model::resource::*;
use model::work::*;
use model::{Digest, SecretEnv};
use store::testing::{TestStore, unique};
use store::{NewEvent, Placement, StoredUser, UserKind};
use uuid::Uuid;

pub fn now() -> Timestamp {
    Timestamp::from_unix_timestamp(1_700_000_000).expect("valid")
}

pub fn later(seconds: i64) -> Timestamp {
    now() + std::time::Duration::from_secs(seconds.unsigned_abs())
}

pub fn id<T: From<Uuid>>() -> T {
    T::from(Uuid::from_u128(rand::random()))
}

pub fn digest(seed: u8) -> Digest {
    Digest::from_sha256([seed; 32])
}

pub fn user(name: &str) -> StoredUser {
    StoredUser {
        user: User {
            origin: User::HERE.to_owned(),
            id: id(),
            name: name.into(),
            admin: false,
            metadata: model::resource::Metadata::default(),
            created_at: now(),
        },
        kind: UserKind::User,
        password_hash: None,
    }
}

pub fn event(target: &str, kind: &str) -> NewEvent {
    NewEvent {
        id: id(),
        kind: kind.into(),
        actor: Actor {
            guid: "u".into(),
            kind: "user".into(),
            name: "admin".into(),
        },
        target: Target {
            guid: target.into(),
            kind: "app".into(),
            name: "shop".into(),
        },
        org: None,
        space: None,
        data: serde_json::json!({"n": 1}),
        created_at: now(),
    }
}

/// An organisation with a space.
pub struct Home {
    pub org: Org,
    pub space: Space,
}

pub async fn home(store: &TestStore) -> Home {
    let org = Org {
        id: id(),
        name: unique("org").parse().expect("valid"),
        suspended: false,
        metadata: Metadata::default(),
        created_at: now(),
        updated_at: now(),
    };
    let space = Space {
        id: id(),
        org: org.id,
        name: unique("space").parse().expect("valid"),
        metadata: Metadata::default(),
        created_at: now(),
        updated_at: now(),
    };
    let tx = store.begin().await.expect("begins");
    tx.org_create(&org).await.expect("created");
    tx.space_create(&space).await.expect("created");
    tx.commit().await.expect("commits");
    Home { org, space }
}

pub fn app(space: SpaceId, name: &str) -> App {
    let mut env = SecretEnv::default();
    env.set("TOKEN", "hunter2");
    App {
        id: id(),
        space,
        name: name.parse().expect("valid"),
        state: AppState::Stopped,
        lifecycle: model::resource::AppLifecycle::Buildpack,
        buildpacks: vec!["nodejs_buildpack".into()],
        stack: "host".parse().expect("valid"),
        env,
        droplet: None,
        metadata: Metadata::default(),
        created_at: now(),
        updated_at: now(),
    }
}

pub fn process(app: AppId) -> Process {
    Process {
        id: id(),
        app,
        process_type: "web".parse().expect("valid"),
        instances: 2,
        limits: Limits::APP,
        health: HealthCheck::default(),
        command: None,
        version: None,
        metadata: model::resource::Metadata::default(),
        created_at: now(),
        updated_at: now(),
    }
}

pub fn droplet(app: AppId) -> Droplet {
    Droplet {
        id: id(),
        app,
        package: None,
        build: None,
        digest: digest(9),
        layers: Vec::new(),
        processes: Vec::new(),
        buildpacks: Vec::new(),
        sidecars: vec![model::staging::SidecarTemplate {
            name: "agent".to_owned(),
            command: "./agent".to_owned(),
            process_types: vec!["web".to_owned()],
            memory_mb: Some(64),
        }],
        image: None,
        stack: "host".parse().expect("valid"),
        input_digest: Some(digest(3)),
        metadata: model::resource::Metadata::default(),
        created_at: now(),
    }
}

pub fn version(process: &Process, droplet: DropletId) -> ProcessVersion {
    ProcessVersion {
        id: id(),
        process: process.id,
        app: process.app,
        droplet,
        command: None,
        env: SecretEnv::default(),
        limits: process.limits,
        health: process.health.clone(),
        sidecars: Vec::new(),
        grace_seconds: 10,
        created_at: now(),
    }
}

pub fn package(app: AppId) -> Package {
    Package {
        id: id(),
        app,
        state: PackageState::AwaitingUpload,
        digest: None,
        size_bytes: 0,
        error: None,
        image: None,
        metadata: model::resource::Metadata::default(),
        created_at: now(),
        updated_at: now(),
    }
}

/// A started app with a web process that has a version.
pub struct Running {
    pub home: Home,
    pub app: App,
    pub process: Process,
    pub version: ProcessVersion,
    pub droplet: Droplet,
}

pub async fn running(store: &TestStore) -> Running {
    let home = home(store).await;
    let mut app = app(home.space.id, &unique("app"));
    app.state = AppState::Started;
    let mut process = process(app.id);
    let droplet = droplet(app.id);
    let version = version(&process, droplet.id);
    process.version = Some(version.id);
    app.droplet = Some(droplet.id);
    let tx = store.begin().await.expect("begins");
    tx.app_create(&app).await.expect("created");
    tx.process_create(&process).await.expect("created");
    tx.droplet_create(&droplet).await.expect("created");
    tx.version_create(&version).await.expect("created");
    tx.commit().await.expect("commits");
    Running {
        home,
        app,
        process,
        version,
        droplet,
    }
}

pub fn cell_info() -> CellInfo {
    CellInfo {
        id: id(),
        name: unique("cell"),
        zone: "z1".into(),
        tags: Vec::new(),
        stacks: vec!["host".parse().expect("valid")],
        memory_mb: 4096,
        disk_mb: 10_000,
        cpus: 2,
        max_work: 100,
        isolation: Vec::new(),
        version: "1".into(),
    }
}

pub async fn cell(store: &TestStore) -> CellInfo {
    let info = cell_info();
    let tx = store.begin().await.expect("begins");
    tx.cell_register(&info, now(), later(10)).await.expect("registers");
    tx.commit().await.expect("commits");
    info
}

pub fn placement(of: &Running, cell: CellId, index: u32) -> Placement {
    Placement {
        id: id(),
        cell,
        epoch: 1,
        spec: WorkSpec {
            owner: Owner {
                app: of.app.id,
                app_name: of.app.name.clone(),
                space: of.home.space.id,
                space_name: of.home.space.name.to_string(),
                org: of.home.org.id,
                org_name: of.home.org.name.to_string(),
            },
            limits: of.version.limits,
            stack: of.app.stack.clone(),
            env: of.app.env.clone(),
            kind: WorkKind::Instance(InstanceSpec {
                process: of.process.id,
                process_type: of.process.process_type.clone(),
                version: of.version.id,
                index,
                droplet: of.droplet.id,
                layers: Vec::new(),
                command: None,
                health: of.version.health.clone(),
                port: Some(8080),
                grace_seconds: 10,
                uris: Vec::new(),
                sidecars: Vec::new(),
                image: None,
            }),
        },
    }
}

pub fn observed(work: WorkId, state: WorkState) -> Observation {
    Observation {
        work,
        epoch: 1,
        routable: matches!(state, WorkState::Running),
        address: Some("10.180.0.5".parse().expect("valid")),
        state,
        since: later(5),
        phases: Vec::new(),
    }
}

pub fn exited(code: i32) -> WorkState {
    WorkState::Exited(Outcome {
        cause: Cause::Exited { code },
        at: later(9),
        build: None,
    })
}

pub async fn route(store: &TestStore, home: &Home, host: &str) -> Route {
    let domain = Domain {
        id: id(),
        name: format!("{}.example.com", unique("d")).parse().expect("valid"),
        org: None,
        internal: false,
        metadata: model::resource::Metadata::default(),
        created_at: now(),
        updated_at: now(),
    };
    let route = Route {
        id: id(),
        space: home.space.id,
        domain: domain.id,
        domain_name: domain.name.clone(),
        host: Some(host.parse().expect("valid")),
        path: String::new(),
        options: model::routing::RouteOptions::default(),
        metadata: Metadata::default(),
        created_at: now(),
        updated_at: now(),
    };
    let tx = store.begin().await.expect("begins");
    tx.domain_create(&domain).await.expect("created");
    tx.route_create(&route).await.expect("created");
    tx.commit().await.expect("commits");
    route
}

pub fn destination(route: RouteId, app: AppId) -> Destination {
    Destination {
        id: id(),
        route,
        app,
        process_type: "web".parse().expect("valid"),
        port: None,
        protocol: model::routing::Protocol::default(),
        created_at: now(),
    }
}
