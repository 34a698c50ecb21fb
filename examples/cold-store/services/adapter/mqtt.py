"""A subscriber for MQTT 3.1.1 (QoS 1, persistent session), as much as the adapter needs. Numbers in brackets are sections
of the OASIS standard."""

import select
import socket
import struct
import time

PACKET_BYTES_MAX = 64 * 1024
CONNECT_SECONDS_MAX = 3
CONNACK, PUBLISH, PUBACK, SUBACK, PINGRESP = 2, 3, 4, 9, 13


class Disconnected(Exception):
    pass


class Subscriber:
    def __init__(self, host, port, client_id, topic, keep_alive_seconds=10):
        self.keep_alive = keep_alive_seconds
        self.buffer = bytearray()
        self.last_sent = self.last_heard = time.monotonic()
        try:
            self.socket = socket.create_connection((host, port), CONNECT_SECONDS_MAX)
        except OSError as error:
            raise Disconnected(f"{type(error).__name__}: {error}") from None
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Clean session off [3.1.2.4]: the broker keeps what comes while we are away.
            body = _text("MQTT") + bytes([4, 0]) + struct.pack(">H", keep_alive_seconds) + _text(client_id)
            self._send(0x10, body)
            # Messages of the kept session may come at any time from now on.
            self.early = self._expect(CONNACK, lambda body: len(body) == 2 and body[1] == 0)
            self._send(0x82, struct.pack(">H", 1) + _text(topic) + bytes([1]))
            self.early += self._expect(SUBACK, lambda body: body[2:] == b"\x01")
        except (OSError, Disconnected) as error:
            self.socket.close()
            raise error if isinstance(error, Disconnected) else Disconnected(str(error)) from None

    def messages(self, seconds):
        """What arrives within this time, at the least nothing: a list of (packet id, payload). Returns at the first."""
        if self.early:
            found, self.early = self.early, []
            return found
        found = [m for m in map(_message, self._packets(seconds)) if m]
        now = time.monotonic()
        if now - self.last_heard > 2 * self.keep_alive:
            raise Disconnected("the broker is silent")
        if now - max(self.last_sent, self.last_heard) > self.keep_alive / 2:
            self._send(0xC0, b"")
        return found

    def acknowledge(self, packet_ids):
        self._write(b"".join(struct.pack(">BBH", 0x40, 2, packet_id) for packet_id in packet_ids if packet_id))

    def close(self):
        self.socket.close()

    def _expect(self, kind, fits):
        """Waits for an answer; returns the messages that came around it."""
        end, found = time.monotonic() + CONNECT_SECONDS_MAX, []
        while time.monotonic() < end:
            for packet in self._packets(end - time.monotonic()):
                if packet[0] >> 4 == kind:
                    if not fits(packet[1]):
                        raise Disconnected(f"the broker refused: packet {packet[0]:#x} {packet[1].hex()}")
                    return found + [m for m in map(_message, self._parse()) if m]
                if message := _message(packet):
                    found.append(message)
        raise Disconnected("the broker did not answer")

    def _packets(self, seconds):
        """Reads once, if there is something; yields (first byte, body) of every whole packet."""
        try:
            if not select.select([self.socket], [], [], max(seconds, 0))[0]:
                return
            piece = self.socket.recv(65536)
        except OSError as error:
            raise Disconnected(f"{type(error).__name__}: {error}") from None
        if not piece:
            raise Disconnected("the broker closed the connection")
        self.last_heard = time.monotonic()
        self.buffer += piece
        yield from self._parse()

    def _parse(self):
        while len(self.buffer) >= 2:
            length, header = 0, 1
            for shift in range(4):  # remaining length [2.2.3]
                if header >= len(self.buffer):
                    return
                byte = self.buffer[header]
                header += 1
                length |= (byte & 0x7F) << (7 * shift)
                if not byte & 0x80:
                    break
            else:
                raise Disconnected("a length that is none")
            if length > PACKET_BYTES_MAX:
                raise Disconnected(f"a packet of {length} bytes")
            if len(self.buffer) < header + length:
                return
            first, body = self.buffer[0], bytes(self.buffer[header : header + length])
            del self.buffer[: header + length]
            yield first, body

    def _send(self, first, body):
        length, size = bytearray(), len(body)
        while True:
            size, low = divmod(size, 128)
            length.append(low | (0x80 if size else 0))
            if not size:
                break
        self._write(bytes([first]) + bytes(length) + body)

    def _write(self, data):
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Disconnected(f"{type(error).__name__}: {error}") from None
        self.last_sent = time.monotonic()


def _message(packet):
    """(packet id, payload) of a PUBLISH [3.3]; QoS 0 has no id: 0."""
    first, body = packet
    if first >> 4 != PUBLISH:
        return None
    if len(body) < 2:
        raise Disconnected("a message without a topic")
    start = 2 + int.from_bytes(body[:2], "big")
    if not (first >> 1) & 3:
        return 0, body[start:]
    if len(body) < start + 2:
        raise Disconnected("a message without an id")
    return int.from_bytes(body[start : start + 2], "big"), body[start + 2 :]


def _text(text):
    data = text.encode()
    return struct.pack(">H", len(data)) + data
