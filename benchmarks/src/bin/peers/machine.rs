//! Resource usage of processes (Linux), and start and end of other servers.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command};

use mongodb::bson::doc;
use testkit::{cpu_seconds, http_client, within};

/// These processes and all their descendants.
pub(crate) fn with_children(roots: &[u32]) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The process name can contain any character. The parent is the second field after it.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        children.entry(parent.unwrap_or(0)).or_default().push(pid);
    }
    let mut all = roots.to_vec();
    let mut index = 0;
    while index < all.len() {
        all.extend(children.get(&all[index]).into_iter().flatten());
        index += 1;
    }
    all
}

/// Total memory of these processes and their descendants, in bytes. Shared memory counts once.
pub(crate) fn memory(roots: &[u32]) -> u64 {
    let own = |pid: u32| {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = rollup.lines().find(|line| line.starts_with("Pss:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    with_children(roots).into_iter().filter_map(own).sum::<u64>() * 1024
}

/// Total processor time of these processes and their descendants, in seconds.
pub(crate) fn processor(roots: &[u32]) -> f64 {
    with_children(roots).into_iter().filter_map(cpu_seconds).sum()
}

/// Disk usage of a directory, in bytes.
pub(crate) fn disk(folder: &Path) -> u64 {
    let mut total = 0;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        // `blocks` counts units of 512 bytes on every file system.
        total += metadata.blocks() * 512;
        if metadata.is_dir() {
            total += disk(&entry.path());
        }
    }
    total
}

/// Size of documents and indexes as MongoDB reports it. Its files are preallocated.
pub(crate) async fn in_database(uri: &str, database: &str) -> u64 {
    let client = mongodb::Client::with_uri_str(uri).await.expect("the database is reachable");
    let stats =
        client.database(database).run_command(doc! {"dbStats": 1}).await.expect("the database answers");
    stats.get_f64("totalSize").expect("the size is reported") as u64
}

/// Waits until a server answers with success.
pub(crate) async fn answers(url: &str) {
    let client = http_client();
    within(&format!("{url} answers"), || async {
        client.get(url).send().await.ok().filter(|answer| answer.status().is_success()).map(drop)
    })
    .await;
}

/// Stops a server and waits until it has ended.
pub(crate) fn end(server: &mut Child) {
    let _ = Command::new("kill").args(["-TERM", &server.id().to_string()]).status();
    for _ in 0..100 {
        if !matches!(server.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let _ = server.kill();
    let _ = server.wait();
}
