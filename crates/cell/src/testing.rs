//! Specs and ids for the unit tests of this crate. Not for production code, and not for other crates' tests.

use model::health::HealthCheck;
use model::id::{AppId, DropletId, OrgId, ProcessId, SpaceId, VersionId, WorkId};
use model::limits::Limits;
use model::secret::SecretEnv;
use model::work::{Assignment, InstanceSpec, Owner, Wanted, WorkKind, WorkSpec};
use uuid::Uuid;

/// The id of the `n`th piece of work.
pub fn work(n: u128) -> WorkId {
    WorkId(Uuid::from_u128(n))
}

/// An instance without layers on the stack `host`.
pub fn instance_spec() -> WorkSpec {
    WorkSpec {
        owner: Owner {
            app: AppId(Uuid::from_u128(1)),
            app_name: "shop".parse().expect("a name"),
            space: SpaceId(Uuid::from_u128(2)),
            space_name: "dev".to_owned(),
            org: OrgId(Uuid::from_u128(3)),
            org_name: "dev".to_owned(),
        },
        limits: Limits::APP,
        stack: "host".parse().expect("a name"),
        env: SecretEnv::default(),
        kind: WorkKind::Instance(InstanceSpec {
            process: ProcessId(Uuid::from_u128(4)),
            process_type: "web".parse().expect("a type"),
            version: VersionId(Uuid::from_u128(5)),
            index: 0,
            droplet: DropletId(Uuid::from_u128(6)),
            layers: Vec::new(),
            command: None,
            health: HealthCheck::default(),
            port: Some(8080),
            grace_seconds: 10,
            uris: Vec::new(),
            sidecars: Vec::new(),
            image: None,
        }),
    }
}

/// An assignment of an instance.
pub fn assignment(n: u128, epoch: u64, wanted: Wanted) -> Assignment {
    Assignment {
        work: work(n),
        epoch,
        wanted,
        spec: instance_spec(),
    }
}
