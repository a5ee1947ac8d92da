# A request takes a process; most take less than this.
children=$((megabytes / 48))
[ "$children" -ge 2 ] || children=2
[ "$children" -le 64 ] || children=64
[ -n "$PHP_FPM_CHILDREN" ] || tell PHP_FPM_CHILDREN "$children"
