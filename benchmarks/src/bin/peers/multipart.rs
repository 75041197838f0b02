//! Multipart bodies with one file.

const BOUNDARY: &str = "bedside-peers-7MA4YWxkTrZu0gW";

/// Content type of these bodies.
pub(crate) const CONTENT_TYPE: &str = "multipart/form-data; boundary=bedside-peers-7MA4YWxkTrZu0gW";

pub(crate) fn file(field: &str, name: &str, media_type: &str, bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(bytes.len() + 300);
    body.extend_from_slice(
        format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"{name}\"\r\n\
             Content-Type: {media_type}\r\n\r\n"
        )
        .as_bytes(),
    );
    body.extend_from_slice(bytes);
    body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    body
}
