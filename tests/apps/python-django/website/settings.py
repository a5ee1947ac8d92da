"""Settings from the variables that the platform sets; static files are collected while the app is staged."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = os.environ.get("SECRET_KEY", "only-for-trying-it-out")
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "website.urls"
WSGI_APPLICATION = "website.wsgi.application"
INSTALLED_APPS = ["django.contrib.staticfiles", "website"]
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
USE_TZ = True
