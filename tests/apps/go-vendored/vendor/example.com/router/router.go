// Package router stands for a framework that an app vendors.
package router

import "net/http"

// Router is a table of routes.
type Router struct{ mux *http.ServeMux }

// New is an empty router.
func New() *Router { return &Router{http.NewServeMux()} }

// Get answers GET requests for a pattern.
func (r *Router) Get(pattern string, handler http.HandlerFunc) {
	r.mux.HandleFunc("GET "+pattern, handler)
}

// ServeHTTP answers one request.
func (r *Router) ServeHTTP(w http.ResponseWriter, q *http.Request) { r.mux.ServeHTTP(w, q) }
