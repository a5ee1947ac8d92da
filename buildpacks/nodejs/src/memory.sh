#!/bin/sh
# Sets Node.js options by the memory of this instance, unless the app sets its own.
digits=${MEMORY_LIMIT%%[!0-9]*}
case "$MEMORY_LIMIT" in
    '' | [!0-9]*) digits= ;;
    *[gG]*) digits=$((digits * 1024)) ;;
    *[mM]*) ;;
    *) digits= ;;
esac
[ -n "$digits" ] || exit 0
case "$NODE_OPTIONS" in
    *max-old-space-size* | *max_old_space_size* | *[\"\\]*) ;;
    *) echo "NODE_OPTIONS = \"${NODE_OPTIONS:+$NODE_OPTIONS }--max-old-space-size=$((digits * 3 / 4))\"" >&3 ;;
esac
if [ -z "$WEB_CONCURRENCY" ]; then
    each=${WEB_MEMORY:-512}
    case "$each" in *[!0-9]* | 0*) each=512 ;; esac
    count=$((digits / each))
    echo "WEB_CONCURRENCY = \"$((count > 0 ? count : 1))\"" >&3
fi
