//! One file is one case: what is said of a broken configuration, what a good one means.
//!
//! `BLESS=1 cargo test -p plimsoll-config` writes what is said now; read the difference.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]
#![allow(clippy::disallowed_methods, reason = "the cases are files")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use plimsoll_config::{LoadError, Loader, NoFiles, load};

/// Files beside the case, and two variables.
struct Beside(PathBuf);

impl Loader for Beside {
    fn read(&self, path: &str) -> Result<Vec<u8>, LoadError> {
        fs::read(self.0.join(path)).map_err(|_| LoadError::Failed("no such file".to_owned()))
    }

    fn glob(&self, pattern: &str) -> Result<Vec<String>, LoadError> {
        let (folder, ending) = pattern.split_once("/*").unwrap();
        let files = fs::read_dir(self.0.join(folder))
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut files: Vec<_> = files
            .filter(|file| file.ends_with(ending))
            .map(|file| format!("{folder}/{file}"))
            .collect();
        files.sort();
        Ok(files)
    }

    fn env(&self, name: &str) -> Option<String> {
        (name == "HOST").then(|| "from-the-environment.example".to_owned())
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(name)
}

fn cases(name: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(folder(name))
        .unwrap()
        .map(|file| file.unwrap().path());
    let mut cases: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|e| e == "conf"))
        .collect();
    cases.sort();
    cases
}

fn compare(case: &Path, extension: &str, is: &str, wrong: &mut Vec<String>) {
    let expected = case.with_extension(extension);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&expected, is).unwrap();
    }
    let should = fs::read_to_string(&expected).unwrap_or_default();
    if is != should {
        wrong.push(format!(
            "{}\n--- should be\n{should}\n--- is\n{is}",
            case.display()
        ));
    }
}

#[test]
fn broken_configurations_are_explained() {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    let cases = cases("diagnostics");
    for case in &cases {
        let name = case.file_name().unwrap().to_str().unwrap();
        let loaded = load(name, &Beside(folder("diagnostics")));
        seen.extend(loaded.diagnostics.iter().map(|problem| problem.code.id));
        let text: String = loaded
            .diagnostics
            .iter()
            .map(|problem| problem.render(&loaded.sources, false) + "\n\n")
            .collect();
        assert!(!text.is_empty(), "{name} has no problem");
        compare(case, "txt", &text, &mut wrong);
    }
    assert!(
        wrong.is_empty(),
        "{} of {} differ:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n\n")
    );
    // Codes that need a file system, or a depth, that no case has.
    let elsewhere = ["E0112", "E0114", "E0303", "E0401"];
    let missing: Vec<_> = plimsoll_config::CODES
        .iter()
        .map(|code| code.id)
        .filter(|id| !seen.contains(id) && !elsewhere.contains(id))
        .collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
    assert!(cases.len() >= 60);
}

#[test]
fn good_configurations_mean_the_same_in_every_form() {
    let mut wrong = Vec::new();
    for case in cases("valid") {
        let name = case.file_name().unwrap().to_str().unwrap();
        let loaded = load(name, &Beside(folder("valid")));
        let problems: Vec<_> = loaded
            .diagnostics
            .iter()
            .map(|p| p.render(&loaded.sources, false))
            .collect();
        assert!(problems.is_empty(), "{name}: {}", problems.join("\n"));
        let config = loaded.config.unwrap();
        let json = plimsoll_config::to_json(&config);
        compare(&case, "json", &format!("{json:#}\n"), &mut wrong);
        let back = plimsoll_config::from_json(&json.to_string());
        let back = back.unwrap_or_else(|(problems, sources)| {
            panic!("{name}: {}", problems[0].render(&sources, false))
        });
        assert_eq!(
            plimsoll_config::to_json(&back),
            json,
            "{name} by way of JSON"
        );
        let text = plimsoll_config::to_text(&config);
        let again = plimsoll_config::load_text("again", &text, &Beside(folder("valid")));
        assert!(again.diagnostics.is_empty(), "{name}: {text}");
        assert_eq!(
            plimsoll_config::to_json(&again.config.unwrap()),
            json,
            "{name} by way of text"
        );
        assert_eq!(
            plimsoll_config::format_text("again", &text).ok(),
            Some(text),
            "{name} is laid out"
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn files_that_are_too_many_or_too_large_are_refused() {
    struct Endless;
    impl Loader for Endless {
        fn read(&self, path: &str) -> Result<Vec<u8>, LoadError> {
            match path.parse::<u32>() {
                Ok(1000..) => Err(LoadError::TooLarge),
                Ok(n) => Ok(format!("include {}\n", n + 1).into_bytes()),
                Err(_) => Err(LoadError::Failed("permission denied".to_owned())),
            }
        }
        fn glob(&self, _: &str) -> Result<Vec<String>, LoadError> {
            Ok(Vec::new())
        }
        fn env(&self, _: &str) -> Option<String> {
            None
        }
    }
    let codes = |path: &str| -> Vec<&str> {
        load(path, &Endless)
            .diagnostics
            .iter()
            .map(|p| p.code.id)
            .collect()
    };
    assert_eq!(codes("1"), ["E0303"]);
    assert_eq!(codes("1000"), ["E0112"]);
    assert_eq!(codes("secret"), ["E0114"]);
    let nothing = load("nothing", &NoFiles);
    assert_eq!(
        nothing.diagnostics[0].render(&nothing.sources, false),
        "error[E0114]: cannot read `nothing`: there are no files here\n--> nothing\n = help: `-c FILE` names another file"
    );
    let (problems, _) = plimsoll_config::from_json("{\"sites\": 1}").unwrap_err();
    assert_eq!(problems[0].code.id, "E0401");
}

#[test]
fn a_hundred_thousand_routes_are_read() {
    let routes: String = (0..100_000)
        .map(|n| format!("route /p{n}/* {{ respond 200 }}\n"))
        .collect();
    let loaded = plimsoll_config::load_text(
        "many",
        &format!("site * {{\n{routes}}}\n"),
        &Beside(PathBuf::new()),
    );
    assert_eq!(loaded.config.unwrap().sites[0].routes.len(), 100_000);
}

#[test]
fn the_reference_manual_is_that_of_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/configuration.md");
    if std::env::var_os("BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, plimsoll_config::reference()).unwrap();
    }
    assert_eq!(
        fs::read_to_string(path).unwrap_or_default(),
        plimsoll_config::reference()
    );
}
