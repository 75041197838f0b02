//! The file `SHA256SUMS` of a folder: hashes of the other files, in the format of `sha256sum --check`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use proto_json::{BlobHash, BlobHasher};

/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// Names and hashes of the files of a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sums(Vec<(String, BlobHash)>);

impl Sums {
    /// Name of the file.
    pub const NAME: &str = "SHA256SUMS";

    /// Adds a file by its name and hash.
    pub fn add(&mut self, name: impl Into<String>, hash: BlobHash) {
        self.0.push((name.into(), hash));
    }

    /// Names of the files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Reads the file of a folder; `None` if it is missing.
    ///
    /// # Errors
    /// A message, if it cannot be read or is damaged.
    pub fn read(folder: &Path) -> Result<Option<Self>, String> {
        let text = match std::fs::read_to_string(folder.join(Self::NAME)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{} cannot be read: {error}", Self::NAME)),
        };
        let line = |line: &str| {
            let (hash, name) = line.split_once("  ")?;
            Some((name.to_owned(), hash.parse().ok()?))
        };
        let sums = text.lines().map(line).collect::<Option<Vec<_>>>();
        sums.map(|sums| Some(Sums(sums))).ok_or_else(|| format!("{} is damaged", Self::NAME))
    }

    /// Writes the content of the file.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(&self, mut to: impl Write) -> io::Result<()> {
        self.0.iter().try_for_each(|(name, hash)| writeln!(to, "{hash}  {name}"))
    }

    /// Verifies the hash of a file.
    ///
    /// # Errors
    /// A message, if the hash differs or the file is not listed.
    pub fn compare(&self, name: &str, found: BlobHash) -> Result<(), String> {
        let mut listed = self.0.iter().filter(|(known, _)| known == name).peekable();
        if listed.peek().is_none() {
            return Err(format!("{name} is not in {}", Self::NAME));
        }
        // A file that is being replaced is listed with its old and its new hash.
        if listed.any(|(_, expected)| *expected == found) {
            return Ok(());
        }
        Err(format!("{name} is damaged: it does not have the hash that {} says", Self::NAME))
    }
}

/// The hash of a file.
///
/// # Errors
/// When it cannot be read.
pub fn hash_file(path: &Path) -> io::Result<BlobHash> {
    let mut file = File::open(path)?;
    let mut hash = BlobHasher::new();
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hash.finish()),
            read => hash.update(piece.get(..read).unwrap_or_default()),
        }
    }
}
