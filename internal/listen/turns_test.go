package listen

import (
	"slices"
	"testing"
)

// An address with one connection waits for one connection of each other address, not for
// all of them.
func TestTurns_AddressesTakeTurns(t *testing.T) {
	turn := newTurns(1)
	turn.take("first")
	got := make(chan string)
	wait := func(source string, waiting int) {
		go func() {
			turn.take(source)
			got <- source
		}()
		for n := 0; n < waiting; { // until it is in line
			turn.mu.Lock()
			n = 0
			for _, w := range turn.waiting {
				n += len(w)
			}
			turn.mu.Unlock()
		}
	}
	for i := range 5 {
		wait("many", i+1)
	}
	wait("few", 6)
	var order []string
	for range 6 {
		turn.give()
		order = append(order, <-got)
	}
	if want := []string{"many", "few", "many", "many", "many", "many"}; !slices.Equal(order, want) {
		t.Errorf("places went to %q, want %q", order, want)
	}
	turn.give()
	if turn.free != 1 || len(turn.waiting) != 0 || len(turn.order) != 0 {
		t.Errorf("left: %d free, %d waiting", turn.free, len(turn.waiting))
	}
}
