//! Fills a platform with apps as users leave them: staged, started, routed, with events; a hundred in each space.

use crate::client::Platform;
use model::id::{OrgId, SpaceId};
use model::limits::Limits;
use model::resource::{
    App, AppState, Destination, Droplet, Metadata, Org, Package, PackageState, Process, ProcessVersion, Role, RoleType,
    Route, Space,
};
use model::staging::ProcessTemplate;
use model::{Digest, SecretEnv, Timestamp};
use serde_json::json;
use store::{NewEvent, Tx};
use uuid::Uuid;

/// Apps of one space, and spaces of one organisation.
const APPS: usize = 100;
const SPACES: usize = 5;

/// What reads are made of.
pub struct World {
    pub org: String,
    pub space: String,
    pub domain: String,
    /// Token of a developer of that space.
    pub developer: String,
    /// The apps of that space.
    pub mine: Vec<Mine>,
}

/// An app that is asked for.
pub struct Mine {
    pub name: String,
    pub app: String,
    pub process: String,
}

impl World {
    /// Another one each round.
    pub fn app(&self, round: usize) -> &Mine {
        &self.mine[round * 7 % self.mine.len()]
    }
}

fn id<T: From<Uuid>>() -> T {
    T::from(Uuid::now_v7())
}

/// Makes `count` apps.
pub async fn fill(platform: &Platform, count: usize) -> World {
    let store = &platform.context.store;
    let domain = store.domain_default().await.expect("read").expect("there is one");
    let developer = platform.user("developer").await;
    let me = developer.get("/userinfo").await.body["user_id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let mut world = World {
        org: String::new(),
        space: String::new(),
        domain: domain.id.to_string(),
        developer: developer.token.clone(),
        mine: Vec::new(),
    };
    let now = platform.context.now();
    let mut org: OrgId = id();
    for number in 0..count.div_ceil(APPS) {
        let tx = store.begin().await.expect("begins");
        if number % SPACES == 0 {
            org = id();
            tx.org_create(&new_org(org, number, now)).await.expect("made");
        }
        let space: SpaceId = id();
        tx.space_create(&new_space(org, space, number, now))
            .await
            .expect("made");
        // In the middle, so that neither the first nor the last rows are the ones that are found.
        let mine = number == count.div_ceil(APPS) / 2;
        if mine {
            (world.org, world.space) = (org.to_string(), space.to_string());
            let user = me.parse().expect("an id");
            for (role, space) in [
                (RoleType::OrganizationUser, None),
                (RoleType::SpaceDeveloper, Some(space)),
            ] {
                let role = Role {
                    id: id(),
                    user,
                    role,
                    org,
                    space,
                    created_at: now,
                };
                tx.role_create(&role).await.expect("given");
            }
        }
        for n in 0..APPS.min(count - number * APPS) {
            let made = app(&tx, org, space, &domain, number * APPS + n, now).await;
            if mine {
                world.mine.push(made);
            }
        }
        tx.commit().await.expect("commits");
    }
    let tx = store.begin().await.expect("begins");
    tx.analyze().await.expect("analysed");
    tx.commit().await.expect("commits");
    world
}

fn new_org(id: OrgId, number: usize, now: Timestamp) -> Org {
    Org {
        id,
        name: format!("org-{number:05}").parse().expect("valid"),
        suspended: false,
        metadata: Metadata::default(),
        created_at: now,
        updated_at: now,
    }
}

fn new_space(org: OrgId, id: SpaceId, number: usize, now: Timestamp) -> Space {
    Space {
        id,
        org,
        name: format!("space-{number:05}").parse().expect("valid"),
        metadata: Metadata::default(),
        created_at: now,
        updated_at: now,
    }
}

fn new_app(space: SpaceId, number: usize, now: Timestamp) -> App {
    let mut env = SecretEnv::default();
    env.set("DATABASE_URL", "postgres://user:password@db.example.com/shop");
    let tier = if number.is_multiple_of(10) { "web" } else { "api" };
    App {
        id: id(),
        space,
        name: format!("app-{number:05}").parse().expect("valid"),
        state: AppState::Started,
        lifecycle: model::resource::AppLifecycle::Buildpack,
        buildpacks: vec!["nodejs_buildpack".to_owned()],
        stack: "host".parse().expect("valid"),
        env,
        droplet: None,
        metadata: Metadata {
            labels: [("tier".to_owned(), Some(tier.to_owned()))].into(),
            ..Metadata::default()
        },
        created_at: now,
        updated_at: now,
    }
}

fn new_droplet(app: &App, package: &Package, now: Timestamp) -> Droplet {
    let template = |process_type: &str| ProcessTemplate {
        process_type: process_type.to_owned(),
        command: "node server.js".to_owned(),
        source: "Procfile".to_owned(),
        default: process_type == "web",
        memory_mb: None,
    };
    Droplet {
        id: id(),
        app: app.id,
        package: Some(package.id),
        build: None,
        digest: Digest::from_sha256([7; 32]),
        layers: Vec::new(),
        processes: vec![template("web"), template("worker")],
        buildpacks: Vec::new(),
        sidecars: Vec::new(),
        image: None,
        stack: app.stack.clone(),
        input_digest: None,
        metadata: Metadata::default(),
        created_at: now,
    }
}

fn new_process(app: &App, process_type: &str, now: Timestamp) -> Process {
    Process {
        id: id(),
        app: app.id,
        process_type: process_type.parse().expect("valid"),
        instances: u32::from(process_type == "web") * 2,
        limits: Limits::APP,
        health: model::health::HealthCheck::default(),
        command: None,
        version: None,
        metadata: Metadata::default(),
        created_at: now,
        updated_at: now,
    }
}

async fn app(
    tx: &Tx,
    org: OrgId,
    space: SpaceId,
    domain: &model::resource::Domain,
    number: usize,
    now: Timestamp,
) -> Mine {
    let mut app = new_app(space, number, now);
    tx.app_create(&app).await.expect("made");
    let package = Package {
        id: id(),
        app: app.id,
        state: PackageState::AwaitingUpload,
        digest: None,
        size_bytes: 0,
        error: None,
        image: None,
        metadata: Metadata::default(),
        created_at: now,
        updated_at: now,
    };
    tx.package_create(&package).await.expect("made");
    let droplet = new_droplet(&app, &package, now);
    tx.droplet_create(&droplet).await.expect("made");
    app.droplet = Some(droplet.id);
    tx.app_update(&app).await.expect("updated");
    let web = new_process(&app, "web", now);
    for process in [&web, &new_process(&app, "worker", now)] {
        tx.process_create(process).await.expect("made");
        let version = ProcessVersion {
            id: id(),
            process: process.id,
            app: app.id,
            droplet: droplet.id,
            command: None,
            env: app.env.clone(),
            limits: process.limits,
            health: process.health.clone(),
            sidecars: Vec::new(),
            grace_seconds: 10,
            created_at: now,
        };
        tx.version_create(&version).await.expect("made");
        tx.process_set_version(process.id, Some(version.id)).await.expect("set");
    }
    route(tx, &app, domain, now).await;
    for kind in ["audit.app.create", "audit.app.droplet.mapped", "audit.app.start"] {
        tx.event(event(&app, org, kind, now));
    }
    Mine {
        name: app.name.to_string(),
        app: app.id.to_string(),
        process: web.id.to_string(),
    }
}

async fn route(tx: &Tx, app: &App, domain: &model::resource::Domain, now: Timestamp) {
    let route = Route {
        id: id(),
        space: app.space,
        domain: domain.id,
        domain_name: domain.name.clone(),
        host: Some(app.name.as_str().parse().expect("a host name")),
        path: String::new(),
        options: model::routing::RouteOptions::default(),
        metadata: Metadata::default(),
        created_at: now,
        updated_at: now,
    };
    tx.route_create(&route).await.expect("made");
    let destination = Destination {
        id: id(),
        route: route.id,
        app: app.id,
        process_type: "web".parse().expect("valid"),
        port: None,
        protocol: model::routing::Protocol::default(),
        created_at: now,
    };
    tx.destination_create(&destination).await.expect("made");
}

fn event(app: &App, org: OrgId, kind: &str, now: Timestamp) -> NewEvent {
    NewEvent {
        id: id(),
        kind: kind.to_owned(),
        actor: model::resource::Actor {
            guid: Uuid::nil().to_string(),
            kind: "user".to_owned(),
            name: "developer".to_owned(),
        },
        target: model::resource::Target {
            guid: app.id.to_string(),
            kind: "app".to_owned(),
            name: app.name.to_string(),
        },
        org: Some(org),
        space: Some(app.space),
        data: json!({}),
        created_at: now,
    }
}
