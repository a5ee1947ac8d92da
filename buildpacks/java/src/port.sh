#!/bin/sh
# Frameworks listen where these say, unless the app sets its own.
[ -n "$PORT" ] || exit 0
for name in SERVER_PORT QUARKUS_HTTP_PORT MICRONAUT_SERVER_PORT; do
    eval "value=\$$name"
    [ -n "$value" ] || printf '%s = "%s"\n' "$name" "$PORT" >&3
done
