package main

import (
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

const (
	// maxRatedProducts bounds the memory that POSTed ratings can take. The
	// service is a demo: when full, it refuses new products.
	maxRatedProducts = 10_000
	maxRatingBody    = 64 << 10
)

// Ratings is the answer of the ratings service: stars by reviewer, 1 to 5.
type Ratings struct {
	ID      int            `json:"id"`
	Ratings map[string]int `json:"ratings"`
}

// ratings is safe for concurrent use.
type ratings struct {
	// chance draws from [0, 1); tests replace it before serving.
	chance func() float64

	mu    sync.Mutex // guards the fields below
	fault Fault
	added map[int]map[string]int // by product; the inner maps are never changed
}

func newRatings(f Fault) *ratings {
	return &ratings{chance: rand.Float64, fault: f, added: map[int]map[string]int{}}
}

func (s *ratings) register(mux *http.ServeMux) {
	mux.HandleFunc("GET "+pathHealth, healthHandler("Ratings is healthy"))
	mux.HandleFunc("GET /ratings/{id}", s.faulty(s.get))
	mux.HandleFunc("POST /ratings/{id}", s.faulty(s.post))
	mux.HandleFunc(pathFault, s.serveFault)
}

func (s *ratings) get(w http.ResponseWriter, r *http.Request) {
	id, ok := productID(w, r)
	if !ok {
		return
	}
	writeJSON(w, http.StatusOK, Ratings{ID: id, Ratings: s.of(id)})
}

// of returns a product's stars by reviewer. They are not to be changed.
func (s *ratings) of(id int) map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stars := s.added[id]; stars != nil {
		return stars
	}
	return map[string]int{"Reviewer1": 5, "Reviewer2": 4}
}

func (s *ratings) post(w http.ResponseWriter, r *http.Request) {
	id, ok := productID(w, r)
	if !ok {
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRatingBody))
	if err != nil {
		writeError(w, http.StatusRequestEntityTooLarge, "ratings are too long")
		return
	}
	var stars map[string]int
	if err := json.Unmarshal(body, &stars); err != nil || stars == nil {
		writeError(w, http.StatusBadRequest, "please provide valid ratings JSON")
		return
	}
	for reviewer, n := range stars {
		if n < 1 || n > 5 {
			writeError(w, http.StatusBadRequest, "rating of "+reviewer+" is not 1 to 5")
			return
		}
	}
	if !s.store(id, stars) {
		writeError(w, http.StatusInsufficientStorage, "no room for ratings of more products")
		return
	}
	writeJSON(w, http.StatusOK, Ratings{ID: id, Ratings: stars})
}

func (s *ratings) store(id int, stars map[string]int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.added[id]; !known && len(s.added) >= maxRatedProducts {
		return false
	}
	s.added[id] = stars
	return true
}

// faulty delays and fails requests as the fault in force says.
func (s *ratings) faulty(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch status, err := s.misbehave(r.Context()); {
		case err != nil: // the caller has left
		case status != 0:
			writeError(w, status, faultInjected)
		default:
			next(w, r)
		}
	}
}

// faultInjected is the error of an answer that a fault made.
const faultInjected = "fault injected"

// misbehave holds a request as the fault in force says and returns the status that
// it is to fail with, 0 for none. An error is ctx's.
func (s *ratings) misbehave(ctx context.Context) (status int, err error) {
	s.mu.Lock()
	f := s.fault
	s.mu.Unlock()
	if f.Delay > 0 && s.chance() < f.DelayShare {
		t := time.NewTimer(f.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	if f.ErrorShare > 0 && s.chance() < f.ErrorShare {
		return f.ErrorStatus, nil
	}
	return 0, nil
}

// serveFault shows, changes and clears the fault in force.
func (s *ratings) serveFault(w http.ResponseWriter, r *http.Request) {
	var f Fault
	switch r.Method {
	case http.MethodGet:
		s.mu.Lock()
		f = s.fault
		s.mu.Unlock()
	case http.MethodPost, http.MethodDelete:
		if r.Method == http.MethodPost {
			spec := r.URL.Query().Get("spec")
			var err error
			if f, err = ParseFault(spec); err != nil || spec == "" {
				writeError(w, http.StatusBadRequest, faultRefusal(err))
				return
			}
		}
		s.mu.Lock()
		s.fault = f
		s.mu.Unlock()
	default:
		w.Header().Set("Allow", "GET, POST, DELETE")
		writeError(w, http.StatusMethodNotAllowed, "GET shows the fault, POST ?spec= sets it, DELETE clears it")
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"fault": f.String()})
}

func faultRefusal(err error) string {
	if err == nil {
		return "spec: empty, give one such as error=10%25,delay=500ms:20%25 (DELETE clears the fault)"
	}
	return "spec: " + err.Error()
}
