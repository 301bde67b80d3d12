"""Requests to the two sample applications, as browsers and programs send them."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlencode

LARGE = 10 * 1024 * 1024
FORM = "application/x-www-form-urlencoded"
_BOUNDARY = "----boundary7MA4YWxkTrZu0gW"


@dataclass(frozen=True)
class Recorded:
    """One request; cookies are what the client has by then."""

    method: str
    target: str
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


def get(target: str, **headers: str) -> Recorded:
    return Recorded("GET", target, None, {name.replace("_", "-"): value for name, value in headers.items()})


def form(target: str, **fields: str) -> Recorded:
    return Recorded("POST", target, urlencode(fields).encode(), {"Content-Type": FORM})


def upload(target: str, *files: tuple[str, str, str, bytes], **fields: str) -> Recorded:
    """:param files: field, file name, content type and content of each."""
    parts = [
        *(
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in fields.items()
        ),
        *(
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{file}"\r\n'
            f"Content-Type: {kind}\r\n\r\n".encode()
            + content
            + b"\r\n"
            for name, file, kind, content in files
        ),
        f"--{_BOUNDARY}--\r\n".encode(),
    ]
    kind = f"multipart/form-data; boundary={_BOUNDARY}"
    return Recorded("POST", target, b"".join(parts), {"Content-Type": kind})


def raw(method: str, target: str, body: bytes, kind: str = "application/octet-stream") -> Recorded:
    return Recorded(method, target, body, {"Content-Type": kind})


_PATHS = [
    "/echo/plain",
    "/echo/with%20space",
    "/echo/%C3%A9t%C3%A9",
    "/echo/a%2Fb",
    "/echo/a%25b",
    "/echo/a;b=c",
    "/echo/a+b",
    "/echo/~tilde/-._",
    "/echo/deep/er/and/deeper",
    "/echo/q?",
    "/echo/q?a=1&a=2&b=",
    "/echo/q?a=%26%3D&b=+%20",
    "/echo/q?%C3%A9=%E2%82%AC",
    "/echo/q?no-value",
    "/echo/q?a=1?b=2",
    "/echo/" + "x" * 1000,
]
_COMMON = [
    get("/"),
    get("/?page=2"),
    *(get(target) for target in _PATHS),
    get("/echo/h", X_Accept="a, b", User_Agent="recorded/1.0"),
    get("/echo/h", X_Accept="\xe9"),
    get("/nowhere"),
    get("/nowhere/%00"),
    get("/raise"),
    get("/stream"),
    Recorded("HEAD", "/"),
    Recorded("HEAD", "/files/4096"),
    Recorded("OPTIONS", "/"),
    Recorded("POST", "/"),
    get("/files/256"),
    get("/files/102400"),
    get(f"/files/{LARGE}"),
    raw("PUT", "/raw", b"put"),
    raw("PATCH", "/raw", b"\x00\xff" * 50),
    raw("DELETE", "/raw", b"x"),
    raw("POST", "/raw", b"{}", "application/json"),
    raw("POST", "/raw", b"", "text/plain"),
    raw("POST", "/raw", bytes(LARGE)),
    Recorded("GET", "/raw"),
    upload("/files", ("one", "a.txt", "text/plain", b"hello\n")),
    upload("/files", ("one", "\xe9.bin", "application/octet-stream", bytes(range(256))), note="with a field"),
    upload("/files", ("a", "a", "text/plain", b"1"), ("b", "b", "text/plain", b"2")),
    upload("/files", ("large", "large.bin", "application/octet-stream", b"\x01" * LARGE)),
]
FLASK = [
    *_COMMON,
    get("/sign"),
    form("/sign"),
    form("/sign", name="Neo"),
    get("/guest/Neo"),
    get("/guest/Neo"),
    form("/out"),
    get("/guest/Neo"),
    *(get(f"/status/{code}") for code in (200, 204, 304, 401, 418, 500)),
]
DJANGO = [
    *_COMMON,
    get("/form/"),
    get("/form"),
    form("/form/", name="nobody's token"),
    form("/form/", name="Neo", csrfmiddlewaretoken="{csrftoken}"),
    get("/"),
    form("/form/", name="x" * 30, age="-1", csrfmiddlewaretoken="{csrftoken}"),
    get("/source"),
    get("/unchanged"),
    get("/unchanged", If_None_Match='"always"'),
    get("/forbidden"),
]
