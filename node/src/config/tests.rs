//! The configuration as a whole: errors, and the example file.

use std::path::Path;

use serde_json::Value;

use super::*;

const EXAMPLE: &str = include_str!("../../../basalt.example.toml");

fn load(text: &str) -> Result<Config, String> {
    from_text(text, Path::new("basalt.toml")).map_err(|error| error.to_string())
}

#[track_caller]
fn refuses(text: &str, parts: &[&str]) {
    let error = load(text).expect_err("this configuration is wrong");
    for part in parts {
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    }
}

/// The example with every setting that is commented out (`#name = ...`, `#[[section]]`) set.
fn example_with_everything_set() -> String {
    let is_setting = |rest: &str| {
        rest.starts_with('[')
            || rest.split_once(" = ").is_some_and(|(name, _)| {
                !name.contains(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit() && c != '_')
            })
    };
    let lines =
        EXAMPLE.lines().map(|line| line.strip_prefix('#').filter(|rest| is_setting(rest)).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

/// The dotted names of all settings below `value`; of a list, its first member's.
fn names(value: &Value, prefix: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                names(member, &format!("{prefix}.{name}"), out);
            }
        }
        Value::Array(members) if members.first().is_some_and(Value::is_object) => {
            names(&members[0], prefix, out)
        }
        _ => out.push(prefix.to_owned()),
    }
}

fn names_of(value: &Value) -> Vec<String> {
    let mut out = Vec::new();
    names(value, "", &mut out);
    out.sort();
    out
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(load(""), Ok(Config::default()));
}

#[test]
fn the_example_is_the_defaults() {
    assert_eq!(load(EXAMPLE), Ok(Config::default()));
}

#[test]
fn the_example_names_every_setting() {
    let text = example_with_everything_set();
    let config = load(&text).expect("the example with everything set is valid");
    let in_example: Value = toml::from_str(&text).expect("it is TOML");
    let known = serde_json::to_value(&config).expect("the configuration is a tree");
    assert_eq!(names_of(&in_example), names_of(&known));
    assert!(
        !config.store.devices.is_empty()
            && config.tls.certificate.is_some()
            && config.store.key_source.is_some()
    );
}

#[test]
fn every_setting_of_the_example_has_a_comment_above_its_group() {
    let mut has_comment = false;
    for line in EXAMPLE.lines() {
        match line {
            "" => has_comment = false,
            line if line.starts_with("# ") => has_comment = true,
            line if line.starts_with('[') || line.starts_with("#[") => {}
            line => assert!(has_comment, "no comment above {line:?}"),
        }
    }
}

#[test]
fn an_unknown_setting_is_named_with_its_line_and_those_that_exist() {
    refuses(
        "[node]\nregion = \"a\"\nlisen = []\n",
        &["basalt.toml:3: ", "lisen", "`listen`", "`admin_listen`"],
    );
    refuses("[nodes]\n", &["basalt.toml:1: ", "nodes", "`node`"]);
    refuses("[[store.devices]]\npath = \"a\"\nsise = 1\n", &["basalt.toml:3: ", "sise", "`size`"]);
}

#[test]
fn a_value_of_the_wrong_kind_is_named_with_what_is_allowed() {
    refuses(
        "[node]\nlisten = [\"localhost:9000\"]\n",
        &["basalt.toml:2: ", "node.listen", "localhost:9000", "ADDRESS:PORT"],
    );
    refuses("[limits]\n\nhead_timeout = 10\n", &["basalt.toml:3: ", "limits.head_timeout", "30s"]);
    refuses("[store]\nsegment_size = \"big\"\n", &["basalt.toml:2: ", "store.segment_size", "256MiB"]);
    refuses("[store]\nsegment_size = true\n", &["basalt.toml:2: ", "store.segment_size", "auto"]);
    refuses("[limits.s3]\nparts_max = -1\n", &["basalt.toml:2: ", "limits.s3.parts_max"]);
    refuses("[log]\nformat = \"xml\"\n", &["basalt.toml:2: ", "log.format", "`text`", "`json`"]);
    refuses("[node]\ncores = \"3-1\"\n", &["basalt.toml:2: ", "node.cores", "0-3,6"]);
    refuses(
        "[store]\nkey_source = { vault = \"x\" }\n",
        &["basalt.toml:2: ", "store.key_source", "`file`", "`env`"],
    );
}

#[test]
fn text_that_is_not_toml_is_refused_with_its_line() {
    refuses("[node]\nlisten = [\n", &["basalt.toml:"]);
    refuses("[node]\ndata_dir = ./x\n", &["basalt.toml:2: "]);
}

#[test]
fn settings_that_do_not_fit_each_other_are_named_with_their_line() {
    refuses("[tls]\n\ncertificate = \"c.pem\"\n", &["basalt.toml:3: tls.certificate: ", "tls.key"]);
    refuses("[store]\ncopies = 0\n", &["basalt.toml:2: store.copies: "]);
    refuses("[store]\ncopies = 3\n", &["basalt.toml:2: store.copies: ", "store.devices"]);
    refuses(
        "[store]\ncopies = 2\n[[store.devices]]\npath = \"a\"\n",
        &["basalt.toml:2: store.copies: ", "\"default\" has 1"],
    );
    refuses(
        "[store]\ncopies = 1\n[[store.devices]]\npath = \"a\"\n[[store.devices]]\npath = \"a\"\n",
        &["store.devices: ", "twice"],
    );
    refuses("[node]\nlisten = []\n", &["basalt.toml:2: node.listen: "]);
    refuses("[node]\nadmin_listen = \"127.0.0.1:9000\"\n", &["127.0.0.1:9000 is named twice"]);
    refuses("[node]\nregion = \"\"\n", &["basalt.toml:2: node.region: "]);
    refuses("[node]\ndomains = [\"Ex_ample\"]\n", &["basalt.toml:2: node.domains: "]);
    refuses(
        "[network]\ntcp_congestion_control = \"\"\n",
        &["basalt.toml:2: network.tcp_congestion_control: "],
    );
    refuses("[network]\nzero_copy_send_min = \"1KiB\"\n", &["basalt.toml:2: network.zero_copy_send_min: "]);
    refuses("[network]\nkernel_tls = \"on\"\n", &["basalt.toml:2: network.kernel_tls: ", "off", "auto"]);
    refuses("[limits.s3]\npart_len_min = \"6GiB\"\n", &["basalt.toml:2: limits.s3.part_len_min: ", "5GiB"]);
}

#[test]
fn the_s3_limits_reach_the_protocol() {
    let config =
        load("[limits.s3]\nkey_len_max = 10\nobject_len_max = \"1GiB\"\npresign_lifetime_max = \"1h\"\n")
            .expect("valid");
    let limits = proto_s3::limits::Limits::from(&config.limits.s3);
    assert_eq!((limits.key_len_max, limits.object_len_max, limits.presign_seconds_max), (10, 1 << 30, 3600));
    assert_eq!(proto_s3::limits::Limits::from(&S3Limits::default()), proto_s3::limits::Limits::default());
}
