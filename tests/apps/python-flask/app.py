"""A small Flask app: / greets, /env tells which variables the platform set."""

import os
import sys

from flask import Flask, jsonify

app = Flask(__name__)


@app.get("/")
def index():
    return f"Hello from Flask on Python {sys.version.split()[0]}\n"


@app.get("/env")
def env():
    names = ["CF_INSTANCE_INDEX", "WEB_CONCURRENCY", "VIRTUAL_ENV"]
    return jsonify({name: os.environ.get(name) for name in names})
