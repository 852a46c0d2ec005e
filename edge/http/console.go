package http

import (
	"embed"
	"io/fs"
	"net/http"
)

//go:embed console
var consoleFiles embed.FS

// consolePolicy lets the console load its own files alone; what records hold is never code.
const consolePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func (s *Server) consoleRoutes() []route {
	files, err := fs.Sub(consoleFiles, "console")
	if err != nil {
		panic("BUG: console is not embedded: " + err.Error())
	}
	server := http.FileServerFS(files)
	serve := func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Content-Security-Policy", consolePolicy)
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.Header().Set("Cache-Control", "no-cache")
		server.ServeHTTP(w, r)
		return nil
	}
	return []route{
		{method: http.MethodGet, path: "/{$}", does: "the console", contentType: "text/html", open: true, handle: serve},
		{method: http.MethodGet, path: "/console.js", does: "the console's code", contentType: "text/javascript", open: true, handle: serve},
		{method: http.MethodGet, path: "/console.css", does: "the console's style", contentType: "text/css", open: true, handle: serve},
		{method: http.MethodGet, path: "/favicon.svg", does: "the console's icon", contentType: "image/svg+xml", open: true, handle: serve},
	}
}
