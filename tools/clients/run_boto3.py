"""boto3: the single operations, with metadata, ranges, conditions, checksums, presigned URLs and error codes."""

import base64
import hashlib
import io
import time
import urllib.error
import urllib.request
import ssl

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

from harness import Script, Settings, check, make_bytes, md5

MIB = 1 << 20
settings = Settings()


def client(access_key=settings.access_key, secret_key=settings.secret_key, **config):
    return boto3.client(
        "s3",
        endpoint_url=settings.endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name=settings.region,
        verify=str(settings.ca),
        config=Config(retries={"max_attempts": 1}, **config),
    )


def check_error(expected, call, **arguments):
    """The call must fail with this code (or HTTP status, where there is no body)."""
    try:
        call(**arguments)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        check(code == expected, f"{code} instead of {expected}: {error}")
        return
    check(False, f"succeeded instead of {expected}")


def body(key, **arguments):
    return s3.get_object(Bucket=bucket, Key=key, **arguments)["Body"].read()


def fetch(request):
    trust = ssl.create_default_context(cafile=str(settings.ca))
    return urllib.request.urlopen(request, context=trust, timeout=60)


s3 = client()
bucket = settings.bucket("boto3")
script = Script(settings, boto3.__version__)
small, large = make_bytes(1000), make_bytes(3 * MIB + 17, seed=2)

# -- buckets

with script.step("create, head, list and locate a bucket"):
    s3.create_bucket(Bucket=bucket)
    s3.head_bucket(Bucket=bucket)
    check(bucket in [it["Name"] for it in s3.list_buckets()["Buckets"]], "the bucket is not listed")
    check(s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None, "us-east-1 has no constraint")

# -- one object

for name, data in [("empty", b""), ("one byte", b"x"), ("small", small), ("large", large)]:
    with script.step(f"put, head and get: {name}"):
        put = s3.put_object(Bucket=bucket, Key=name, Body=data)
        check(put["ETag"] == f'"{md5(data)}"', f"ETag {put['ETag']}")
        head = s3.head_object(Bucket=bucket, Key=name)
        check(head["ContentLength"] == len(data) and head["ETag"] == put["ETag"], str(head))
        check(body(name) == data, "other bytes came back")

with script.step("system and user metadata come back"):
    system = {
        "ContentType": "text/x-test",
        "CacheControl": "max-age=5",
        "ContentDisposition": 'attachment; filename="a.txt"',
        "ContentEncoding": "identity",
        "ContentLanguage": "de",
    }
    user = {"colour": "blue", "name": "a  b"}
    s3.put_object(Bucket=bucket, Key="metadata", Body=small, Metadata=user, **system)
    head = s3.head_object(Bucket=bucket, Key="metadata")
    for name, value in system.items():
        check(head.get(name) == value, f"{name}: {head.get(name)!r}")
    check(head["Metadata"]["colour"] == "blue", str(head["Metadata"]))

with script.step("ranges: first, middle, last, open and beyond"):
    for text, expected in [
        ("bytes=0-0", large[:1]),
        ("bytes=65519-65521", large[65519:65522]),
        ("bytes=1000000-", large[1000000:]),
        ("bytes=-17", large[-17:]),
        (f"bytes={len(large) - 1}-{len(large) + 99}", large[-1:]),
    ]:
        got = s3.get_object(Bucket=bucket, Key="large", Range=text)
        check(got["ResponseMetadata"]["HTTPStatusCode"] == 206, f"{text}: no 206")
        check(got["Body"].read() == expected, f"{text}: other bytes")
    check_error("InvalidRange", s3.get_object, Bucket=bucket, Key="large", Range=f"bytes={len(large)}-")

with script.step("awkward keys"):
    keys = ["a b", "a+b", "a%2Fb", "ü/€/𝄞", "a//b", "a/", "a", "x&<y>'\"", "~-_.", "(1)*!@$,;:="]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=f"keys/{key}", Body=key.encode())
    for key in keys:
        check(body(f"keys/{key}") == key.encode(), f"{key!r}: other bytes")
    listed = [it["Key"] for it in s3.list_objects_v2(Bucket=bucket, Prefix="keys/")["Contents"]]
    expected = sorted((f"keys/{key}" for key in keys), key=lambda key: key.encode())
    check(listed == expected, f"listed {listed}")

# -- conditions

with script.step("conditional reads"):
    head = s3.head_object(Bucket=bucket, Key="small")
    etag, modified = head["ETag"], head["LastModified"]
    check(body("small", IfMatch=etag) == small, "If-Match")
    check_error("PreconditionFailed", s3.get_object, Bucket=bucket, Key="small", IfMatch='"other"')
    check_error("304", s3.get_object, Bucket=bucket, Key="small", IfNoneMatch=etag)
    check_error("304", s3.get_object, Bucket=bucket, Key="small", IfModifiedSince=modified)
    check_error("412", s3.head_object, Bucket=bucket, Key="small", IfMatch='"other"')

with script.step("conditional writes"):
    s3.put_object(Bucket=bucket, Key="once", Body=b"1", IfNoneMatch="*")
    check_error("PreconditionFailed", s3.put_object, Bucket=bucket, Key="once", Body=b"2", IfNoneMatch="*")
    etag = s3.head_object(Bucket=bucket, Key="once")["ETag"]
    s3.put_object(Bucket=bucket, Key="once", Body=b"3", IfMatch=etag)
    check_error("PreconditionFailed", s3.put_object, Bucket=bucket, Key="once", Body=b"4", IfMatch=etag)
    check(body("once") == b"3", "a refused write has taken effect")

# -- checksums

with script.step("every checksum, computed by the client, is stored and returned"):
    for algorithm in ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]:
        key = f"checksum-{algorithm}"
        put = s3.put_object(Bucket=bucket, Key=key, Body=large, ChecksumAlgorithm=algorithm)
        head = s3.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
        field = f"Checksum{algorithm}"
        check(put.get(field) and put[field] == head.get(field), f"{algorithm}: {put.get(field)}, {head.get(field)}")
        check(body(key, ChecksumMode="ENABLED") == large, f"{algorithm}: other bytes")
    check(head["ChecksumSHA256"] == base64.b64encode(hashlib.sha256(large).digest()).decode(), "SHA256")

with script.step("a wrong checksum or MD5 is refused and changes nothing"):
    wrong = base64.b64encode(bytes(32)).decode()
    check_error("BadDigest", s3.put_object, Bucket=bucket, Key="bad", Body=small, ChecksumSHA256=wrong)
    wrong = base64.b64encode(bytes(16)).decode()
    check_error("BadDigest", s3.put_object, Bucket=bucket, Key="bad", Body=small, ContentMD5=wrong)
    check_error("InvalidDigest", s3.put_object, Bucket=bucket, Key="bad", Body=small, ContentMD5="short")
    check_error("404", s3.head_object, Bucket=bucket, Key="bad")

# -- listing and deleting

with script.step("list 1234 keys in pages"):
    names = [f"list/{index % 7}/{index:05}" for index in range(1234)]
    for name in names:
        s3.put_object(Bucket=bucket, Key=name, Body=b"")
    for operation in ["list_objects_v2", "list_objects"]:
        pages = s3.get_paginator(operation).paginate(Bucket=bucket, Prefix="list/", PaginationConfig={"PageSize": 100})
        listed = [it["Key"] for page in pages for it in page.get("Contents", [])]
        check(listed == sorted(names), f"{operation}: {len(listed)} keys")

with script.step("list with a delimiter, and start-after"):
    page = s3.list_objects_v2(Bucket=bucket, Prefix="list/", Delimiter="/")
    check([it["Prefix"] for it in page["CommonPrefixes"]] == [f"list/{n}/" for n in range(7)], str(page)[:500])
    check("Contents" not in page and page["KeyCount"] == 7, str(page)[:500])
    page = s3.list_objects_v2(Bucket=bucket, Prefix="list/", StartAfter=sorted(names)[-3], MaxKeys=1)
    check(page["IsTruncated"] and page["Contents"][0]["Key"] == sorted(names)[-2], str(page)[:500])

with script.step("delete_objects, quiet and not"):
    objects = [{"Key": name} for name in names]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects[:1000]})
    check(len(answer["Deleted"]) == 1000 and "Errors" not in answer, str(answer)[:500])
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects[1000:], "Quiet": True})
    check("Deleted" not in answer and "Errors" not in answer, str(answer)[:500])
    check(s3.list_objects_v2(Bucket=bucket, Prefix="list/")["KeyCount"] == 0, "keys are left")

with script.step("delete what is there, and what is not"):
    s3.delete_object(Bucket=bucket, Key="one byte")
    s3.delete_object(Bucket=bucket, Key="one byte")
    check_error("NoSuchKey", s3.get_object, Bucket=bucket, Key="one byte")

# -- copy

with script.step("copy, keeping and replacing metadata"):
    source = {"Bucket": bucket, "Key": "metadata"}
    s3.copy_object(Bucket=bucket, Key="copy/kept", CopySource=source)
    check(s3.head_object(Bucket=bucket, Key="copy/kept")["Metadata"]["colour"] == "blue", "metadata was not kept")
    s3.copy_object(
        Bucket=bucket, Key="copy/replaced", CopySource=source, MetadataDirective="REPLACE", Metadata={"new": "1"}
    )
    check(s3.head_object(Bucket=bucket, Key="copy/replaced")["Metadata"] == {"new": "1"}, "metadata was not replaced")
    check(body("copy/kept") == small and body("copy/replaced") == small, "other bytes")
    s3.copy_object(Bucket=bucket, Key="copy/large", CopySource={"Bucket": bucket, "Key": "large"})
    s3.delete_object(Bucket=bucket, Key="large")
    check(body("copy/large") == large, "a copy must outlive its source")
    check_error(
        "PreconditionFailed", s3.copy_object,
        Bucket=bucket, Key="copy/no", CopySource=source, CopySourceIfMatch='"other"',
    )

# -- multipart

with script.step("multipart by hand: parts out of order, list_parts, complete"):
    parts = [make_bytes(5 * MIB, seed=number) for number in (1, 2)] + [make_bytes(12345, seed=3)]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="multi", ContentType="text/x-multi", Metadata={"a": "b"})
    target = {"Bucket": bucket, "Key": "multi", "UploadId": upload["UploadId"]}
    etags = {
        number: s3.upload_part(PartNumber=number, Body=parts[number - 1], **target)["ETag"] for number in (3, 1, 2)
    }
    listed = s3.list_parts(**target)["Parts"]
    check([part["PartNumber"] for part in listed] == [1, 2, 3], str(listed))
    check([part["Size"] for part in listed] == [len(part) for part in parts], str(listed))
    uploads = s3.list_multipart_uploads(Bucket=bucket)["Uploads"]
    check([it["UploadId"] for it in uploads] == [upload["UploadId"]], str(uploads))
    chosen = {"Parts": [{"PartNumber": number, "ETag": etags[number]} for number in (1, 2, 3)]}
    done = s3.complete_multipart_upload(MultipartUpload=chosen, **target)
    expected = md5(b"".join(hashlib.md5(part).digest() for part in parts)) + "-3"
    check(done["ETag"] == f'"{expected}"', f"ETag {done['ETag']}")
    got = s3.get_object(Bucket=bucket, Key="multi")
    check(got["ContentType"] == "text/x-multi" and got["Metadata"] == {"a": "b"}, str(got))
    check(got["Body"].read() == b"".join(parts), "other bytes")

with script.step("a part by its number"):
    got = s3.get_object(Bucket=bucket, Key="multi", PartNumber=2)
    check(got["Body"].read() == parts[1] and got["PartsCount"] == 3, "another part")

with script.step("multipart by the transfer manager"):
    data = make_bytes(20 * MIB + 1, seed=9)
    config = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=6 * MIB, max_concurrency=4)
    s3.upload_fileobj(io.BytesIO(data), bucket, "managed", Config=config)
    back = io.BytesIO()
    s3.download_fileobj(bucket, "managed", back, Config=config)
    check(back.getvalue() == data, "other bytes")

with script.step("multipart with checksums, composite and of the full object"):
    for algorithm, kind in [("SHA256", "COMPOSITE"), ("CRC32C", "COMPOSITE"), ("CRC64NVME", "FULL_OBJECT")]:
        key = f"multi-{algorithm}"
        upload = s3.create_multipart_upload(Bucket=bucket, Key=key, ChecksumAlgorithm=algorithm, ChecksumType=kind)
        target = {"Bucket": bucket, "Key": key, "UploadId": upload["UploadId"]}
        chosen = []
        for number in (1, 2):
            part = s3.upload_part(PartNumber=number, Body=parts[number - 1], ChecksumAlgorithm=algorithm, **target)
            chosen.append({
                "PartNumber": number, "ETag": part["ETag"], f"Checksum{algorithm}": part[f"Checksum{algorithm}"],
            })
        done = s3.complete_multipart_upload(MultipartUpload={"Parts": chosen}, **target)
        check(done.get("ChecksumType") == kind and done.get(f"Checksum{algorithm}"), f"{algorithm}: {done}")
        head = s3.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
        check(head[f"Checksum{algorithm}"] == done[f"Checksum{algorithm}"], f"{algorithm}: {head}")

with script.step("upload_part_copy with ranges"):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="part-copy")
    target = {"Bucket": bucket, "Key": "part-copy", "UploadId": upload["UploadId"]}
    chosen = []
    for number, span in [(1, f"bytes=100-{5 * MIB + 99}"), (2, "bytes=0-99")]:
        copied = s3.upload_part_copy(
            PartNumber=number, CopySource={"Bucket": bucket, "Key": "multi"}, CopySourceRange=span, **target
        )
        chosen.append({"PartNumber": number, "ETag": copied["CopyPartResult"]["ETag"]})
    s3.complete_multipart_upload(MultipartUpload={"Parts": chosen}, **target)
    whole = b"".join(parts)
    check(body("part-copy") == whole[100:5 * MIB + 100] + whole[:100], "other bytes")

with script.step("get_object_attributes"):
    wanted = ["ETag", "ObjectSize", "ObjectParts", "StorageClass"]
    answer = s3.get_object_attributes(Bucket=bucket, Key="multi-SHA256", ObjectAttributes=wanted)
    check(answer["ObjectSize"] == 10 * MIB and answer["ObjectParts"]["TotalPartsCount"] == 2, str(answer))

with script.step("an aborted upload is gone, and what is wrong with the parts is told"):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="aborted")
    target = {"Bucket": bucket, "Key": "aborted", "UploadId": upload["UploadId"]}
    tags = [s3.upload_part(PartNumber=number, Body=small, **target)["ETag"] for number in (1, 2)]
    complete = lambda *numbers, etag=None: dict(
        MultipartUpload={"Parts": [{"PartNumber": n, "ETag": etag or tags[n - 1]} for n in numbers]}, **target
    )
    check_error("EntityTooSmall", s3.complete_multipart_upload, **complete(1, 2))
    check_error("InvalidPartOrder", s3.complete_multipart_upload, **complete(2, 1))
    check_error("InvalidPart", s3.complete_multipart_upload, **complete(1, etag='"' + "0" * 32 + '"'))
    s3.abort_multipart_upload(**target)
    check_error("NoSuchUpload", s3.upload_part, PartNumber=1, Body=small, **target)
    check_error("NoSuchUpload", s3.list_parts, **target)
    check_error("404", s3.head_object, Bucket=bucket, Key="aborted")

# -- presigned URLs

# Without this, boto3 presigns for us-east-1 with SigV2.
presigner = client(signature_version="s3v4")

with script.step("presigned get and put"):
    url = presigner.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "small"}, ExpiresIn=60)
    check(fetch(url).read() == small, "other bytes")
    url = presigner.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "presigned"}, ExpiresIn=60)
    kind = {"Content-Type": "application/octet-stream"}
    fetch(urllib.request.Request(url, data=large, method="PUT", headers=kind)).read()
    check(body("presigned") == large, "other bytes")

with script.step("a presigned URL that has expired or was altered is refused"):
    url = presigner.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "small"}, ExpiresIn=1)
    time.sleep(2.5)
    for refused, code in [(url, "AccessDenied"), (url.replace("/small?", "/once?"), None)]:
        try:
            fetch(refused)
            check(False, "it was served")
        except urllib.error.HTTPError as error:
            said = error.read().decode()
            check(error.code == 403 and (code is None or f"<Code>{code}</Code>" in said), f"{error.code}: {said}")

with script.step("a URL presigned with SigV2 is refused with a hint"):
    url = client(signature_version="s3").generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "small"})
    try:
        fetch(url)
        check(False, "it was served")
    except urllib.error.HTTPError as error:
        said = error.read().decode()
        check(error.code == 400 and "AWS4-HMAC-SHA256" in said, f"{error.code}: {said}")

# -- payload signing

with script.step("signed payloads, and no checksums, as older SDKs do"):
    signing = {"payload_signing_enabled": True}
    old = client(s3=signing, request_checksum_calculation="when_required", response_checksum_validation="when_required")
    old.put_object(Bucket=bucket, Key="signed", Body=large)
    check(body("signed") == large, "other bytes")

# -- errors

with script.step("error codes"):
    check_error("NoSuchKey", s3.get_object, Bucket=bucket, Key="nothing")
    check_error("404", s3.head_object, Bucket=bucket, Key="nothing")
    check_error("NoSuchBucket", s3.list_objects_v2, Bucket=settings.bucket("nothing"))
    check_error("NoSuchBucket", s3.put_object, Bucket=settings.bucket("nothing"), Key="k", Body=b"")
    check_error("BucketNotEmpty", s3.delete_bucket, Bucket=bucket)
    check_error("InvalidBucketName", s3.create_bucket, Bucket="UPPER")
    check_error("KeyTooLongError", s3.put_object, Bucket=bucket, Key="k" * 1025, Body=b"")
    check_error("SignatureDoesNotMatch", client(secret_key="wrong").get_object, Bucket=bucket, Key="small")
    check_error("InvalidAccessKeyId", client(access_key="WRONG").get_object, Bucket=bucket, Key="small")
    check_error(
        "MetadataTooLarge", s3.put_object, Bucket=bucket, Key="metadata", Body=b"", Metadata={"large": "x" * 2100}
    )

with script.step("empty and delete the bucket"):
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": it["Key"]} for it in page["Contents"]]})
    s3.delete_bucket(Bucket=bucket)
    check_error("404", s3.head_bucket, Bucket=bucket)

script.finish()
