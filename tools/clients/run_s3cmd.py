"""s3cmd: put, get, ls, del, info, multipart and sync."""

from harness import Script, Settings, check, check_same_file, check_same_tree, files_below, make_file, run, run_refused

settings = Settings()
configuration = settings.work / "s3cfg"
configuration.write_text(f"""[default]
access_key = {settings.access_key}
secret_key = {settings.secret_key}
host_base = {settings.address}
host_bucket = {settings.address}
bucket_location = {settings.region}
use_https = True
ca_certs_file = {settings.ca}
""")


def s3cmd(*arguments):
    return run("s3cmd", "--config", configuration, "--no-progress", *arguments).decode()


version = run("s3cmd", "--version").decode().split()[-1]
script = Script(settings, version)
bucket = f"s3://{settings.bucket('s3cmd')}"
small = make_file(settings.work / "small", 70000)
big = make_file(settings.work / "big", settings.big_len)
file_count = len(files_below(settings.tree))

with script.step("mb and ls"):
    s3cmd("mb", bucket)
    check(bucket in s3cmd("ls"), "the bucket is not listed")

with script.step("put, ls, get"):
    s3cmd("put", small, f"{bucket}/folder/small file")
    check(f"{bucket}/folder/small file" in s3cmd("ls", f"{bucket}/folder/"), "the object is not listed")
    s3cmd("get", f"{bucket}/folder/small file", settings.work / "small.back")
    check_same_file(small, settings.work / "small.back")

with script.step("info tells size and MD5"):
    said = s3cmd("info", f"{bucket}/folder/small file")
    check("70000" in said and "MD5 sum" in said, said)

with script.step(f"multipart put of {settings.big_len >> 20} MiB, and get"):
    s3cmd("--multipart-chunk-size-mb=5", "put", big, f"{bucket}/big")
    s3cmd("get", f"{bucket}/big", settings.work / "big.back")
    check_same_file(big, settings.work / "big.back")

with script.step("cp and mv on the server"):
    s3cmd("cp", f"{bucket}/folder/small file", f"{bucket}/copy")
    s3cmd("mv", f"{bucket}/copy", f"{bucket}/moved")
    s3cmd("get", f"{bucket}/moved", settings.work / "moved")
    check_same_file(small, settings.work / "moved")

with script.step(f"sync of {file_count} files up"):
    s3cmd("sync", f"{settings.tree}/", f"{bucket}/tree/")
    lines = s3cmd("ls", "--recursive", f"{bucket}/tree/").splitlines()
    check(len(lines) == file_count, f"{len(lines)} lines for {file_count} files")

with script.step("sync down gives the same tree"):
    (settings.work / "tree").mkdir()
    s3cmd("sync", f"{bucket}/tree/", f"{settings.work}/tree/")
    check_same_tree(settings.tree, settings.work / "tree")

with script.step("del"):
    s3cmd("del", f"{bucket}/folder/small file")
    command = ["s3cmd", "--config", configuration, "get", f"{bucket}/folder/small file", settings.work / "gone"]
    run_refused(*command, expected="does not exist")

with script.step("rb of a bucket that is not empty is refused"):
    run_refused("s3cmd", "--config", configuration, "rb", bucket, expected="BucketNotEmpty")

with script.step("del --recursive --force and rb"):
    s3cmd("del", "--recursive", "--force", bucket)
    s3cmd("rb", bucket)
    check(bucket not in s3cmd("ls"), "the bucket is still listed")

script.finish()
