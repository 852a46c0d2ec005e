package mirror

import "context"

// Uplink mirrors topics to one central cluster.
type Uplink struct{ o Options }

// New checks o. Nothing is dialled before Run.
func New(o Options) (*Uplink, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	return &Uplink{o: o}, nil
}

// Run mirrors until ctx ends, and then returns nil. It never gives up: an error is shown by Status and tried again with a
// growing pause. Call it once.
func (u *Uplink) Run(ctx context.Context) error { panic("stub") }

// Pause lets the present transaction end and stops sending. Resume sends again; it also takes a fenced or failed uplink
// back to work. Neither waits.
func (u *Uplink) Pause()  { panic("stub") }
func (u *Uplink) Resume() { panic("stub") }

// Status is cheap enough for a metrics scrape.
func (u *Uplink) Status() Status { panic("stub") }
