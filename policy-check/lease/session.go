package lease

import (
	"fmt"
	"sync"

	policyv1 "github.com/telemesh/telemesh/api/policy/v1"
)

const (
	// remembered is how many answers a session keeps for a resend. A sidecar
	// resends only what is younger than a credit's life, in order.
	remembered = 64
	// rememberedGrants bounds the memory of that: pulls have up to maxDemands.
	rememberedGrants = 16_384
	// sessionIdle is when a silent sidecar is forgotten, in nanoseconds.
	sessionIdle = 60e9
)

// session is what the hub remembers of one sidecar, so that a resend never
// spends twice.
type session struct {
	id       uint64     // stands for the sidecar, whatever its epoch
	mu       sync.Mutex // guards the fields below
	epoch    uint64
	last     uint64
	answers  [remembered]*policyv1.PullResponse
	grants   int     // in answers
	lastSeen float64 // guarded by Server.mu
}

// session finds the sidecar's session and begins a new one for a new epoch.
func (s *Server) session(req *policyv1.PullRequest, now float64) (*session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ss, ok := s.sessions[req.GetSidecar()]
	if ok && now-ss.lastSeen > sessionIdle {
		// A sidecar that came back with its clock set back must not be locked
		// out for ever.
		ok = false
	}
	if ok && req.GetEpoch() < ss.epoch {
		return nil, fmt.Errorf("pull of epoch %d after epoch %d", req.GetEpoch(), ss.epoch)
	}
	if !ok || req.GetEpoch() > ss.epoch {
		next := &session{epoch: req.GetEpoch()}
		if ok {
			next.id = ss.id
		} else {
			s.forgetSessions(now)
			s.lastID++
			next.id = s.lastID
		}
		ss = next
		s.sessions[req.GetSidecar()] = ss
	}
	ss.lastSeen = now
	return ss, nil
}

func (s *Server) forgetSessions(now float64) {
	for name, ss := range s.sessions {
		if now-ss.lastSeen > sessionIdle {
			delete(s.sessions, name)
		}
	}
}

// answered returns the answer to a sequence that was seen before. It is an empty
// one, which grants nothing, when the sequence is too old to be remembered or was
// overtaken: such a pull comes late from a stream that the sidecar has given up,
// and what it says of the sidecar's pockets holds no longer.
func (ss *session) answered(sequence uint64) (*policyv1.PullResponse, bool) {
	if a := ss.answers[sequence%remembered]; a != nil && a.GetSequence() == sequence {
		return a, true
	}
	if sequence <= ss.last {
		return &policyv1.PullResponse{Sequence: sequence}, true
	}
	return nil, false
}

// remember keeps an answer and forgets the oldest, as many as have to be.
func (ss *session) remember(resp *policyv1.PullResponse) {
	ss.forget(resp.GetSequence())
	ss.answers[resp.GetSequence()%remembered] = resp
	ss.grants += len(resp.GetGrants())
	ss.last = resp.GetSequence()
	for old := ss.last + 1; ss.grants > rememberedGrants && old < ss.last+remembered; old++ {
		ss.forget(old)
	}
}

// forget frees a sequence's place.
func (ss *session) forget(sequence uint64) {
	place := &ss.answers[sequence%remembered]
	ss.grants -= len((*place).GetGrants())
	*place = nil
}
