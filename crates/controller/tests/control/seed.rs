//! Desired state for tests, written as API actions would.

use crate::platform::now;
use model::canary::Canary;
use model::health::HealthCheck;
use model::id::*;
use model::limits::Limits;
use model::resource::*;
use model::routing::{Protocol, RouteOptions};
use model::staging::ProcessTemplate;
use model::{Digest, SecretEnv};
use store::Topic;
use store::testing::{TestStore, unique};
use uuid::Uuid;

pub fn id<T: From<Uuid>>() -> T {
    T::from(Uuid::now_v7())
}

/// An app with a web process, a route to it, and as many droplets as wanted.
pub struct Seed {
    pub app: App,
    pub process: Process,
    pub host: String,
}

pub async fn app(store: &TestStore, instances: u32) -> Seed {
    let at = now();
    let org = Org {
        id: id(),
        name: unique("org").parse().expect("valid"),
        suspended: false,
        metadata: Metadata::default(),
        created_at: at,
        updated_at: at,
    };
    let space = Space {
        id: id(),
        org: org.id,
        name: unique("space").parse().expect("valid"),
        metadata: Metadata::default(),
        created_at: at,
        updated_at: at,
    };
    let app = App {
        id: id(),
        space: space.id,
        name: unique("app").parse().expect("valid"),
        state: AppState::Stopped,
        lifecycle: model::resource::AppLifecycle::Buildpack,
        buildpacks: Vec::new(),
        stack: "host".parse().expect("valid"),
        env: SecretEnv::default(),
        droplet: None,
        metadata: Metadata::default(),
        created_at: at,
        updated_at: at,
    };
    let process = process(app.id, "web", instances);
    let domain = Domain {
        id: id(),
        name: format!("{}.localhost", unique("d")).parse().expect("valid"),
        org: None,
        internal: false,
        metadata: model::resource::Metadata::default(),
        created_at: at,
        updated_at: at,
    };
    let route = Route {
        id: id(),
        space: space.id,
        domain: domain.id,
        domain_name: domain.name.clone(),
        host: Some("shop".parse().expect("valid")),
        path: String::new(),
        options: RouteOptions::default(),
        metadata: Metadata::default(),
        created_at: at,
        updated_at: at,
    };
    let destination = destination(&route, app.id);
    let tx = store.begin().await.expect("begins");
    tx.org_create(&org).await.expect("created");
    tx.space_create(&space).await.expect("created");
    tx.app_create(&app).await.expect("created");
    tx.process_create(&process).await.expect("created");
    tx.domain_create(&domain).await.expect("created");
    tx.route_create(&route).await.expect("created");
    tx.destination_create(&destination).await.expect("created");
    tx.commit().await.expect("commits");
    Seed {
        app,
        process,
        host: route.url(),
    }
}

fn destination(route: &Route, app: AppId) -> Destination {
    Destination {
        id: id(),
        route: route.id,
        app,
        process_type: "web".parse().expect("valid"),
        port: None,
        protocol: Protocol::default(),
        created_at: route.created_at,
    }
}

pub fn process(app: AppId, process_type: &str, instances: u32) -> Process {
    Process {
        id: id(),
        app,
        process_type: process_type.parse().expect("valid"),
        instances,
        limits: Limits {
            memory_mb: 64,
            disk_mb: 64,
            ..Limits::APP
        },
        health: HealthCheck::default(),
        command: None,
        version: None,
        metadata: model::resource::Metadata::default(),
        created_at: now(),
        updated_at: now(),
    }
}

impl Seed {
    /// Deploys a version whose command tells the fake cell how it behaves: `good`, `crash`, `hang`.
    pub async fn deploy(&mut self, store: &TestStore, behaviour: &str) -> Deployment {
        self.deploy_with(store, behaviour, None).await
    }

    /// As [`Self::deploy`], by a canary.
    pub async fn deploy_with(&mut self, store: &TestStore, behaviour: &str, canary: Option<Canary>) -> Deployment {
        let at = now();
        let droplet = Droplet {
            id: id(),
            app: self.app.id,
            package: None,
            build: None,
            digest: Digest::from_sha256([9; 32]),
            layers: Vec::new(),
            processes: vec![ProcessTemplate {
                process_type: "web".to_owned(),
                command: behaviour.to_owned(),
                source: "Procfile".to_owned(),
                default: true,
                memory_mb: None,
            }],
            buildpacks: Vec::new(),
            sidecars: Vec::new(),
            image: None,
            stack: "host".parse().expect("valid"),
            input_digest: None,
            metadata: model::resource::Metadata::default(),
            created_at: at,
        };
        let version = ProcessVersion {
            id: id(),
            process: self.process.id,
            app: self.app.id,
            droplet: droplet.id,
            command: Some(behaviour.to_owned()),
            env: SecretEnv::default(),
            limits: self.process.limits,
            health: self.process.health.clone(),
            sidecars: Vec::new(),
            grace_seconds: 10,
            created_at: at,
        };
        let deployment = Deployment {
            id: id(),
            app: self.app.id,
            state: DeploymentState::Deploying,
            droplet: droplet.id,
            previous_droplet: self.app.droplet,
            process: self.process.id,
            version: version.id,
            previous_version: self.process.version,
            max_in_flight: 1,
            canary,
            revision: None,
            metadata: model::resource::Metadata::default(),
            error: None,
            created_by: id(),
            created_at: at,
            updated_at: at,
        };
        self.app.state = AppState::Started;
        self.app.droplet = Some(droplet.id);
        self.process.version = Some(version.id);
        let tx = store.begin().await.expect("begins");
        tx.droplet_create(&droplet).await.expect("created");
        tx.version_create(&version).await.expect("created");
        tx.app_update(&self.app).await.expect("updated");
        tx.process_set_version(self.process.id, Some(version.id))
            .await
            .expect("set");
        tx.deployment_create(&deployment).await.expect("created");
        tx.commit().await.expect("commits");
        deployment
    }

    pub async fn scale(&mut self, store: &TestStore, instances: u32) {
        self.process.instances = instances;
        let stored = store
            .process_fetch(self.process.id)
            .await
            .expect("read")
            .expect("there");
        let tx = store.begin().await.expect("begins");
        tx.process_update(&Process { instances, ..stored })
            .await
            .expect("updated");
        tx.commit().await.expect("commits");
    }

    pub async fn stop(&mut self, store: &TestStore) {
        self.app.state = AppState::Stopped;
        let tx = store.begin().await.expect("begins");
        tx.app_update(&self.app).await.expect("updated");
        tx.touch(Topic::Desired);
        tx.commit().await.expect("commits");
    }

    /// A package that is ready, and a build of it.
    pub async fn build(&self, store: &TestStore) -> Build {
        let at = now();
        let package = Package {
            id: id(),
            app: self.app.id,
            state: PackageState::AwaitingUpload,
            digest: None,
            size_bytes: 1,
            error: None,
            image: None,
            metadata: model::resource::Metadata::default(),
            created_at: at,
            updated_at: at,
        };
        let ready = Package {
            state: PackageState::Ready,
            digest: Some(Digest::from_sha256([7; 32])),
            ..package.clone()
        };
        let build = Build {
            id: id(),
            app: self.app.id,
            package: package.id,
            state: BuildState::Staging,
            error: None,
            droplet: None,
            lifecycle: model::resource::AppLifecycle::Buildpack,
            buildpacks: Vec::new(),
            stack: "host".parse().expect("valid"),
            limits: Limits::BUILD,
            input_digest: Some(Digest::from_sha256([3; 32])),
            created_by: id(),
            metadata: model::resource::Metadata::default(),
            created_at: at,
            updated_at: at,
        };
        let tx = store.begin().await.expect("begins");
        tx.package_create(&package).await.expect("created");
        tx.package_update(&ready, PackageState::AwaitingUpload)
            .await
            .expect("updated");
        tx.build_create(&build).await.expect("created");
        tx.commit().await.expect("commits");
        build
    }
}
