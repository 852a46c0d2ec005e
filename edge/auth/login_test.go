package auth_test

import (
	"errors"
	"testing"

	"rivulet/edge"
	"rivulet/edge/auth"
)

var conn = auth.Conn{Addr: "192.0.2.7:4711", Client: "c1", Protocol: "mqtt"}

func TestPasswordOfAStoredUser(t *testing.T) {
	store := &memory{}
	a := open(t, auth.Options{Store: store})
	if p, err := a.Anonymous(conn); err != nil || !a.Allow(p, edge.OpPublish, "x") {
		t.Fatalf("a fresh broker is open: %v", err)
	}
	if err := a.AddUser(t.Context(), auth.NewUser{Name: "ann", Password: "s3cret"}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second start finds it in the store
		if _, err := a.Anonymous(conn); !errors.Is(err, auth.ErrAnonymous) {
			t.Errorf("anonymous beside a user: %v", err)
		}
		for range 2 { // the second time from memory
			p, err := a.Password(t.Context(), "ann", "s3cret", conn)
			if err != nil || p.Name != "ann" || p.Method != auth.MethodPassword {
				t.Fatalf("right password: %+v, %v", p, err)
			}
			if a.Allow(p, edge.OpPublish, "x") {
				t.Error("allowed without a rule")
			}
		}
		for _, c := range [][2]string{{"ann", "s3creT"}, {"ann", ""}, {"bob", "s3cret"}, {"", ""}} {
			if _, err := a.Password(t.Context(), c[0], c[1], conn); !errors.Is(err, auth.ErrDenied) {
				t.Errorf("%q: %v", c, err)
			}
		}
		a = open(t, auth.Options{Store: store})
	}
}
