//! Makes the trees of a piece of work available: stack, layers, package. Everything at once, each only once per cell.

use crate::account::Account;
use crate::cache::Tree;
use crate::core::Core;
use crate::error::{Error, blocking, chain};
use crate::layers::Spent;
use crate::unpack::Form;
use futures_util::future::{join_all, try_join_all};
use model::Digest;
use model::image::ImageConfig;
use model::staging::{ARCHIVES, BuildInput, BuildpackSource};
use model::work::{BuildSpec, WorkKind, WorkSpec};
use sandbox::Bind;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// What a sandbox is made of.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    /// Folders rooted at `/`, uppermost first.
    pub lowers: Vec<PathBuf>,
    /// Host folders shown inside.
    pub binds: Vec<Bind>,
    /// Whether the platform's certificates are among them.
    pub certificates: bool,
    /// Keeps the cached ones of `lowers`.
    pub trees: Vec<Tree>,
    /// Of a build: what the lifecycle is told, with the layers that could be restored.
    pub input: Option<BuildInput>,
    /// Who runs in it.
    pub account: Account,
    /// How long it took.
    pub spent: Spent,
}

/// Prepares `spec`.
pub(crate) async fn prepare(core: &Core, spec: &WorkSpec) -> Result<Prepared, Error> {
    if let Some(image) = spec.kind.image() {
        return whole(core, spec, image).await;
    }
    let (stacks, name) = (core.stacks.clone(), spec.stack.clone());
    let root = blocking(move || stacks.root(&name)).await?;
    let mut prepared = Prepared {
        binds: root.binds,
        certificates: root.certificates,
        ..Prepared::default()
    };
    match &spec.kind {
        WorkKind::Instance(instance) => droplet(core, &mut prepared, &instance.layers).await?,
        WorkKind::Task(task) => droplet(core, &mut prepared, &task.layers).await?,
        WorkKind::Build(build) => sources(core, &mut prepared, build).await?,
    }
    prepared.lowers.extend(root.lowers);
    Ok(prepared)
}

/// An image brings its whole root: nothing of a stack is below it, and nothing of the platform above.
async fn whole(core: &Core, spec: &WorkSpec, image: &ImageConfig) -> Result<Prepared, Error> {
    let mut prepared = Prepared::default();
    let layers = match &spec.kind {
        WorkKind::Instance(instance) => instance.layers.as_slice(),
        WorkKind::Task(task) => task.layers.as_slice(),
        WorkKind::Build(_) => &[],
    };
    droplet(core, &mut prepared, layers).await?;
    let (lowers, user) = (prepared.lowers.clone(), image.user.clone());
    prepared.account = blocking(move || Account::find(&lowers, &user)).await?;
    Ok(prepared)
}

/// Who the work of `spec` is, where its layers are here.
pub(crate) fn account(core: &Core, spec: &WorkSpec) -> Result<Account, Error> {
    let Some(image) = spec.kind.image() else {
        return Ok(Account::default());
    };
    let trees = hold(core, spec);
    let lowers: Vec<PathBuf> = trees.iter().map(|tree| tree.path().to_owned()).collect();
    Account::find(&lowers, &image.user)
}

async fn droplet(core: &Core, prepared: &mut Prepared, layers: &[model::staging::DropletLayer]) -> Result<(), Error> {
    for (tree, spent) in try_join_all(
        layers
            .iter()
            .map(|layer| core.layers.acquire(&layer.digest, Form::of(layer.kind))),
    )
    .await?
    {
        prepared.add(tree, spent);
    }
    Ok(())
}

async fn sources(core: &Core, prepared: &mut Prepared, build: &BuildSpec) -> Result<(), Error> {
    let mut input = build.input.clone();
    let restored = input.restored.iter_mut().filter(|layer| layer.contents).map(async |layer| {
        let acquired = core.layers.acquire(&layer.digest, Form::Droplet).await;
        if let Err(error) = &acquired {
            // A cache that can't be had makes a build slower, not impossible.
            tracing::warn!(layer.digest = %layer.digest, error = %chain(error), "a layer of the last build is not restored");
            layer.contents = false;
        }
        acquired.ok()
    });
    let package = async {
        match &build.package_digest {
            Some(digest) => core.packages.acquire(digest).await.map(Some),
            None => Ok(None),
        }
    };
    let (restored, package) = tokio::join!(join_all(restored), package);
    for (tree, spent) in restored.into_iter().flatten().chain(package?) {
        prepared.add(tree, spent);
    }
    for digest in archives(&input) {
        let tree = core.archives.acquire(digest).await?;
        prepared.binds.push(Bind {
            source: tree.path().to_owned(),
            target: PathBuf::from(ARCHIVES).join(digest.hex()),
            readonly: true,
        });
        prepared.trees.push(tree);
    }
    prepared.input = Some(input);
    Ok(())
}

/// Archives that a build is shown, each once.
fn archives(input: &BuildInput) -> BTreeSet<&Digest> {
    let sources = input.buildpacks.iter().filter_map(|mount| mount.source.as_ref());
    sources
        .filter_map(|source| match source {
            BuildpackSource::Archive { digest, .. } => Some(digest),
            _ => None,
        })
        .collect()
}

/// Takes hold of the trees that the sandbox of `spec` uses, for one that an earlier agent made.
pub(crate) fn hold(core: &Core, spec: &WorkSpec) -> Vec<Tree> {
    let layers = |layers: &[model::staging::DropletLayer]| -> Vec<Tree> {
        layers
            .iter()
            .filter_map(|layer| core.layers.hold(&layer.digest, Form::of(layer.kind)))
            .collect()
    };
    match &spec.kind {
        WorkKind::Instance(instance) => layers(&instance.layers),
        WorkKind::Task(task) => layers(&task.layers),
        WorkKind::Build(build) => {
            let restored = build.input.restored.iter().filter(|layer| layer.contents);
            let mut trees: Vec<Tree> = restored
                .filter_map(|layer| core.layers.hold(&layer.digest, Form::Droplet))
                .collect();
            let package = build.package_digest.as_ref();
            trees.extend(package.and_then(|digest| core.packages.hold(digest)));
            trees.extend(
                archives(&build.input)
                    .into_iter()
                    .filter_map(|digest| core.archives.hold(digest)),
            );
            trees
        }
    }
}

impl Prepared {
    fn add(&mut self, tree: Tree, spent: Spent) {
        self.lowers.push(tree.path().to_owned());
        self.trees.push(tree);
        self.spent += spent;
    }
}
