//! The configurations of a bucket that nobody has configured: `GET /bucket?versioning` and its like.
//!
//! None of them can be changed, so that the answer of AWS for a fresh bucket is the right one, for ever: an empty document,
//! a document of defaults, or the error that says that there is none.

use crate::http::Response;
use crate::op::{Encryption, Owner};
use crate::xml::Writer;
use crate::{Code, Error};

/// A request for a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The bucket; that it exists is the node's to check.
    pub bucket: String,
    /// The configuration.
    pub kind: Kind,
}

/// A configuration of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `?accelerate`
    Accelerate,
    /// `?acl`
    Acl,
    /// `?cors`
    Cors,
    /// `?encryption`
    Encryption,
    /// `?lifecycle`
    Lifecycle,
    /// `?logging`
    Logging,
    /// `?notification`
    Notification,
    /// `?object-lock`
    ObjectLock,
    /// `?ownershipControls`
    OwnershipControls,
    /// `?policy`
    Policy,
    /// `?policyStatus`
    PolicyStatus,
    /// `?publicAccessBlock`
    PublicAccessBlock,
    /// `?replication`
    Replication,
    /// `?requestPayment`
    RequestPayment,
    /// `?tagging`
    Tagging,
    /// `?versioning`
    Versioning,
    /// `?website`
    Website,
}

impl Kind {
    /// Every kind with the sub-resource that asks for it.
    pub const ALL: [(Kind, &'static str); 17] = [
        (Kind::Accelerate, "accelerate"),
        (Kind::Acl, "acl"),
        (Kind::Cors, "cors"),
        (Kind::Encryption, "encryption"),
        (Kind::Lifecycle, "lifecycle"),
        (Kind::Logging, "logging"),
        (Kind::Notification, "notification"),
        (Kind::ObjectLock, "object-lock"),
        (Kind::OwnershipControls, "ownershipControls"),
        (Kind::Policy, "policy"),
        (Kind::PolicyStatus, "policyStatus"),
        (Kind::PublicAccessBlock, "publicAccessBlock"),
        (Kind::Replication, "replication"),
        (Kind::RequestPayment, "requestPayment"),
        (Kind::Tagging, "tagging"),
        (Kind::Versioning, "versioning"),
        (Kind::Website, "website"),
    ];

    /// The kind that a sub-resource asks for.
    pub(crate) fn of(sub_resource: &str) -> Option<Self> {
        Kind::ALL.iter().find(|(_, name)| *name == sub_resource).map(|(kind, _)| *kind)
    }
}

/// The response, or the error that says that there is no such configuration.
pub fn render(request: &Request, owner: &Owner, encryption: Encryption) -> Result<Response, Error> {
    let none = |code| Err(Error::new(code).detail("BucketName", request.bucket.clone()));
    match request.kind {
        Kind::Accelerate => empty("AccelerateConfiguration"),
        Kind::Acl => Ok(render_acl(owner)),
        Kind::Cors => none(Code::NoSuchCORSConfiguration),
        Kind::Encryption if encryption == Encryption::Aes256 => Ok(render_encryption()),
        Kind::Encryption => none(Code::ServerSideEncryptionConfigurationNotFoundError),
        Kind::Lifecycle => none(Code::NoSuchLifecycleConfiguration),
        Kind::Logging => empty("BucketLoggingStatus"),
        Kind::Notification => empty("NotificationConfiguration"),
        Kind::ObjectLock => none(Code::ObjectLockConfigurationNotFoundError),
        Kind::OwnershipControls => Ok(render_ownership()),
        Kind::Policy | Kind::PolicyStatus => none(Code::NoSuchBucketPolicy),
        Kind::PublicAccessBlock => none(Code::NoSuchPublicAccessBlockConfiguration),
        Kind::Replication => none(Code::ReplicationConfigurationNotFoundError),
        Kind::RequestPayment => Ok(render_request_payment()),
        Kind::Tagging => none(Code::NoSuchTagSet),
        Kind::Versioning => empty("VersioningConfiguration"),
        Kind::Website => none(Code::NoSuchWebsiteConfiguration),
    }
}

fn empty(root: &'static str) -> Result<Response, Error> {
    Ok(Response::xml(200, Writer::new(root).finish()))
}

/// The ACL of everything here: the owner may do everything, nobody else anything.
pub(crate) fn render_acl(owner: &Owner) -> Response {
    let mut writer = Writer::new("AccessControlPolicy");
    owner.write("Owner", &mut writer);
    writer.open("AccessControlList").open("Grant");
    let attributes =
        [("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance"), ("xsi:type", "CanonicalUser")];
    writer.start("Grantee", &attributes);
    writer.text("ID", &owner.id).text("DisplayName", &owner.display_name).close();
    writer.value("Permission", "FULL_CONTROL");
    Response::xml(200, writer.finish())
}

fn render_encryption() -> Response {
    let mut writer = Writer::new("ServerSideEncryptionConfiguration");
    writer.open("Rule").open("ApplyServerSideEncryptionByDefault").value("SSEAlgorithm", "AES256").close();
    writer.value("BucketKeyEnabled", false);
    Response::xml(200, writer.finish())
}

fn render_ownership() -> Response {
    let mut writer = Writer::new("OwnershipControls");
    writer.open("Rule").value("ObjectOwnership", "BucketOwnerEnforced");
    Response::xml(200, writer.finish())
}

fn render_request_payment() -> Response {
    let mut writer = Writer::new("RequestPaymentConfiguration");
    writer.value("Payer", "BucketOwner");
    Response::xml(200, writer.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{document, routed};
    use crate::operation::Operation;

    fn answer(sub_resource: &str, encryption: Encryption) -> Result<String, Code> {
        let Ok(Operation::GetBucketDefault(request)) = routed("GET", &format!("/bucket?{sub_resource}"), &[])
        else {
            panic!("a GetBucketDefault")
        };
        let owner = Owner { id: "75aa".into(), display_name: "me".into() };
        let namespace = " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"";
        render(&request, &owner, encryption)
            .map(|response| document(&response).replace(namespace, ""))
            .map_err(|error| error.code)
    }

    #[test]
    fn every_configuration_has_the_answer_of_a_fresh_bucket() {
        for (sub_resource, expected) in [
            ("accelerate", Ok("<AccelerateConfiguration></AccelerateConfiguration>")),
            (
                "acl",
                Ok(
                    "<AccessControlPolicy><Owner><ID>75aa</ID><DisplayName>me</DisplayName></Owner><AccessControlList>\
                    <Grant><Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
                    xsi:type=\"CanonicalUser\"><ID>75aa</ID><DisplayName>me</DisplayName></Grantee>\
                    <Permission>FULL_CONTROL</Permission></Grant></AccessControlList></AccessControlPolicy>",
                ),
            ),
            ("cors", Err(Code::NoSuchCORSConfiguration)),
            (
                "encryption",
                Ok("<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>\
                    <SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault>\
                    <BucketKeyEnabled>false</BucketKeyEnabled></Rule></ServerSideEncryptionConfiguration>"),
            ),
            ("lifecycle", Err(Code::NoSuchLifecycleConfiguration)),
            ("logging", Ok("<BucketLoggingStatus></BucketLoggingStatus>")),
            ("notification", Ok("<NotificationConfiguration></NotificationConfiguration>")),
            ("object-lock", Err(Code::ObjectLockConfigurationNotFoundError)),
            (
                "ownershipControls",
                Ok("<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule>\
                    </OwnershipControls>"),
            ),
            ("policy", Err(Code::NoSuchBucketPolicy)),
            ("policyStatus", Err(Code::NoSuchBucketPolicy)),
            ("publicAccessBlock", Err(Code::NoSuchPublicAccessBlockConfiguration)),
            ("replication", Err(Code::ReplicationConfigurationNotFoundError)),
            (
                "requestPayment",
                Ok("<RequestPaymentConfiguration><Payer>BucketOwner</Payer></RequestPaymentConfiguration>"),
            ),
            ("tagging", Err(Code::NoSuchTagSet)),
            ("versioning", Ok("<VersioningConfiguration></VersioningConfiguration>")),
            ("website", Err(Code::NoSuchWebsiteConfiguration)),
        ] {
            let found = answer(sub_resource, Encryption::Aes256);
            assert_eq!(found, expected.map(str::to_owned), "{sub_resource}");
        }
    }

    #[test]
    fn without_encryption_there_is_no_such_configuration() {
        let code = Code::ServerSideEncryptionConfigurationNotFoundError;
        assert_eq!(answer("encryption", Encryption::None), Err(code));
    }
}
