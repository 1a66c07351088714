//! The SDK's client for a test node, and what tests say often.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Builder, Credentials, Region};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};

use crate::harness::Node;

/// A node with an empty bucket, and a client.
pub struct Stage {
    pub node: Node,
    pub s3: Client,
}

/// The bucket of every stage.
pub const BUCKET: &str = "bucket";

/// A fresh node with an empty bucket.
pub async fn stage() -> Stage {
    stage_on(Node::start()).await
}

/// That node with an empty bucket.
pub async fn stage_on(node: Node) -> Stage {
    let s3 = connect(&node);
    s3.create_bucket().bucket(BUCKET).send().await.expect("a bucket");
    Stage { node, s3 }
}

/// A client of that node.
pub fn connect(node: &Node) -> Client {
    Client::from_conf(config(node).build())
}

/// The settings of a client of that node.
pub fn config(node: &Node) -> Builder {
    let trust = TrustStore::empty().with_pem_certificate(node.ca());
    let context = TlsContext::builder().with_trust_store(trust).build().expect("a trust store");
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(context)
        .build_https();
    let keys = node.credentials();
    Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(node.url())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(keys.access_key, keys.secret, None, None, "test"))
        .force_path_style(true)
        .retry_config(RetryConfig::disabled())
        .http_client(http)
}

impl Stage {
    /// Stores an object.
    pub async fn put(&self, key: &str, body: impl Into<Vec<u8>>) -> String {
        let put = self.s3.put_object().bucket(BUCKET).key(key).body(ByteStream::from(body.into()));
        put.send().await.expect("stored").e_tag.expect("a tag")
    }

    /// The bytes of an object; `None` when there is no such object.
    pub async fn get(&self, key: &str) -> Option<Vec<u8>> {
        match self.s3.get_object().bucket(BUCKET).key(key).send().await {
            Ok(object) => Some(bytes_of(object).await),
            Err(error) => {
                assert_eq!(verdict(error), (404, "NoSuchKey".to_owned()));
                None
            }
        }
    }

    /// All keys, in the order of the listing.
    pub async fn keys(&self) -> Vec<String> {
        let listed = self.s3.list_objects_v2().bucket(BUCKET).send().await.expect("a listing");
        listed.contents().iter().map(|object| object.key().expect("a key").to_owned()).collect()
    }

    /// All uploads in progress.
    pub async fn uploads(&self) -> Vec<String> {
        let listed = self.s3.list_multipart_uploads().bucket(BUCKET).send().await.expect("a listing");
        listed.uploads().iter().map(|upload| upload.upload_id().expect("an id").to_owned()).collect()
    }
}

/// The body of an answer.
pub async fn bytes_of(object: GetObjectOutput) -> Vec<u8> {
    object.body.collect().await.expect("a whole body").to_vec()
}

/// Status and code of a refusal.
pub fn verdict<E: ProvideErrorMetadata + std::fmt::Debug>(error: SdkError<E>) -> (u16, String) {
    let status = error.raw_response().unwrap_or_else(|| panic!("no answer: {error:?}")).status().as_u16();
    (status, error.code().unwrap_or_default().to_owned())
}

/// Asserts that a request is refused with that status and code.
#[macro_export]
macro_rules! refused {
    ($request:expr, $status:literal, $code:literal) => {
        let error = $request.send().await.expect_err(concat!("refused with ", $code));
        assert_eq!($crate::client::verdict(error), ($status, $code.to_owned()));
    };
}
