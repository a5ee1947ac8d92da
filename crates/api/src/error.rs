//! The error envelope of the API: Cloud Foundry's codes, titles and details, and a hint of ours.

use serde::{Deserialize, Serialize};

/// `{"errors":[…]}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Envelope {
    /// At least one.
    pub errors: Vec<ApiError>,
}

/// One error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ApiError {
    /// CF's number, such as 10008.
    pub code: u32,
    /// CF's title, such as `CF-UnprocessableEntity`.
    pub title: String,
    /// What is wrong. Clients match some of these texts exactly.
    pub detail: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $status:literal, $code:literal, $title:literal;)+) => {
        /// Kinds of error, each with HTTP status, CF's number and title.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code {$($(#[$doc])* $name,)+}

        impl Code {
            /// HTTP status.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self {$(Self::$name => $status,)+}
            }

            /// CF's number.
            #[must_use]
            pub const fn number(self) -> u32 {
                match self {$(Self::$name => $code,)+}
            }

            /// CF's title.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self {$(Self::$name => $title,)+}
            }
        }
    };
}

codes! {
    /// The body could not be read.
    MessageParseError = 400, 1001, "CF-MessageParseError";
    /// A query parameter is unknown or has a wrong value.
    BadQueryParameter = 400, 10005, "CF-BadQueryParameter";
    /// The request makes no sense as it is.
    BadRequest = 400, 1004, "CF-BadRequest";
    /// No token, or one that is not valid.
    InvalidAuthToken = 401, 1000, "CF-InvalidAuthToken";
    /// No token where one is needed.
    NotAuthenticated = 401, 10002, "CF-NotAuthenticated";
    /// The caller may see the resource but not do this.
    NotAuthorized = 403, 10003, "CF-NotAuthorized";
    /// An operator switched it off.
    FeatureDisabled = 403, 330_002, "CF-FeatureDisabled";
    /// There is none, or the caller may not see it.
    ResourceNotFound = 404, 10010, "CF-ResourceNotFound";
    /// No such route.
    NotFound = 404, 10000, "CF-NotFound";
    /// Something else happened in between.
    Conflict = 409, 10016, "CF-Conflict";
    /// The upload is larger than allowed.
    PayloadTooLarge = 413, 10020, "CF-PayloadTooLarge";
    /// The package's bits can't be accepted.
    AppBitsUploadInvalid = 422, 160001, "CF-AppBitsUploadInvalid";
    /// The request is understood and refused.
    UnprocessableEntity = 422, 10008, "CF-UnprocessableEntity";
    /// A name or host that is taken.
    UniquenessError = 422, 10016, "CF-UniquenessError";
    /// Too many requests.
    RateLimitExceeded = 429, 10013, "CF-RateLimitExceeded";
    /// Too many requests without a log-in.
    AddressRateLimitExceeded = 429, 10014, "CF-IPBasedRateLimitExceeded";
    /// A fault of ours.
    UnknownError = 500, 10001, "UnknownError";
    /// Not built yet.
    NotImplemented = 501, 10014, "CF-NotImplemented";
    /// Something that the request needs is away.
    ServiceUnavailable = 503, 10015, "CF-ServiceUnavailable";
}

impl ApiError {
    /// An error of this kind.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code: code.number(),
            title: code.title().to_owned(),
            detail: detail.into(),
            hint: None,
        }
    }
}
