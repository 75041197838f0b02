//! Compresses the files of the browser page, `apps/web/dist`, and writes a table of them for `src/web`.
//!
//! The files are part of the repository, so that the build does not need Node.js.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use flate2::write::GzEncoder;
use flate2::{Compression, Crc};

fn main() -> Result<(), Box<dyn Error>> {
    let page = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../apps/web/dist");
    let page = page
        .canonicalize()
        .map_err(|error| format!("{}: {error}; the built page is part of the repository", page.display()))?;
    println!("cargo::rerun-if-changed={}", page.display());
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut files = Vec::new();
    collect(&page, &mut files)?;
    files.sort();
    let mut table = String::from("static FILES: &[File] = &[\n");
    for (index, file) in files.iter().enumerate() {
        let name =
            file.strip_prefix(&page)?.to_str().ok_or("a name of a file is not text")?.replace('\\', "/");
        let content = fs::read(file)?;
        let compressed = out.join(format!("page-{index}.gz"));
        let mut encoder = GzEncoder::new(fs::File::create(&compressed)?, Compression::best());
        io::Write::write_all(&mut encoder, &content)?;
        encoder.finish()?;
        let mut crc = Crc::new();
        crc.update(&content);
        writeln!(
            table,
            "    File {{ path: {:?}, etag: {:?}, content: include_bytes!({:?}), gzip: include_bytes!({:?}) }},",
            format!("/{name}"),
            format!("\"{:08x}-{:x}\"", crc.sum(), content.len()),
            file.display().to_string(),
            compressed.display().to_string(),
        )?;
    }
    table.push_str("];\n");
    fs::write(out.join("page.rs"), table)?;
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
