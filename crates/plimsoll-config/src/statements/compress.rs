//! `compress` as a statement.

use super::{Words, words};
use crate::model::Compress;
use crate::units::size_text;

pub(crate) fn compress(compress: &Compress) -> Words {
    let mut out = words(["compress"]);
    let codings = [
        ("zstd", compress.zstd),
        ("br", compress.brotli),
        ("gzip", compress.gzip),
    ];
    let used = codings
        .iter()
        .filter_map(|(name, level)| Some((name, (*level)?)));
    out.extend(used.map(|(name, level)| format!("{name}={level}")));
    out.push(format!("min={}", size_text(compress.min)));
    out.push(format!("types={}", compress.types.join(",")));
    out.extend(compress.secrets.then(|| "secrets".to_owned()));
    out
}
