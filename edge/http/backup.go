package http

import (
	"net/http"

	"rivulet/edge"
)

func (s *Server) backupRoutes() []route {
	return []route{
		{
			method: http.MethodGet, path: "/v1/backup", contentType: "application/octet-stream", handle: s.backup,
			does: "the whole store as it is after one commit, for `rivulet restore`; a stream that ends early is refused there",
		},
	}
}

// backup streams: its length is not known before it ends, and the file says itself where that is.
func (s *Server) backup(w http.ResponseWriter, r *http.Request) error {
	if err := s.allow(r, edge.OpAdmin, ""); err != nil {
		return err
	}
	if onlyHead(w, r, "application/octet-stream") {
		return nil
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := &begunWriter{ResponseWriter: w, may: func() bool { return s.valid(r) && s.broker.Allow(principal(r), edge.OpAdmin, "") }}
	m, err := s.broker.Store().Backup(r.Context(), out, nil)
	switch {
	case err != nil && !out.begun:
		return err
	case err != nil:
		s.log.Warn("backup broke off", "to", r.RemoteAddr, "err", err)
		panic(http.ErrAbortHandler) // the only way to tell a client that the body is not whole
	}
	s.log.Info("backed up", "to", r.RemoteAddr, "seq", m.Seq, "files", m.Files, "bytes", m.Bytes)
	return nil
}

// begunWriter knows whether a status was sent, and stops when the login ends.
type begunWriter struct {
	http.ResponseWriter
	may   func() bool
	begun bool
}

func (w *begunWriter) Write(p []byte) (int, error) {
	if !w.may() {
		return 0, edge.ErrNotAuthorized
	}
	w.begun = true
	return w.ResponseWriter.Write(p)
}
