//! ListObjectsV2: `GET /bucket?list-type=2`.

use crate::http::Response;
use crate::op::listing::{Page, Scope};
use crate::op::{Owner, ResumeAfter};
use crate::query::Query;
use crate::xml::Writer;
use crate::{Error, Limits};

/// A ListObjectsV2 request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The bucket.
    pub bucket: String,
    /// What to list.
    pub scope: Scope,
    /// The first page begins behind this key.
    pub start_after: Option<String>,
    /// The token of the page before.
    pub continuation: Option<Continuation>,
    /// Whether entries name their owner.
    pub owners: Owners,
}

/// A continuation token and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continuation {
    /// As the client sent it.
    pub token: String,
    /// Where the page begins.
    pub resume_after: ResumeAfter,
}

/// `fetch-owner`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// Entries name their owner.
    Shown,
    /// They do not.
    Hidden,
}

impl Request {
    /// `InvalidArgument` for a list type that is not 2, or a token that is none of ours.
    pub(crate) fn from_query(query: &Query, bucket: String, limits: &Limits) -> Result<Self, Error> {
        if let Some(other) = query.value("list-type").filter(|list_type| *list_type != "2") {
            return Err(Error::invalid_argument(
                "Invalid List Type specified in Request",
                "list-type",
                other,
            ));
        }
        let continuation = query.value("continuation-token").map(|token| {
            Ok::<_, Error>(Continuation {
                token: token.to_owned(),
                resume_after: ResumeAfter::from_token(token)?,
            })
        });
        Ok(Request {
            bucket,
            scope: Scope::from_query(query, limits)?,
            start_after: query.non_empty("start-after").map(str::to_owned),
            continuation: continuation.transpose()?,
            owners: if query.value("fetch-owner") == Some("true") { Owners::Shown } else { Owners::Hidden },
        })
    }

    /// Where the page begins: the token, else `start-after`, which is always a key; `None` for the beginning.
    pub fn resume_after(&self) -> Option<ResumeAfter> {
        match (&self.continuation, &self.start_after) {
            (Some(continuation), _) => Some(continuation.resume_after.clone()),
            (None, start_after) => start_after.clone().map(ResumeAfter::Key),
        }
    }
}

/// The response.
pub fn render(request: &Request, page: &Page, owner: &Owner) -> Response {
    let scope = &request.scope;
    let mut writer = Writer::new("ListBucketResult");
    writer.text("Name", &request.bucket).text("Prefix", &scope.encode(&scope.prefix));
    if let Some(start_after) = &request.start_after {
        writer.text("StartAfter", &scope.encode(start_after));
    }
    writer.optional_text("ContinuationToken", request.continuation.as_ref().map(|c| c.token.as_str()));
    writer.optional_text("NextContinuationToken", page.next.as_ref().map(ResumeAfter::to_token).as_deref());
    writer.value("KeyCount", page.entries.len() + page.common_prefixes.len());
    scope.write_limits(&mut writer, page.next.is_some());
    page.write(scope, Some(owner).filter(|_| request.owners == Owners::Shown), &mut writer);
    Response::xml(200, writer.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::listing::Entry;
    use crate::op::testing::{document, refused, routed};
    use crate::operation::Operation;
    use crate::{Code, ETag};

    fn request(parameters: &str) -> Request {
        let target = format!("/bucket?list-type=2&{parameters}");
        let Ok(Operation::ListObjectsV2(request)) = routed("GET", &target, &[]) else {
            panic!("a ListObjectsV2")
        };
        request
    }

    fn rendered(parameters: &str, page: &Page) -> String {
        let owner = Owner { id: "75aa".into(), display_name: "me".into() };
        document(&render(&request(parameters), page, &owner))
    }

    fn page() -> Page {
        let etag = ETag::parse("70ee1738b6b21e2c8a43f3a5ab0eee71").unwrap();
        Page {
            entries: vec![Entry { key: "a".into(), last_modified_ms: 0, etag, len: 142, checksum: None }],
            common_prefixes: vec!["b/".into()],
            next: Some(ResumeAfter::CommonPrefix("b/".into())),
        }
    }

    #[test]
    fn an_empty_bucket() {
        assert_eq!(
            rendered("", &Page::default()),
            "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>bucket</Name><Prefix></Prefix>\
             <KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>"
        );
    }

    #[test]
    fn a_page_between_others() {
        let token = ResumeAfter::Key("0".into()).to_token();
        let next = ResumeAfter::CommonPrefix("b/".into()).to_token();
        let parameters = format!("start-after=00&continuation-token={token}&delimiter=/&max-keys=2");
        let expected = format!(
            "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>bucket</Name><Prefix></Prefix>\
             <StartAfter>00</StartAfter><ContinuationToken>{token}</ContinuationToken>\
             <NextContinuationToken>{next}</NextContinuationToken><KeyCount>2</KeyCount><MaxKeys>2</MaxKeys>\
             <Delimiter>/</Delimiter><IsTruncated>true</IsTruncated><Contents><Key>a</Key>\
             <LastModified>1970-01-01T00:00:00.000Z</LastModified>\
             <ETag>&quot;70ee1738b6b21e2c8a43f3a5ab0eee71&quot;</ETag><Size>142</Size>\
             <StorageClass>STANDARD</StorageClass></Contents><CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes>\
             </ListBucketResult>"
        );
        assert_eq!(rendered(&parameters, &page()), expected);
    }

    #[test]
    fn owners_are_shown_on_demand() {
        assert!(rendered("fetch-owner=true", &page()).contains("<Size>142</Size><Owner><ID>75aa</ID>"));
        assert!(!rendered("fetch-owner=false", &page()).contains("Owner"));
    }

    #[test]
    fn a_token_goes_before_start_after() {
        let token = ResumeAfter::CommonPrefix("p/".into()).to_token();
        let both = request(&format!("continuation-token={token}&start-after=zzz"));
        assert_eq!(both.resume_after(), Some(ResumeAfter::CommonPrefix("p/".into())));
        assert_eq!(request("start-after=p/&delimiter=/").resume_after(), Some(ResumeAfter::Key("p/".into())));
        assert_eq!(request("start-after=").resume_after(), None);
    }

    #[test]
    fn a_token_of_somebody_else_or_another_list_type_is_refused() {
        for parameters in
            ["list-type=2&continuation-token=", "list-type=2&continuation-token=abc", "list-type=3"]
        {
            let target = format!("/bucket?{parameters}");
            assert_eq!(refused("GET", &target, &[]), Code::InvalidArgument, "{target}");
        }
    }

    #[test]
    fn restore_status_may_be_asked_for_and_is_never_there() {
        let header = ("x-amz-optional-object-attributes", "RestoreStatus");
        assert!(routed("GET", "/bucket?list-type=2", &[header]).is_ok());
    }
}
