//! A droplet as an image: got from the platform, put on what it runs on, then written or pushed.
//!
//! All of it happens on this machine. The platform never learns of the registry that an image goes to, nor of the
//! credentials for it.

use super::Cx;
use super::push::layout;
use crate::errors::Error;
use image::layout::{Documents, Layout, blob_path};
use image::registry::{Client, Credentials, Sent};
use image::{Descriptor, Image, Reference};
use model::{Digest, Secret};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Stands for nothing below a droplet.
const SCRATCH: &str = "scratch";
/// Longest waits for a connection, for an answer, for the next bytes, and for one whole blob.
const CONNECT: Duration = Duration::from_secs(15);
const RESPOND: Duration = Duration::from_secs(60);
const WHOLE: Duration = Duration::from_secs(30 * 60);

/// What is asked for.
#[derive(Debug)]
pub struct Wanted {
    pub output: Option<PathBuf>,
    pub to: Option<String>,
    pub base: Option<String>,
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub insecure: Vec<String>,
    /// File with the authorities to trust.
    pub certificates: Option<PathBuf>,
    pub cwd: PathBuf,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Exported {
    /// Of the manifest.
    pub digest: Digest,
    pub layers: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,
    /// Where it was pushed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pushed: Option<String>,
    /// Layers that the registry did not have.
    pub sent: usize,
}

/// Exports the droplet of the app `name`.
///
/// # Errors
/// Where there is none, its base can't be had, or the result can't be written or pushed.
pub async fn run(cx: &Cx, name: &str, wanted: Wanted) -> Result<Exported, Error> {
    let target = cx.target().await?;
    let app = target.app(name).await?;
    let droplet = target.client.current_droplet(&app.guid).await?;
    let droplet = droplet.ok_or_else(|| Error::usage(format!("{name} has no droplet: push it first")))?;
    if droplet.image.is_none() && wanted.base.is_none() {
        return Err(Error::Usage {
            message: format!("the droplet of {name} runs on a stack, and an image has none"),
            hint: Some("name an image with a like system below it: --base debian:12-slim".into()),
        });
    }
    let phase = cx.ui.phase("export", "getting the droplet");
    let folder = tempfile::tempdir().map_err(|error| Error::file("create", "a folder", &error))?;
    let archive = folder.path().join("droplet.tar");
    target.client.droplet_image(&droplet.guid, &archive).await?;
    phase.status("making the image");
    let made = tokio::task::spawn_blocking(move || make(&archive, &wanted));
    let exported = made
        .await
        .unwrap_or_else(|error| Err(Error::usage(error.to_string())))?;
    phase.done(&exported.digest.to_string());
    Ok(exported)
}

fn make(archive: &Path, wanted: &Wanted) -> Result<Exported, Error> {
    let folder = tempfile::tempdir().map_err(|error| Error::file("create", "a folder", &error))?;
    layout::unpack(archive, folder.path()).map_err(|error| Error::file("read", "the droplet", &error))?;
    let (layout, image) = Layout::open_only(folder.path()).map_err(told)?;
    let mut whole = Whole::of(&layout, image)?;
    let base = match wanted.base.as_deref() {
        None | Some(SCRATCH) => None,
        Some(base) => Some(Base::open(base, wanted)?),
    };
    if let Some(base) = &base {
        whole.put_on(base)?;
    }
    let documents = whole.documents(wanted)?;
    if let Some(output) = &wanted.output {
        write(output, &documents, &whole).map_err(|error| Error::file("write", output, &error))?;
    }
    let mut exported = Exported {
        digest: documents.manifest.0.digest.clone(),
        layers: whole.blobs.len(),
        output: wanted.output.clone(),
        pushed: None,
        sent: 0,
    };
    if let Some(to) = &wanted.to {
        let reference: Reference = to.parse().map_err(told)?;
        let client = client(&reference, wanted)?;
        for (blob, file) in &whole.blobs {
            let sent = client.push_blob(&reference, blob, file).map_err(told)?;
            exported.sent += usize::from(sent == Sent::New);
        }
        client.push_documents(&reference, &documents).map_err(told)?;
        exported.pushed = Some(reference.to_string());
    }
    Ok(exported)
}

/// An image as it is to be: its configuration, and the files of its layers, the lowest first.
struct Whole {
    image: Image,
    blobs: Vec<(Descriptor, PathBuf)>,
}

impl Whole {
    fn of(layout: &Layout, image: Image) -> Result<Self, Error> {
        let files = image.layers.iter().map(|layer| {
            let file = layout.layer_file(layer).map_err(told)?;
            // What lies in a file of its own has no digest yet.
            let read = fs::File::open(&file).and_then(image::digest_of);
            let (digest, size) = read.map_err(|error| Error::file("read", &file, &error))?;
            let media_type = if layer.blob.digest == digest {
                layer.blob.media_type.as_str()
            } else {
                image::document::LAYER
            };
            Ok((Descriptor::new(media_type, digest, size), file))
        });
        let blobs = files.collect::<Result<Vec<_>, Error>>()?;
        Ok(Self { image, blobs })
    }

    /// Puts it on another image: that one's layers below, its variables where there are no others.
    fn put_on(&mut self, base: &Base) -> Result<(), Error> {
        let under = &base.whole;
        let (own, other) = (&mut self.image.config, &under.image.config);
        if own.architecture != other.architecture {
            return Err(Error::usage(format!(
                "the base is for {}, and the droplet for {}",
                other.architecture, own.architecture
            )));
        }
        let named = |pair: &String| pair.split('=').next().unwrap_or_default().to_owned();
        let known: BTreeSet<String> = own.config.env.iter().map(named).collect();
        let kept = other.config.env.iter().filter(|pair| !known.contains(&named(pair)));
        let mut env: Vec<String> = kept.cloned().collect();
        env.append(&mut own.config.env);
        own.config.env = env;
        let mut ids = other.rootfs.diff_ids.clone();
        ids.append(&mut own.rootfs.diff_ids);
        own.rootfs.diff_ids = ids;
        let mut blobs = under.blobs.clone();
        blobs.append(&mut self.blobs);
        self.blobs = blobs;
        Ok(())
    }

    fn documents(&self, wanted: &Wanted) -> Result<Documents, Error> {
        let descriptors: Vec<Descriptor> = self.blobs.iter().map(|(blob, _)| blob.clone()).collect();
        let tag = wanted.to.as_deref().and_then(|to| to.parse::<Reference>().ok()?.tag);
        Documents::of(&self.image.config, &descriptors, tag.as_deref()).map_err(told)
    }
}

/// What is below a droplet, with what keeps its files.
struct Base {
    whole: Whole,
    _folder: Option<tempfile::TempDir>,
}

impl Base {
    fn open(text: &str, wanted: &Wanted) -> Result<Self, Error> {
        let path = wanted.cwd.join(text);
        if path.exists() {
            let (dir, folder) = layout::open(&path)?;
            let (layout, image) = Layout::open_only(&dir.unwrap_or(path)).map_err(told)?;
            return Ok(Self {
                whole: Whole::of(&layout, image)?,
                _folder: folder,
            });
        }
        let reference: Reference = text.parse().map_err(told)?;
        let client = client(&reference, wanted)?;
        let image = client.image(&reference).map_err(told)?;
        let folder = tempfile::tempdir().map_err(|error| Error::file("create", "a folder", &error))?;
        let mut blobs = Vec::new();
        for (at, layer) in image.layers.iter().enumerate() {
            let file = folder.path().join(at.to_string());
            let mut from = client.layer(&reference, layer).map_err(told)?;
            let saved = fs::File::create(&file).and_then(|mut to| io::copy(&mut from, &mut to));
            saved.map_err(|error| Error::file("save", &file, &error))?;
            blobs.push((layer.blob.clone(), file));
        }
        Ok(Self {
            whole: Whole { image, blobs },
            _folder: Some(folder),
        })
    }
}

/// A client for the registry of `reference`.
fn client(reference: &Reference, wanted: &Wanted) -> Result<Client, Error> {
    let credentials = match (&wanted.username, &wanted.password) {
        (Some(username), Some(password)) => Some(Credentials {
            username: username.clone(),
            password: password.clone(),
        }),
        (Some(_), None) => {
            return Err(Error::Usage {
                message: "there is a name at the registry and no password".into(),
                hint: Some("set PAAS_REGISTRY_PASSWORD".into()),
            });
        }
        (None, _) => None,
    };
    let agent = agent(wanted.certificates.as_deref())?;
    Ok(Client::new(agent, reference.address(), credentials, &wanted.insecure))
}

fn agent(certificates: Option<&Path>) -> Result<Agent, Error> {
    let roots = match certificates {
        None => RootCerts::WebPki,
        Some(path) => {
            let pem = fs::read(path).map_err(|error| Error::file("read", path, &error))?;
            let all = parse_pem(&pem).filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            });
            let all: Vec<Certificate<'static>> = all.collect();
            RootCerts::Specific(Arc::new(all))
        }
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = TlsConfig::builder()
        .root_certs(roots)
        .unversioned_rustls_crypto_provider(provider)
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .user_agent(concat!("paas/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(RESPOND))
        .timeout_per_read(Some(RESPOND))
        .timeout_global(Some(WHOLE));
    Ok(config.build().into())
}

/// Writes the image as a folder, or as an archive where the name says so.
fn write(output: &Path, documents: &Documents, whole: &Whole) -> io::Result<()> {
    if output.extension().is_some_and(|end| end == "tar") {
        return write_archive(output, documents, whole);
    }
    fs::create_dir(output)?;
    fs::create_dir_all(output.join("blobs/sha256"))?;
    for (name, text) in documents.files() {
        fs::write(output.join(name), text)?;
    }
    for (blob, file) in &whole.blobs {
        fs::copy(file, output.join(blob_path(&blob.digest)))?;
    }
    Ok(())
}

fn write_archive(output: &Path, documents: &Documents, whole: &Whole) -> io::Result<()> {
    let file = fs::File::options().write(true).create_new(true).open(output)?;
    let mut builder = tar::Builder::new(io::BufWriter::new(file));
    for (name, text) in documents.files() {
        builder.append_data(&mut header(text.len() as u64), name, text)?;
    }
    let mut written = BTreeSet::new();
    for (blob, file) in &whole.blobs {
        if written.insert(&blob.digest) {
            let name = blob_path(&blob.digest);
            builder.append_data(&mut header(blob.size), name, fs::File::open(file)?)?;
        }
    }
    io::Write::flush(&mut builder.into_inner()?)
}

/// The same for every entry, so that the same image is the same bytes.
fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header
}

/// An error of images in the terms of this program.
fn told(error: image::Error) -> Error {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    let hint = match &error {
        image::Error::Unauthorized { given: false, .. } => Some("give --username and PAAS_REGISTRY_PASSWORD".into()),
        image::Error::NotFound { .. } => Some("see whether repository and tag are spelt right".into()),
        _ => None,
    };
    Error::Usage { message: text, hint }
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;
