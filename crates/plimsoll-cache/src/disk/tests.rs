//! A cache with a disk, over several starts.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use plimsoll_http::caching::{Selection, State, Terms};
use plimsoll_http::h1::parse::{self, HeadLimits};
use plimsoll_http::head::RequestHead;
use tempfile::TempDir;

use crate::body::{Body, Piece};
use crate::cache::{Cache, Found, Purge};
use crate::disk::{Disk, Limits, OpenError, Place, Size, Stats};
use crate::flight::Turn;
use crate::object::Object;
use crate::purge::Selector;

const NOW: Duration = Duration::ZERO;
const WALL: Duration = Duration::from_secs(1_000_000);

/// A start of a cache on this directory, by a clock that shows this.
fn start_at(path: &Path, wall: Duration) -> Arc<Cache> {
    let mut cache = Cache::new("c".into(), 64 << 20, 8 << 20);
    cache.disk = Some(Disk::new(Place {
        directory: path.into(),
        limits: Limits {
            max: 256 << 20,
            memory: 16 << 20,
        },
    }));
    open(cache, wall).unwrap()
}

fn open(cache: Cache, wall: Duration) -> Result<Arc<Cache>, OpenError> {
    disk(&cache).open(wall, None)?;
    while !disk(&cache).is_known() {
        std::thread::yield_now();
    }
    Ok(Arc::new(cache))
}

fn start(path: &Path) -> Arc<Cache> {
    start_at(path, WALL)
}

fn disk(cache: &Cache) -> &Disk {
    cache.disk.as_ref().unwrap()
}

fn stat(cache: &Cache, which: fn(&Stats) -> &AtomicU64) -> u64 {
    which(disk(cache).stats().unwrap()).load(Relaxed)
}

/// The end of a process: threads of its disk may still be at work for a moment, with its lock.
fn end(cache: Arc<Cache>) {
    disk(&cache).settle();
    let path = disk(&cache).place.directory.clone();
    while Arc::strong_count(&cache) > 1 {
        std::thread::yield_now();
    }
    drop(cache);
    while matches!(super::Directory::open(&path, None), Err(OpenError::InUse)) {
        std::thread::yield_now();
    }
}

fn request() -> (RequestHead, Vec<u8>) {
    let text = b"GET / HTTP/1.1\r\n\r\n".to_vec();
    let mut head = RequestHead::default();
    parse::request(&text, &HeadLimits::default(), &mut head).unwrap();
    (head, text)
}

fn object(cache: &Cache, body: &[u8]) -> Arc<Object> {
    let terms = Terms {
        lifetime: 1000,
        while_revalidate: 50,
        ..Terms::default()
    };
    let head = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n".to_vec();
    let mut object = Object::new(head, Selection::default(), terms, NOW).unwrap();
    object.tags = Box::from([Box::from(&b"tag"[..])]);
    let room = cache.reserve(Some(body.len() as u64)).unwrap();
    object.body = Arc::new(Body::of(body, room));
    Arc::new(object)
}

fn put(cache: &Cache, key: &str, body: &[u8]) {
    cache.insert(key.as_bytes(), object(cache, body));
}

/// What is read from disk; nothing is a miss.
fn load_at(cache: &Arc<Cache>, key: &str, now: Duration) -> Option<Arc<Object>> {
    let (head, bytes) = request();
    let key = key.as_bytes();
    let on_disk = cache.on_disk(key, (&head, &bytes), now)?;
    let Turn::Mine(ticket) = cache.flights.join(key) else {
        panic!("it is read already");
    };
    let loaded = cache.load(on_disk, (key, ticket), now);
    loaded.blocking_recv().ok()
}

fn load(cache: &Arc<Cache>, key: &str) -> Option<Arc<Object>> {
    load_at(cache, key, NOW)
}

/// All of a body that is read; nothing if it is cut.
fn text(object: &Object) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        match object.body.read(out.len() as u64) {
            Piece::Bytes(bytes) => out.extend_from_slice(&bytes),
            Piece::Wait => std::thread::yield_now(),
            Piece::End => return Some(out),
            Piece::Cut => return None,
        }
    }
}

/// The files of answers.
fn files(path: &Path) -> Vec<PathBuf> {
    let rooms = fs::read_dir(path).unwrap().map(|room| room.unwrap().path());
    let rooms = rooms.filter(|room| room.is_dir() && !room.ends_with("new"));
    let files = rooms.flat_map(|room| fs::read_dir(room).unwrap());
    files.map(|file| file.unwrap().path()).collect()
}

fn temporary() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn what_is_stored_is_there_after_the_next_start() {
    let path = temporary();
    let bodies = [0, 5, 65_536, 65_537, 5 << 20].map(|length| vec![b'x'; length]);
    let cache = start(path.path());
    for body in &bodies {
        put(&cache, &format!("/{}", body.len()), body);
    }
    disk(&cache).settle();
    assert_eq!(stat(&cache, |stats| &stats.written), 5);
    end(cache);
    let cache = start_at(path.path(), WALL + Duration::from_secs(60));
    assert_eq!(disk(&cache).size().files, 5);
    for body in &bodies {
        let key = format!("/{}", body.len());
        let loaded = load(&cache, &key).unwrap();
        assert_eq!(text(&loaded).as_ref(), Some(body));
        assert_eq!((loaded.age(NOW), loaded.state(NOW)), (60, State::Fresh));
        assert_eq!(loaded.head().1, b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n");
        // It is in memory now.
        let (head, bytes) = request();
        while !matches!(
            cache.find(key.as_bytes(), &head, &bytes, NOW),
            Found::Object(_)
        ) {
            std::thread::yield_now();
        }
    }
    assert!(load(&cache, "/none").is_none());
    assert_eq!(disk(&cache).size().files, 5);
}

/// Ten thousand files, each with a bit that fell over: none is read as what it is not.
#[test]
fn a_bit_that_falls_over_is_a_miss() {
    const FILES: usize = 10_000;
    let path = temporary();
    let cache = start(path.path());
    for number in 0..FILES {
        put(
            &cache,
            &format!("/{number}"),
            format!("body {number}").as_bytes(),
        );
        if number % 500 == 0 {
            disk(&cache).settle();
        }
    }
    end(cache);
    let all = files(path.path());
    assert_eq!(all.len(), FILES);
    // In some the words change that say they are purged, which makes them stale.
    for (number, file) in all.iter().enumerate() {
        let mut bytes = fs::read(file).unwrap();
        let bit = (number * 7919) % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(file, bytes).unwrap();
    }
    let cache = start(path.path());
    let (mut loaded, mut stale) = (0, 0);
    for number in 0..FILES {
        let Some(object) = load(&cache, &format!("/{number}")) else {
            continue;
        };
        let expected = format!("body {number}");
        stale += usize::from(object.state(NOW) != State::Fresh);
        // The file was found sound before its body, where the bit is in that.
        assert!(text(&object).is_none_or(|text| text == expected.as_bytes()));
        loaded += 1;
    }
    assert_eq!(loaded, stale, "what is fresh was changed");
    let corrupt = usize::try_from(stat(&cache, |stats| &stats.corrupt)).unwrap();
    assert_eq!(corrupt, FILES - loaded);
    // So many take a slow disk a while.
    while files(path.path()).len() > loaded {
        disk(&cache).settle();
    }
}

#[test]
fn a_bit_in_a_later_block_tears_the_answer() {
    let path = temporary();
    let cache = start(path.path());
    put(&cache, "/", &vec![b'x'; 5 << 20]);
    end(cache);
    let file = files(path.path()).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&file, bytes).unwrap();
    let cache = start(path.path());
    let loaded = load(&cache, "/").unwrap();
    assert_eq!(text(&loaded), None);
    disk(&cache).settle();
    assert!(load(&cache, "/").is_none() && files(path.path()).is_empty());
}

#[test]
fn files_that_are_others_than_they_should_be_are_removed() {
    let path = temporary();
    let outside = temporary();
    let secret = outside.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let cache = start(path.path());
    let spoil: [&dyn Fn(&Path); 5] = [
        &|file| fs::write(file, "").unwrap(),
        &|file| fs::write(file, "foreign, and longer than a preamble is").unwrap(),
        &|file| fs::write(file, [fs::read(file).unwrap(), b"more".to_vec()].concat()).unwrap(),
        &|file| {
            fs::remove_file(file).unwrap();
            std::os::unix::fs::symlink(&secret, file).unwrap();
        },
        &|file| {
            // That of another key, in the place of this one.
            put(&cache, "/other", b"other");
            disk(&cache).settle();
            let other = files(path.path());
            let other = other.iter().find(|other| *other != file).unwrap();
            fs::rename(other, file).unwrap();
        },
    ];
    for spoil in spoil {
        put(&cache, "/", b"body");
        disk(&cache).settle();
        spoil(&files(path.path())[0]);
        let before = stat(&cache, |stats| &stats.corrupt);
        assert!(load(&cache, "/").is_none());
        disk(&cache).settle();
        assert!(files(path.path()).is_empty());
        assert_eq!(stat(&cache, |stats| &stats.corrupt), before + 1);
    }
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
    put(&cache, "/", b"body");
    disk(&cache).settle();
    fs::remove_file(&files(path.path())[0]).unwrap();
    assert!(load(&cache, "/").is_none());
    assert_eq!(disk(&cache).size().files, 1, "{:?}", disk(&cache).size());
}

/// However clocks are set between two starts: nothing is younger than it is.
#[test]
fn a_clock_that_is_set_back_makes_nothing_fresh() {
    let path = temporary();
    let cache = start(path.path());
    put(&cache, "/", b"body");
    end(cache);
    // Over a day later, and by a clock that was set back.
    let day = Duration::from_secs(86_400);
    let cache = start_at(path.path(), WALL + day);
    put(&cache, "/new", b"body");
    end(cache);
    let cache = start_at(path.path(), WALL + Duration::from_secs(1));
    assert_eq!(load(&cache, "/").unwrap().state(NOW), State::Stale);
    assert_eq!(load(&cache, "/new").unwrap().age(NOW), 0);
    end(cache);
    let cache = start_at(path.path(), WALL + day * 2);
    assert_eq!(load(&cache, "/new").unwrap().state(NOW), State::Stale);
}

#[test]
fn purges_reach_the_disk() {
    for (selector, left) in [
        (Selector::Url(b"http://h/a"), 2),
        (Selector::Prefix(b"http://h/a"), 1),
        (Selector::Tag(b"tag"), 0),
        (Selector::Tag(b"none"), 3),
    ] {
        let path = temporary();
        let cache = start(path.path());
        for key in ["http://h/a", "http://h/a/b", "http://h/c"] {
            put(&cache, key, b"body");
        }
        end(cache);
        let cache = start(path.path());
        assert_eq!(cache.purge(Purge::Soft, &selector), 3 - left);
        let loaded = load(&cache, "http://h/a").unwrap();
        let is_purged = loaded.state(NOW) == State::WhileRevalidating;
        assert_eq!(is_purged, left < 3, "{selector:?}");
        end(cache);
        let cache = start(path.path());
        let loaded = load(&cache, "http://h/a").unwrap();
        assert_eq!(loaded.state(NOW) == State::WhileRevalidating, left < 3);
        text(&loaded).unwrap();
        // What is in memory and on disk counts once.
        assert_eq!(cache.purge(Purge::Hard, &selector), 3 - left);
        disk(&cache).settle();
        assert_eq!(
            (files(path.path()).len(), disk(&cache).size().files),
            (left, left)
        );
        end(cache);
    }
}

#[test]
fn what_changes_is_removed_by_its_key() {
    let path = temporary();
    let cache = start(path.path());
    put(&cache, "/a", b"body");
    put(&cache, "/ab", b"body");
    assert_eq!(cache.remove(b"/a"), 1);
    disk(&cache).settle();
    assert!(load(&cache, "/a").is_none() && load(&cache, "/ab").is_some());
    assert_eq!(files(path.path()).len(), 1);
}

#[test]
fn the_directory_takes_no_more_than_it_may() {
    let path = temporary();
    let of_size = |max| {
        let mut cache = Cache::new("c".into(), 8 << 20, 1 << 20);
        cache.disk = Some(Disk::new(Place {
            directory: path.path().into(),
            limits: Limits {
                max,
                memory: 1 << 20,
            },
        }));
        open(cache, WALL).unwrap()
    };
    let cache = of_size(1 << 20);
    for number in 0..1000_u32 {
        put(&cache, &format!("/{number}"), &vec![b'x'; 5000]);
        if number % 100 == 99 {
            disk(&cache).settle();
        }
        // What is of use stays.
        if number == 99 {
            assert!(load(&cache, "/90").is_some());
        }
    }
    disk(&cache).settle();
    let Size {
        bytes,
        memory,
        files: count,
    } = disk(&cache).size();
    assert!(
        bytes <= 1 << 20 && memory <= 1 << 20 && count >= 120,
        "{count}"
    );
    assert_eq!(files(path.path()).len(), count);
    assert!(load(&cache, "/999").is_some() && load(&cache, "/100").is_none());
    end(cache);
    // With less than before, the oldest go.
    let cache = of_size(1 << 18);
    while files(path.path()).len() > 32 {
        std::thread::yield_now();
    }
    assert!(load(&cache, "/999").is_some());
}

#[test]
fn what_is_not_fresh_for_long_is_not_worth_a_file() {
    let path = temporary();
    let cache = start(path.path());
    put(&cache, "/", b"body");
    disk(&cache).settle();
    let terms = Terms {
        lifetime: 9,
        ..Terms::default()
    };
    let head = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    let mut brief = Object::new(head, Selection::default(), terms, NOW).unwrap();
    brief.body = Arc::new(Body::of(b"", cache.reserve(Some(0)).unwrap()));
    cache.insert(b"/", Arc::new(brief));
    disk(&cache).settle();
    assert!(files(path.path()).is_empty());
}

/// A directory that cannot be written to any more: what is asked goes on, and it is left alone until it works.
#[test]
fn a_disk_that_fails_is_done_without() {
    let path = temporary();
    let cache = start(path.path());
    put(&cache, "/", b"body");
    disk(&cache).settle();
    fs::remove_dir(path.path().join("new")).unwrap();
    for number in 0..100 {
        put(&cache, &format!("/{number}"), b"body");
        disk(&cache).settle();
    }
    assert!(!disk(&cache).is_up());
    assert!(stat(&cache, |stats| &stats.errors) >= 5);
    assert_eq!(stat(&cache, |stats| &stats.written), 1);
    // Reading goes on.
    assert!(load(&cache, "/").is_some());
    assert_eq!(files(path.path()).len(), 1);
}

#[test]
fn two_do_not_share_a_directory() {
    let path = temporary();
    let _first = start(path.path());
    let mut cache = Cache::new("c".into(), 8 << 20, 1 << 20);
    cache.disk = Some(Disk::new(Place {
        directory: path.path().into(),
        limits: Limits {
            max: 1 << 20,
            memory: 1 << 20,
        },
    }));
    assert!(matches!(open(cache, WALL), Err(OpenError::InUse)));
}

#[test]
fn another_cache_goes_on_with_the_directory() {
    let path = temporary();
    let first = start(path.path());
    put(&first, "/", b"body");
    disk(&first).settle();
    let place = disk(&first).place.clone();
    let limits = Limits {
        max: 1 << 20,
        ..place.limits
    };
    let mut second = Cache::new("c".into(), 32 << 20, 4 << 20);
    second.disk = Some(Disk::after(Place { limits, ..place }, disk(&first)));
    let second = open(second, WALL).unwrap();
    drop(first);
    assert_eq!(
        text(&load(&second, "/").unwrap()).as_deref(),
        Some(&b"body"[..])
    );
    for number in 0..500 {
        put(&second, &format!("/{number}"), &vec![b'x'; 5000]);
    }
    disk(&second).settle();
    assert!(disk(&second).size().bytes <= 1 << 20);
    end(second);
}
