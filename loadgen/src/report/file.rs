//! Files of reports: known to be writable before a run that may take hours, and whole at all times.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::Path;

/// Whether a file can be written here, without changing it.
///
/// # Errors
/// Why not.
pub(crate) fn check(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        // Opening something else may act: a pipe would wait for its reader.
        Ok(found) if !found.is_file() && !found.is_dir() => Ok(()),
        Ok(_) => OpenOptions::new().append(true).open(path).map(drop),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            OpenOptions::new().write(true).create_new(true).open(path)?;
            fs::remove_file(path)
        }
        Err(error) => Err(error),
    }
}

/// Writes a file. Whoever reads it meets the old one or the new one, also with two runs that write
/// the same.
///
/// # Errors
/// It can't be written.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    let is_plain = fs::symlink_metadata(path).map_or(true, |found| found.is_file());
    if let Some(name) = path.file_name()
        && is_plain
    {
        let mut other = name.to_owned();
        other.push(format!(".{}.part", std::process::id()));
        let part = path.with_file_name(other);
        let written = fs::write(&part, text).and_then(|()| fs::rename(&part, path));
        if written.is_ok() {
            return Ok(());
        }
        let _ = fs::remove_file(&part); // perhaps it was never made
    }
    // A pipe, a link, or a folder that takes no further file.
    fs::write(path, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_a_check_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        check(&path).unwrap();
        assert!(!path.exists());
        write(&path, "one, and long").unwrap();
        check(&path).unwrap();
        write(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_can_not_be_written_is_told() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_owned(), folder.path().join("no/such/file")] {
            assert!(check(&path).is_err() && write(&path, "").is_err(), "{}", path.display());
        }
        assert!(check(Path::new("")).is_err() && write(Path::new(""), "").is_err());
    }
}
