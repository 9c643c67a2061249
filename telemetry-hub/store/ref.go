package store

import "sync/atomic"

// users counts who uses a file: the store itself, and every look-up that has it
// in its view. One that is dropped is closed by the last of them, so neither a
// look-up nor the writer waits for the other. The zero value has no user.
type users struct{ n atomic.Int32 }

// enter adds a user. The caller holds the store's lock, under which the store
// itself is a user of every file that can be found.
func (u *users) enter() { u.n.Add(1) }

// leave reports whether nobody is left, and so who has to close.
func (u *users) leave() bool { return u.n.Add(-1) == 0 }
