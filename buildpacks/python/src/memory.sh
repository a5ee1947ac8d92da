#!/bin/sh
# Sets the number of worker processes by the memory of this instance, unless the app sets its own.
[ -z "$WEB_CONCURRENCY" ] || exit 0
digits=${MEMORY_LIMIT%%[!0-9]*}
case "$MEMORY_LIMIT" in
    '' | [!0-9]*) exit 0 ;;
    *[gG]*) digits=$((digits * 1024)) ;;
    *[mM]*) ;;
    *) exit 0 ;;
esac
count=$((digits / 256))
[ "$count" -gt 0 ] || count=1
[ "$count" -le 8 ] || count=8
echo "WEB_CONCURRENCY = \"$count\"" >&3
