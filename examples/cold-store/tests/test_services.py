"""The shared HTTP server and the MQTT subscriber against hostile and broken peers, over loopback."""

import json
import os
import socket
import sys
import tempfile
import threading
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "services"), str(ROOT / "services/adapter"), str(ROOT / "services/ingest")]

from common import web  # noqa: E402
from common.call import Failed, call  # noqa: E402
from mqtt import Disconnected, Subscriber  # noqa: E402
from normalise import normalise  # noqa: E402


class Web(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        app = web.App()
        app.route("POST", "/echo")(lambda request: {"got": request.json()})
        app.route("GET", "/wrong")(lambda request: 1 / 0)
        app.route("GET", "/pieces")(lambda request: web.Stream(iter([b"one", b"two"]), "text/plain"))
        cls.server = web._Server(app, "127.0.0.1:0", only_v6=False)
        cls.port = cls.server.server_address[1]
        threading.Thread(target=cls.server.serve_forever, args=(0.02,), daemon=True).start()

    @classmethod
    def tearDownClass(cls):
        cls.server.shutdown()
        cls.server.server_close()

    def raw(self, *pieces):
        """Sends and reads until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            for piece in pieces:
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while more := connection.recv(65536):
                answer += more
            return answer

    def status(self, *pieces):
        return int(self.raw(*pieces).split(b" ")[1])

    def test_malformed_requests_get_an_answer_and_never_end_the_service(self):
        post = b"POST /echo HTTP/1.1\r\nhost: x\r\n"
        for pieces, status in [
            ([b"\x00\xff\r\n\r\n"], 400),
            ([b"GET / HTTP/9.9\r\n\r\n"], 505),
            ([post + b"content-length: 1\r\n\r\n{"], 400),
            ([post + b"content-length: -1\r\n\r\n"], 400),
            ([post + b"content-length: 9\r\n\r\n{}"], 400),
            ([post + b"content-length: 99999999\r\n\r\n"], 413),
            ([post + b"content-length: 100000\r\n\r\n" + b"[" * 100000], 400),
            ([post + b"transfer-encoding: chunked\r\n\r\nzz\r\n"], 400),
            ([post + b"transfer-encoding: chunked\r\n\r\nffffffff\r\n"], 413),
            ([post + b"transfer-encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n"], 200),
            ([b"GET /wrong HTTP/1.1\r\nhost: x\r\n\r\n"], 500),
            ([b"GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n"], 404),
            ([b"GET /echo HTTP/1.1\r\nhost: x\r\n\r\n"], 405),
        ]:
            self.assertEqual(self.status(*pieces), status, pieces)
        self.assertEqual(self.status(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"), 200)

    def test_a_connection_is_kept_and_closed_as_asked(self):
        one = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
        self.assertEqual(self.raw(one + one).count(b"200 OK"), 2)
        closed = self.raw(one.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n") + one)
        self.assertEqual(closed.count(b"200 OK"), 1)
        self.assertIn(b"connection: close", closed)

    def test_pieces_are_chunks(self):
        self.assertTrue(self.raw(b"GET /pieces HTTP/1.1\r\nhost: x\r\n\r\n").endswith(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"))

    def test_calls(self):
        self.assertEqual(call("POST", f"127.0.0.1:{self.port}/echo", [1]), {"got": [1]})
        with self.assertRaises(Failed) as failed:
            call("GET", f"127.0.0.1:{self.port}/nowhere")
        self.assertEqual(failed.exception.status, 404)


class Mqtt(unittest.TestCase):
    def subscriber(self, *answers):
        """A subscriber of a broker that reads once before each of its answers, then closes."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)

        def broker():
            connection, _ = listener.accept()
            with connection:
                for answer in answers:
                    connection.recv(4096)
                    connection.sendall(answer)

        thread = threading.Thread(target=broker, daemon=True)
        thread.start()
        self.addCleanup(thread.join, 5)
        subscriber = Subscriber("127.0.0.1", listener.getsockname()[1], "me", "t/#")
        self.addCleanup(subscriber.close)
        return subscriber

    def test_messages_before_and_after_the_subscription(self):
        connack, suback = b"\x20\x02\x01\x00", b"\x90\x03\x00\x01\x01"
        first, early, late = (b"\x32\x06\x00\x01t\x00%c%c" % (n, n + 90) for n in (6, 7, 8))
        subscriber = self.subscriber(connack + first, early + suback + late)
        self.assertEqual(subscriber.messages(1), [(6, b"`"), (7, b"a"), (8, b"b")])

    def test_what_is_no_mqtt_disconnects(self):
        for answers in [
            (b"\x20\x02\x00\x05",),
            (b"\x20\x02\x00\x00", b"\x90\x03\x00\x01\x80"),
            (b"\x20\xff\xff\xff\xff\xff",),
            (b"\x20\xff\xff\xff\x7f",),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n",),
            (b"",),
        ]:
            with self.assertRaises(Disconnected, msg=answers):
                self.subscriber(*answers)


class Normalise(unittest.TestCase):
    GOOD = {
        "device": "freezer-1", "kind": "freezer", "boot": 1, "message": 2, "sequence": 3, "at_unix_ms": 4,
        "celsius": -19.5, "door": "open", "power": 0.5, "load": 1,
    }  # fmt: skip

    def test_one_language(self):
        self.assertEqual(normalise(self.GOOD)["door"], 1)
        other = self.GOOD | {"kind": "conveyor", "motor_millicelsius": 45123}
        self.assertEqual(normalise(other)["celsius"], 45.123)

    def test_what_is_refused(self):
        for change in [
            {"celsius": None}, {"celsius": True}, {"celsius": float("nan")}, {"celsius": 1e9}, {"door": 1},
            {"device": "../x"}, {"device": 7}, {"kind": []}, {"boot": -1}, {"sequence": 1.5}, {"message": 1 << 60},
        ]:  # fmt: skip
            with self.assertRaises(ValueError, msg=change):
                normalise(self.GOOD | change)
        for message in (None, [], "x", 1):
            with self.assertRaises(ValueError):
                normalise(message)


class Historian(unittest.TestCase):
    """The store behind the historian: what makes repeating safe."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        os.environ["DATA"] = cls.folder.name
        import importlib.util

        spec = importlib.util.spec_from_file_location("historian_main", ROOT / "services/historian/main.py")
        cls.main = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(cls.main)

    @classmethod
    def tearDownClass(cls):
        cls.main.store.db.close()
        cls.folder.cleanup()

    def ask(self, method, path, body=None, **query):
        request = web.Request.__new__(web.Request)
        request.path, request.query, request.body = path, query, json.dumps(body).encode()
        answer = self.main.app.answer(method, request)
        return answer.status, json.loads(answer.body)

    def sample(self, message):
        return {name: 1 for name in self.main.COLUMNS} | {"device": "d", "kind": "freezer", "message": message}

    def test_samples_twice_are_stored_once_and_gaps_are_known(self):
        self.assertEqual(self.ask("GET", "/received/d/1")[1], {"complete_to": 0})
        self.assertEqual(self.ask("POST", "/samples", [self.sample(1), self.sample(2)])[1], {"stored": 2, "known": 0})
        self.assertEqual(self.ask("POST", "/samples", [self.sample(2), self.sample(4)])[1], {"stored": 1, "known": 1})
        self.assertEqual(self.ask("GET", "/received/d/1")[1], {"complete_to": 2})
        self.assertEqual([s["message"] for s in self.ask("GET", "/samples", after="1")[1]], [2, 4])

    def test_a_commit_is_taken_once(self):
        alarm = {"id": "a", "device": "d", "boot": 1, "kind": "spike", "first": 3, "last": None, "detail": ""}
        commit = {"from": 0, "place": 5, "state": {"x": 1}, "alarms": [alarm]}
        self.assertEqual(self.ask("PUT", "/progress/r", commit)[0], 200)
        self.assertEqual(self.ask("PUT", "/progress/r", commit)[0], 409)
        self.ask("PUT", "/progress/r", commit | {"from": 5, "place": 6, "alarms": [alarm | {"last": 4}]})
        self.assertEqual(self.ask("GET", "/progress/r")[1], {"place": 6, "state": {"x": 1}})
        alarms = self.ask("GET", "/alarms")[1]
        self.assertEqual([(a["id"], a["last"], a["raised"]) for a in alarms], [("a", 4, 1)])


if __name__ == "__main__":
    unittest.main()
