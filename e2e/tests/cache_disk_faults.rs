//! Caches whose disk is full, hangs or holds what was not written, and those that die while they write.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::body::digest;
use plimsoll_e2e::cache_disk::{Place, SOON, bodies, body, disk, files, kill, stop, wait_written};
use plimsoll_e2e::cached::{request, status};
use plimsoll_e2e::raw::Raw;
use plimsoll_e2e::wait;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Killed at whatever it is writing: the next start has nothing in part, and nothing that was left half made.
#[test]
fn a_process_that_dies_while_it_writes_leaves_nothing_in_part() {
    const LENGTH: usize = 200_000;
    let place = Place::new(bodies(LENGTH));
    for round in 0..12 {
        let plimsoll = place.start();
        for number in 0..10 + round {
            let target = format!("/{round}/{number}");
            assert_eq!(
                place.ask(&target).body.digest,
                digest(&body(&target, LENGTH))
            );
        }
        kill(plimsoll);
    }
    let plimsoll = place.start();
    let made = fs::read_dir(place.disk().join("new")).unwrap().count();
    assert_eq!((made, disk(&plimsoll, "corrupt_total")), (0, 0.0));
    assert!(
        disk(&plimsoll, "files") > 50.0,
        "{}",
        disk(&plimsoll, "files")
    );
    for round in 0..12 {
        for number in 0..10 + round {
            let target = format!("/{round}/{number}");
            assert_eq!(
                place.ask(&target).body.digest,
                digest(&body(&target, LENGTH))
            );
        }
    }
}

#[test]
fn files_that_are_not_what_was_written_are_not_served() {
    const LENGTH: usize = 3000;
    let place = Place::new(bodies(LENGTH));
    let plimsoll = place.start();
    for number in 0..200 {
        let _ = place.ask(&format!("/{number}"));
    }
    wait_written(&plimsoll, 200.0);
    stop(plimsoll);
    for (number, file) in files(&place.disk()).iter().enumerate() {
        let mut bytes = fs::read(file).unwrap();
        let at = (number * 7919) % bytes.len();
        bytes[at] ^= 1;
        fs::write(file, bytes).unwrap();
    }
    let plimsoll = place.start();
    for number in 0..200 {
        let target = format!("/{number}");
        assert_eq!(
            place.ask(&target).body.digest,
            digest(&body(&target, LENGTH))
        );
        assert_eq!(place.count(&target), 2, "{target}");
    }
    assert!(disk(&plimsoll, "corrupt_total") > 190.0);
}

/// Where the fault is behind what has gone out by then, the answer is torn, and the next one whole.
#[test]
fn a_fault_further_behind_tears_the_answer() {
    const LENGTH: usize = 2 << 20;
    let place = Place::new(bodies(LENGTH));
    place.store_one();
    let file = files(&place.disk()).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    let plimsoll = place.start();
    let mut client = Raw::connect(place.address());
    client.send(request("GET", "/", "Host: a.example")).unwrap();
    assert!(client.try_response("GET").is_err());
    assert_eq!(disk(&plimsoll, "corrupt_total"), 1.0);
    assert_eq!(place.ask("/").body.digest, digest(&body("/", LENGTH)));
    assert_eq!(place.count("/"), 2);
}

/// A disk that is full slows nothing, and is used again when it has room.
#[test]
fn a_disk_that_is_full_is_done_without() {
    const LENGTH: usize = 50_000;
    let place = Place::new(bodies(LENGTH));
    let mut plimsoll = place.start_mounted("mount -t tmpfs -o size=2m,mode=700 cache \"$1\"");
    let ballast = place.disk_of(&mut plimsoll).join("ballast");
    // It ends where there is no block left.
    assert!(fs::write(&ballast, vec![0; 4 << 20]).is_err());
    let ask = |number: usize| {
        let target = format!("/{number}");
        let answer = place.ask(&target);
        assert_eq!(answer.body.digest, digest(&body(&target, LENGTH)));
    };
    (0..20).for_each(ask);
    wait::expect("it to be left alone", SOON, || disk(&plimsoll, "up") == 0.0);
    let said = plimsoll.stderr();
    assert_eq!(said.matches("the disk of a cache fails").count(), 1);
    fs::remove_file(&ballast).unwrap();
    let mut number = 20;
    wait::expect("it to be used again", SOON, || {
        number += 1;
        ask(number);
        disk(&plimsoll, "up") == 1.0
    });
    let written = disk(&plimsoll, "written_total");
    ask(1000);
    wait_written(&plimsoll, written + 1.0);
    // It is smaller than it was said to be: what is oldest makes room, as often as it must.
    (1001..1101).for_each(ask);
    wait_written(&plimsoll, written + 50.0);
    assert!(
        disk(&plimsoll, "evicted_total") > 0.0 && disk(&plimsoll, "bytes") < f64::from(2 << 20)
    );
}

/// A file system that is frozen: what writes to it hangs until it is thawed, also where a test fails.
struct Frozen(PathBuf);

impl Frozen {
    fn freeze(directory: &Path) -> Self {
        fsfreeze("--freeze", directory);
        Self(directory.to_owned())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        fsfreeze("--unfreeze", &self.0);
    }
}

fn fsfreeze(what: &str, directory: &Path) {
    let mut command = Command::new("fsfreeze");
    let done = command.arg(what).arg(directory).status();
    assert!(done.unwrap().success(), "fsfreeze {what}");
}

/// A disk on which nothing ends: no client waits for it, and what it held back is written when it goes on.
#[test]
fn a_disk_that_hangs_is_not_waited_for() {
    const LENGTH: usize = 2_000;
    let place = Place::new(bodies(LENGTH));
    let image = place.directory.path().join("image");
    fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
    let mount = format!(
        "mkfs.ext4 -q {0} && mount -o loop {0} \"$1\" && chmod 700 \"$1\"",
        image.display()
    );
    let mut plimsoll = place.start_mounted(&mount);
    let frozen = Frozen::freeze(&place.disk_of(&mut plimsoll));
    // More than may wait to be written.
    for number in 0..1100 {
        let target = format!("/{number}");
        let expected = digest(&body(&target, LENGTH));
        assert_eq!(place.ask(&target).body.digest, expected);
    }
    assert_eq!(disk(&plimsoll, "written_total"), 0.0);
    assert!(disk(&plimsoll, "skipped_total") > 0.0);
    // What is in memory is there.
    assert!(status(&place.ask("/1099")).starts_with("plimsoll; hit; "));
    drop(frozen);
    wait_written(&plimsoll, 10.0);
}

/// Links in the directory lead nowhere.
#[test]
fn links_in_the_directory_are_not_followed() {
    let place = Place::new(bodies(100));
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    place.store_one();
    let file = files(&place.disk()).remove(0);
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(&secret, &file).unwrap();
    let plimsoll = place.start();
    assert_eq!(place.ask("/").body.digest, digest(&body("/", 100)));
    wait_written(&plimsoll, 1.0);
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
    assert!(fs::symlink_metadata(&file).unwrap().is_file());
    assert_eq!(disk(&plimsoll, "corrupt_total"), 1.0);
}
