"""aws-cli: the high-level s3 commands, and a presigned URL opened by curl."""

import shutil

from harness import Script, Settings, check, check_same_file, check_same_tree, files_below, make_file, run, run_refused

settings = Settings()
# Nobody else's settings: that presigned URLs are SigV4 is what the node's credentials file asks for.
configuration = settings.work / "config"
configuration.write_text("")
environment = {
    "AWS_SHARED_CREDENTIALS_FILE": str(settings.credentials),
    "AWS_CONFIG_FILE": str(configuration),
    "AWS_CA_BUNDLE": str(settings.ca),
    "AWS_DEFAULT_REGION": settings.region,
    "AWS_EC2_METADATA_DISABLED": "true",
}


def aws(*arguments, stdin=None):
    command = ["aws", "--endpoint-url", settings.endpoint, *arguments]
    return run(*command, environment=environment, stdin=stdin)


version = run("aws", "--version", environment=environment).decode().split()[0].removeprefix("aws-cli/")
script = Script(settings, version)
bucket = f"s3://{settings.bucket('aws-cli')}"
big = make_file(settings.work / "big", settings.big_len)
file_count = len(files_below(settings.tree))

with script.step("mb"):
    aws("s3", "mb", bucket)

with script.step("ls shows the bucket"):
    check(bucket.removeprefix("s3://") in aws("s3", "ls").decode(), "the bucket is not listed")

with script.step(f"cp of {settings.big_len >> 20} MiB up and down compares equal"):
    aws("s3", "cp", "--only-show-errors", big, f"{bucket}/big")
    aws("s3", "cp", "--only-show-errors", f"{bucket}/big", settings.work / "big.back")
    check_same_file(big, settings.work / "big.back")

with script.step("cp from and to a pipe"):
    aws("s3", "cp", "-", f"{bucket}/pipe", stdin=b"through a pipe")
    check(aws("s3", "cp", f"{bucket}/pipe", "-") == b"through a pipe", "other bytes came back")

with script.step("cp and mv on the server"):
    aws("s3", "cp", "--only-show-errors", f"{bucket}/big", f"{bucket}/copy of big")
    aws("s3", "mv", "--only-show-errors", f"{bucket}/copy of big", f"{bucket}/moved/big")
    aws("s3", "cp", "--only-show-errors", f"{bucket}/moved/big", settings.work / "big.moved")
    check_same_file(big, settings.work / "big.moved")
    run_refused(
        "aws", "--endpoint-url", settings.endpoint, "s3", "ls", f"{bucket}/copy of big", environment=environment
    )

with script.step(f"sync of {file_count} files up"):
    aws("s3", "sync", "--only-show-errors", settings.tree, f"{bucket}/tree/")

with script.step("a second sync finds nothing to do"):
    said = aws("s3", "sync", settings.tree, f"{bucket}/tree/").decode()
    check(said.strip() == "", f"it did: {said[:500]}")

with script.step("sync down gives the same tree"):
    aws("s3", "sync", "--only-show-errors", f"{bucket}/tree/", settings.work / "tree")
    check_same_tree(settings.tree, settings.work / "tree")

with script.step("ls --recursive lists every file"):
    lines = aws("s3", "ls", "--recursive", f"{bucket}/tree/").decode().splitlines()
    check(len(lines) == file_count, f"{len(lines)} lines for {file_count} files")

with script.step("ls of one level shows folders as prefixes"):
    lines = aws("s3", "ls", f"{bucket}/").decode()
    check("PRE tree/" in lines and "PRE moved/" in lines and " pipe" in lines, lines)

with script.step("a presigned URL opens in curl"):
    url = aws("s3", "presign", f"{bucket}/big", "--expires-in", "300").decode().strip()
    run("curl", "--silent", "--show-error", "--fail", "--cacert", settings.ca, "--output", settings.work / "big.curl", url)
    check_same_file(big, settings.work / "big.curl")

with script.step("s3api put-object and get-object with metadata"):
    name = bucket.removeprefix("s3://")
    source, target = settings.work / "small", settings.work / "small.back"
    make_file(source, 12345, seed=2)
    aws("s3api", "put-object", "--bucket", name, "--key", "small", "--body", source, "--metadata", "colour=blue")
    said = aws("s3api", "get-object", "--bucket", name, "--key", "small", target).decode()
    check_same_file(source, target)
    check('"colour": "blue"' in said, said)

with script.step("sync --delete removes what is gone"):
    shutil.rmtree(settings.work / "tree")
    (settings.work / "tree").mkdir()
    make_file(settings.work / "tree" / "only", 10)
    aws("s3", "sync", "--delete", "--only-show-errors", settings.work / "tree", f"{bucket}/tree/")
    lines = aws("s3", "ls", "--recursive", f"{bucket}/tree/").decode().splitlines()
    check(len(lines) == 1, f"{len(lines)} files are left")

with script.step("rb of a bucket that is not empty is refused"):
    command = ["aws", "--endpoint-url", settings.endpoint, "s3", "rb", bucket]
    run_refused(*command, environment=environment, expected="BucketNotEmpty")

with script.step("rm --recursive and rb"):
    aws("s3", "rm", "--recursive", "--only-show-errors", bucket)
    aws("s3", "rb", bucket)
    check(bucket.removeprefix("s3://") not in aws("s3", "ls").decode(), "the bucket is still listed")

script.finish()
