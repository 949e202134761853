//! Hostile and huge configurations end, with little memory. A square shows as a test that hangs.
#![allow(clippy::unwrap_used, reason = "a failed test panics")]

use std::fmt::Write;

use plimsoll_config::{
    Diagnostic, LoadError, Loaded, Loader, NoFiles, Sources, format_text, load_text,
};

fn read(text: &str) -> Loaded {
    let loaded = load_text("bounds", text, &NoFiles);
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
    let many = 1 << 18;
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
fn many_unknown_names_among_many_known_ones_end() {
    let (mut text, mut routes, mut uses) = (String::new(), String::new(), String::new());
    for n in 0..3_000 {
        writeln!(text, "pool some-pool-{n} {{ server a:80 }}").unwrap();
        writeln!(text, "snippet some-snippet-{n} {{ log off }}").unwrap();
        writeln!(routes, "route /{n} {{ proxy other-pool-{n} }}").unwrap();
        writeln!(uses, "use other-snippet-{n}").unwrap();
    }
    read(&format!("{text} site a {{ {uses} }} site b {{ {routes} }}"));
}

#[test]
fn deep_paths_end() {
    let deep = "/a".repeat(1 << 16);
    let below = "route /{}/* { respond 200 }\n";
    read(&format!(
        "site * {{ route {deep}/* {{ respond 200 }}\nroute {deep}/b {{ respond 200 }} }}"
    ));
    let many: String = (0..1_000)
        .map(|n| below.replace("{}", &"a/".repeat(n % 100)))
        .collect();
    read(&format!("site * {{ {many} }}"));
}

#[test]
fn many_hosts_at_many_addresses_end() {
    let hosts: String = (0..5_000).map(|n| format!("h{n} ")).collect();
    let listen: String = (0..5_000)
        .map(|n| format!("listen 127.0.{}.{}:80\n", n / 256, n % 256))
        .collect();
    let site = format!("site {hosts} {{ {listen} route {{ respond 200 }} }}\n");
    assert!(has(&read(&site), "E0204"), "a site has only so many");
    let text = format!("site {hosts} {{ listen :81 ; route {{ respond 200 }} }}\n").repeat(2);
    assert!(has(&read(&text), "E0315"));
}

#[test]
fn a_large_file_that_is_put_in_often_ends() {
    struct Large;
    impl Loader for Large {
        fn read(&self, _: &str) -> Result<Vec<u8>, LoadError> {
            Ok(vec![b'a'; 1 << 20])
        }
        fn glob(&self, _: &str) -> Result<Vec<String>, LoadError> {
            Ok(Vec::new())
        }
        fn env(&self, _: &str) -> Option<String> {
            None
        }
    }
    let text = format!("respond 200 {}", "${file:x}".repeat(10_000));
    assert!(has(&load_text("bounds", &text, &Large), "E0112"));
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
