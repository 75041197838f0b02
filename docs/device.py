"""Example of a device: streams a synthetic ECG to Bedside, and resumes after a disconnection.

Usage: device.py HOST:PORT MRN FRAMES [TOKEN]. It needs only the standard library. docs/DEVICES.md explains the protocol."""
import base64, collections, json, math, os, select, socket, struct, sys, time

RATE, PER_FRAME = 250, 50  # Hz; samples per frame, 200 ms
OPEN = {"type": "open", "device": {"name": "Example", "serial": "1"}, "channels": [{
    "label": "II", "code": "MDC_ECG_LEAD_II", "unit": "mV",
    "rate": {"numerator": RATE, "denominator": 1}, "scale": 0.005, "offset": 0.0}]}


class Closed(Exception):
    """The server has closed the connection: code and reason."""


class WebSocket:
    def __init__(self, address, path, token):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        headers = {"Host": address, "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                   "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode()}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        self.socket.sendall("\r\n".join(lines).encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.read(1)
        if b" 101 " not in head.split(b"\r\n")[0]:
            sys.exit(head.split(b"\r\n")[0].decode())

    def read(self, count):
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise ConnectionError("the connection has ended")
            data += part
        return data

    def send(self, opcode, payload):  # 1: text, 2: binary, 10: pong
        size = struct.pack("!BB", 128 | opcode, 128 | len(payload)) if len(payload) < 126 else \
            struct.pack("!BBH", 128 | opcode, 128 | 126, len(payload))
        mask = os.urandom(4)
        self.socket.sendall(size + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload)))

    def receive(self, wait):  # the next JSON message, or None after `wait` seconds
        while select.select([self.socket], [], [], wait)[0]:
            opcode, size = self.read(2)
            payload = self.read(struct.unpack("!H", self.read(2))[0] if size == 126 else size)
            if opcode & 15 == 8:
                raise Closed(struct.unpack("!H", payload[:2])[0], payload[2:].decode())
            if opcode & 15 == 9:
                self.send(10, payload)
            elif opcode & 15 == 1:
                return json.loads(payload)


def frame(sequence, time_us):
    first = sequence * PER_FRAME
    samples = [round(200 * math.exp(-((((first + i) % RATE) - 80) / 4) ** 2)) for i in range(PER_FRAME)]
    header = struct.pack("<BBHIQq", 1, 0, 1, 0, sequence, time_us)
    return header + struct.pack(f"<HHHHQ{PER_FRAME}h4x", 0, PER_FRAME, 0, 0, first, *samples)


def stream(address, path, token, resume, unacknowledged, count):
    ws = WebSocket(address, path, token)
    ws.send(1, json.dumps({**OPEN, **resume, "device_time_us": time.time_ns() // 1000}).encode())
    opened = ws.receive(10)
    resume["resume"], following, ended = opened["stream"], opened["next_sequence"], False
    print("opened", opened["stream"], following, flush=True)
    while True:
        if following not in unacknowledged and following < count:
            unacknowledged[following] = frame(following, time.time_ns() // 1000 - PER_FRAME * 1_000_000 // RATE)
        if following < count and sum(n < following for n in unacknowledged) < opened["window"]:
            ws.send(2, unacknowledged[following])
            following += 1
        elif following == count and not ended:
            ws.send(1, b'{"type":"end"}')
            ended = True
        reply = ws.receive(PER_FRAME / RATE)
        if reply and reply["type"] == "ack":
            for number in [n for n in unacknowledged if n <= reply["sequence"]]:
                del unacknowledged[number]
        print(json.dumps(reply), flush=True) if reply else None
