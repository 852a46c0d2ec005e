package kafka

// address is where the client is told to find the node: what is advertised, or what it reached.
func (c *conn) address() (host string, port int32) {
	if c.s.host != "" {
		return c.s.host, c.s.port
	}
	host, port, err := splitAddr(c.nc.LocalAddr().String())
	if err != nil {
		return "localhost", 9092 // not a TCP connection (tests over a pipe)
	}
	return host, port
}

// clusterID names the store's history, as Kafka's cluster id names a cluster.
func (c *conn) clusterID() string { return c.s.broker.Store().Generation().ID }
