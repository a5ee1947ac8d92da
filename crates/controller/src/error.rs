//! What a handler answers when it can't do what was asked: Cloud Foundry's envelope, and the cause for our own log.

use api::error::{ApiError, Code, Envelope};
use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use std::error::Error as StdError;
use store::StoreError;

/// A refused or failed request.
#[derive(Debug)]
pub struct Failure {
    status: StatusCode,
    errors: Vec<ApiError>,
    /// For the log; clients don't see it.
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Result of handlers and actions.
pub type Answer<T> = Result<T, Failure>;

/// Put into the response for the request line.
#[derive(Clone)]
pub(crate) struct Cause(pub String);

impl Failure {
    /// One error of this kind. Clients match some details exactly: they are CF's where CF has one.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            status: StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            errors: vec![ApiError::new(code, detail)],
            source: None,
        }
    }

    /// `422`: understood and refused.
    pub fn refused(detail: impl Into<String>) -> Self {
        Self::new(Code::UnprocessableEntity, detail)
    }

    /// `422` with several errors at once.
    pub fn refused_all(errors: impl IntoIterator<Item = (String, Option<String>)>) -> Self {
        let mut failure = Self::refused("");
        failure.errors = errors
            .into_iter()
            .map(|(detail, hint)| ApiError {
                hint,
                ..ApiError::new(Code::UnprocessableEntity, detail)
            })
            .collect();
        failure
    }

    /// `404`: there is none, or the caller may not see it. `what` is such as `App`.
    pub fn not_found(what: &str) -> Self {
        Self::new(Code::ResourceNotFound, format!("{what} not found"))
    }

    /// `403`: the caller may see it, but not do this.
    pub fn forbidden() -> Self {
        Self::new(
            Code::NotAuthorized,
            "You are not authorized to perform the requested action",
        )
    }

    /// `500` with its cause for the log.
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(Code::UnknownError, "An unknown error occurred.").caused_by(source)
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Some(error) = self.errors.first_mut() {
            error.hint = Some(hint.into());
        }
        self
    }

    /// The cause, for the log.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The errors as clients see them.
    #[must_use]
    pub fn errors(&self) -> &[ApiError] {
        &self.errors
    }

    /// Another answer where something unique is taken.
    #[must_use]
    pub fn or_taken(error: StoreError, taken: impl FnOnce() -> Self) -> Self {
        match error {
            StoreError::Taken { .. } => taken(),
            other => other.into(),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Busy { .. } => {
                Self::new(Code::ServiceUnavailable, "The database is busy, try again").caused_by(error)
            }
            StoreError::Taken { what } => Self::refused(format!("The {what} is taken")),
            StoreError::Dangling { .. } => {
                Self::refused("It is in use, or refers to something that was deleted").caused_by(error)
            }
            _ => Self::internal(error),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let cause = match &self.source {
            Some(source) => telemetry::chain(&**source),
            None => self
                .errors
                .first()
                .map(|error| error.detail.clone())
                .unwrap_or_default(),
        };
        let mut response = (self.status, Json(Envelope { errors: self.errors })).into_response();
        response.extensions_mut().insert(Cause(cause));
        response
    }
}
