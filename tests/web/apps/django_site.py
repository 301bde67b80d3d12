"""A guest book and a file store, in Django: middleware, sessions, CSRF, forms, uploads, errors."""

from __future__ import annotations

import hashlib
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.core.wsgi import get_wsgi_application
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.middleware.csrf import get_token
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import condition, require_http_methods

settings.configure(
    SECRET_KEY="not a secret here",
    DEBUG=False,
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    INSTALLED_APPS=["django.contrib.sessions"],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    DATA_UPLOAD_MAX_MEMORY_SIZE=15 * 1024 * 1024,
    LOGGING_CONFIG=None,
)


class Guest(forms.Form):
    """A guest, and what they say."""

    name = forms.CharField(max_length=20)
    age = forms.IntegerField(min_value=0, required=False)


def index(request: HttpRequest) -> HttpResponse:
    """A page."""
    return HttpResponse(f"<h1>Guests</h1><p>{request.session.get('name')}</p>")


def echo(request: HttpRequest, rest: str) -> JsonResponse:
    """What the application sees of a request."""
    return JsonResponse(
        {
            "rest": rest,
            "path": request.path,
            "query": request.META["QUERY_STRING"],
            "args": dict(request.GET.lists()),
            "agent": request.headers.get("User-Agent"),
            "accept": request.headers.get("X-Accept"),
            "scheme": request.scheme,
            "method": request.method,
        }
    )


def form(request: HttpRequest) -> HttpResponse:
    """A form with its token, and what was wrong with what was sent."""
    if request.method == "GET":
        return HttpResponse(f"{get_token(request)}{Guest().as_p()}")
    guest = Guest(request.POST)
    if not guest.is_valid():
        return HttpResponse(guest.as_p(), status=422)
    request.session["name"] = guest.cleaned_data["name"]
    return HttpResponseRedirect("/")


@csrf_exempt
def files(request: HttpRequest) -> JsonResponse:
    """What came of an upload."""
    found: dict[str, Any] = {}
    for name, file in request.FILES.items():
        body = file.read()
        found[name] = [file.name, file.content_type, len(body), hashlib.sha256(body).hexdigest()]
    return JsonResponse(found | request.POST.dict())


def load(request: HttpRequest, size: int) -> HttpResponse:
    """A file of so many bytes."""
    return HttpResponse(bytes(range(256)) * (size // 256), content_type="application/octet-stream")


@csrf_exempt
@require_http_methods(["PUT", "PATCH", "DELETE", "POST"])
def raw(request: HttpRequest) -> HttpResponse:
    """The body back, as it was."""
    return HttpResponse(request.body, content_type=request.content_type or "text/plain")


def stream(request: HttpRequest) -> StreamingHttpResponse:
    """A generator's pieces."""
    return StreamingHttpResponse((f"line {number}\n" for number in range(50)), content_type="text/plain")


def source(request: HttpRequest) -> FileResponse:
    """A file, by way of ``wsgi.file_wrapper`` where there is one."""
    return FileResponse(open(__file__, "rb"), content_type="text/plain")


@condition(etag_func=lambda request: '"always"')
def unchanged(request: HttpRequest) -> HttpResponse:
    """What is the same for ever."""
    return HttpResponse("the same")


def forbidden(request: HttpRequest) -> HttpResponse:
    """Not for anybody."""
    raise PermissionDenied


def raises(request: HttpRequest) -> HttpResponse:
    """A mistake."""
    raise RuntimeError("the application's own mistake")


urlpatterns = [
    path("", index),
    path("echo/<path:rest>", echo),
    path("form/", form),
    path("files", files),
    path("files/<int:size>", load),
    path("raw", raw),
    path("stream", stream),
    path("source", source),
    path("unchanged", unchanged),
    path("forbidden", forbidden),
    path("raise", raises),
]

app = get_wsgi_application()
