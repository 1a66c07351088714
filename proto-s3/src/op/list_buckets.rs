//! ListBuckets: `GET /`.

use crate::http::Response;
use crate::op::fields;
use crate::op::{Owner, ResumeAfter};
use crate::query::Query;
use crate::xml::Writer;
use crate::{Error, Limits, time};

/// A ListBuckets request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Only buckets that begin with this.
    pub prefix: Option<String>,
    /// Only buckets in this region.
    pub region: Option<String>,
    /// The page begins behind this bucket; from the continuation token.
    pub after: Option<String>,
    /// Most buckets of the page, 1 to 10 000.
    pub max_buckets: u32,
    /// Whether the response names the region of every bucket.
    pub regions: Regions,
}

/// Whether buckets come with their region. AWS shows it when the request has any valid parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Regions {
    /// With it.
    Shown,
    /// Without.
    Hidden,
}

impl Request {
    pub(crate) fn from_query(query: &Query, limits: &Limits) -> Result<Self, Error> {
        let after = query.value("continuation-token").map(ResumeAfter::from_token).transpose()?;
        let max_buckets = fields::integer(query, "max-buckets", 1..=limits.list_buckets_max)?;
        let has_parameter = ["prefix", "bucket-region", "continuation-token", "max-buckets"]
            .iter()
            .any(|name| query.has(name));
        Ok(Request {
            prefix: query.value("prefix").map(str::to_owned),
            region: query.non_empty("bucket-region").map(str::to_owned),
            after: after.map(|position| position.as_str().to_owned()),
            max_buckets: max_buckets.unwrap_or(limits.list_buckets_max),
            regions: if has_parameter { Regions::Shown } else { Regions::Hidden },
        })
    }
}

/// One bucket of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The name.
    pub name: String,
    /// When it was created, in milliseconds since 1970.
    pub created_ms: i64,
}

/// One page of buckets in byte order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The buckets.
    pub buckets: Vec<Bucket>,
    /// Whether there are more.
    pub is_truncated: bool,
}

/// The response.
pub fn render(request: &Request, page: &Page, owner: &Owner, region: &str) -> Response {
    let mut writer = Writer::new("ListAllMyBucketsResult");
    owner.write("Owner", &mut writer);
    writer.open("Buckets");
    for bucket in &page.buckets {
        writer.open("Bucket").text("Name", &bucket.name);
        writer.value("CreationDate", time::iso8601(bucket.created_ms));
        writer
            .optional_text("BucketRegion", Some(region).filter(|_| request.regions == Regions::Shown))
            .close();
    }
    writer.close();
    if let Some(last) = page.buckets.last().filter(|_| page.is_truncated) {
        writer.text("ContinuationToken", &ResumeAfter::Key(last.name.clone()).to_token());
    }
    writer.optional_text("Prefix", request.prefix.as_deref());
    Response::xml(200, writer.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;
    use crate::op::testing::{document, refused, routed};
    use crate::operation::Operation;

    fn request(target: &str) -> Request {
        let Ok(Operation::ListBuckets(request)) = routed("GET", target, &[]) else { panic!("a ListBuckets") };
        request
    }

    fn rendered(target: &str, page: &Page) -> String {
        let owner = Owner { id: "75aa".into(), display_name: "me".into() };
        document(&render(&request(target), page, &owner, "us-east-1"))
    }

    #[test]
    fn without_parameters_all_buckets_are_listed() {
        let page = Page {
            buckets: vec![
                Bucket { name: "one".into(), created_ms: 0 },
                Bucket { name: "two".into(), created_ms: 1 },
            ],
            is_truncated: false,
        };
        assert_eq!(
            rendered("/", &page),
            "<ListAllMyBucketsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Owner><ID>75aa</ID>\
             <DisplayName>me</DisplayName></Owner><Buckets><Bucket><Name>one</Name>\
             <CreationDate>1970-01-01T00:00:00.000Z</CreationDate></Bucket><Bucket><Name>two</Name>\
             <CreationDate>1970-01-01T00:00:00.001Z</CreationDate></Bucket></Buckets></ListAllMyBucketsResult>"
        );
    }

    #[test]
    fn a_page_names_regions_and_the_next_page() {
        let page = Page { buckets: vec![Bucket { name: "one".into(), created_ms: 0 }], is_truncated: true };
        let token = ResumeAfter::Key("one".into()).to_token();
        let text = rendered("/?prefix=o&max-buckets=1", &page);
        let expected = format!(
            "<BucketRegion>us-east-1</BucketRegion></Bucket></Buckets><ContinuationToken>{token}</ContinuationToken>\
             <Prefix>o</Prefix></ListAllMyBucketsResult>"
        );
        assert!(text.ends_with(&expected), "{text}");
        assert_eq!(request(&format!("/?continuation-token={token}")).after.as_deref(), Some("one"));
    }

    #[test]
    fn bad_parameters_are_refused() {
        for target in ["/?max-buckets=0", "/?max-buckets=10001", "/?max-buckets=x", "/?continuation-token=x"]
        {
            assert_eq!(refused("GET", target, &[]), Code::InvalidArgument, "{target}");
        }
    }
}
