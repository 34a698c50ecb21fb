"""Requests and answers that two readers may take apart differently: what of them reaches an application, byte for byte.

smuggling.py WORLD TAG ADDRESS PORT [SPLIT]: WORLD is h1 (HTTP/1.1 to an application of HTTP/1.1), bridge (to one of HTTP/2) or h2
(HTTP/2 to an application of HTTP/1.1); TAG, two letters, is the run's own; with SPLIT every byte of a request is written on its
own. Says each case that fails, and "N cases, M failed" at the end.

The application is recorder.js, which tells at the end what it got. A case says which answers its client gets, whether the
connection lives on (then another request on it is answered right), and exactly which requests the application gets. After each
case a request of another client is answered right, and none got an answer that was not its own. TTTTTTTT stands in a target for
what is the case's own; what is "smuggled" must never be a request.
"""
import sys
sys.dont_write_bytecode = True

from smuggling_base import *
from smuggling_http1 import GOOD_ANSWERS
import smuggling_http2

def told():
    """What the application got: everything has ended there."""
    mine, due = [{}], time.monotonic() + PATIENCE
    while not all(each.get('ended') for each in mine):
        assert time.monotonic() < due, f'has not ended: {[each for each in mine if not each.get("ended")]}'
        client = Client()
        client.socket.sendall(b'GET /' + TAG.encode() + b'/dump HTTP/1.1\r\nHost: one\r\nConnection: close\r\n\r\n')
        records = json.loads(client.answer()[2].decode())
        mine = [each for each in records if 'fault' not in each]
    return mine, [f'a fault: {each}' for each in records if 'fault' in each]

def main():
    failed = []
    paths = [b'/%s%06d/' % (TAG.encode(), number) for number in range(len(CASES))]
    for case, path in zip(CASES, paths):
        for attempt in case.run, lambda path: other_client(path):
            try:
                attempt(path)
            except (AssertionError, Cut, h2.Closed, OSError, ValueError) as error:
                failed.append(f'{path.decode()} {case.name}: {error!r}')
    by_path = {}
    records, faults = told()
    failed += faults
    for record in records:
        by_path.setdefault(re.search(rf'/{TAG}\d+/', record['target'])[0].encode(), []).append(record)
    # Nothing goes to an application on a connection on which it was out of order.
    ended = {}
    for record in records:
        if record.get('connection') in ended:
            failed.append(f'{record["target"]} came on the connection of {ended[record["connection"]]}')
        kind = record['target'].rsplit('answer.', 1)
        if len(kind) == 2 and kind[1] not in GOOD_ANSWERS:
            ended[record['connection']] = record['target']
    for case, path in zip(CASES, paths):
        try:
            case.judge(path, by_path.get(path, []))
        except AssertionError as error:
            failed.append(f'{path.decode()} {case.name}: {error}')
    print(*failed, f'{len(CASES)} cases, {len(failed)} failed', sep='\n')
    sys.exit(bool(failed))

main()
