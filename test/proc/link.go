package proc

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Link is a TCP proxy that can be cut: established connections break and new ones are refused. What passes can also be
// held back, slowed, or come late.
type Link struct {
	Address string // that it listens at
	target  string
	l       net.Listener

	mu      sync.Mutex
	cut     bool
	muted   [2]bool // to the target, and from it: connections stay, and nothing comes through
	delay   time.Duration
	shuffle time.Duration
	rate    int
	conns   map[net.Conn]bool // true: the client's end
	dropped map[net.Conn]bool
	effects Effects
	closed  bool
	wg      sync.WaitGroup
}

// Effects count what a link did beside passing on, since it was made: whoever disturbs it sees by them that it was disturbed.
type Effects struct {
	Broken  int   // clients' connections that were cut or dropped
	Refused int   // connections that were refused while the link was cut
	Held    int64 // bytes that had to wait, because nothing was let through
	Late    int64 // bytes that were delayed
	Slowed  int64 // bytes that were slowed
	Lost    int64 // bytes that were taken from their sender and never delivered
	Behind  int64 // bytes of clients that were delivered after their connection was dropped
}

// Since is what was done after another look.
func (e Effects) Since(o Effects) Effects {
	return Effects{e.Broken - o.Broken, e.Refused - o.Refused, e.Held - o.Held, e.Late - o.Late, e.Slowed - o.Slowed, e.Lost - o.Lost, e.Behind - o.Behind}
}

// Plus is what two links did.
func (e Effects) Plus(o Effects) Effects {
	return Effects{e.Broken + o.Broken, e.Refused + o.Refused, e.Held + o.Held, e.Late + o.Late, e.Slowed + o.Slowed, e.Lost + o.Lost, e.Behind + o.Behind}
}

// NewLink makes a link to an address; Close ends it.
func NewLink(target string) (*Link, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("link to %s: %w", target, err)
	}
	k := &Link{Address: l.Addr().String(), target: target, l: l, conns: map[net.Conn]bool{}, dropped: map[net.Conn]bool{}}
	k.wg.Go(k.accept)
	return k, nil
}

// Close ends all connections and waits for what served them.
func (k *Link) Close() {
	k.l.Close()
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	k.Cut(true)
	k.wg.Wait()
}

func (k *Link) accept() {
	for {
		c, err := k.l.Accept()
		if err != nil {
			return
		}
		k.wg.Go(func() { k.pass(c) })
	}
}

// block is what was read at once; it is written when it is due.
type block struct {
	data []byte
	due  time.Time
}

// maxBlocks is how much of one way is under way at most: more of it waits at its sender.
const maxBlocks = 64

func (k *Link) pass(c net.Conn) {
	defer c.Close()
	if wait := k.patience(); wait > 0 {
		time.Sleep(wait)
	}
	if !k.add(c, true) {
		return
	}
	defer k.remove(c)
	s, err := net.DialTimeout("tcp", k.target, 5*time.Second)
	if err != nil {
		return
	}
	defer s.Close()
	if !k.add(s, false) {
		return
	}
	defer k.remove(s)
	var ways sync.WaitGroup
	ways.Go(func() { k.carry(s, c, 0) })
	ways.Go(func() { k.carry(c, s, 1) })
	ways.Wait()
}

// patience is how long a new connection waits.
func (k *Link) patience() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.shuffle <= 0 {
		return 0
	}
	return rand.N(k.shuffle)
}

// carry takes what comes from src to dst. What was read before src ended still arrives.
func (k *Link) carry(dst, src net.Conn, way int) {
	blocks := make(chan block, maxBlocks)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(blocks)
		for {
			buf := make([]byte, 32<<10)
			n, err := src.Read(buf)
			if n > 0 {
				k.mu.Lock()
				due := time.Now().Add(k.delay)
				if k.delay > 0 {
					k.effects.Late += int64(n)
				}
				k.mu.Unlock()
				blocks <- block{buf[:n], due}
			}
			if err != nil {
				return
			}
		}
	})
	broken := false
	for b := range blocks {
		n := int64(len(b.data))
		if broken {
			k.count(func(e *Effects) { e.Lost += n })
			continue
		}
		time.Sleep(time.Until(b.due))
		for held := false; k.silent(dst, way); held = true {
			if !held {
				k.count(func(e *Effects) { e.Held += n })
			}
			time.Sleep(5 * time.Millisecond) // of looking
		}
		k.slow(len(b.data))
		if _, err := dst.Write(b.data); err != nil {
			broken = true
			src.Close()
			k.count(func(e *Effects) { e.Lost += n })
		} else if way == 0 && k.isDropped(src) {
			k.count(func(e *Effects) { e.Behind += n })
		}
	}
	dst.Close()
	reader.Wait()
}

func (k *Link) slow(n int) {
	k.mu.Lock()
	rate := k.rate
	if rate > 0 {
		k.effects.Slowed += int64(n)
	}
	k.mu.Unlock()
	if rate > 0 {
		time.Sleep(time.Duration(n) * time.Second / time.Duration(rate))
	}
}

// silent tells whether nothing comes through this way on a connection that stands.
func (k *Link) silent(c net.Conn, way int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, stands := k.conns[c]
	return k.muted[way] && !k.cut && stands
}

// Mute lets nothing through to the target, from it, or either, while connections stay.
func (k *Link) Mute(to, from bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.muted = [2]bool{to, from}
}

// Delay makes everything come so much later, either way.
func (k *Link) Delay(d time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.delay = d
}

// Slow bounds each way of each connection, in bytes a second; 0: no bound.
func (k *Link) Slow(rate int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.rate = rate
}

// Shuffle lets each new connection wait for a random time below most, so that those who come back come in another order.
func (k *Link) Shuffle(most time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.shuffle = most
}

// Connections is how many connections through it reach the target now.
func (k *Link) Connections() (n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, client := range k.conns {
		if !client {
			n++
		}
	}
	return n
}

// Effects is what it did so far.
func (k *Link) Effects() Effects {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.effects
}

func (k *Link) count(add func(e *Effects)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	add(&k.effects)
}

func (k *Link) isDropped(c net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.dropped[c]
}

func (k *Link) add(c net.Conn, client bool) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cut {
		if client {
			k.effects.Refused++
		}
		return false
	}
	k.conns[c] = client
	return true
}

func (k *Link) remove(c net.Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.conns, c)
	delete(k.dropped, c)
}

// Cut cuts the link, or lets it work again.
func (k *Link) Cut(cut bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cut = cut || k.closed
	if cut {
		for c, client := range k.conns {
			c.Close()
			if client {
				k.effects.Broken++
			}
		}
	}
}

// Drop breaks the clients' ends alone. With a delay, what they had sent still arrives, on a connection that the target
// takes for alive, while they are back on a new one.
func (k *Link) Drop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for c, client := range k.conns {
		if client {
			c.Close()
			k.dropped[c] = true
			k.effects.Broken++
		}
	}
}
