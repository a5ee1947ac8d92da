// A web server with a router from vendor; the other command of the module is no server.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"

	"example.com/router"
)

func main() {
	r := router.New()
	r.Get("/hello/{name}", func(w http.ResponseWriter, q *http.Request) {
		fmt.Fprintf(w, "Hello %s from a router\n", q.PathValue("name"))
	})
	log.Fatal(http.ListenAndServe(":"+os.Getenv("PORT"), r))
}
