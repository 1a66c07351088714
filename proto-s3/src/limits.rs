//! Everything that a client can make large, and how large it may get.
//!
//! The numbers of AWS are AWS's documented ones; the others say where they come from.

/// One kibibyte.
const KIB: usize = 1024;
/// One mebibyte.
const MIB: usize = 1024 * KIB;
/// One gibibyte, as an object's length.
const GIB: u64 = 1024 * 1024 * 1024;

/// The limits of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Request line and headers with their line ends, in bytes. A key of 1024 bytes takes 3 KiB when every byte is
    /// percent-encoded, a presigned query about 1 KiB, a session token up to 2 KiB, user metadata 2 KiB.
    pub head_len_max: usize,
    /// Header lines of one request.
    pub header_count_max: usize,
    /// Bytes of an object key (AWS).
    pub key_len_max: usize,
    /// Payload of one PUT or POST (AWS: 5 GiB).
    pub single_put_len_max: u64,
    /// Smallest part of a multipart upload, except the last (AWS: 5 MiB).
    pub part_len_min: u64,
    /// Largest part of a multipart upload (AWS: 5 GiB).
    pub part_len_max: u64,
    /// Highest part number, and most parts of an object (AWS).
    pub parts_max: u32,
    /// Longest object that an upload may complete to (AWS: 5 TiB).
    pub object_len_max: u64,
    /// Names and values of `x-amz-meta-*` together, without the prefix (AWS: 2 KiB).
    pub user_metadata_len_max: usize,
    /// Request documents, except the two below, which name up to 1000 keys or 10 000 parts.
    pub xml_len_max: usize,
    /// Documents of DeleteObjects and CompleteMultipartUpload: 10 000 parts of about 180 bytes each.
    pub xml_list_len_max: usize,
    /// Nesting of elements in a request document; the deepest of S3's has 6.
    pub xml_depth_max: usize,
    /// Keys of one DeleteObjects (AWS).
    pub delete_keys_max: usize,
    /// Entries of one page of a listing (AWS).
    pub list_max: u32,
    /// Entries of one page of ListBuckets (AWS).
    pub list_buckets_max: u32,
    /// Buckets of one account (AWS's raised quota).
    pub buckets_max: usize,
    /// One size line of HTTP or AWS chunks. `ffffffffffffffff;chunk-signature=` and 64 digits take 97 bytes; the rest
    /// is room for chunk extensions, which are skipped.
    pub chunk_line_len_max: usize,
    /// All trailer lines of a body together: a checksum of up to 44 digits, a signature of 64, and their names.
    pub trailer_len_max: usize,
    /// Smallest signed chunk, except the last (AWS: 8 KiB, `InvalidChunkSizeError`).
    pub signed_chunk_len_min: u64,
    /// Longest lifetime of a presigned URL in seconds (AWS: seven days).
    pub presign_seconds_max: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            head_len_max: 16 * KIB,
            header_count_max: 128,
            key_len_max: 1024,
            single_put_len_max: 5 * GIB,
            part_len_min: 5 * MIB as u64,
            part_len_max: 5 * GIB,
            parts_max: 10_000,
            object_len_max: 5 * 1024 * GIB,
            user_metadata_len_max: 2 * KIB,
            xml_len_max: MIB,
            xml_list_len_max: 2 * MIB,
            xml_depth_max: 16,
            delete_keys_max: 1000,
            list_max: 1000,
            list_buckets_max: 10_000,
            buckets_max: 1000,
            chunk_line_len_max: 256,
            trailer_len_max: KIB,
            signed_chunk_len_min: 8 * KIB as u64,
            presign_seconds_max: 7 * 24 * 3600,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_parts_fit_the_list_document() {
        let part = "<Part><PartNumber>10000</PartNumber><ETag>&quot;00000000000000000000000000000000&quot;</ETag>\
                    <ChecksumSHA256>00000000000000000000000000000000000000000000</ChecksumSHA256></Part>";
        assert!(part.len() * 10_000 <= Limits::default().xml_list_len_max);
    }
}
