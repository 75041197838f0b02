"""Hooks of schemathesis: make valid requests valid in what a schema cannot express.

- The content of files: a PNG, a JPEG, a CSV, an EDF header. The legacy API has them as base64.
- The uniqueness of an idempotency key: the same key with other content is rejected with 422.
- Retention only counts, so that the stored ECG stays for other requests.

Only requests that are valid by the schema are changed, so that the server must accept all of them.
"""

import base64
import itertools
import struct
import zlib

import schemathesis


def png() -> bytes:
    """A PNG of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")


def jpeg() -> bytes:
    """The header of a JPEG of one pixel. The server does not decode pictures."""
    frame = struct.pack(">HBHHBBBB", 11, 8, 1, 1, 1, 1, 0x11, 0)
    return b"\xff\xd8" + b"\xff\xc0" + frame + b"\xff\xd9"


def edf() -> bytes:
    """The header of an EDF file without signals."""
    return b"0".ljust(236) + b"-1".ljust(8) + b"1".ljust(8) + b"0".ljust(4)


PICTURES = [png(), jpeg()]
SIGNALS = [b"time,mV\n0.000,0.1\n0.004,0.2\n", "Zeit;µV\n0,004;-7\n".encode(), b"x", edf()]
FILES = {"medical_image": PICTURES, "ecg_image": PICTURES, "ecg": SIGNALS, "ecg_csv": SIGNALS}
NUMBERS = itertools.count()


def content(field: str) -> bytes:
    choices = FILES[field]
    return choices[next(NUMBERS) % len(choices)]


@schemathesis.hook
def before_call(context, case, **kwargs):
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    headers = case.headers or {}
    if "Idempotency-Key" in headers:
        headers["Idempotency-Key"] = f"{next(NUMBERS)}-{headers['Idempotency-Key']}"[:255]
    fields = getattr(case.body, "body", case.body)
    if not isinstance(fields, dict):
        return
    if case.operation.definition.raw["operationId"] == "applyRetention":
        fields["dry_run"] = True
    for field in FILES.keys() & fields.keys():
        value = fields[field]
        if case.operation.definition.raw["operationId"] in ("upload", "previewEcg"):
            fields[field] = [content(field) for _ in value] if isinstance(value, list) else content(field)
        elif value:
            fields[field] = base64.b64encode(content(field)).decode()
