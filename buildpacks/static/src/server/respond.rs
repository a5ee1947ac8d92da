//! One request, one response.

use super::range::{self, Wanted};
use super::tags::{self, Tags};
use super::{listing, path, types};
use crate::settings::Settings;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use std::fs::{File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Read at once, and sent as one; larger files go in pieces of this size.
const PIECE: u64 = 128 * 1024;
/// Pieces read ahead of the client.
const AHEAD: usize = 2;
/// The normalised time of everything in a droplet, in seconds since 1970; later ones are real.
const DROPLET_TIME: u64 = 315_532_801;

type Body = BoxBody<Bytes, io::Error>;

/// The site and what is known of it.
#[derive(Debug)]
pub struct Site {
    settings: Settings,
    tags: Tags,
}

/// A file to answer with, open.
struct Opened {
    file: File,
    found: Metadata,
    path: PathBuf,
    /// Whether `file` is the compressed form of `path`.
    compressed: bool,
    tag: String,
}

/// What a request's path leads to.
enum Target {
    File(Box<Opened>),
    List(PathBuf),
    /// A folder, named without its slash.
    Slash,
    Missing,
}

impl Site {
    /// A site by its settings.
    pub fn new(mut settings: Settings) -> Self {
        // Links are compared with the true place of the root.
        settings.root = std::fs::canonicalize(&settings.root).unwrap_or(settings.root);
        Self {
            settings,
            tags: Tags::default(),
        }
    }

    /// Answers `request`; whatever fails is an answer too.
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let (head, _) = request.into_parts();
        let is_head = head.method == Method::HEAD;
        let mut response = if head.method != Method::GET && !is_head {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
            set(&mut response, header::ALLOW, "GET, HEAD");
            response
        } else if self.settings.force_https && value(&head.headers, "x-forwarded-proto") == Some("http") {
            redirect_to_https(&head)
        } else {
            let site = Arc::clone(&self);
            let uri = head.uri.clone();
            let headers = head.headers.clone();
            // Files are on disk: reading them must not hold up the other connections.
            let answered = tokio::task::spawn_blocking(move || site.find_and_respond(&uri, &headers, is_head)).await;
            answered.unwrap_or_else(|_| text(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n"))
        };
        if let Some(hsts) = &self.settings.hsts {
            set(&mut response, header::STRICT_TRANSPORT_SECURITY, hsts);
        }
        set(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        if is_head {
            *response.body_mut() = empty();
        }
        response
    }

    fn find_and_respond(&self, uri: &http::Uri, headers: &HeaderMap, is_head: bool) -> Response<Body> {
        let gzip = accepts_gzip(headers);
        match self.find(uri.path(), gzip) {
            Ok(Target::File(opened)) => respond(*opened, headers, StatusCode::OK, is_head),
            Ok(Target::List(folder)) => {
                let page = listing::page(&folder, uri.path(), self.settings.host_dot_files);
                with_type(StatusCode::OK, page.into(), "text/html; charset=utf-8")
            }
            Ok(Target::Slash) => {
                let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
                // One leading slash only: two would name another host.
                let location = format!("/{}/{query}", uri.path().trim_matches('/'));
                let mut response = text(StatusCode::MOVED_PERMANENTLY, "");
                set(&mut response, header::LOCATION, &location);
                response
            }
            Ok(Target::Missing) => self.failure(StatusCode::NOT_FOUND, headers, gzip, is_head),
            Err(_) => self.failure(StatusCode::INTERNAL_SERVER_ERROR, headers, gzip, is_head),
        }
    }

    fn find(&self, path: &str, gzip: bool) -> io::Result<Target> {
        let Some(relative) = path::relative(path, self.settings.host_dot_files) else {
            return Ok(Target::Missing);
        };
        if let Some(found) = path::inside(&self.settings.root, &relative) {
            if !found.is_dir() {
                // A file has no folder's name.
                let target = if path.ends_with('/') {
                    Target::Missing
                } else {
                    self.open(found, gzip)?
                };
                return Ok(target);
            }
            if !path.ends_with('/') {
                return Ok(Target::Slash);
            }
            for index in ["index.html", "index.htm"] {
                if let Some(file) = path::inside(&self.settings.root, &relative.join(index)) {
                    return self.open(file, gzip);
                }
            }
            if self.settings.directory {
                return Ok(Target::List(found));
            }
        }
        if self.settings.pushstate
            && let Some(index) = path::inside(&self.settings.root, Path::new("index.html"))
        {
            return self.open(index, gzip);
        }
        Ok(Target::Missing)
    }

    /// Opens `path`, or its compressed form where there is one and the client takes it.
    fn open(&self, path: PathBuf, gzip: bool) -> io::Result<Target> {
        let found = path.metadata()?;
        if !found.is_file() {
            return Ok(Target::Missing);
        }
        let tag = self.tags.of(&path, &found)?;
        if gzip && let Some(file) = self.compressed(&path) {
            let found = file.metadata()?;
            let tag = format!("{}-gz\"", tag.trim_end_matches('"'));
            return Ok(Target::File(Box::new(Opened {
                file,
                found,
                path,
                compressed: true,
                tag,
            })));
        }
        let file = File::open(&path)?;
        Ok(Target::File(Box::new(Opened {
            file,
            found,
            path,
            compressed: false,
            tag,
        })))
    }

    /// The compressed form beside the file, or the one made at build time.
    fn compressed(&self, path: &Path) -> Option<File> {
        if !types::is_compressible(types::of(path)) {
            return None;
        }
        let with_end = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(".gz");
            File::open(name)
                .ok()
                .filter(|file| file.metadata().is_ok_and(|found| found.is_file()))
        };
        let made = || {
            let below = path.strip_prefix(&self.settings.root).ok()?;
            with_end(&self.settings.compressed.as_ref()?.join(below))
        };
        with_end(path).or_else(made)
    }

    /// The site's own page for `status`, or a line of text.
    fn failure(&self, status: StatusCode, headers: &HeaderMap, gzip: bool, is_head: bool) -> Response<Body> {
        let named = self.settings.status_pages.get(&status.as_u16()).cloned();
        let page = named.unwrap_or_else(|| format!("{}.html", status.as_u16()));
        let found = path::inside(&self.settings.root, Path::new(&page)).and_then(|file| self.open(file, gzip).ok());
        match found {
            Some(Target::File(opened)) => respond(*opened, headers, status, is_head),
            _ => text(
                status,
                &format!(
                    "{}\n",
                    status.canonical_reason().unwrap_or("failed").to_ascii_lowercase()
                ),
            ),
        }
    }
}

/// Answers with a file: whole, in part, or not at all where the client has it.
fn respond(opened: Opened, headers: &HeaderMap, status: StatusCode, is_head: bool) -> Response<Body> {
    let size = opened.found.len();
    let kind = types::of(&opened.path);
    let mut response = Response::new(empty());
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_TYPE, kind);
    if types::is_compressible(kind) {
        set(&mut response, header::VARY, "accept-encoding");
    }
    if opened.compressed {
        set(&mut response, header::CONTENT_ENCODING, "gzip");
    }
    let mut range = 0..size;
    if status == StatusCode::OK {
        set(&mut response, header::ETAG, &opened.tag);
        set(&mut response, header::ACCEPT_RANGES, "bytes");
        // Pages are asked for again each time, which costs one small answer; what they refer to is the client's judgement.
        if kind.starts_with("text/html") {
            set(&mut response, header::CACHE_CONTROL, "no-cache");
        }
        let modified = real_time(&opened.found).map(httpdate::fmt_http_date);
        if let Some(modified) = &modified {
            set(&mut response, header::LAST_MODIFIED, modified);
        }
        if is_known(headers, &opened.tag, modified.as_deref()) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        let applies = value(headers, "if-range").is_none_or(|tag| tag == opened.tag);
        match range::parse(value(headers, "range").filter(|_| applies), size) {
            Wanted::All => {}
            Wanted::Part(part) => {
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                let text = format!("bytes {}-{}/{size}", part.start, part.end - 1);
                set(&mut response, header::CONTENT_RANGE, &text);
                range = part;
            }
            Wanted::Outside => {
                *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
                set(&mut response, header::CONTENT_RANGE, &format!("bytes */{size}"));
                return response;
            }
        }
    }
    set(
        &mut response,
        header::CONTENT_LENGTH,
        &(range.end - range.start).to_string(),
    );
    if !is_head {
        *response.body_mut() = body(opened.file, range);
    }
    response
}

fn is_known(headers: &HeaderMap, tag: &str, modified: Option<&str>) -> bool {
    match value(headers, "if-none-match") {
        Some(list) => tags::matches(list, tag),
        None => value(headers, "if-modified-since").is_some_and(|since| Some(since) == modified),
    }
}

fn real_time(found: &Metadata) -> Option<std::time::SystemTime> {
    let modified = found.modified().ok()?;
    let seconds = modified.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    (seconds > DROPLET_TIME).then_some(modified)
}

/// Small bodies at once, large ones piece by piece as the client takes them.
fn body(mut file: File, range: Range<u64>) -> Body {
    let length = range.end - range.start;
    let positioned = if range.start > 0 {
        file.seek(SeekFrom::Start(range.start)).map(drop)
    } else {
        Ok(())
    };
    let mut reader = file.take(length);
    let mut next = move || -> io::Result<Option<Bytes>> {
        let mut piece = Vec::with_capacity(usize::try_from(PIECE.min(reader.limit())).unwrap_or(0));
        reader.by_ref().take(PIECE).read_to_end(&mut piece)?;
        Ok((!piece.is_empty()).then(|| piece.into()))
    };
    if length <= PIECE {
        return match positioned.and_then(|()| next()) {
            Ok(piece) => full(piece.unwrap_or_default()),
            Err(error) => StreamBody::new(tokio_stream::once(Err(error))).boxed(),
        };
    }
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut failed = positioned.err();
        loop {
            let piece = match failed.take().map_or_else(&mut next, Err) {
                Ok(None) => return,
                Ok(Some(piece)) => Ok(Frame::data(piece)),
                Err(error) => Err(error),
            };
            let ends = piece.is_err();
            // The client going away closes the channel.
            if sender.blocking_send(piece).is_err() || ends {
                return;
            }
        }
    });
    StreamBody::new(ReceiverStream::new(receiver)).boxed()
}

fn redirect_to_https(head: &http::request::Parts) -> Response<Body> {
    let path = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let Some(host) = value(&head.headers, "host") else {
        return text(StatusCode::BAD_REQUEST, "the request names no host\n");
    };
    let mut response = text(StatusCode::MOVED_PERMANENTLY, "");
    set(&mut response, header::LOCATION, &format!("https://{host}{path}"));
    response
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let list = value(headers, "accept-encoding").unwrap_or_default();
    list.split(',').any(|item| {
        let (name, quality) = item.split_once(';').unwrap_or((item, ""));
        let refused = matches!(quality.trim().strip_prefix("q=").map(str::parse::<f32>), Some(Ok(q)) if q <= 0.0);
        (name.trim() == "gzip" || name.trim() == "*") && !refused
    })
}

fn value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// What cannot be a header's value is left out: it came from a name or a setting.
fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn text(status: StatusCode, text: &str) -> Response<Body> {
    with_type(
        status,
        Bytes::copy_from_slice(text.as_bytes()),
        "text/plain; charset=utf-8",
    )
}

fn with_type(status: StatusCode, bytes: Bytes, kind: &str) -> Response<Body> {
    let mut response = Response::new(full(bytes));
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_TYPE, kind);
    response
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}
