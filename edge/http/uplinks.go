package http

// Uplinks is what the API needs of the mirror.
type Uplinks interface {
	// Status lists the uplinks by name.
	Status() []Uplink
	// Pause and Resume report false when there is no such uplink.
	Pause(name string) bool
	Resume(name string) bool
}

// Uplink is one uplink's state.
type Uplink struct {
	Name    string
	Figures UplinkFigures
	Status  any // all of it, as JSON
}

// UplinkFigures are what metrics and the console show.
type UplinkFigures struct {
	State                               string
	Lag                                 int64
	Txns, Aborted, Records, Bytes, Gaps uint64
	DeadLettered                        uint64
}
