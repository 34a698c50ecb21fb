"""operator: the page for the people at the line. Static files, the dashboard's API passed through, and server-sent
events: one question to the dashboard per second, however many look on."""

import json
import os
import threading
from urllib.parse import quote, urlencode

from common import trace
from common.call import Failed, call
from common.log import log
from common.web import Answer, App, Problem, Stream

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "page")
TYPES = {".html": "text/html; charset=utf-8", ".mjs": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
PERIOD_SECONDS = 1
POINTS = 150
WATCHERS_MAX = 64

app = App()


class News:
    """The newest overview, for everybody who waits for it."""

    def __init__(self):
        self.changed = threading.Condition()
        self.number = 0
        self.text = b""
        self.watchers = 0

    def follow(self):
        while not app.stopping.is_set():
            with self.changed:
                self.changed.wait_for(lambda: self.watchers or app.stopping.is_set(), 1)
                asked = self.watchers > 0
            if asked:
                trace.enter()
                self.tell(self.look())
                trace.leave()
                app.stopping.wait(PERIOD_SECONDS)
        self.tell(None)

    def look(self):
        try:
            return call("GET", f"dashboard:8000/api/overview?points={POINTS}")
        except Failed as error:
            log("missing", error=str(error))
            return {"missing": ["dashboard"]}

    def tell(self, overview):
        with self.changed:
            self.number += 1
            self.text = b"data: " + json.dumps(overview, separators=(",", ":")).encode() + b"\n\n"
            self.changed.notify_all()

    def watch(self):
        with self.changed:
            if self.watchers >= WATCHERS_MAX:
                raise Problem(503, "too many look on already")
            self.watchers += 1
            self.changed.notify_all()
        return self.pieces()

    def pieces(self):
        try:
            seen = None
            yield b"retry: 1000\n\n"
            while not app.stopping.is_set():
                with self.changed:
                    self.changed.wait_for(lambda: self.number != seen and self.text, 15)
                    text, seen = (self.text if self.number != seen else b": still here\n\n"), self.number
                if text and not app.stopping.is_set():
                    yield text
        finally:
            with self.changed:
                self.watchers -= 1


news = News()


@app.route("GET", "/events")
def events(request):
    if request.handler.command == "HEAD":
        return Answer(content_type="text/event-stream")
    return Stream(news.watch(), "text/event-stream")


@app.route("GET", "/api/{name}")
def api(request, name):
    if name not in ("overview", "alarms", "truth"):
        raise Problem(404, "no such path")
    return pass_on("GET", f"dashboard:8000/api/{name}?{urlencode(request.query)}")


@app.route("POST", "/api/notices/{id}/take")
def take(request, id):
    return pass_on("POST", f"dashboard:8000/api/notices/{quote(id, safe='')}/take")


def pass_on(method, url):
    try:
        return call(method, url)
    except Failed as error:
        status = error.status if error.status in (400, 404) else 502
        raise Problem(status, str(error)) from None


def load_page():
    files = {}
    for name in sorted(os.listdir(PAGE)):
        content_type = TYPES.get(os.path.splitext(name)[1])
        if content_type:
            with open(os.path.join(PAGE, name), "rb") as file:
                files[name] = Answer(file.read(), content_type=content_type, headers={"cache-control": "no-cache"})
    return files


files = load_page()


@app.route("GET", "/")
def index(request):
    return files["index.html"]


@app.route("GET", "/{name}")
def file(request, name):
    if name not in files:
        raise Problem(404, "no such file")
    return files[name]


if __name__ == "__main__":
    threading.Thread(target=news.follow, name="news", daemon=True).start()
    app.run()
