//! Where an S3-compatible store is, and how it is talked to. Not here: what is kept there (`store`).

use model::Secret;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use std::time::Duration;

/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// A server that sends nothing for this long is taken to be gone.
const SILENCE: Duration = Duration::from_secs(20);
/// How long one request is tried again, so that a server may restart meanwhile; the last pause between two tries.
const RETRY: Duration = Duration::from_secs(75);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// Tries in that time; the time ends them first.
const TRIES: usize = 60;

/// An S3-compatible store, and a bucket that is there.
#[derive(Clone)]
pub struct S3 {
    /// Address of the server, `http://` or `https://`; empty is Amazon's own of the region.
    pub endpoint: String,
    /// Region that requests are signed for; servers without regions take any.
    pub region: String,
    /// Bucket.
    pub bucket: String,
    /// Beginning of every key, so that several platforms share a bucket; empty is none.
    pub prefix: String,
    /// Id of the key.
    pub access_key: String,
    /// The key.
    pub secret_key: Secret,
}

impl S3 {
    /// The client. Nothing is connected yet.
    pub(crate) fn client(&self) -> object_store::Result<AmazonS3> {
        let options = ClientOptions::new()
            .with_allow_http(self.endpoint.starts_with("http://"))
            .with_connect_timeout(CONNECT)
            .with_read_timeout(SILENCE)
            // A large blob takes as long as it takes; silence ends it.
            .with_timeout_disabled();
        let retry = RetryConfig {
            max_retries: TRIES,
            retry_timeout: RETRY,
            backoff: BackoffConfig {
                max_backoff: LONGEST_PAUSE,
                ..BackoffConfig::default()
            },
        };
        let mut builder = AmazonS3Builder::new()
            .with_region(&self.region)
            .with_bucket_name(&self.bucket)
            .with_access_key_id(&self.access_key)
            .with_secret_access_key(self.secret_key.expose())
            .with_client_options(options)
            .with_retry(retry);
        if !self.endpoint.is_empty() {
            builder = builder.with_endpoint(self.endpoint.trim_end_matches('/'));
        }
        builder.build()
    }
}

impl std::fmt::Display for S3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let server = if self.endpoint.is_empty() {
            "s3"
        } else {
            self.endpoint.trim_end_matches('/')
        };
        write!(f, "{server}/{}/{}", self.bucket, self.prefix)
    }
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "S3({self})")
    }
}
