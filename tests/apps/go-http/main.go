// A web server of the standard library.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
)

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "Hello from Go %s\n", runtime.Version())
	})
	mux.HandleFunc("/env", func(w http.ResponseWriter, r *http.Request) {
		for _, line := range os.Environ() {
			if strings.HasPrefix(line, "GO") {
				fmt.Fprintln(w, line)
			}
		}
	})
	server := &http.Server{Addr: ":" + os.Getenv("PORT"), Handler: mux}
	stop, done := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer done()
	go func() {
		<-stop.Done()
		server.Shutdown(context.Background())
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		log.Fatal(err)
	}
}
