//! The same through OpenSSL's own client, where there is one: another implementation's view of our TLS.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::support::{Node, read_line};

/// `openssl s_client` to the node; `None` where there is no `openssl`.
fn s_client(node: &Node, arguments: &[&str]) -> Option<(Child, ChildStdin, ChildStdout)> {
    let mut child = Command::new("openssl")
        .args([
            "s_client",
            "-connect",
            &node.address.to_string(),
            "-servername",
            "localhost",
            "-verify_return_error",
        ])
        .args(["-quiet", "-CAfile"])
        .arg(node.boot.data_dir.join("ca.pem"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let (stdin, stdout) = (child.stdin.take()?, child.stdout.take()?);
    Some((child, stdin, stdout))
}

#[test]
fn openssl_trusts_the_certificate_and_speaks_1_2_and_1_3() {
    let node = Node::start();
    for version in ["-tls1_2", "-tls1_3"] {
        let Some((mut child, mut stdin, mut stdout)) =
            s_client(&node, &[version, "-x509_strict", "-verify_hostname", "localhost"])
        else {
            return;
        };
        stdin.write_all(b"well\n").expect("sent");
        assert_eq!(read_line(&mut stdout), "well", "{version}");
        stdin.write_all(b"bye\n").expect("sent");
        assert_eq!(read_line(&mut stdout), "bye", "{version}");
        assert!(child.wait().expect("it ends").success(), "{version}");
    }
}

#[test]
fn openssl_is_refused_with_1_1() {
    let node = Node::start();
    let arguments = ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"];
    let Some((mut child, stdin, mut stdout)) = s_client(&node, &arguments) else { return };
    drop(stdin);
    let mut answer = Vec::new();
    stdout.read_to_end(&mut answer).expect("it ends");
    assert!(!child.wait().expect("it ends").success());
    assert_eq!(answer, b"");
}

#[test]
fn openssl_may_update_its_keys() {
    let node = Node::start();
    // Without -quiet the lines K and k are commands: update the keys, with and without asking the peer to.
    let Ok(mut child) = Command::new("openssl")
        .args(["s_client", "-connect", &node.address.to_string(), "-tls1_3", "-CAfile"])
        .arg(node.boot.data_dir.join("ca.pem"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
    else {
        return;
    };
    let (mut stdin, mut stdout) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    for line in ["first\n", "K\n", "second\n", "k\n", "third\n", "bye\n"] {
        stdin.write_all(line.as_bytes()).expect("sent");
        // It reads a command only at the beginning of a line that arrives by itself.
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let mut text = String::new();
    stdout.read_to_string(&mut text).expect("text");
    assert!(child.wait().expect("it ends").success());
    for answer in ["\nfirst\n", "\nsecond\n", "\nthird\n", "\nbye\n"] {
        assert!(text.replace("KEYUPDATE", "").contains(answer), "{text}");
    }
}
