//! The file of the configuration, shown as it is and replaced as a whole.

use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};

use plimsoll_config::{LoadError, Loaded, Loader};
use sha2::{Digest, Sha256};

use crate::beside::Beside;
use crate::files::Files;

/// The text of the file at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// What stands in it.
    pub text: String,
    /// What tells it from any other text.
    pub tag: String,
}

impl Text {
    /// Of what is to stand there.
    pub fn new(text: String) -> Self {
        let tag = tag(text.as_bytes());
        Self { text, tag }
    }
}

/// Why there is no one file to show or to replace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoText {
    /// There never was one.
    #[error("this was started without a file")]
    Nothing,
    /// There are more.
    #[error("the configuration is in several files, {0}: change them where they are, and reload")]
    Several(String),
    /// It cannot be read.
    #[error("cannot read `{0}`: {1}")]
    Unreadable(String, String),
}

/// Reads the file at `path`, which has to be all of the configuration. This blocks.
///
/// # Errors
/// Why there is no such file.
pub(crate) fn read(path: &str) -> Result<Text, NoText> {
    let unreadable = |why: String| NoText::Unreadable(path.to_owned(), why);
    let bytes = Files.read(path).map_err(|error| match error {
        LoadError::TooLarge => unreadable("it is too large".to_owned()),
        LoadError::Failed(why) => unreadable(why),
    })?;
    let text = String::from_utf8(bytes).map_err(|error| unreadable(error.to_string()))?;
    // What is wrong with it is for whoever replaces it to see.
    only(&plimsoll_config::load_text(path, &text, &Files))?;
    Ok(Text::new(text))
}

/// Makes sure that a configuration was read from one file.
pub(crate) fn only(loaded: &Loaded) -> Result<(), NoText> {
    let sources = &loaded.sources;
    if sources.len() <= 1 {
        return Ok(());
    }
    let numbers = (0..sources.len()).filter_map(|number| u32::try_from(number).ok());
    let names = numbers.filter_map(|number| sources.file(number));
    let names: Vec<String> = names.map(|file| format!("`{}`", file.name)).collect();
    Err(NoText::Several(names.join(", ")))
}

/// Writes a text beside the file at `path`, with the owner and the mode of that. Where the path is a link, what it leads to is
/// replaced.
pub(crate) fn write(path: &str, text: &str) -> io::Result<Beside> {
    let path = fs::canonicalize(path)?;
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    let written = Beside::write(&path, path.with_file_name(name), text)?;
    let (old, new) = (fs::metadata(&path)?, fs::metadata(written.place())?);
    if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
        chown(written.place(), Some(old.uid()), Some(old.gid()))?;
    }
    fs::set_permissions(written.place(), old.permissions())?;
    Ok(written)
}

/// What tells a text from any other: the beginning of its SHA-256.
fn tag(text: &[u8]) -> String {
    let digest = Sha256::digest(text);
    let mut tag = String::new();
    for byte in digest.iter().take(16) {
        let _ = write!(tag, "{byte:02x}"); // a string takes all
    }
    tag
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_file_is_replaced_where_it_is_and_keeps_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("real"), directory.path().join("link"));
        fs::write(&file, "before").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        symlink(&file, &link).unwrap();
        fs::write(directory.path().join(".real.new"), "left behind").unwrap();
        let link = link.to_str().unwrap();

        drop(write(link, "never").unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), "before");
        write(link, "after").unwrap().put().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "after");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
        assert!(fs::symlink_metadata(link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn texts_are_told_apart() {
        let one = Text::new("site * { }\n".to_owned());
        assert_eq!(one, Text::new("site * { }\n".to_owned()));
        assert_ne!(one.tag, Text::new("site * { } \n".to_owned()).tag);
    }
}
