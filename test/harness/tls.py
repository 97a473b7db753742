"""TLS in front of a server, as a balancer or a later PostgreSQL speaks it: in records of 16 kB, filled to the last."""
import contextlib
import select
import socket
import ssl
import subprocess
import threading

import psycopg2.extensions

RECORD, ROOM = 16384, 64  # bytes; pieces that are held in either direction
REQUEST = b"\x04\xd2\x16\x2f"  # SSLRequest


class Tls:
    """Listens on the loopback; `url(cluster, database)` leads through it. Ends with the process."""

    def __init__(self, path):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test", "-days", "2",
                        "-keyout", path / "key.pem", "-out", path / "cert.pem"], check=True, capture_output=True)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(path / "cert.pem", path / "key.pem")

    def url(self, cluster, database):
        """Of a database of the cluster; the way there is made for it."""
        with contextlib.closing(cluster.connect(database)) as conn:
            words = psycopg2.extensions.parse_dsn(conn.dsn)
        listener = socket.create_server(("127.0.0.1", 0))
        server = f"{words['host']}/.s.PGSQL.{words.get('port', 5432)}"
        threading.Thread(target=self.accept, args=(listener, server), daemon=True).start()
        return f"host=127.0.0.1 port={listener.getsockname()[1]} user={words['user']} dbname={database} sslmode=require"

    def accept(self, listener, server):
        while True:
            client, _ = listener.accept()
            threading.Thread(target=self.serve, args=(client, server), daemon=True).start()

    def serve(self, client, server):
        with contextlib.suppress(OSError), client, socket.socket(socket.AF_UNIX) as behind:
            behind.connect(server)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            first = client.recv(8)
            if first[4:] == REQUEST:
                client.sendall(b"S")
                client = self.context.wrap_socket(client, server_side=True)
            else:
                behind.sendall(first)  # a request to cancel
            pump(client, behind)


def pump(client, behind):
    """To and fro by one thread, as a TLS connection is no matter for two, with room for both: until one end is closed."""
    client.setblocking(False)
    behind.setblocking(False)
    forth, back = [], []
    while True:
        room = [end for end, queue in ((client, forth), (behind, back)) if len(queue) < ROOM]
        full = [end for end, queue in ((client, back), (behind, forth)) if queue]
        select.select(room, full, [], 1)
        if client in room and not take(client, forth):
            return
        if behind in room and not gather(behind, back):
            return
        give(behind, forth)
        give(client, back)


def take(end, queue):
    """False at the end of what it says."""
    with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
        while len(queue) < ROOM:
            data = end.recv(65536)
            if not data:
                return False
            queue.append(data)
    return True


def gather(behind, queue):
    """What comes together goes together, in full records: the odd rest of it first."""
    pieces = []
    going_on = take(behind, pieces)
    while pieces and going_on and select.select([behind], [], [], 0.003)[0]:
        before = len(pieces)
        going_on = take(behind, pieces)
        if len(pieces) == before:
            break
    data = b"".join(pieces)
    rest = len(data) % RECORD
    queue += [data[start:end] for start, end in ((0, rest), *((at, at + RECORD) for at in range(rest, len(data), RECORD)))
              if end > start]
    return going_on


def give(end, queue):
    """One record a piece, tried again as it is where it did not fit."""
    with contextlib.suppress(BlockingIOError, ssl.SSLWantWriteError):
        while queue:
            sent = end.send(queue[0])
            if sent == len(queue[0]):
                queue.pop(0)
            else:
                queue[0] = queue[0][sent:]
