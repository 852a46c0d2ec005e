package http

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"rivulet/edge"
)

// maxUpload bounds a module; the plugin host has a bound of its own below it.
const maxUpload = 64 << 20

// PluginInfo is a plugin with what it is attached to.
type PluginInfo struct {
	edge.Plugin
	Attachments []edge.AttachmentInfo `json:"attachments"`
}

// PluginTest is the body of a dry run over the last records of a topic.
type PluginTest struct {
	Plugin string            `json:"plugin,omitempty"` // one that was pushed,
	Wasm   []byte            `json:"wasm,omitempty"`   // or a module, in base64
	Topic  string            `json:"topic"`
	Last   int               `json:"last,omitempty"` // records; default 100
	Set    map[string]string `json:"set,omitempty"`
}

func (s *Server) pluginRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/v1/plugins", does: "all plugins by name", out: []PluginInfo{}, handle: s.listPlugins},
		{method: http.MethodGet, path: "/v1/plugins/{plugin}", does: "one plugin, its revisions and attachments", out: PluginInfo{}, handle: s.getPlugin},
		{
			method: http.MethodPut, path: "/v1/plugins/{plugin}", does: "push a WebAssembly module, the body; attachments go over to it", out: edge.Revision{}, contentType: "application/wasm",
			query: []query{{"version", "what its author calls it"}}, handle: s.pushPlugin,
		},
		{method: http.MethodDelete, path: "/v1/plugins/{plugin}", does: "delete a plugin that is attached nowhere", handle: s.deletePlugin},
		{method: http.MethodPost, path: "/v1/plugin-tests", does: "run a plugin over the last records of a topic and keep nothing", in: PluginTest{}, out: edge.TestReport{}, handle: s.testPlugin},
		{method: http.MethodGet, path: "/v1/attachments", does: "what is attached to which topic, with counts", out: []edge.AttachmentInfo{}, handle: s.listAttachments},
		{method: http.MethodPut, path: "/v1/attachments", does: "attach a plugin to a topic, or change how", in: edge.AttachSpec{}, out: edge.AttachSpec{}, handle: s.attachPlugin},
		{method: http.MethodDelete, path: "/v1/attachments/{topic}/{plugin}", does: "detach a plugin from a topic", handle: s.detachPlugin},
	}
}

// pluginInfos leaves out what p may not see.
func (s *Server) pluginInfos(p *edge.Principal) []PluginInfo {
	attached := s.attachments(p)
	list := []PluginInfo{}
	for _, plugin := range s.broker.Plugins() {
		if !s.broker.Allow(p, edge.OpPluginDescribe, plugin.Name) {
			continue
		}
		info := PluginInfo{Plugin: plugin, Attachments: []edge.AttachmentInfo{}}
		for _, a := range attached {
			if a.Plugin == plugin.Name {
				info.Attachments = append(info.Attachments, a)
			}
		}
		list = append(list, info)
	}
	return list
}

func (s *Server) listPlugins(w http.ResponseWriter, r *http.Request) error {
	return answer(w, http.StatusOK, s.pluginInfos(principal(r)))
}

func (s *Server) getPlugin(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("plugin")
	if err := s.allow(r, edge.OpPluginDescribe, name); err != nil {
		return err
	}
	for _, p := range s.pluginInfos(principal(r)) {
		if p.Name == name {
			return answer(w, http.StatusOK, p)
		}
	}
	return fmt.Errorf("plugin %s: %w", name, edge.ErrNoPlugin)
}

func (s *Server) pushPlugin(w http.ResponseWriter, r *http.Request) error {
	if err := s.allow(r, edge.OpPluginPush, r.PathValue("plugin")); err != nil {
		return err
	}
	wasm, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxUpload))
	if err != nil {
		if bad, ok := errors.AsType[*requestError](err); ok { // of body.Read
			return bad
		}
		return badRequest("read module: %w", err)
	}
	rev, err := s.broker.PushPlugin(r.Context(), r.PathValue("plugin"), r.FormValue("version"), pusher(r), wasm)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, rev)
}

// pusher is whom a revision names as its origin.
func pusher(r *http.Request) string {
	if p := principal(r); p.Name != "" {
		return p.Name
	}
	return r.RemoteAddr
}

func (s *Server) deletePlugin(w http.ResponseWriter, r *http.Request) error {
	if err := s.allow(r, edge.OpPluginPush, r.PathValue("plugin")); err != nil {
		return err
	}
	if err := s.broker.DeletePlugin(r.Context(), r.PathValue("plugin")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) testPlugin(w http.ResponseWriter, r *http.Request) error {
	var in PluginTest
	if err := read(w, r, maxUpload*4/3+maxBody, &in); err != nil {
		return err
	}
	if err := s.allow(r, edge.OpPluginAttach, in.Plugin); err != nil {
		return err
	}
	if err := s.allow(r, edge.OpRead, in.Topic); err != nil {
		return err
	}
	if in.Last <= 0 {
		in.Last = 100
	}
	if len(in.Wasm) == 0 {
		in.Wasm = nil
	}
	rep, err := s.broker.TestPlugin(r.Context(), in.Plugin, in.Wasm, in.Topic, in.Last, in.Set)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, rep)
}

func (s *Server) attachments(p *edge.Principal) []edge.AttachmentInfo {
	list := []edge.AttachmentInfo{}
	for _, a := range s.broker.Attachments() {
		if s.broker.Allow(p, edge.OpPluginDescribe, a.Plugin) {
			a.Set = edge.Masked(a.Set)
			list = append(list, a)
		}
	}
	return list
}

func (s *Server) listAttachments(w http.ResponseWriter, r *http.Request) error {
	return answer(w, http.StatusOK, s.attachments(principal(r)))
}

func (s *Server) attachPlugin(w http.ResponseWriter, r *http.Request) error {
	var in edge.AttachSpec
	if err := read(w, r, maxBody, &in); err != nil {
		return err
	}
	if err := s.allow(r, edge.OpPluginAttach, in.Plugin); err != nil {
		return err
	}
	if err := s.allow(r, edge.OpAlter, in.Topic); err != nil {
		return err
	}
	for _, t := range in.Outputs { // a plugin is not to write where its owner may not
		if err := s.allow(r, edge.OpWrite, t); err != nil {
			return err
		}
	}
	attached := func(fn func(a edge.AttachSpec)) {
		for _, a := range s.broker.Attachments() {
			if a.Plugin == in.Plugin && a.Topic == in.Topic {
				fn(a.AttachSpec)
			}
		}
	}
	attached(func(old edge.AttachSpec) { in.Set = edge.Unmasked(in.Set, old.Set) })
	if err := s.broker.AttachPlugin(r.Context(), in); err != nil {
		return err
	}
	attached(func(now edge.AttachSpec) { in = now })
	in.Set = edge.Masked(in.Set)
	return answer(w, http.StatusOK, in)
}

func (s *Server) detachPlugin(w http.ResponseWriter, r *http.Request) error {
	topic := r.PathValue("topic")
	if err := s.allow(r, edge.OpPluginAttach, r.PathValue("plugin")); err != nil {
		return err
	}
	if err := s.allow(r, edge.OpAlter, topic); err != nil {
		return err
	}
	if err := s.broker.DetachPlugin(r.Context(), r.PathValue("plugin"), topic); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
