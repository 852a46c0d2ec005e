package mqtt

// claim keeps a client id for who is about to remove what the store has of it, while nobody is connected with it: a client that comes
// meanwhile waits, instead of being told of a session that is removed under it. ok is false when somebody is connected, or has claimed it.
func (s *Server) claim(id string) (release func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients[id] != nil || s.claims[id] != nil {
		return nil, false
	}
	over := make(chan struct{})
	if s.claims == nil {
		s.claims = map[string]chan struct{}{}
	}
	s.claims[id] = over
	return func() {
		s.mu.Lock()
		delete(s.claims, id)
		s.mu.Unlock()
		close(over)
	}, true
}
