//! The administrator's command line, as it is called.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use engine::crypto::{MasterKey, SystemRandom};
use engine::device::{DeviceFile, UringDevice};
use engine::format::body::VersionMeta;
use engine::format::record::SealKind;
use engine::ids::{NamespaceId, ShardId, UnixMillis, UserId};
use engine::{Core, Layout, NewVersion, ObjectWriter, Precondition, Store};
use tempfile::TempDir;

const LEN: u64 = 32 << 20;

struct Place {
    dir: TempDir,
}

impl Place {
    /// Two blank devices and a key.
    fn new() -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let place = Place { dir };
        place.write_key("key", &"1f".repeat(32));
        for device in place.devices() {
            fs::File::create(device).and_then(|file| file.set_len(LEN)).expect("a device");
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn devices(&self) -> [PathBuf; 2] {
        [self.path("device-0"), self.path("device-1")]
    }

    fn write_key(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).expect("made secret");
    }

    fn basalt(&self, verb: &str, more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_basalt"));
        command.args(verb.split(' ')).arg("--device").args(self.devices());
        command.args(more).current_dir(self.dir.path()).output().expect("it runs")
    }

    fn formatted() -> Self {
        let place = Self::new();
        let output =
            place.basalt("format", &["--key-file", "key", "--shards", "2", "--segment-size", "1048576"]);
        assert_eq!(status(&output), 0, "{output:?}");
        place
    }
}

/// Puts an object into a store, and makes a checkpoint.
async fn live_in(files: &[DeviceFile]) {
    let handles = || files.iter().map(|file| file.attach().expect("attached")).collect::<Vec<UringDevice>>();
    let store = Store::open(&handles(), MasterKey::new([0x1f; 32])).await.expect("opened");
    let core = Core::new(store, 0, handles(), Box::new(SystemRandom));
    let mut shards = Vec::new();
    for id in 0..core.store.shard_count {
        let shard = engine::open_shard(core.clone(), ShardId(id), |_| {}).await.expect("a shard");
        compio::runtime::spawn(shard.clone().run()).detach();
        shards.push(shard);
    }
    core.store.table.finish_recovery();
    let namespace = NamespaceId(1);
    shards[0].create_namespace(namespace, "default", SealKind::Aes256Gcm).await.expect("a namespace");
    let made = shards[0].create_bucket("b", namespace, UserId(1), "", UnixMillis(1)).await;
    let catalog = made.expect("a bucket");
    let bucket = catalog.buckets["b"].clone();
    let sealing = core.sealing(&catalog, namespace).expect("it is there");
    let mut writer = ObjectWriter::new(core.clone(), &sealing, 5, Layout::InlineIfSmall).expect("a writer");
    writer.write(b"hello").await.expect("taken in");
    let content = writer.finish().await.expect("finished");
    let meta = VersionMeta { size: 5, ..VersionMeta::default() };
    let new = NewVersion { bucket: bucket.id, key: b"a/key".to_vec(), meta };
    let draft = core.draft_version(&sealing, new, content).expect("drafted");
    shards[usize::from(bucket.home.0)].put(draft, Precondition::None).await.expect("stored");
    for shard in &shards {
        shard.checkpoint().await.expect("a checkpoint");
        shard.stop();
    }
}

fn json_lines(output: &Output) -> Vec<serde_json::Value> {
    assert_eq!(status(output), 0, "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON object")).collect()
}

fn status(output: &Output) -> i32 {
    output.status.code().expect("it was not killed")
}

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).expect("opened");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 1], at).expect("written");
}

#[test]
fn a_store_that_was_just_laid_out_is_clean_and_told_of() {
    let place = Place::formatted();
    let output = place.basalt("fsck", &["--key-file", "key"]);
    assert_eq!(status(&output), 0, "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("clean: "), "{output:?}");
    let output = place.basalt("inspect superblock", &["--json"]);
    let lines = json_lines(&output);
    assert_eq!(lines.len(), 4);
    assert!(lines.iter().all(|line| line["verdict"] == "good" && line["shards"] == 2), "{lines:?}");
}

#[test]
fn the_exit_status_says_how_bad_it_is() {
    let place = Place::formatted();
    flip(&place.devices()[0], 300);
    let output = place.basalt("fsck", &["--key-file", "key", "--json"]);
    assert_eq!(status(&output), 1, "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let finding: serde_json::Value =
        serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&finding["fault"], &finding["severity"]), (&"superblock".into(), &"repairable".into()));
    assert!(finding["device"].as_str().expect("a path").ends_with("device-0"), "{finding}");
    for device in place.devices() {
        flip(&device, 400);
        flip(&device, 65_536 + 400);
    }
    assert_eq!(status(&place.basalt("fsck", &["--key-file", "key"])), 2);
}

#[test]
fn what_keeps_a_check_from_running_is_status_3_and_says_what_to_do() {
    let place = Place::formatted();
    place.write_key("other", &"2e".repeat(32));
    place.write_key("short", "2e");
    for key in ["other", "short", "nothing"] {
        let output = place.basalt("fsck", &["--key-file", key]);
        assert_eq!(status(&output), 3, "{key}: {output:?}");
        assert!(output.stderr.starts_with(b"basalt: "), "{output:?}");
    }
    let _node = DeviceFile::open(&place.devices()[1]).expect("opened");
    let output = place.basalt("fsck", &["--key-file", "key"]);
    assert_eq!(status(&output), 3);
    assert!(String::from_utf8_lossy(&output.stderr).contains("another process has it open"), "{output:?}");
}

#[test]
fn what_is_on_a_device_is_overwritten_only_by_force() {
    let place = Place::formatted();
    let before = fs::read(&place.devices()[0]).expect("read");
    let output = place.basalt("format", &["--key-file", "key"]);
    assert_eq!(status(&output), 3);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--force"), "{output:?}");
    // What does not fit is refused before anything is written, by force or not.
    let output = place.basalt("format", &["--key-file", "key", "--force", "--copies", "3"]);
    assert_eq!(status(&output), 3);
    assert!(fs::read(&place.devices()[0]).expect("read") == before);
    let output = place.basalt("format", &["--key-file", "key", "--force", "--copies", "1"]);
    assert_eq!(status(&output), 0, "{output:?}");
    assert_eq!(status(&place.basalt("fsck", &["--key-file", "key"])), 0);
    let other = Place::new();
    flip(&other.devices()[1], 500_000);
    let output = other.basalt("format", &["--key-file", "key"]);
    assert_eq!(status(&output), 3);
    assert!(String::from_utf8_lossy(&output.stderr).contains("not blank"), "{output:?}");
}

#[test]
fn an_object_is_found_from_the_checkpoint_down_to_its_record() {
    let place = Place::formatted();
    let files = place.devices().map(|path| DeviceFile::open(&path).expect("opened"));
    compio::runtime::Runtime::new().expect("a runtime").block_on(live_in(&files));
    drop(files);
    let summary = place.basalt("fsck", &["--key-file", "key", "--data", "--json"]);
    assert_eq!(json_lines(&summary)[0]["summary"]["versions"], 1);
    let inspect = |what: &str, more: &[&str]| {
        let more = [more, &["--json"]].concat();
        json_lines(&place.basalt(&format!("inspect {what}"), &more))
    };
    let keyed = ["--key-file", "key"];
    assert!(inspect("checkpoint", &keyed).iter().any(|line| line["objects"] == 1));
    let runs = inspect("runs", &keyed);
    assert_eq!(runs.len(), 1, "{runs:?}");
    let run = format!("run {} --shard {}", runs[0]["run"], runs[0]["shard"]);
    let entries = inspect(&run, &keyed);
    assert_eq!((&entries[0]["key"], &entries[0]["size"]), (&"a/key".into(), &5.into()));
    let record = format!("record {}", entries[0]["record"].as_str().expect("a place"));
    let sealed = inspect(&record, &[]);
    assert_eq!(sealed.len(), 2, "a copy on each device");
    assert!(sealed.iter().all(|copy| copy["kind"] == "Version" && copy["payload"].is_null()), "{sealed:?}");
    let opened = inspect(&record, &keyed);
    assert!(opened.iter().all(|copy| copy["payload"].as_str().is_some_and(|text| text.contains("a/key"))));
    let (segment, _) = record.trim_start_matches("record ").split_once(':').expect("a place");
    assert_eq!(inspect(&format!("segment {segment}"), &[]).len(), 2);
    assert_eq!(status(&place.basalt("inspect runs", &[])), 3, "runs are sealed");
}
