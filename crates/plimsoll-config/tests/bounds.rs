//! Hostile and huge configurations end, with little memory. A square shows as a test that hangs.
#![allow(clippy::unwrap_used, reason = "a failed test panics")]

use std::fmt::Write;

use plimsoll_config::{Diagnostic, LoadError, Loaded, Loader, Sources, format_text, load_text};

struct Nothing;

impl Loader for Nothing {
    fn read(&self, _: &str) -> Result<Vec<u8>, LoadError> {
        Err(LoadError::Failed("there are no files here".to_owned()))
    }

    fn glob(&self, _: &str) -> Result<Vec<String>, LoadError> {
        Ok(Vec::new())
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

fn read(text: &str) -> Loaded {
    let loaded = load_text("bounds", text, &Nothing);
    assert_shown_is_bounded(&loaded.diagnostics, &loaded.sources);
    if let Err((problems, sources)) = format_text("bounds", text) {
        assert_shown_is_bounded(&problems, &sources);
    }
    loaded
}

fn assert_shown_is_bounded(problems: &[Diagnostic], sources: &Sources) {
    let shown = problems
        .iter()
        .map(|problem| problem.render(sources, false).len());
    assert!(shown.sum::<usize>() < 1 << 17);
}

#[test]
fn hostile_shapes_end() {
    let many = 1 << 17;
    for text in [
        "{".repeat(many),
        "}".repeat(many),
        "a {".repeat(many / 3),
        ";".repeat(many),
        "x".repeat(many),
        format!("respond \"{}", "x".repeat(many)),
        "`\n".repeat(many / 2),
        format!("a `{}", "\n".repeat(many)),
        format!("a \"{}\"", "\\".repeat(many)),
        format!("a \"{}\"", "\\u".repeat(many / 2)),
        format!("a \"{}\"", "\\u{1".repeat(many / 4)),
        "\"\"".repeat(many / 2),
        "a\"".repeat(many / 2),
        "x{y".repeat(many / 3),
        "x}y".repeat(many / 3),
        "\u{1}".repeat(many),
        "w\n".repeat(many / 2),
        "use w\n".repeat(many / 6),
        "site\n".repeat(many / 5),
        "${".repeat(many / 2),
        format!("a {}", "${".repeat(many / 2)),
        "#\n".repeat(many / 2),
        "a ".repeat(many / 2),
        "\u{200b}".repeat(many / 3),
        format!(
            "site * {{ route {} {{ respond 200 }} }}",
            "/a".repeat(many / 2)
        ),
        format!("site {} {{ }}", "a.".repeat(many / 2)),
        format!("site * {{ {}", "route /a { respond 200 } ; ".repeat(2_000)),
        format!(
            "site * {{ route {{ respond 200 {} }} }}",
            "${A:-b}".repeat(many / 7)
        ),
        format!(
            "site * {{ {} }}",
            format!("route {}/* {{ respond 200 }}\n", "/a".repeat(1000)).repeat(50)
        ),
    ] {
        read(&text);
    }
}

#[test]
fn snippets_that_multiply_end() {
    let mut text =
        String::from("site * { use s0 ; route { respond 200 } }\nsnippet s30 { log off }\n");
    for n in 0..30 {
        writeln!(
            text,
            "snippet s{n} {{ {} }}",
            format!("use s{} ; ", n + 1).repeat(10)
        )
        .unwrap();
    }
    assert!(has(&read(&text), "E0305"));
}

fn has(loaded: &Loaded, code: &str) -> bool {
    loaded
        .diagnostics
        .iter()
        .any(|problem| problem.code.id == code)
}

#[test]
fn snippets_that_use_each_other_in_a_long_chain_end() {
    let mut text = String::from("site * { use s0 ; route { respond 200 } }\n");
    for n in 0..10_000 {
        writeln!(text, "snippet s{n} {{ use s{} }}", n + 1).unwrap();
    }
    assert!(has(&read(&text), "E0305"));
}

#[test]
fn a_large_snippet_that_is_used_often_ends() {
    let uses = "use s\n".repeat(1 << 15);
    let wide = format!("route /{} {{ respond 200 }}", "a".repeat(1 << 17));
    let deep = format!("route {{ {} }}", "respond 200\n".repeat(1 << 14));
    for part in [wide, deep] {
        read(&format!("snippet s {{ {part} }}\nsite * {{ {uses} }}"));
    }
}

#[test]
fn many_sites_pools_and_servers_are_read() {
    let mut text = String::new();
    for n in 0..10_000 {
        writeln!(
            text,
            "site h{n}.example {{ listen :80 :81 ; route {{ proxy p{n} }} }}"
        )
        .unwrap();
        writeln!(text, "pool p{n} {{ server s{n}.internal:80 }}").unwrap();
    }
    text.push_str("site * { route { proxy many } }\npool many {\n");
    for n in 0..20_000 {
        writeln!(text, "    server m{n}:80").unwrap();
    }
    text.push_str("}\n");
    assert_eq!(read(&text).config.unwrap().pools.len(), 10_001);
}
