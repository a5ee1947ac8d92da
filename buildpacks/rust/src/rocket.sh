#!/bin/sh
# Rocket listens where these say, and without them at an address that nobody outside reaches.
[ -n "$ROCKET_ADDRESS" ] || printf 'ROCKET_ADDRESS = "0.0.0.0"\n' >&3
[ -n "$ROCKET_PORT" ] || [ -z "$PORT" ] || printf 'ROCKET_PORT = "%s"\n' "$PORT" >&3
