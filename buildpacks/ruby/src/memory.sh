# One process below 1 GiB: threads share what a second one would need again.
[ -n "$WEB_CONCURRENCY" ] || [ "$megabytes" -lt 1024 ] || tell WEB_CONCURRENCY $((megabytes / 512))
