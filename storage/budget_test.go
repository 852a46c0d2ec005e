package storage

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestBudgetTooSmall(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(context.Background(), Options{Dir: dir, MaxBytes: 16 << 20})
	var small *BudgetError
	if !errors.As(err, &small) || !strings.Contains(err.Error(), "storage.max_bytes of 16777216 bytes is too small") {
		t.Fatalf("%v", err)
	}
	s, err := Open(context.Background(), testOptions(t, Options{Dir: dir, MaxBytes: small.Least}))
	if err != nil {
		t.Fatal(err) // and the lock was given back
	}
	closeTest(t, s)
}
