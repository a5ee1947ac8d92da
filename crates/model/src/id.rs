//! Typed ids, so that an app's id can't be passed where a space's is meant. On the wire each is a UUID.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }
    )+};
}

ids! {
    /// An organisation.
    OrgId,
    /// A space of an organisation.
    SpaceId,
    /// A user or a client.
    UserId,
    /// A role of a user in an organisation or a space.
    RoleId,
    /// An app.
    AppId,
    /// A process of an app: one per process type.
    ProcessId,
    /// An immutable version of a process: what its instances run.
    VersionId,
    /// Source that was uploaded.
    PackageId,
    /// A staging of a package.
    BuildId,
    /// What staging made.
    DropletId,
    /// A change from one version of an app's web process to the next.
    DeploymentId,
    /// A quota of organisations or of spaces.
    QuotaId,
    /// A recorded state of an app that can be rolled back to.
    RevisionId,
    /// A process that runs beside others of an app.
    SidecarId,
    /// A one-off run of a droplet.
    TaskId,
    /// A route.
    RouteId,
    /// A destination of a route.
    DestinationId,
    /// A domain.
    DomainId,
    /// A job that a client can ask after.
    JobId,
    /// An audit event.
    EventId,
    /// A service instance: credentials and the like under a name.
    ServiceInstanceId,
    /// What gives an app the credentials of a service instance.
    BindingId,
    /// An isolation segment.
    SegmentId,
    /// A security group.
    SecurityGroupId,
    /// A buildpack known to the platform.
    BuildpackId,
    /// A stack.
    StackId,
    /// A cell: a host that runs work.
    CellId,
    /// One placement of an instance, a task or a build.
    WorkId,
}
