"""A small FastAPI app."""

import sys

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

app = FastAPI()


@app.get("/", response_class=PlainTextResponse)
def index() -> str:
    return f"Hello from FastAPI on Python {sys.version.split()[0]}\n"
