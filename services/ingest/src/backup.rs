//! Backup to standard output and restore from standard input.

use std::io::{self, IsTerminal};
use std::time::Duration;

use bus::nats::Paused;
use proto_json::Queue;
use runtime::{MongoArgs, NatsArgs, StartError};
use store::mongo::{ArchiveError, Manifest};

/// Queues whose messages change the store.
const WRITING: [Queue; 2] = [Queue::Uploads, Queue::EcgResults];
/// Longest pause of deliveries if this program is killed before the exchange.
const PAUSE: Duration = Duration::from_secs(120);
/// Longest wait for deliveries in progress. It is longer than the ack wait of a usual deployment, because deferred
/// deliveries are only known to be idle after it.
const IDLE_WITHIN: Duration = Duration::from_secs(600);
/// Longest pause of deliveries if this program is killed during the exchange, until it is run again.
const PAUSE_OF_EXCHANGE: Duration = Duration::from_secs(24 * 3600);

pub(crate) async fn write(mongo: &MongoArgs, level: u32) -> Result<(), StartError> {
    if io::stdout().is_terminal() {
        return Err(StartError::config("the backup goes to standard output; send it to a file"));
    }
    let store = mongo.connect().await?;
    let manifest = store
        .write_archive(io::BufWriter::with_capacity(1 << 20, io::stdout()), level)
        .await
        .map_err(failed)?;
    say("written", &manifest);
    Ok(())
}

pub(crate) fn verify() -> Result<(), StartError> {
    let manifest =
        store::mongo::verify_archive(io::BufReader::with_capacity(1 << 20, io::stdin())).map_err(failed)?;
    say("whole", &manifest);
    Ok(())
}

/// Loads the archive into other collections, pauses uploads and results, exchanges the collections, and resumes.
pub(crate) async fn restore(nats: &NatsArgs, mongo: &MongoArgs) -> Result<(), StartError> {
    let nats = nats.config("bedside-restore")?;
    let store = mongo.connect().await?;
    let manifest =
        store.load_archive(io::BufReader::with_capacity(1 << 20, io::stdin())).await.map_err(failed)?;
    let mut paused = bus::nats::pause(&nats, &WRITING, PAUSE).await.map_err(StartError::failed)?;
    if let Err(error) = idle(&mut paused).await {
        paused.resume().await.map_err(StartError::failed)?;
        return Err(error);
    }
    paused.extend(PAUSE_OF_EXCHANGE).await.map_err(StartError::failed)?;
    store.exchange(&manifest).await.map_err(|error| {
        StartError::failed(format!(
            "the restore was interrupted ({error}); uploads wait until it is run again with the same backup"
        ))
    })?;
    paused.resume().await.map_err(StartError::failed)?;
    say("restored", &manifest);
    Ok(())
}

async fn idle(paused: &mut Paused) -> Result<(), StartError> {
    let idle = async {
        while !paused.is_idle().await.map_err(StartError::failed)? {
            paused.extend(PAUSE).await.map_err(StartError::failed)?;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    };
    tokio::time::timeout(IDLE_WITHIN, idle).await.unwrap_or_else(|_| {
        Err(StartError::failed(
            "ingest does not complete its deliveries in progress; nothing was changed, try again later",
        ))
    })
}

fn say(what: &str, manifest: &Manifest) {
    for part in &manifest.collections {
        eprintln!(
            "{:>10} documents {:>14} bytes  {}  {}",
            part.documents, part.bytes, part.sha256, part.name
        );
    }
    eprintln!("{what}: backup of {}, {} documents", manifest.created_at, manifest.documents());
}

fn failed(error: ArchiveError) -> StartError {
    StartError::failed(error)
}
