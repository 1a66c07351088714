//! What can be asked of an object that nobody can set: `GET /bucket/key?acl`, `?tagging`, `?retention`, `?legal-hold`.
//!
//! aws-cli asks for the tags of the source before it copies in parts, so that the right answer, no tags, matters.

use crate::http::Response;
use crate::op::Owner;
use crate::op::get_bucket_default::render_acl;
use crate::xml::Writer;
use crate::{Code, Error};

/// A request for something about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The bucket.
    pub bucket: String,
    /// The key; that the object exists is the node's to check.
    pub key: String,
    /// What is asked for.
    pub kind: Kind,
}

/// Something about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `?acl`
    Acl,
    /// `?legal-hold`
    LegalHold,
    /// `?retention`
    Retention,
    /// `?tagging`
    Tagging,
}

impl Kind {
    /// The kind that a sub-resource asks for.
    pub(crate) fn of(sub_resource: &str) -> Option<Self> {
        match sub_resource {
            "acl" => Some(Kind::Acl),
            "legal-hold" => Some(Kind::LegalHold),
            "retention" => Some(Kind::Retention),
            "tagging" => Some(Kind::Tagging),
            _ => None,
        }
    }
}

/// The response, or the error of a bucket without object lock.
pub fn render(request: &Request, owner: &Owner) -> Result<Response, Error> {
    match request.kind {
        Kind::Acl => Ok(render_acl(owner)),
        Kind::Tagging => {
            let mut writer = Writer::new("Tagging");
            writer.open("TagSet");
            Ok(Response::xml(200, writer.finish()))
        }
        Kind::LegalHold | Kind::Retention => {
            Err(Error::with_message(Code::InvalidRequest, "Bucket is missing Object Lock Configuration"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{document, routed};
    use crate::operation::Operation;

    fn answer(sub_resource: &str) -> Result<String, Code> {
        let Ok(Operation::GetObjectDefault(request)) =
            routed("GET", &format!("/bucket/k?{sub_resource}"), &[])
        else {
            panic!("a GetObjectDefault")
        };
        let owner = Owner { id: "75aa".into(), display_name: "me".into() };
        render(&request, &owner).map(|response| document(&response)).map_err(|error| error.code)
    }

    #[test]
    fn an_object_has_no_tags_no_lock_and_its_owners_acl() {
        let tags = "<Tagging xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><TagSet></TagSet></Tagging>";
        assert_eq!(answer("tagging"), Ok(tags.into()));
        assert!(answer("acl").unwrap().contains("<Permission>FULL_CONTROL</Permission>"));
        assert_eq!(answer("retention"), Err(Code::InvalidRequest));
        assert_eq!(answer("legal-hold"), Err(Code::InvalidRequest));
    }
}
