package server

import (
	"net/http"
	"sync"
	"time"
)

// interimEvery is how often a host hears that its upload is still being stored. A host
// gives up after 60 s of silence.
const interimEvery = 20 * time.Second

// interim sends 102 Processing from begin to end. Meanwhile nothing else may write to w.
type interim struct {
	w       http.ResponseWriter
	stop    chan struct{}
	stopped sync.WaitGroup
}

func (i *interim) begin() {
	i.stop = make(chan struct{})
	i.stopped.Go(func() {
		tick := time.NewTicker(interimEvery)
		defer tick.Stop()
		for {
			select {
			case <-i.stop:
				return
			case <-tick.C:
				i.w.WriteHeader(http.StatusProcessing)
			}
		}
	})
}

func (i *interim) end() {
	if i.stop != nil {
		close(i.stop)
		i.stopped.Wait()
	}
}
