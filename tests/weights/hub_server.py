"""A hub of one model on 127.0.0.1: the few endpoints that listing and downloading use."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hub:
    """`revisions` maps branch and commit names to {file name: bytes}; `requests` lists what was asked."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.branches: dict[str, str] = {}
        self.commits: dict[str, dict[str, bytes]] = {}
        self.requests: list[tuple[str, str, str | None]] = []  # method, path, range
        self.break_after: int | None = None  # bytes of one file, then the connection is cut
        self.url = ""

    def push(self, files: dict[str, bytes], branch: str = "main") -> str:
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.commits[commit] = files
        self.branches[branch] = commit
        return commit

    @contextmanager
    def running(self) -> Iterator[Hub]:
        hub = self

        class Handler(_Handler):
            model = hub

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model: Hub

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        self.model.requests.append((self.command, path, self.headers.get("Range")))
        info, files = f"/api/models/{self.model.name}", f"/{self.model.name}/resolve/"
        if path == info or path.startswith(info + "/revision/"):
            self._info(path[len(info + "/revision/") :] or "main")
        elif path.startswith(files):
            revision, _, filename = path[len(files) :].partition("/")
            self._file(revision, filename, with_body)
        else:
            self._fail(404, "RepoNotFound")

    def _commit(self, revision: str) -> str | None:
        commit = self.model.branches.get(revision, revision)
        return commit if commit in self.model.commits else None

    def _info(self, revision: str) -> None:
        commit = self._commit(revision)
        if commit is None:
            return self._fail(404, "RevisionNotFound")
        siblings = [{"rfilename": name, "size": len(data)} for name, data in self.model.commits[commit].items()]
        body = json.dumps({"id": self.model.name, "sha": commit, "siblings": siblings}).encode()
        self._send(200, {"Content-Type": "application/json"}, body)
        return None

    def _file(self, revision: str, filename: str, with_body: bool) -> None:
        commit = self._commit(revision)
        if commit is None:
            return self._fail(404, "RevisionNotFound")
        data = self.model.commits[commit].get(filename)
        if data is None:
            return self._fail(404, "EntryNotFound", {"X-Repo-Commit": commit})
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        wanted = self.headers.get("Range")
        if wanted and wanted != "bytes=0-0":
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self._send(206, headers, data[start:], with_body)
        else:
            self._send(200, headers, data, with_body)
        return None

    def _fail(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, {"X-Error-Code": code, "X-Error-Message": code, **(headers or {})}, b"{}")

    def _send(self, status: int, headers: dict[str, str], body: bytes, with_body: bool = True) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if not with_body or self.command == "HEAD":
            return
        limit = self.model.break_after
        if limit is not None and len(body) > limit:
            self.wfile.write(body[:limit])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
        else:
            self.wfile.write(body)
