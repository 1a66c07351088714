//! The data directory as a whole.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::config::{Auto, ByteSize, KeySource};

fn config(data_dir: &Path) -> Config {
    let mut config = Config::default();
    config.node.data_dir = data_dir.to_owned();
    config.store.device_size = Auto::Set(ByteSize(4 << 20));
    config
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").mode() & 0o777
}

#[test]
fn a_first_start_makes_everything_and_keeps_secrets_secret() {
    let directory = tempfile::tempdir().expect("a directory");
    let data_dir = directory.path().join("deep/basalt-data");
    let boot = Boot::prepare(&config(&data_dir)).expect("a first start");
    assert_eq!(boot.data_dir, data_dir.canonicalize().expect("there"));
    assert_eq!(mode(&data_dir), 0o700);
    for secret in ["key", "credentials", "ca-key.pem", "certificate-key.pem"] {
        assert_eq!(mode(&data_dir.join(secret)), 0o600, "{secret}");
    }
    assert!(data_dir.join("ca.pem").exists() && data_dir.join("certificate.pem").exists());
    let leftovers = fs::read_dir(&data_dir).expect("there").filter(|entry| {
        entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().ends_with(".new"))
    });
    assert_eq!(leftovers.count(), 0);
}

#[test]
fn a_second_start_finds_the_same() {
    let directory = tempfile::tempdir().expect("a directory");
    let read_all = || {
        ["key", "credentials", "ca.pem", "ca-key.pem", "certificate.pem", "certificate-key.pem"]
            .map(|name| fs::read(directory.path().join(name)).expect("there"))
    };
    let first = Boot::prepare(&config(directory.path())).expect("a first start");
    let (key, credentials, files) = (first.key.clone(), first.credentials.clone(), read_all());
    drop(first);
    let second = Boot::prepare(&config(directory.path())).expect("a second start");
    assert_eq!((second.key.clone(), second.credentials.clone(), read_all()), (key, credentials, files));
}

#[test]
fn a_second_node_is_kept_out() {
    let directory = tempfile::tempdir().expect("a directory");
    let _first = Boot::prepare(&config(directory.path())).expect("a first start");
    let error = Boot::prepare(&config(directory.path())).expect_err("it is in use").to_string();
    assert!(error.contains("another basalt-node") && error.contains("--data-dir"), "{error}");
}

#[test]
fn a_secret_that_others_may_read_is_refused_with_the_command_that_helps() {
    let directory = tempfile::tempdir().expect("a directory");
    drop(Boot::prepare(&config(directory.path())).expect("a first start"));
    for secret in ["key", "credentials", "ca-key.pem", "certificate-key.pem"] {
        let path = directory.path().join(secret);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("changed");
        let error = Boot::prepare(&config(directory.path())).expect_err(secret).to_string();
        assert!(
            error.contains(&format!("chmod 600 {}", path.display())) && error.contains("0640"),
            "{error}"
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changed");
    }
}

#[test]
fn a_lost_key_is_not_replaced_while_its_devices_are_there() {
    let directory = tempfile::tempdir().expect("a directory");
    drop(Boot::prepare(&config(directory.path())).expect("a first start"));
    fs::write(directory.path().join("device-0.basalt"), [1]).expect("written");
    fs::remove_file(directory.path().join("key")).expect("removed");
    let error = Boot::prepare(&config(directory.path())).expect_err("the key is lost").to_string();
    assert!(error.contains("device-0.basalt") && error.contains("put back"), "{error}");
    assert!(!directory.path().join("key").exists());
}

#[test]
fn a_configured_key_comes_from_its_file_or_is_asked_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut config = config(&directory.path().join("data"));
    let path = directory.path().join("my-key");
    config.store.key_source = Some(KeySource::File(path.clone()));
    let error = Boot::prepare(&config).expect_err("there is none").to_string();
    assert!(error.contains("my-key"), "{error}");
    files::write(&path, "ab".repeat(32).as_bytes(), files::SECRET).expect("written");
    let boot = Boot::prepare(&config).expect("it is there");
    assert_eq!(boot.key.bytes(), &[0xab; 32]);
    assert!(!boot.data_dir.join("key").exists());
}

#[test]
fn a_key_variable_that_is_not_set_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut config = config(directory.path());
    config.store.key_source = Some(KeySource::Env("BASALT_TEST_NO_SUCH_KEY".into()));
    let error = Boot::prepare(&config).expect_err("not set").to_string();
    assert!(error.contains("BASALT_TEST_NO_SUCH_KEY"), "{error}");
}

#[test]
fn a_data_directory_that_cannot_be_made_is_named() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let error =
        Boot::prepare(&config(&file.path().join("data"))).expect_err("a file is in the way").to_string();
    assert!(error.contains("--data-dir"), "{error}");
}

#[test]
fn the_banner_names_what_a_client_needs() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = config(directory.path());
    let boot = Boot::prepare(&config).expect("a first start");
    let text = banner(&config, &boot, "127.0.0.1:9000".parse().expect("an address"), false);
    for part in [
        "https://127.0.0.1:9000",
        &boot.credentials.access_key,
        &format!("AWS_CA_BUNDLE={}", boot.data_dir.join("ca.pem").display()),
        &format!("AWS_SHARED_CREDENTIALS_FILE={}", boot.data_dir.join("credentials").display()),
        "boto3",
        "curl",
    ] {
        assert!(text.contains(part), "{text} lacks {part}");
    }
    assert!(!text.contains(boot.credentials.secret.as_str()));
}
