//! Around every request: an id, one line in the log, bodies as JSON, ids in paths, lists' query parameters.

use crate::context::Context;
use crate::error::{Answer, Cause, Failure};
use crate::json;
use crate::strict::BodyWait;
use api::error::Code;
use api::v3::{DEFAULT_PER_PAGE, Link, List, MAX_PER_PAGE, Pagination};
use axum::extract::{FromRequest, FromRequestParts, MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use http::header::HeaderName;
use http::request::Parts;
use http::{HeaderValue, Method};
use model::labels::Selector;
use serde::de::DeserializeOwned;
use std::str::FromStr;
use std::time::{Duration, Instant};
use store::{Common, Moment, Order, OrderBy, Page, Paged};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

/// Longest body of a request that is no upload.
pub const MAX_BODY_BYTES: usize = 15 * 1024 * 1024;
/// Longest wait of a request that holds on for a change.
pub const LONG_POLL: Duration = Duration::from_secs(3);
/// Changes that come within this time are looked at together.
const COALESCE: Duration = Duration::from_millis(10);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_REQUEST_ID: usize = 128;

/// Who the request was by, for its line. Put into the response by [`crate::auth`].
#[derive(Clone)]
pub(crate) struct ActorName(pub String);

/// Gives the request an id, and writes its line once it is answered.
pub(crate) async fn observe(mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let given = request.headers().get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    let given =
        given.filter(|id| !id.is_empty() && id.len() <= MAX_REQUEST_ID && id.bytes().all(|b| b.is_ascii_graphic()));
    let id = given.map_or_else(|| Uuid::new_v4().to_string(), ToOwned::to_owned);
    let value = HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("-"));
    request.headers_mut().insert(REQUEST_ID, value.clone());
    let method = request.method().clone();
    let path = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned());
    let actor = std::sync::Arc::new(parking_lot::Mutex::new(None::<ActorName>));
    request.extensions_mut().insert(ActorSlot(actor.clone()));
    let mut response = next.run(request).await;
    response.headers_mut().insert(REQUEST_ID, value);
    let actor = actor.lock().take().map(|actor| actor.0).unwrap_or_default();
    let cause = response.extensions().get::<Cause>().map(|cause| cause.0.clone());
    // Streams have no length before they end.
    let length = http_body::Body::size_hint(response.body()).exact();
    telemetry::RequestLine {
        method: method.as_str(),
        path: path.as_deref().unwrap_or("unknown"),
        status: response.status().as_u16(),
        duration: begun.elapsed(),
        bytes: length.unwrap_or(0),
        request_id: &id,
        actor: &actor,
        error: cause.as_deref().unwrap_or_default(),
        routine: path
            .as_deref()
            .is_some_and(|path| path.starts_with("/cell/") || path.starts_with("/edge/")),
    }
    .emit();
    response
}

/// Where the name of the caller is put for the request's line.
#[derive(Clone)]
pub(crate) struct ActorSlot(std::sync::Arc<parking_lot::Mutex<Option<ActorName>>>);

impl ActorSlot {
    pub(crate) fn set(&self, name: &str) {
        *self.0.lock() = Some(ActorName(name.to_owned()));
    }
}

/// A body of JSON. What can't be read is CF's `MessageParseError`; what does not fit, `UnprocessableEntity`.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let bytes = body_bytes(request, MAX_BODY_BYTES).await?;
        // Actions without arguments come with no body at all.
        let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        json::from_slice(bytes).map(Self).map_err(|error| match error {
            json::Error::Unreadable(_) => Failure::new(
                Code::MessageParseError,
                "Request invalid due to parse error: invalid request body",
            )
            .caused_by(error),
            json::Error::Unfit(error) => Failure::refused(format!("The request body is invalid: {error}")),
            json::Error::Null => Failure::refused(format!("The request body is invalid: {error}")),
        })
    }
}

/// The whole body, if it is not longer than `limit` bytes and comes in time. One that says that it is longer is not
/// read at all.
pub(crate) async fn body_bytes(request: Request, limit: usize) -> Answer<bytes::Bytes> {
    let too_large = || {
        Failure::new(
            Code::PayloadTooLarge,
            format!("The request body is larger than {limit} bytes"),
        )
    };
    let declared = request.headers().get(http::header::CONTENT_LENGTH);
    let declared = declared.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let wait = request.extensions().get::<BodyWait>();
    let wait = wait.map_or_else(|| crate::config::Limits::default().body_wait, |wait| wait.0);
    let read = axum::body::to_bytes(request.into_body(), limit);
    let read = tokio::time::timeout(wait, read).await;
    let read = read.map_err(|_| Failure::new(Code::BadRequest, "The request body did not come in time"))?;
    read.map_err(|error| {
        // That the client went away, or broke off, is not about size.
        let broken = std::iter::successors(std::error::Error::source(&error), |error| error.source());
        let too_long = broken
            .into_iter()
            .any(|error| error.is::<http_body_util::LengthLimitError>());
        let failure = if too_long {
            too_large()
        } else {
            Failure::new(Code::BadRequest, "The request body could not be read")
        };
        failure.caused_by(error)
    })
}

/// An id from a path; what is no id is not found.
pub(crate) fn id<T: FromStr>(text: &str, what: &str) -> Answer<T> {
    text.parse().map_err(|_| Failure::not_found(what))
}

/// Whether the client polls, so that holding the request until something changes is a service to it. Ours follows events.
pub struct Polls(pub bool);

impl<S: Send + Sync> FromRequestParts<S> for Polls {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let agent = parts
            .headers
            .get(http::header::USER_AGENT)
            .and_then(|agent| agent.to_str().ok());
        Ok(Self(
            parts.method == Method::GET && agent.is_some_and(|agent| agent.starts_with("cf/")),
        ))
    }
}

/// Reads with `fetch` until `done` says so or, for a client that polls, [`LONG_POLL`] has passed.
pub(crate) async fn settle<T, F>(
    context: &Context,
    polls: &Polls,
    done: impl Fn(&T) -> bool,
    fetch: impl Fn() -> F,
) -> Answer<T>
where
    F: Future<Output = Answer<T>>,
{
    // Before the first read, so that no change is missed between the two.
    let mut changes = context.store.subscribe();
    let until = tokio::time::Instant::now() + LONG_POLL;
    loop {
        let value = fetch().await?;
        if !polls.0 || done(&value) {
            return Ok(value);
        }
        match tokio::time::timeout_at(until, changes.next()).await {
            Ok(Some(_)) => tokio::time::sleep(COALESCE).await,
            Ok(None) | Err(_) => return Ok(value),
        }
    }
}

/// Query parameters of a list.
pub struct Query {
    path: String,
    pairs: Vec<(String, String)>,
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let query = parts.uri.query().unwrap_or_default();
        Ok(Self {
            path: parts.uri.path().to_owned(),
            pairs: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        })
    }
}

const COMMON: [&str; 8] = [
    "page",
    "per_page",
    "order_by",
    "include",
    "label_selector",
    "created_ats",
    "updated_ats",
    "fields",
];

impl Query {
    /// Refuses parameters that this list does not know, as CF does, and pages, orders and times that are none: also
    /// where a list is so short that it does not look at them.
    pub fn only(&self, known: &[&str]) -> Answer<()> {
        self.page()?;
        self.common()?;
        if self
            .get("order_by")
            .is_some_and(|by| by.trim_start_matches(['-', '+']) != "position")
        {
            self.order()?;
        }
        for (name, _) in &self.pairs {
            let plain = name.split('[').next().unwrap_or_default();
            if !known.contains(&plain) && !COMMON.contains(&plain) {
                return Err(bad(format!(
                    "Unknown query parameter(s): '{name}'. Valid parameters are: {}",
                    known
                        .iter()
                        .chain(&COMMON)
                        .map(|name| format!("'{name}'"))
                        .collect::<Vec<_>>()
                        .join(", ")
                )));
            }
        }
        Ok(())
    }

    /// What narrows every list: labels, and times of creation and change.
    pub fn common(&self) -> Answer<Common> {
        let labels = match self.get("label_selector") {
            None => Selector::default(),
            Some(text) => {
                Selector::parse(text).map_err(|problem| bad(format!("Invalid label_selector value: {problem}")))?
            }
        };
        Ok(Common {
            labels,
            created: self.moments("created_ats")?,
            updated: self.moments("updated_ats")?,
        })
    }

    /// Bounds on a time: `name=a,b`, `name[lt]=a` and the like.
    fn moments(&self, name: &str) -> Answer<Vec<Moment>> {
        let mut moments = Vec::new();
        for (key, value) in &self.pairs {
            let Some(sign) = key.strip_prefix(name) else { continue };
            let at = |text: &str| {
                OffsetDateTime::parse(text, &Rfc3339)
                    .map_err(|_| bad(format!("{name} has an invalid timestamp format: {text:?}")))
            };
            moments.push(match sign {
                "" => Moment::In(value.split(',').map(at).collect::<Answer<_>>()?),
                "[lt]" => Moment::Before(at(value)?),
                "[lte]" => Moment::NotAfter(at(value)?),
                "[gt]" => Moment::After(at(value)?),
                "[gte]" => Moment::NotBefore(at(value)?),
                _ => return Err(bad(format!("Invalid relational operator: {sign:?}"))),
            });
        }
        Ok(moments)
    }

    /// The value of a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// A filter by texts, separated by commas.
    #[must_use]
    pub fn texts(&self, name: &str) -> Option<Vec<String>> {
        Some(self.get(name)?.split(',').map(ToOwned::to_owned).collect())
    }

    /// A filter by ids. What is no id matches nothing.
    #[must_use]
    pub fn ids<T: FromStr>(&self, name: &str) -> Option<Vec<T>> {
        Some(
            self.get(name)?
                .split(',')
                .filter_map(|text| text.parse().ok())
                .collect(),
        )
    }

    /// A filter by values of an enumeration.
    pub fn words<T: DeserializeOwned>(&self, name: &str) -> Answer<Option<Vec<T>>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        text.split(',')
            .map(|word| {
                serde_json::from_value(serde_json::Value::String(word.to_owned()))
                    .map_err(|_| bad(format!("{word:?} is no value of {name}")))
            })
            .collect::<Answer<_>>()
            .map(Some)
    }

    /// Which page is asked for.
    pub fn page(&self) -> Answer<Page> {
        let number = |name: &str, default: u32, most: u32| match self.get(name) {
            None => Ok(default),
            Some(text) => text
                .parse::<u32>()
                .ok()
                .filter(|number| (1..=most).contains(number))
                .ok_or_else(|| bad(format!("{name} must be between 1 and {most}"))),
        };
        Ok(Page {
            number: number("page", 1, 1_000_000)?,
            per_page: number("per_page", DEFAULT_PER_PAGE, MAX_PER_PAGE)?,
        })
    }

    /// The order that is asked for.
    pub fn order(&self) -> Answer<Order> {
        let Some(text) = self.get("order_by") else {
            return Ok(Order::default());
        };
        let (descending, name) = match text.strip_prefix('-') {
            Some(name) => (true, name),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let by = match name {
            "created_at" => OrderBy::CreatedAt,
            "updated_at" => OrderBy::UpdatedAt,
            "name" => OrderBy::Name,
            _ => {
                return Err(bad(
                    "Order by can only be: 'created_at', 'updated_at', 'name', with '-' before it for descending",
                ));
            }
        };
        Ok(Order { by, descending })
    }

    /// A page as it travels, with links to its neighbours.
    pub fn list<T, R>(&self, context: &Context, paged: Paged<T>, present: impl FnMut(T) -> R) -> Answer<List<R>> {
        let page = self.page()?;
        let pages = paged.total.div_ceil(u64::from(page.per_page)).max(1);
        let number = u64::from(page.number);
        let link = |number: u64| Some(self.link(context, number, page.per_page));
        Ok(List {
            pagination: Pagination {
                total_results: paged.total,
                total_pages: pages,
                first: link(1),
                last: link(pages),
                next: if number < pages { link(number + 1) } else { None },
                previous: if number > 1 { link(number - 1) } else { None },
            },
            resources: paged.items.into_iter().map(present).collect(),
            included: None,
        })
    }

    fn link(&self, context: &Context, number: u64, per_page: u32) -> Link {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in self
            .pairs
            .iter()
            .filter(|(name, _)| name != "page" && name != "per_page")
        {
            query.append_pair(name, value);
        }
        query.append_pair("page", &number.to_string());
        query.append_pair("per_page", &per_page.to_string());
        Link {
            href: format!("{}{}?{}", context.config.public_url, self.path, query.finish()),
            method: None,
        }
    }
}

fn bad(detail: impl std::fmt::Display) -> Failure {
    Failure::new(
        Code::BadQueryParameter,
        format!("The query parameter is invalid: {detail}"),
    )
}
