package config

import (
	"strings"
	"time"

	"rivulet/edge"
	"rivulet/storage"
)

// Config is the whole configuration.
type Config struct {
	Edge        string      `yaml:"edge,omitempty"`
	DataDir     string      `yaml:"data_dir"`
	Listeners   Listeners   `yaml:"listeners"`
	Limits      ConnLimits  `yaml:"limits,omitempty"`
	MQTT        MQTT        `yaml:"mqtt,omitempty"`
	Storage     Storage     `yaml:"storage,omitempty"`
	Topics      []Topic     `yaml:"topics,omitempty"`
	Routes      []Route     `yaml:"routes,omitempty"`
	Plugins     []Plugin    `yaml:"plugins,omitempty"`
	Sync        []Uplink    `yaml:"sync,omitempty"`
	Bridges     []Bridge    `yaml:"bridges,omitempty"`
	PluginTrust PluginTrust `yaml:"plugin_trust,omitempty"`
	Auth        Auth        `yaml:"auth"`
	Log         Log         `yaml:"log,omitempty"`

	at positions
}

// Log says what is logged. It goes over --log-level, and may be changed by a reload.
type Log struct {
	Level string `yaml:"level,omitempty" oneof:"debug info warn error"`
}

// Listeners are the ways in.
type Listeners struct {
	MQTT   Listener `yaml:"mqtt"`
	MQTTS  Listener `yaml:"mqtts,omitempty"`
	WS     Listener `yaml:"ws,omitempty"`
	WSS    Listener `yaml:"wss,omitempty"`
	Kafka  Listener `yaml:"kafka"`
	Kafkas Listener `yaml:"kafkas,omitempty"`
	HTTP   Listener `yaml:"http"`
	HTTPS  Listener `yaml:"https,omitempty"`
}

// Off as an address closes a listener that is open by default.
const Off = "off"

// Listener is one address. Without one the listener is closed.
type Listener struct {
	Addr          string   `yaml:"addr,omitempty"`
	Advertised    string   `yaml:"advertised,omitempty"` // Kafka: what clients are told to connect to
	TLS           *TLS     `yaml:"tls,omitempty"`
	Origins       []string `yaml:"origins,omitempty"`        // ws, wss: pages of other hosts that may connect, or "*"
	ProxyProtocol bool     `yaml:"proxy_protocol,omitempty"` // MQTT: a proxy in front says where clients come from
}

// Socket is the path of a listener on a unix socket, "" for one on TCP.
func (l Listener) Socket() string {
	path, ok := strings.CutPrefix(l.Addr, "unix:")
	if !ok {
		return ""
	}
	return path
}

// Open says whether the listener is wanted.
func (l Listener) Open() bool { return l.Addr != "" && l.Addr != Off }

// TLS are PEM files, relative to the configuration file.
type TLS struct {
	Cert     string `yaml:"cert,omitempty"`
	Key      string `yaml:"key,omitempty"`
	ClientCA string `yaml:"client_ca,omitempty"` // clients must have a certificate of it, unless
	// ClientAuth is optional: then who has none logs in otherwise.
	ClientAuth string `yaml:"client_auth,omitempty" oneof:"required optional"`
	CRL        string `yaml:"crl,omitempty"` // certificates that client_ca took back, PEM or DER
}

// MQTT bounds what clients may do; what is left out has the front end's default.
type MQTT struct {
	MaxConnections   int      `yaml:"max_connections,omitempty"`
	MaxPacket        Size     `yaml:"max_packet,omitempty"`
	MaxQueued        Size     `yaml:"max_queued,omitempty"`            // waiting to be written to one subscriber before it reads the log
	MaxInFlight      int      `yaml:"max_in_flight,omitempty"`         // messages that a subscriber may leave unacknowledged
	ReceiveMaximum   int      `yaml:"receive_maximum,omitempty"`       // messages that a publisher may have unacknowledged
	MaxSubscriptions int      `yaml:"max_subscriptions,omitempty"`     // of one client
	MaxAllSubs       int      `yaml:"all_max_subscriptions,omitempty"` // of all connected clients
	MaxTopicLevels   int      `yaml:"max_topic_levels,omitempty"`
	TopicAliases     int      `yaml:"topic_aliases,omitempty"`
	MaxKeepAlive     Duration `yaml:"max_keep_alive,omitempty"`
	MaxSessionExpiry Duration `yaml:"max_session_expiry,omitempty"`
	ResponsePrefix   string   `yaml:"response_prefix,omitempty"` // clients that ask for response information get it with their id

	MessagesPerSecond    int    `yaml:"messages_per_second,omitempty"` // of one publisher
	BytesPerSecond       Size   `yaml:"bytes_per_second,omitempty"`
	AllMessagesPerSecond int    `yaml:"all_messages_per_second,omitempty"` // of all together
	AllBytesPerSecond    Size   `yaml:"all_bytes_per_second,omitempty"`
	OnExcess             string `yaml:"on_excess,omitempty" oneof:"throttle disconnect"` // of one publisher's rate
}

// Storage bounds the log.
type Storage struct {
	MaxBytes  Size     `yaml:"max_bytes,omitempty"`
	WhenFull  string   `yaml:"when_full,omitempty" oneof:"drop_oldest refuse"`
	Linger    Duration `yaml:"linger,omitempty"`
	TailBytes Size     `yaml:"tail_bytes,omitempty"`
	Profile   string   `yaml:"profile,omitempty" oneof:"normal small"`
	Scrub     *Rate    `yaml:"scrub_rate,omitempty"` // of reading everything again; 0B/s: never
}

// Topic is declared: made at start, or brought to what is said here.
type Topic struct {
	Name          string            `yaml:"name"`
	Partitions    int               `yaml:"partitions,omitempty"`
	Config        map[string]string `yaml:"config,omitempty"`
	Priority      int               `yaml:"priority,omitempty"`
	Ack           string            `yaml:"ack,omitempty" oneof:"local central"`
	WhenFull      string            `yaml:"when_full,omitempty" oneof:"drop_oldest refuse"`
	DropUnmirror  bool              `yaml:"drop_unmirrored,omitempty"`
	Timestamps    string            `yaml:"timestamps,omitempty" oneof:"arrival keep clamp"`
	Partition     string            `yaml:"partition,omitempty" oneof:"key round_robin range"`
	PriorityTopic string            `yaml:"priority_topic,omitempty" later:"a topic for records with a priority header"`
}

// Route sends MQTT topics to a log topic; the first match wins.
type Route struct {
	MQTT          string `yaml:"mqtt"`
	Topic         string `yaml:"topic,omitempty"`
	Key           string `yaml:"key,omitempty"`
	Timestamp     string `yaml:"timestamp,omitempty"`
	Partition     string `yaml:"partition,omitempty" oneof:"key round_robin range"`
	Store         string `yaml:"store,omitempty" oneof:"none"`
	PriorityTopic string `yaml:"priority_topic,omitempty" later:"a topic for records with a priority header"`
}

// Plugin is pushed and attached at start.
type Plugin struct {
	Name    string            `yaml:"name"`
	File    string            `yaml:"file"` // relative to the configuration file
	Version string            `yaml:"version,omitempty"`
	Topic   string            `yaml:"topic"`
	Stage   string            `yaml:"stage,omitempty" oneof:"ingest stream"`
	Output  []string          `yaml:"output,omitempty"`
	OnError string            `yaml:"on_error,omitempty" oneof:"dlq drop pass reject halt"`
	Order   int               `yaml:"order,omitempty"`
	Set     map[string]string `yaml:"set,omitempty"`
}

// Uplink mirrors topics to a central cluster.
type Uplink struct {
	Name           string   `yaml:"name"`
	Kafka          Kafka    `yaml:"kafka"`
	Up             []Up     `yaml:"up"`
	Down           []Down   `yaml:"down,omitempty" later:"topics of the centre mirrored here"`
	Delivery       string   `yaml:"delivery,omitempty" oneof:"transactional idempotent"`
	OnLostPosition string   `yaml:"on_lost_position,omitempty" oneof:"resume_local fail from_start"`
	Takeover       bool     `yaml:"takeover,omitempty"`
	Limit          Rate     `yaml:"limit,omitempty"`
	Age            Duration `yaml:"age,omitempty"`  // how long a record waits for company
	Size           Size     `yaml:"size,omitempty"` // and how many bytes end that wait
}

// Kafka is how a cluster is reached.
type Kafka struct {
	Brokers []string   `yaml:"brokers"`
	TLS     *ClientTLS `yaml:"tls,omitempty"`
	SASL    *SASL      `yaml:"sasl,omitempty"`
}

// ClientTLS are PEM files, relative to the configuration file. Without ca the system's authorities count.
type ClientTLS struct {
	CA         string `yaml:"ca,omitempty"`
	Cert       string `yaml:"cert,omitempty"`
	Key        string `yaml:"key,omitempty"`
	ServerName string `yaml:"server_name,omitempty"`
}

// SASL is who we are for the cluster. The password is the file's first line.
type SASL struct {
	Mechanism    string `yaml:"mechanism" oneof:"PLAIN SCRAM-SHA-256 SCRAM-SHA-512"`
	User         string `yaml:"user"`
	PasswordFile string `yaml:"password_file"`
}

// Up is one rule of what is mirrored.
type Up struct {
	Topic    string `yaml:"topic"`
	To       string `yaml:"to,omitempty"`
	Priority int    `yaml:"priority,omitempty"`
}

// Down is one rule of what comes from the centre.
type Down struct {
	Topic string `yaml:"topic"`
	To    string `yaml:"to,omitempty"`
}

// PluginTrust says whose plugins run.
type PluginTrust struct {
	RequireSigned bool     `yaml:"require_signed,omitempty" later:"signed plugins"`
	Keys          []string `yaml:"keys,omitempty" later:"signed plugins"`
}

// Default is what holds without a file.
func Default() *Config {
	return &Config{
		DataDir: "./rivulet-data",
		Listeners: Listeners{
			MQTT:  Listener{Addr: "127.0.0.1:1883"},
			Kafka: Listener{Addr: "127.0.0.1:9092"},
			HTTP:  Listener{Addr: "127.0.0.1:8080"},
		},
		at: positions{},
	}
}

// The small profile, for machines with little memory and SD cards.
const (
	smallTail    = 8 << 20
	smallJournal = 4 << 20
	smallLogFile = 4 << 20
	smallPlugin  = 8 << 20
	smallMemory  = 48 << 20
)

// Limits are the sizes that the profile and single keys come down to; 0 is the store's or the host's default.
type Limits struct {
	Tail, Journal, LogFile int64
	PluginMemory           int
	Memory                 int64 // of the process, for the garbage collector
}

// Options are the store's, but for the folder.
func (s Storage) Options() storage.Options {
	l := s.Limits()
	return storage.Options{
		JournalBytes: l.Journal, TailBytes: l.Tail, LogFileBytes: l.LogFile, Linger: time.Duration(s.Linger),
		MaxBytes: int64(s.MaxBytes), WhenFull: storage.WhenFull(s.WhenFull), Labels: edge.Labels(),
	}
}

// Limits of the profile, with what is given on its own.
func (s Storage) Limits() Limits {
	var l Limits
	if s.Profile == "small" {
		l = Limits{Tail: smallTail, Journal: smallJournal, LogFile: smallLogFile, PluginMemory: smallPlugin, Memory: smallMemory}
	}
	if s.TailBytes > 0 {
		l.Tail = int64(s.TailBytes)
	}
	return l
}
