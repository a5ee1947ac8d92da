"""The pages: `/` greets, `/collected` shows what was collected while staging."""

import sys

import django
from django.conf import settings
from django.http import HttpResponse
from django.urls import path


def index(request):
    version = sys.version.split()[0]
    return HttpResponse(f"Hello from Django {django.get_version()} on Python {version}\n", content_type="text/plain")


def collected(request):
    return HttpResponse((settings.STATIC_ROOT / "website/style.css").read_bytes(), content_type="text/css")


urlpatterns = [path("", index), path("collected", collected)]
