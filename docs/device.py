"""Example of a device: streams a synthetic ECG to Bedside, and resumes after a disconnection. Standard library only.

Usage: device.py HOST:PORT MRN FRAMES [TOKEN]. docs/DEVICES.md explains the protocol."""
import base64, http.client, json, math, os, select, struct, sys, time

RATE, PER_FRAME, FRAME_US = 250, 50, 200_000  # Hz; samples and microseconds per frame
OPEN = {"type": "open", "device": {"name": "Example", "serial": "1"}, "channels": [
    {"label": "II", "code": "MDC_ECG_LEAD_II", "unit": "mV", "rate": {"numerator": RATE, "denominator": 1},
     "scale": 0.005, "offset": 0.0}]}


class WebSocket:
    def __init__(self, address, path, token):
        headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                   "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(), "Authorization": f"Bearer {token}"}
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.request("GET", path, headers=headers)
        response, self.socket = connection.getresponse(), connection.sock
        if response.status != 101:
            sys.exit(response.read().decode())

    def read(self, count):
        data = b""
        while len(data) < count:
            data += (part := self.socket.recv(count - len(data)))
            if not part:
                raise ConnectionError("the server has gone")
        return data

    def send(self, opcode, payload):  # 1: text, 2: binary
        length = [128 | len(payload)] if len(payload) < 126 else [128 | 126, *struct.pack("!H", len(payload))]
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        self.socket.sendall(bytes([128 | opcode, *length]) + mask + masked)

    def receive(self, wait):  # the next JSON message; None after `wait` seconds
        if select.select([self.socket], [], [], wait)[0]:
            opcode, size = self.read(2)
            payload = self.read(struct.unpack("!H", self.read(2))[0] if size == 126 else size)
            if opcode != 128 | 8:
                return json.loads(payload)
            code = struct.unpack("!H", payload[:2])[0]
            print("closed", code, payload[2:].decode(), flush=True)
            if code not in (1001, 4408, 4429, 4503):  # after these, a device tries again
                sys.exit(code != 1000)
            raise ConnectionError("closed by the server")


def frame(sequence):  # a real device keeps its frames until they are acknowledged; here they can be computed again
    first = sequence * PER_FRAME
    samples = [round(200 * math.exp(-(((first + i) % RATE - 80) / 4) ** 2)) for i in range(PER_FRAME)]
    header = struct.pack("<BBHIQq", 1, 0, 1, 0, sequence, STARTED + sequence * FRAME_US)
    return header + struct.pack(f"<HHHHQ{PER_FRAME}h4x", 0, PER_FRAME, 0, 0, first, *samples)


def stream(ws, count):
    ws.send(1, json.dumps({**OPEN, "device_time_us": time.time_ns() // 1000}).encode())
    opened = ws.receive(10)
    print("opened", opened["stream"], opened["next_sequence"], flush=True)
    OPEN["resume"], following, acknowledged = opened["stream"], opened["next_sequence"], opened["next_sequence"] - 1
    while True:
        is_due = following < count and STARTED + (following + 1) * FRAME_US <= time.time_ns() // 1000
        if is_due and following - acknowledged <= opened["window"]:
            ws.send(2, frame(following))
            following += 1
        elif following == count:
            ws.send(1, b'{"type": "end"}')
            following += 1
        elif reply := ws.receive(0.02):
            acknowledged = reply.get("sequence", acknowledged)
            print(json.dumps(reply), flush=True)


STARTED, (address, mrn, frames, token) = time.time_ns() // 1000, (*sys.argv[1:], "")[:4]
while True:
    try:
        stream(WebSocket(address, f"/api/v1/patients/{mrn}/waveforms", token), int(frames))
    except OSError as error:
        print("disconnected", error, flush=True)
        time.sleep(0.5)
