# Divides the memory of this instance among what a JVM uses, and says how; unless the app sizes the heap itself.
case " $JAVA_TOOL_OPTIONS $JDK_JAVA_OPTIONS $JAVA_OPTS" in
    *" -Xmx"* | *" -XX:MaxHeapSize"* | *RAMPercentage* | *" -XX:MaxRAM="*) exit 0 ;;
esac
# Small instances get less of what few threads and little code need less of.
if [ "$megabytes" -le 192 ]; then threads=10 code=24 each=512
elif [ "$megabytes" -le 320 ]; then threads=20 code=40 each=512
elif [ "$megabytes" -le 512 ]; then threads=40 code=64 each=512
elif [ "$megabytes" -le 768 ]; then threads=50 code=120 each=1024
elif [ "$megabytes" -le 1536 ]; then threads=100 code=160 each=1024
else threads=250 code=240 each=1024; fi
number() { case "$1" in '' | *[!0-9]*) echo "$2" ;; *) echo "$1" ;; esac; }
threads=$(number "$BPL_JVM_THREAD_COUNT" "$threads")
loaded=$(number "$BPL_JVM_LOADED_CLASS_COUNT" "$loaded")
percent=$(number "$BPL_JVM_HEAD_ROOM" 5)
metaspace=$(((14000000 + 5800 * loaded) / 1048576))
stacks=$((threads * each / 1024))
direct=10
spare=$((megabytes * percent / 100))
heap=$((megabytes - metaspace - code - stacks - direct - spare))
parts="classes $metaspace ($loaded loaded), compiled code $code, stacks $stacks ($threads threads), buffers $direct, spare $spare"
if [ "$heap" -lt 16 ]; then
    echo "The JVM needs more memory: of $megabytes MB, $heap MB would be left for the heap after $parts." >&2
    echo "Give the app at least $((megabytes - heap + 64)) MB, or lower BPL_JVM_THREAD_COUNT or BPL_JVM_LOADED_CLASS_COUNT." >&2
    exit 1
fi
echo "JVM memory of $megabytes MB: heap $heap, $parts" >&2
options="-Xmx${heap}M -XX:MaxMetaspaceSize=${metaspace}M -XX:ReservedCodeCacheSize=${code}M -XX:MaxDirectMemorySize=${direct}M"
options="$options -Xss${each}k -XX:+ExitOnOutOfMemoryError"
# Below this the collector for several processors costs more memory than it saves time.
[ "$megabytes" -gt 768 ] || options="$options -XX:+UseSerialGC"
case "$JAVA_TOOL_OPTIONS" in *[\"\\]*) exit 0 ;; esac
tell JAVA_TOOL_OPTIONS "$options${JAVA_TOOL_OPTIONS:+ $JAVA_TOOL_OPTIONS}"
