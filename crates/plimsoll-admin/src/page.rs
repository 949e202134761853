//! The dashboard: a page that is made by nobody, and draws what it is sent.

/// A part of the page.
pub(crate) struct Part {
    name: &'static str,
    pub(crate) media: &'static str,
    pub(crate) text: &'static str,
}

const PARTS: [Part; 3] = [
    Part {
        name: "index.html",
        media: "text/html; charset=utf-8",
        text: include_str!("page/index.html"),
    },
    Part {
        name: "dashboard.css",
        media: "text/css; charset=utf-8",
        text: include_str!("page/dashboard.css"),
    },
    Part {
        name: "dashboard.js",
        media: "text/javascript; charset=utf-8",
        text: include_str!("page/dashboard.js"),
    },
];

/// The part of this name.
pub(crate) fn find(name: &str) -> Option<&'static Part> {
    PARTS.iter().find(|part| part.name == name)
}
