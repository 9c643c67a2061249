package netio

import (
	"net"
	"sync"
	"testing"
	"time"
)

type waker chan struct{}

func (w waker) Wake() { w <- struct{}{} }

func TestAParkedConnectionIsWokenOnceByAByteOrItsEnd(t *testing.T) {
	var lot Lot
	defer lot.Close()
	for name, news := range map[string]func(*net.TCPConn){
		"byte":   func(c *net.TCPConn) { c.Write([]byte("x")) },
		"end":    func(c *net.TCPConn) { c.Close() },
		"half":   func(c *net.TCPConn) { c.CloseWrite() },
		"reset":  func(c *net.TCPConn) { c.SetLinger(0); c.Close() },
		"before": nil,
	} {
		c, theirs := pair(t)
		w := make(waker, 2)
		if news == nil {
			theirs.Write([]byte("x"))
		}
		if !lot.Park(c, w) {
			t.Fatalf("%s: not parked", name)
		}
		if news != nil {
			select {
			case <-w:
				t.Errorf("%s: woken by nothing", name)
			case <-time.After(10 * time.Millisecond):
			}
			news(theirs)
		}
		<-w
		if lot.Take(c) {
			t.Errorf("%s: it is parked after it was woken", name)
		}
		select {
		case <-w:
			t.Errorf("%s: woken twice", name)
		case <-time.After(time.Millisecond):
		}
	}
}

func TestWhatIsTakenBackIsNotWoken(t *testing.T) {
	var lot Lot
	defer lot.Close()
	c, theirs := pair(t)
	w := make(waker, 1)
	if lot.Take(c) {
		t.Error("taken before it was parked")
	}
	if !lot.Park(c, w) || !lot.Take(c) || lot.Take(c) {
		t.Error("want it parked, and taken once")
	}
	theirs.Write([]byte("x"))
	select {
	case <-w:
		t.Error("woken")
	case <-time.After(10 * time.Millisecond):
	}
}

// Every connection is parked and either woken by its peer or taken by another
// goroutine, never both and never neither.
func TestEitherTheLotWakesOrSomebodyTakes(t *testing.T) {
	var lot Lot
	defer lot.Close()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			c, theirs := pair(t)
			w := make(waker, 1)
			for range 200 {
				if !lot.Park(c, w) {
					t.Error("not parked")
					return
				}
				go theirs.Write([]byte("x"))
				if !lot.Take(c) {
					<-w
				}
				if _, err := c.Read(make([]byte, 1)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

func TestAClosedLotParksNothing(t *testing.T) {
	var lot Lot
	c, _ := pair(t)
	if !lot.Park(c, make(waker, 1)) {
		t.Error("not parked")
	}
	lot.Take(c)
	lot.Close()
	if lot.Park(c, make(waker, 1)) {
		t.Error("parked")
	}
}
