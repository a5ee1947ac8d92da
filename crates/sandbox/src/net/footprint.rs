//! What networks changed on the host outside of what is theirs: one record per network, written before the change, so
//! that it can be undone although whoever changed it was killed. The records lie where a restart of the host removes
//! them together with what they describe. Also finds networks that were abandoned, and removes them.

use std::{
    fs, io,
    os::{linux::fs::MetadataExt, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    cidr::Cidr,
    error::{Error, Result},
    host, link, lock,
    netlink::Socket,
    nft::Nft,
    rules::Scope,
};

/// One network's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Footprint {
    pub(super) name: String,
    pub(super) bridge: String,
    pub(super) uplink: String,
    pub(super) subnet: Cidr,
    /// Whether the uplink forwarded before any network needed it.
    pub(super) forwarded: bool,
}

/// The records of one network namespace of the host.
#[derive(Debug)]
pub(super) struct Footprints {
    folder: PathBuf,
    /// Tells records of other network namespaces apart.
    namespace: u64,
}

impl Footprints {
    /// Those of the calling thread's network namespace, in `folder`, which is made if missing.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(failed("create", folder))?;
        Self::of(folder)
    }

    /// The same, whether or not the folder is there.
    pub(super) fn of(folder: &Path) -> Result<Self> {
        let own = Path::new("/proc/thread-self/ns/net");
        let namespace = fs::metadata(own).map_err(failed("look at", own))?.st_ino();
        Ok(Self {
            folder: folder.into(),
            namespace,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{}-{name}.json", self.namespace))
    }

    /// Whether the network `name` has one.
    pub(super) fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// All records; what cannot be read is none.
    fn all(&self) -> Result<Vec<Footprint>> {
        let prefix = format!("{}-", self.namespace);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed("list", &self.folder))? {
            let entry = entry.map_err(failed("list", &self.folder))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with(&prefix) || !name.ends_with(".json") {
                continue;
            }
            // Another network may just have been removed.
            if let Ok(text) = fs::read(entry.path()) {
                found.extend(serde_json::from_slice::<Footprint>(&text).ok());
            }
        }
        Ok(found)
    }

    /// Switches forwarding on for the uplink, after noting how it was before.
    pub(super) fn forward(&self, scope: &Scope) -> Result<()> {
        let all = self.all()?;
        let same = all.iter().find(|record| record.uplink == scope.uplink);
        let forwarded = match same {
            Some(record) => record.forwarded,
            None => host::forwarding(&scope.uplink)?,
        };
        let record = Footprint {
            name: scope.name.clone(),
            bridge: scope.bridge.clone(),
            uplink: scope.uplink.clone(),
            subnet: scope.subnet,
            forwarded,
        };
        if let Some(before) = all.iter().find(|other| other.name == scope.name && **other != record) {
            // The same network on another uplink: the one it had is not needed any more.
            self.clear(&before.name)?;
        }
        let path = self.path(&scope.name);
        let fresh = path.with_extension("new");
        let text = serde_json::to_vec(&record).unwrap_or_default();
        fs::write(&fresh, text)
            .and_then(|()| fs::rename(&fresh, &path))
            .map_err(failed("write", &path))?;
        host::set_forwarding(&scope.uplink, true)
    }

    /// Undoes what the network `name` changed, unless another one needs it too.
    pub(super) fn clear(&self, name: &str) -> Result<()> {
        let all = self.all()?;
        let Some(own) = all.iter().find(|record| record.name == name) else {
            return Ok(());
        };
        let shared = all.iter().any(|other| other.name != name && other.uplink == own.uplink);
        if !shared && !own.forwarded {
            host::set_forwarding_if_there(&own.uplink, false)?;
        }
        let path = self.path(name);
        fs::remove_file(&path).map_err(failed("remove", &path))
    }

    /// Removes networks other than `own` that nobody has open and no sandbox is in: what is left of an agent that was
    /// killed and never came back. Returns their names.
    pub(super) fn clear_abandoned(&self, own: &str, socket: &mut Socket) -> Result<Vec<String>> {
        let mut gone = Vec::new();
        for record in self.all()?.into_iter().filter(|record| record.name != own) {
            let Some(_held) = lock::try_take(&record.name)? else {
                continue;
            };
            let scope = Scope::bare(&record.name, &record.bridge, &record.uplink, record.subnet);
            let ours = scope.interfaces();
            let used = link::interfaces(socket)?
                .iter()
                .any(|interface| interface.name.starts_with(&ours));
            if used {
                continue;
            }
            link::delete(socket, &record.bridge)?;
            Nft::find(&scope.table())?.apply("delete the rules of an abandoned network", &scope.removal())?;
            self.clear(&record.name)?;
            gone.push(record.name);
        }
        Ok(gone)
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File {
        operation,
        path,
        source,
    }
}
