"""historian: keeps samples, alarms and the place up to which the rules have read, in SQLite on a volume.

Samples are known by (device, boot, message): storing one twice changes nothing. The rules commit the place they read to,
their state and their alarms in one transaction: what they found is never lost and never counted twice."""

import json
import os
import sqlite3
import threading

from common.log import log
from common.web import Answer, App, Problem

SAMPLES_MAX = 50_000
ALARMS_MAX = 10_000
BATCH_MAX = 500
TRIM_EVERY = 1_000

SCHEMA = """
create table if not exists samples (
    place integer primary key autoincrement,
    device text not null, boot integer not null, message integer not null,
    kind text not null, sequence integer not null, at_unix_ms integer not null,
    celsius real not null, power real not null, door integer not null, load real not null,
    unique (device, boot, message)
);
create table if not exists alarms (
    id text primary key, device text not null, boot integer not null, kind text not null,
    first integer not null, last integer, detail text not null, raised integer not null
);
create index if not exists alarms_raised on alarms (raised);
create table if not exists progress (reader text primary key, place integer not null, state text not null);
"""

COLUMNS = ("device", "boot", "message", "kind", "sequence", "at_unix_ms", "celsius", "power", "door", "load")
ALARM_COLUMNS = ("id", "device", "boot", "kind", "first", "last", "detail")

app = App()


class Store:
    """One connection, one lock: SQLite has one writer anyway."""

    def __init__(self, folder):
        os.makedirs(folder, exist_ok=True)
        self.lock = threading.Lock()
        self.db = sqlite3.connect(os.path.join(folder, "history.db"), check_same_thread=False, isolation_level=None)
        self.db.row_factory = sqlite3.Row
        self.db.execute("pragma journal_mode = wal")
        self.db.execute("pragma synchronous = normal")
        self.db.execute("pragma cache_size = -2048")
        self.db.executescript(SCHEMA)
        self.since_trim = 0

    def read(self, sql, *values):
        with self.lock:
            return [dict(row) for row in self.db.execute(sql, values)]

    def write(self, function):
        with self.lock:
            self.db.execute("begin immediate")
            try:
                result = function(self.db)
            except BaseException:
                self.db.execute("rollback")
                raise
            self.db.execute("commit")
            return result

    def trim(self, db, added):
        """Forgets the oldest samples, but none that the rules have not read."""
        self.since_trim += added
        if self.since_trim < TRIM_EVERY:
            return
        self.since_trim = 0
        newest = db.execute("select coalesce(max(place), 0) from samples").fetchone()[0]
        read = db.execute("select coalesce(min(place), 0) from progress").fetchone()[0]
        db.execute("delete from samples where place <= ?", (min(newest - SAMPLES_MAX, read),))
        db.execute(
            "delete from alarms where raised <= (select max(raised) from alarms) - ?",
            (ALARMS_MAX,),
        )


store = Store(os.environ.get("DATA", "/data"))


@app.route("POST", "/samples")
def add_samples(request):
    samples = request.json()
    if not isinstance(samples, list) or len(samples) > BATCH_MAX:
        raise Problem(400, f"samples are a list of at most {BATCH_MAX}")
    rows = rows_of(samples, COLUMNS)
    places = ", ".join("?" for _ in COLUMNS)

    def add(db):
        before = db.total_changes
        db.executemany(f"insert or ignore into samples ({', '.join(COLUMNS)}) values ({places})", rows)
        stored = db.total_changes - before
        store.trim(db, stored)
        return {"stored": stored, "known": len(rows) - stored}

    return store.write(add)


@app.route("GET", "/samples")
def samples_after(request):
    """What comes after a place, in the order of arrival: how the rules follow."""
    after = request.number("after", 0, 0, 1 << 62)
    limit = request.number("limit", 200, 1, BATCH_MAX)
    return store.read("select * from samples where place > ? order by place limit ?", after, limit)


@app.route("GET", "/latest")
def latest(request):
    """The newest samples of each device, oldest first, for charts."""
    points = request.number("points", 1, 1, 600)
    devices = store.read("select device, max(place) as place from samples group by device order by device")
    return {
        d["device"]: store.read(
            "select * from (select * from samples where device = ? order by place desc limit ?) order by place",
            d["device"],
            points,
        )
        for d in devices
    }


@app.route("GET", "/received/{device}/{boot}")
def received(request, device, boot):
    """The last message number up to which nothing is missing; what came before the oldest kept sample counts as there."""
    rows = store.read("select min(message) as low from samples where device = ? and boot = ?", device, int(boot))
    if rows[0]["low"] is None:
        return {"complete_to": 0}
    last = store.read(
        """select message from samples s where device = ? and boot = ? and not exists (
               select 1 from samples n where n.device = s.device and n.boot = s.boot and n.message = s.message + 1)
           order by message limit 1""",
        device,
        int(boot),
    )
    return {"complete_to": 0 if rows[0]["low"] > 1 and not trimmed() else last[0]["message"]}


def trimmed():
    return store.read("select coalesce(min(place), 1) as low from samples")[0]["low"] > 1


@app.route("GET", "/alarms")
def alarms(request):
    """The newest alarms, newest first; or one device's."""
    limit = request.number("limit", 50, 1, ALARMS_MAX)
    return store.read("select * from alarms order by raised desc limit ?", limit)


@app.route("GET", "/alarms/counts")
def alarm_counts(request):
    return store.read("select device, boot, kind, count(*) as count from alarms group by device, boot, kind")


@app.route("GET", "/progress/{reader}")
def progress(request, reader):
    rows = store.read("select place, state from progress where reader = ?", reader)
    return {"place": rows[0]["place"], "state": json.loads(rows[0]["state"])} if rows else {"place": 0, "state": {}}


@app.route("PUT", "/progress/{reader}")
def commit(request, reader):
    """`from` must be the place that was committed last: a second reader, or a repeated commit, is told so (409)."""
    body = request.json()
    try:
        start, place, state = int(body["from"]), int(body["place"]), json.dumps(body["state"])
        rows = rows_of(body["alarms"], ALARM_COLUMNS)
    except (KeyError, TypeError):
        raise Problem(400, "a commit has from, place, state and alarms") from None

    def put(db):
        row = db.execute("select place from progress where reader = ?", (reader,)).fetchone()
        if start != (row[0] if row else 0):
            return Answer({"error": "somebody else committed", "place": row[0] if row else 0}, 409)
        db.execute(
            "insert into progress values (?, ?, ?) on conflict do update set place = excluded.place, state = excluded.state",
            (reader, place, state),
        )
        db.executemany(
            """insert into alarms select ?, ?, ?, ?, ?, ?, ?, coalesce(max(raised), 0) + 1 from alarms where true
               on conflict (id) do update set last = excluded.last""",
            rows,
        )
        return {"place": place}

    return store.write(put)


def rows_of(items, columns):
    try:
        rows = [tuple(item[column] for column in columns) for item in items]
    except (KeyError, TypeError):
        raise Problem(400, f"each has {', '.join(columns)}") from None
    if any(value is not None and not isinstance(value, (str, int, float)) for row in rows for value in row):
        raise Problem(400, "values are texts and numbers")
    return rows


if __name__ == "__main__":
    kept = store.read("select count(*) as count from samples")[0]["count"]
    log("opened", samples=kept)
    app.run()
    store.db.close()
