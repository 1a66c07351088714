"""curl: its own SigV4, and what plain HTTP and TLS look like from outside."""

from harness import Script, Settings, check, check_same_file, make_file, run, run_refused

settings = Settings()
plain = ["curl", "--silent", "--show-error", "--cacert", settings.ca]
signed = [*plain, "--aws-sigv4", f"aws:amz:{settings.region}:s3", "--user", f"{settings.access_key}:{settings.secret_key}"]
unsigned_payload = ["--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]


def status(*arguments):
    """The HTTP status; the body goes to the file `answer`."""
    answer = settings.work / "answer"
    answer.write_bytes(b"")
    return run(*arguments, "--output", answer, "--write-out", "%{http_code}").decode()


def answer():
    return (settings.work / "answer").read_text(errors="replace")


version = run("curl", "--version").decode().split()[1]
script = Script(settings, version)
bucket = f"{settings.endpoint}/{settings.bucket('curl')}"
data = make_file(settings.work / "data", 300000)

with script.step("create a bucket"):
    got = status(*signed, *unsigned_payload, "--request", "PUT", bucket)
    check(got == "200", f"{got}: {answer()}")

with script.step("put and get"):
    got = status(*signed, *unsigned_payload, "--upload-file", data, f"{bucket}/data")
    check(got == "200", f"{got}: {answer()}")
    run(*signed, *unsigned_payload, "--fail", "--output", settings.work / "back", f"{bucket}/data")
    check_same_file(data, settings.work / "back")

with script.step("put with Expect: 100-continue"):
    expect = ["--header", "Expect: 100-continue", "--expect100-timeout", "30"]
    got = status(*signed, *unsigned_payload, *expect, "--upload-file", data, f"{bucket}/expect")
    check(got == "200", f"{got}: {answer()}")

with script.step("head and a range"):
    said = run(*signed, *unsigned_payload, "--fail", "--head", f"{bucket}/data").decode().lower()
    check("content-length: 300000" in said and "etag:" in said and "x-amz-request-id:" in said, said)
    got = status(*signed, *unsigned_payload, "--range", "10-19", f"{bucket}/data")
    check(got == "206", f"{got}: {answer()}")
    check((settings.work / "answer").read_bytes() == data.read_bytes()[10:20], "other bytes")

with script.step("two requests on one connection"):
    url = f"{bucket}/data"
    one = ["--output", "/dev/null", url]
    said = run(*signed, *unsigned_payload, "--write-out", "%{num_connects},", *one, *one).decode()
    check(said == "1,0,", f"connections made by each: {said}")

with script.step("list"):
    got = status(*signed, *unsigned_payload, f"{bucket}?list-type=2")
    check(got == "200" and "<Key>data</Key>" in answer() and "<Size>300000</Size>" in answer(), f"{got}: {answer()}")

with script.step("an unsigned request, a wrong secret and an unknown key are refused"):
    got = status(*plain, f"{bucket}/data")
    check(got == "403" and "<Code>AccessDenied</Code>" in answer(), f"{got}: {answer()}")
    wrong = [*plain, "--aws-sigv4", f"aws:amz:{settings.region}:s3", "--user", f"{settings.access_key}:wrong"]
    got = status(*wrong, *unsigned_payload, f"{bucket}/data")
    check(got == "403" and "<Code>SignatureDoesNotMatch</Code>" in answer(), f"{got}: {answer()}")
    got = status(*signed, *unsigned_payload, f"{bucket}/nothing")
    check(got == "404" and "<Code>NoSuchKey</Code>" in answer(), f"{got}: {answer()}")

with script.step("TLS 1.2 and 1.3 are spoken, 1.1 is refused, and so is an unknown authority"):
    for version_flag in [["--tlsv1.2", "--tls-max", "1.2"], ["--tlsv1.3"]]:
        got = status(*signed, *unsigned_payload, *version_flag, f"{bucket}/data")
        check(got == "200", f"{version_flag}: {got}")
    run_refused(*plain, "--tlsv1.0", "--tls-max", "1.1", settings.endpoint)
    run_refused("curl", "--silent", "--show-error", settings.endpoint, expected="certificate")

with script.step("delete"):
    for name in ["data", "expect"]:
        got = status(*signed, *unsigned_payload, "--request", "DELETE", f"{bucket}/{name}")
        check(got == "204", f"{got}: {answer()}")
    got = status(*signed, *unsigned_payload, "--request", "DELETE", bucket)
    check(got == "204", f"{got}: {answer()}")

script.finish()
