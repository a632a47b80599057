"""The API over its Unix socket, for the programs beside this file."""
import http.client
import json
import socket

SOCKET = "/run/sexton/sexton.sock"
PATIENCE_S = 60


class Connection(http.client.HTTPConnection):
    def __init__(self):
        super().__init__("sexton", timeout=PATIENCE_S)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(SOCKET)


def call(method, path, document=None, connection=None):
    """The status and the document. OSError and HTTPException mean that there was no whole answer."""
    connection = connection or Connection()
    body = None if document is None else json.dumps(document)
    connection.request(method, path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def rows(path):
    """Everything of a list, page by page."""
    cursor, joint = "", "&" if "?" in path else "?"
    while True:
        status, page = call("GET", f"{path}{joint}limit=1000{cursor}")
        if status != 200:
            raise SystemExit(f"{path}: {status} {page}")
        yield from page["items"]
        if page["next_cursor"] is None:
            return
        cursor = f"&cursor={page['next_cursor']}"
