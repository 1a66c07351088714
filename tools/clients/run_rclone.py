"""rclone: copy, check, sync, ls, cat, move and purge."""

from harness import Script, Settings, check, check_same_file, check_same_tree, files_below, make_file, run, run_refused

settings = Settings()
environment = {
    "RCLONE_CONFIG": str(settings.work / "rclone.conf"),
    "RCLONE_CONFIG_NODE_TYPE": "s3",
    "RCLONE_CONFIG_NODE_PROVIDER": "Other",
    "RCLONE_CONFIG_NODE_ACCESS_KEY_ID": settings.access_key,
    "RCLONE_CONFIG_NODE_SECRET_ACCESS_KEY": settings.secret_key,
    "RCLONE_CONFIG_NODE_ENDPOINT": settings.endpoint,
    "RCLONE_CONFIG_NODE_REGION": settings.region,
    "RCLONE_CA_CERT": str(settings.ca),
    # A fault should show, not be tried away.
    "RCLONE_RETRIES": "1",
    "RCLONE_LOW_LEVEL_RETRIES": "1",
}
(settings.work / "rclone.conf").touch()


def rclone(*arguments, stdin=None):
    return run("rclone", *arguments, environment=environment, stdin=stdin).decode()


version = run("rclone", "version").decode().split()[1]
script = Script(settings, version)
remote = f"node:{settings.bucket('rclone')}"
big = make_file(settings.work / "big", settings.big_len)
file_count = len(files_below(settings.tree))

with script.step("mkdir and lsd"):
    rclone("mkdir", remote)
    check(remote.removeprefix("node:") in rclone("lsd", "node:"), "the bucket is not listed")

with script.step(f"copy of {settings.big_len >> 20} MiB in parts, both ways"):
    rclone("copyto", "--s3-upload-cutoff", "5Mi", "--s3-chunk-size", "5Mi", big, f"{remote}/big")
    rclone("copyto", f"{remote}/big", settings.work / "big.back")
    check_same_file(big, settings.work / "big.back")

with script.step(f"copy of {file_count} files"):
    rclone("copy", "--transfers", "16", settings.tree, f"{remote}/tree")

with script.step("check agrees by checksum"):
    rclone("check", settings.tree, f"{remote}/tree")

with script.step("check --download agrees byte by byte"):
    rclone("check", "--download", "--checkers", "16", settings.tree, f"{remote}/tree")

with script.step("check finds a difference"):
    (settings.work / "other").mkdir()
    make_file(settings.work / "other" / "only here", 10)
    command = ["rclone", "check", settings.work / "other", f"{remote}/tree"]
    run_refused(*command, environment=environment, expected="differences found")

with script.step("sync down gives the same tree"):
    rclone("sync", "--transfers", "16", f"{remote}/tree", settings.work / "tree")
    check_same_tree(settings.tree, settings.work / "tree")

with script.step("sync finds nothing to do"):
    said = rclone("sync", "--dry-run", settings.tree, f"{remote}/tree")
    check(said.strip() == "", said[:500])

with script.step("ls and size count every file, by either version of the listing"):
    for list_version in ["1", "2"]:
        lines = rclone("ls", "--s3-list-version", list_version, f"{remote}/tree").splitlines()
        check(len(lines) == file_count, f"version {list_version}: {len(lines)} lines for {file_count} files")

with script.step("rcat and cat"):
    rclone("rcat", f"{remote}/from pipe", stdin=b"through a pipe")
    check(rclone("cat", f"{remote}/from pipe") == "through a pipe", "other bytes came back")

with script.step("moveto on the server"):
    rclone("moveto", f"{remote}/big", f"{remote}/moved/big")
    rclone("copyto", f"{remote}/moved/big", settings.work / "big.moved")
    check_same_file(big, settings.work / "big.moved")
    check("big" not in rclone("lsf", "--files-only", remote).splitlines(), "the source is still there")

with script.step("a wrong secret is refused"):
    wrong = {**environment, "RCLONE_CONFIG_NODE_SECRET_ACCESS_KEY": "wrong"}
    run_refused("rclone", "ls", remote, environment=wrong, expected="SignatureDoesNotMatch")

with script.step("purge"):
    rclone("purge", remote)
    check(remote.removeprefix("node:") not in rclone("lsd", "node:"), "the bucket is still listed")

script.finish()
