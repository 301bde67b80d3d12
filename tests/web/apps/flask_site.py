"""A guest book and a file store, in Flask: sessions, forms, uploads, errors, streams."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from flask import Flask, abort, flash, get_flashed_messages, jsonify, redirect, request, session, url_for
from werkzeug.wrappers import Response

app = Flask(__name__)
app.config.update(SECRET_KEY="not a secret here", MAX_CONTENT_LENGTH=15 * 1024 * 1024)


@app.get("/")
def index() -> str:
    """A page."""
    return f"<h1>Guests</h1><p>{request.args.get('page', 1)}</p>"


@app.get("/echo/<path:rest>")
def echo(rest: str) -> Response:
    """What the application sees of a request."""
    return jsonify(
        rest=rest,
        path=request.path,
        full_path=request.full_path,
        args=request.args.to_dict(flat=False),
        query=request.query_string.decode("latin-1"),
        agent=request.headers.get("User-Agent"),
        accept=request.headers.get("X-Accept"),
        scheme=request.scheme,
        method=request.method,
    )


@app.route("/sign", methods=["GET", "POST"])
def sign() -> Any:
    """A form, and a redirection when it was sent."""
    if request.method == "POST":
        if not request.form.get("name"):
            abort(400, "a guest has a name")
        session["name"] = request.form["name"]
        flash("welcome")
        return redirect(url_for("guest", name=request.form["name"]))
    return "<form method=post><input name=name></form>"


@app.get("/guest/<name>")
def guest(name: str) -> str:
    """Who is signed in."""
    return f"{name} {session.get('name')} {get_flashed_messages()}"


@app.post("/out")
def out() -> Any:
    """Forget."""
    session.clear()
    response = redirect("/")
    response.set_cookie("last", "out", httponly=True)
    response.set_cookie("other", "1", max_age=60)
    return response


@app.post("/files")
def store() -> Response:
    """What came of an upload."""
    return jsonify(
        {
            name: [file.filename, file.mimetype, len(body := file.read()), hashlib.sha256(body).hexdigest()]
            for name, file in request.files.items()
        }
        | request.form.to_dict()
    )


@app.get("/files/<int:size>")
def load(size: int) -> Response:
    """A file of so many bytes."""
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    return Response(body, mimetype="application/octet-stream", headers={"ETag": f'"{size}"'})


@app.route("/raw", methods=["PUT", "PATCH", "DELETE", "POST"])
def raw() -> Response:
    """The body back, as it was."""
    return Response(request.get_data(), mimetype=request.mimetype or "application/octet-stream")


@app.get("/stream")
def stream() -> Response:
    """A generator's pieces."""

    def pieces() -> Iterator[bytes]:
        for number in range(50):
            yield f"line {number}\n".encode()

    return Response(pieces(), mimetype="text/plain")


@app.get("/status/<int:code>")
def status(code: int) -> Any:
    """Any status."""
    return Response("" if code in (204, 304) else f"it is {code}", status=code)


@app.get("/raise")
def raises() -> str:
    """A mistake."""
    raise RuntimeError("the application's own mistake")
