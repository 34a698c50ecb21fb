"""notification: tells people about alarms, once each, and remembers who took care. On a volume of its own."""

import os
import sqlite3
import threading
import time

from common.log import log
from common.web import App, Problem

NOTICES_MAX = 2_000
BATCH_MAX = 500

app = App()
lock = threading.Lock()


def open_store(folder):
    os.makedirs(folder, exist_ok=True)
    db = sqlite3.connect(os.path.join(folder, "notices.db"), check_same_thread=False, isolation_level=None)
    db.row_factory = sqlite3.Row
    db.execute("pragma journal_mode = wal")
    db.execute("pragma synchronous = normal")
    db.execute(
        """create table if not exists notices (
               number integer primary key autoincrement, id text unique not null, device text not null,
               kind text not null, detail text not null, over integer not null,
               told_unix_ms integer not null, taken_unix_ms integer)"""
    )
    return db


store = open_store(os.environ.get("DATA", "/data"))


@app.route("POST", "/alarms")
def alarms(request):
    """Alarms, new or known; a known one is not told again, but its end is noted."""
    given = request.json()
    try:
        rows = [(a["id"], a["device"], a["kind"], a["detail"], int(a["last"] is not None)) for a in given]
    except (KeyError, TypeError):
        raise Problem(400, "alarms are a list of objects with id, device, kind, last and detail") from None
    if len(rows) > BATCH_MAX or any(not isinstance(v, str) for row in rows for v in row[:4]):
        raise Problem(400, f"at most {BATCH_MAX} alarms of texts")
    told = 0
    with lock:
        for row in rows:
            added = store.execute(
                "insert or ignore into notices (id, device, kind, detail, over, told_unix_ms) values (?, ?, ?, ?, ?, ?)",
                (*row, int(time.time() * 1000)),
            ).rowcount
            if added:
                told += 1
                log("told", alarm=row[0], detail=row[3])
            elif row[4]:
                store.execute("update notices set over = 1 where id = ?", (row[0],))
        store.execute("delete from notices where number <= (select max(number) from notices) - ?", (NOTICES_MAX,))
    return {"told": told, "known": len(rows) - told}


@app.route("GET", "/notices")
def notices(request):
    limit = request.number("limit", 30, 1, NOTICES_MAX)
    with lock:
        return [dict(row) for row in store.execute("select * from notices order by number desc limit ?", (limit,))]


@app.route("POST", "/notices/{id}/take")
def take(request, id):
    """Somebody takes care. Saying it twice changes nothing."""
    with lock:
        if not store.execute("select 1 from notices where id = ?", (id,)).fetchone():
            raise Problem(404, "no such notice")
        store.execute(
            "update notices set taken_unix_ms = ? where id = ? and taken_unix_ms is null", (int(time.time() * 1000), id)
        )
        row = store.execute("select * from notices where id = ?", (id,)).fetchone()
    log("taken", alarm=id)
    return dict(row)


if __name__ == "__main__":
    app.run()
    store.close()
