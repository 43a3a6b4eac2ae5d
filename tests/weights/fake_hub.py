"""A Hugging Face Hub on the loopback interface: as much of its HTTP as a download meets, and its ways to fail."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

LARGE = (".safetensors", ".bin")  # kept in LFS: answered with a redirect to another host


@dataclass
class Fault:
    """What to do instead of the right thing, once or for as many `times` as it says.

    what: an HTTP status, or "cut" (close the connection half-way), "short" or "long" (a complete answer of the wrong
    length), "wrong" (other bytes of the right length), "drip" (a byte now and then), "endless" (zeros without an end,
    and no word of the length), "gone" (no answer), "odd" (the right answer with `headers` in place of its own).
    """

    what: int | str
    method: str = "GET"
    path: str = "/cdn/"
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1


class FakeHub(ThreadingHTTPServer):
    """Serves `repos[name][commit][file]`; `heads[name]` is the commit of main. What is pushed is served, too.

    seen: every request as (method, path, headers).
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[str, dict[str, dict[str, bytes]]] = {}
        self.heads: dict[str, str] = {}
        self.faults: list[Fault] = []
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.private: set[str] = set()
        self.uploads: dict[str, bytes] = {}  # by SHA-256, until a commit names them
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def cdn(self) -> str:
        """The same machine under a name of its own, so that to a client it is another host."""
        return f"http://localhost:{self.server_port}/cdn/"

    def requests(self, method: str, part: str = "") -> list[dict[str, str]]:
        """The headers of the requests with this method whose path has this part."""
        return [headers for verb, path, headers in self.seen if verb == method and part in path]

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeHub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._push()

    def do_PUT(self) -> None:
        self._push()

    def _push(self) -> None:
        """What a commit takes: the repository, which files go to LFS, those, and the commit itself."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        fault = next((f for f in self.server.faults if f.method == self.command and f.path in self.path), None)
        if fault is not None:
            return self._send(int(fault.what), fault.headers)
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            if name in self.server.repos:
                return self._json({"error": "exists", "url": f"{self.server.url}/{name}"}, 409)
            self.server.repos[name] = {}
            if asked.get("private") or asked.get("visibility") == "private":
                self.server.private.add(name)
            return self._json({"url": f"{self.server.url}/{name}", "name": name, "id": name})
        if self.path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if self.path.startswith("/upload/"):
            self.server.uploads[self.path.removeprefix("/upload/")] = body
            return self._json({})
        if self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                row | {"actions": {"upload": {"href": f"{self.server.url}/upload/{row['oid']}"}}}
                for row in json.loads(body)["objects"]
            ]
            return self._json({"transfer": "basic", "objects": objects})
        if "/preupload/" in self.path:
            names = [row["path"] for row in json.loads(body)["files"]]
            modes = {name: "lfs" if name.endswith(LARGE) else "regular" for name in names}
            return self._json(
                {"files": [{"path": n, "uploadMode": m, "shouldIgnore": False} for n, m in modes.items()]}
            )
        return self._commit([json.loads(line) for line in body.splitlines()])

    def _commit(self, lines: list[dict[str, Any]]) -> None:
        """/api/models/org/name/commit/main"""
        repo = "/".join(self.path.split("/")[3:5])
        commit = hashlib.sha1(str(lines).encode()).hexdigest()
        files = dict(self.server.repos[repo].get(self.server.heads.get(repo, ""), {}))
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.uploads[value["oid"]]
        self.server.repos[repo][commit], self.server.heads[repo] = files, commit
        self._json({"commitUrl": f"{self.server.url}/{repo}/commit/{commit}", "commitOid": commit, "success": True})

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(status, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self) -> None:
        self.server.seen.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        fault = next((f for f in self.server.faults if f.method == self.command and f.path in self.path), None)
        if fault is not None:
            fault.times -= 1
            if fault.times <= 0:
                self.server.faults.remove(fault)
            if isinstance(fault.what, int):
                return self._send(fault.what, fault.headers)
        how = str(fault.what) if fault else ""
        self._odd = fault.headers if fault is not None and how == "odd" else {}
        if how == "gone":
            self.close_connection = True
            return None
        if self.path.startswith("/cdn/"):
            return self._send_blob(self.path.removeprefix("/cdn/"), how)
        return self._resolve(how)

    def _resolve(self, how: str) -> None:
        """/org/name/resolve/revision/file, of a dataset with /datasets in front"""
        if self.path.startswith("/api/"):
            kind, repo = self.path.split("/")[2], "/".join(self.path.split("?")[0].split("/")[3:5])
            stored = f"datasets/{repo}" if kind == "datasets" else repo
            if stored in self.server.repos:
                commit = self.server.heads.get(stored)
                files = self.server.repos[stored].get(commit or "", {})
                if f"{repo}/tree/" in self.path:
                    inside = unquote(self.path.split("?")[0]).partition("/tree/")[2].partition("/")[2]
                    rows = [
                        {"type": "file", "path": file, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
                        for file, body in files.items()
                        if file.startswith(inside)
                    ]
                    return self._json(rows)
                return self._json({"id": repo, "sha": commit, "siblings": [{"rfilename": file} for file in files]})
            return self._send(401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Invalid username or password."})
        kind = "datasets/" if self.path.startswith("/datasets/") else ""
        org, name, _, revision, file = unquote(self.path).removeprefix(f"/{kind.rstrip('/')}").lstrip("/").split("/", 4)
        repo = f"{kind}{org}/{name}"
        if repo not in self.server.repos:
            return self._send(401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Invalid username or password."})
        commit = self.server.heads[repo] if revision == "main" else revision
        if commit not in self.server.repos[repo]:
            return self._send(404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
        headers = {"X-Repo-Commit": commit}
        body = self.server.repos[repo][commit].get(file)
        if body is None:
            return self._send(404, headers | {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"})
        if file.endswith(LARGE):
            digest = hashlib.sha256(body).hexdigest()
            linked = {"X-Linked-Size": str(len(body)), "X-Linked-Etag": f'"{digest}"'}
            return self._send(302, headers | linked | {"ETag": '"pointer"', "Location": self.server.cdn + digest})
        digest = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
        return self._send(200, headers | {"ETag": f'"{digest}"'}, body, how)

    def _send_blob(self, digest: str, how: str) -> None:
        bodies = [body for repo in self.server.repos.values() for files in repo.values() for body in files.values()]
        body = next(body for body in bodies if hashlib.sha256(body).hexdigest() == digest)
        requested = self.headers.get("Range")
        if requested is None:
            return self._send(200, {"ETag": f'"{digest}"'}, body, how)
        start = int(requested.removeprefix("bytes=").partition("-")[0])
        extent = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
        return self._send(206, extent, body[start:], how)

    def _send(self, status: int, headers: dict[str, str], body: bytes = b"", how: str = "") -> None:
        if how == "short":
            body = body[: len(body) // 2]
        elif how == "long":
            body = body + b"more"
        elif how == "wrong":
            body = bytes(255 - byte for byte in body)
        self.send_response(status)
        length = {} if how == "endless" else {"Content-Length": str(len(body))}
        for key, value in (headers | length | getattr(self, "_odd", {})).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if how in ("drip", "endless"):
            self.close_connection = True
            with contextlib.suppress(OSError):  # until the client has had enough
                while True:
                    self.wfile.write(b"0" if how == "drip" else bytes(1 << 20))
                    threading.Event().wait(0.01 if how == "drip" else 0)
        if how == "cut":
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        else:
            self.wfile.write(body)
