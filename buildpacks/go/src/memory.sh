# The collector works harder as this comes near, so nine tenths leave room for what it does not count.
[ -n "$GOMEMLIMIT" ] || tell GOMEMLIMIT "$((megabytes * 9 / 10))MiB"
