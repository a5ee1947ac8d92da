//! Takes over what a build left in its sandbox. All of it is hostile: every name, size and digest is checked.
//!
//! Doing it again gives the same result: layers are addressed by digest, and what is stored already stays.

use crate::core::Core;
use crate::error::{Error, blocking, kernel};
use crate::unpack::Form;
use futures_util::future::join_all;
use model::Digest;
use model::id::WorkId;
use model::staging::{BuildFailure, BuildResult, DropletLayer, FailureClass, LayerKind};
use model::work::{BuildSpec, Cause};
use sandbox::Sandbox;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Folder in which the lifecycle leaves its results.
const OUT: &str = "/paas/out";

/// Reads the result of a build and takes over its new layers.
pub(crate) async fn collect(
    core: &Core,
    work: WorkId,
    build: &BuildSpec,
    sandbox: &Arc<Sandbox>,
) -> Result<BuildResult, Error> {
    let limit = core.config.limits.result_bytes;
    let reader = Arc::clone(sandbox);
    let text = blocking(move || {
        let path = format!("{OUT}/result.json");
        reader
            .upper_file(&path, limit)
            .map_err(kernel(format!("read the result of build {work}")))
    })
    .await?;
    let text = text.ok_or_else(|| refuse("it left no result.json"))?;
    let mut result: BuildResult =
        serde_json::from_slice(&text).map_err(|error| refuse(&format!("result.json can't be read: {error}")))?;
    if result.error.is_some() {
        result.layers.clear();
        result.cache.clear();
        result.cache_files.clear();
        return Ok(result);
    }
    check(&result, build, core.config.limits.result_layers)?;
    let mut sizes: HashMap<Digest, u64> = build
        .input
        .restored
        .iter()
        .map(|layer| (layer.digest.clone(), layer.size_bytes))
        .collect();
    let written = result.layers.iter().chain(&result.cache_files);
    let files: Vec<(Digest, Form, String)> = written
        .filter_map(|layer| Some((layer.digest.clone(), Form::of(layer.kind), layer.file.clone()?)))
        .collect();
    // At once, as far as there are turns; all of them end before a failure is told, so that none goes on unseen.
    let adopted = files.into_iter().map(async |(digest, form, name)| {
        let size = adopt(core, work, sandbox, (&digest, form), name).await?;
        Ok::<_, Error>((digest, size))
    });
    for adopted in join_all(adopted).await {
        let (digest, size) = adopted?;
        sizes.insert(digest, size);
    }
    let size = |digest: &Digest| sizes.get(digest).copied();
    for layer in result.layers.iter_mut().chain(&mut result.cache_files) {
        layer.size_bytes = size(&layer.digest).unwrap_or(layer.size_bytes);
        layer.file = None;
    }
    for layer in &mut result.cache {
        layer.size_bytes = size(&layer.digest).unwrap_or(layer.size_bytes);
    }
    Ok(result)
}

async fn adopt(
    core: &Core,
    work: WorkId,
    sandbox: &Arc<Sandbox>,
    (digest, form): (&Digest, Form),
    name: String,
) -> Result<u64, Error> {
    let sandbox = Arc::clone(sandbox);
    let file = blocking(move || {
        let path = format!("{OUT}/{name}");
        sandbox
            .open_upper(&path)
            .map_err(kernel(format!("open {name} of build {work}")))
    })
    .await?;
    core.layers
        .adopt(digest, form, file, core.config.limits.layer_compressed_bytes)
        .await
}

/// Refuses results that name what the build does not have: a layer that it neither wrote nor was given could be
/// another tenant's.
fn check(result: &BuildResult, build: &BuildSpec, most: usize) -> Result<(), Error> {
    if result.layers.len() + result.cache_files.len() + result.cache.len() > most {
        return Err(refuse(&format!("it has more than {most} layers")));
    }
    if result.layers.is_empty() {
        return Err(refuse("it has no layers and no error"));
    }
    let image = |layer: &DropletLayer| layer.kind == LayerKind::Image;
    if result.image.is_some() != build.input.image.is_some()
        || result.layers.iter().any(image) != result.image.is_some()
    {
        return Err(refuse("it is an image where none is built, or none where one is"));
    }
    let given: BTreeSet<&Digest> = build.input.restored.iter().map(|layer| &layer.digest).collect();
    let mut own = BTreeSet::new();
    for layer in result.layers.iter().chain(&result.cache_files) {
        match &layer.file {
            Some(name) if !is_output(name) => {
                return Err(refuse(&format!("{name:?} is not the name of a layer's file")));
            }
            Some(_) => {}
            None if given.contains(&layer.digest) => {}
            None => return Err(unknown(layer)),
        }
        own.insert(&layer.digest);
    }
    match result
        .cache
        .iter()
        .find(|layer| !own.contains(&layer.digest) && !given.contains(&layer.digest))
    {
        Some(layer) => Err(refuse(&format!(
            "it caches {}, which it neither wrote nor was given",
            layer.digest
        ))),
        None => Ok(()),
    }
}

fn unknown(layer: &DropletLayer) -> Error {
    refuse(&format!("it names layer {} without writing it", layer.digest))
}

fn refuse(reason: &str) -> Error {
    Error::Result {
        reason: reason.chars().take(500).collect(),
    }
}

/// Whether `name` is `<digits>.tar.zst`.
fn is_output(name: &str) -> bool {
    name.strip_suffix(".tar.zst").is_some_and(|number| {
        !number.is_empty() && number.len() <= 6 && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// What is wrong with a layer, where that is why nothing came of the build.
fn refused(reason: Option<&Error>) -> Option<String> {
    reason
        .filter(|error| matches!(error, Error::Unpack(_)))
        .map(|error| crate::error::chain(error))
}

/// Result of a build that did not get as far as to write one, for the person who pushed.
pub(crate) fn failed(cause: &Cause, reason: Option<&Error>) -> BuildResult {
    const MIB: u64 = 1 << 20;
    let (class, title, why, remedy) = match cause {
        Cause::OutOfMemory {
            limit_bytes,
            peak_bytes,
        } => (
            FailureClass::StagingOutOfMemory,
            "The build ran out of memory".to_owned(),
            format!(
                "It used {} MiB of the {} MiB that builds get",
                peak_bytes / MIB,
                limit_bytes / MIB
            ),
            "Give builds more memory (`paas push --staging-memory 2G`, staging_memory_in_mb), or build less: leave out \
             development dependencies"
                .to_owned(),
        ),
        Cause::TimedOut { seconds } => (
            FailureClass::StagingTimeExpired,
            "The build took too long".to_owned(),
            format!("It was ended after {seconds} s, the time that builds get"),
            "Look at the last lines of the log for what it was waiting for".to_owned(),
        ),
        Cause::Stopped { .. } => (
            FailureClass::StagingError,
            "The build was cancelled".to_owned(),
            "Somebody or something else ended it".to_owned(),
            "Push again".to_owned(),
        ),
        Cause::NotStarted { detail, .. } => (
            FailureClass::StagingError,
            "The build could not be started".to_owned(),
            detail.clone(),
            "Push again; if it stays like this, tell the operator".to_owned(),
        ),
        _ if refused(reason).is_some() => (
            FailureClass::StagingError,
            "A layer was refused".to_owned(),
            refused(reason).unwrap_or_default(),
            "Build without what it names".to_owned(),
        ),
        cause => (
            FailureClass::StagingError,
            "The build ended without a result".to_owned(),
            reason.map_or_else(
                || cause.to_string(),
                |error| format!("{cause}: {}", crate::error::chain(error)),
            ),
            "Look at the last lines of the log".to_owned(),
        ),
    };
    BuildResult {
        error: Some(BuildFailure {
            class,
            title,
            cause: why,
            remedy,
        }),
        ..BuildResult::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::id::{BuildId, PackageId};
    use model::staging::{BuildInput, CachedLayer, LayerTypes};
    use std::collections::BTreeMap;
    use uuid::Uuid;

    fn digest(n: u8) -> Digest {
        Digest::from_sha256([n; 32])
    }

    fn cached(n: u8) -> CachedLayer {
        CachedLayer {
            buildpack: "b".to_owned(),
            layer: "l".to_owned(),
            digest: digest(n),
            size_bytes: 1,
            types: LayerTypes::default(),
            metadata: serde_json::Value::Null,
            contents: true,
        }
    }

    fn layer(n: u8, file: Option<&str>) -> DropletLayer {
        DropletLayer {
            digest: digest(n),
            size_bytes: 1,
            kind: LayerKind::App,
            name: "app".to_owned(),
            file: file.map(str::to_owned),
        }
    }

    fn image(n: u8) -> DropletLayer {
        DropletLayer {
            kind: LayerKind::Image,
            ..layer(n, Some("1.tar.zst"))
        }
    }

    fn build() -> BuildSpec {
        BuildSpec {
            build: BuildId(Uuid::nil()),
            package: PackageId(Uuid::nil()),
            package_digest: Some(digest(0)),
            input: BuildInput {
                app_name: "shop".to_owned(),
                stack: "host".to_owned(),
                buildpacks: Vec::new(),
                detect: true,
                env: model::SecretEnv::default(),
                memory_mb: 1024,
                restored: vec![cached(1)],
                store: BTreeMap::new(),
                image: None,
            },
            timeout_seconds: 900,
        }
    }

    fn result(layers: Vec<DropletLayer>, cache: Vec<CachedLayer>) -> BuildResult {
        BuildResult {
            layers,
            cache,
            ..BuildResult::default()
        }
    }

    #[test]
    fn a_result_names_only_what_the_build_wrote_or_was_given() {
        let fine = result(
            vec![layer(1, None), layer(2, Some("1.tar.zst"))],
            vec![cached(1), cached(2)],
        );
        check(&fine, &build(), 10).expect("fine");
        for (what, odd) in [
            ("another's layer", result(vec![layer(9, None)], vec![])),
            (
                "another's layer in the cache",
                result(vec![layer(1, None)], vec![cached(9)]),
            ),
            ("a path", result(vec![layer(2, Some("../../etc/shadow"))], vec![])),
            ("another name", result(vec![layer(2, Some("result.json"))], vec![])),
            ("no number", result(vec![layer(2, Some(".tar.zst"))], vec![])),
            ("nothing", result(vec![], vec![])),
            ("too much", result(vec![layer(1, None); 11], vec![])),
            (
                "an image of its own making",
                BuildResult {
                    image: Some(model::image::ImageConfig::default()),
                    ..result(vec![image(2)], vec![])
                },
            ),
            ("an image's layer in a droplet", result(vec![image(2)], vec![])),
        ] {
            assert!(check(&odd, &build(), 10).is_err(), "{what}");
        }
    }

    #[test]
    fn builds_that_were_ended_say_why() {
        let class = |cause: &Cause| failed(cause, None).error.expect("an error");
        let oom = class(&Cause::OutOfMemory {
            limit_bytes: 64 << 20,
            peak_bytes: 64 << 20,
        });
        assert_eq!(
            (oom.class, oom.cause.contains("64 MiB")),
            (FailureClass::StagingOutOfMemory, true)
        );
        assert_eq!(
            class(&Cause::TimedOut { seconds: 9 }).class,
            FailureClass::StagingTimeExpired
        );
        let odd = refuse("it left no result.json");
        let ended = failed(&Cause::Exited { code: 7 }, Some(&odd)).error.expect("an error");
        assert_eq!(ended.class, FailureClass::StagingError);
        assert!(
            ended.cause.contains("status 7") && ended.cause.contains("no result.json"),
            "{}",
            ended.cause
        );
    }
}
