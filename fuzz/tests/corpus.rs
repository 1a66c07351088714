//! Every target over its corpus, without a fuzzer.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use fuzz::TARGETS;

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

#[test]
fn every_target_stands_its_corpus() {
    for target in TARGETS {
        let folder = corpus().join(target.name);
        let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut count = 0;
        for file in files {
            let path = file.expect("a folder of this repository can be listed").path();
            let bytes = fs::read(&path).expect("a file of this repository can be read");
            // The test's output is shown when it fails, and ends with the culprit.
            println!("cargo run -p fuzz -- {} {}", target.name, path.display());
            (target.run)(&bytes);
            count += 1;
        }
        assert!(count > 0, "{} has no seed", folder.display());
    }
}

#[test]
fn every_folder_of_the_corpus_has_a_target() {
    let folders: BTreeSet<String> = fs::read_dir(corpus())
        .expect("the corpus is there")
        .map(|folder| folder.expect("it can be listed").file_name().to_string_lossy().into_owned())
        .collect();
    let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(folders, targets);
}
