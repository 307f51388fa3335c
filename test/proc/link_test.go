package proc

import (
	"io"
	"net"
	"testing"
	"time"
)

// Each disturbance of a link shows in what it counts, and nothing does while it isn't disturbed.
func TestLinkCountsWhatItDoes(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	k, err := NewLink(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", k.Address)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(20 * time.Second))
		return c
	}
	c := dial()
	defer func() { c.Close() }()
	send := func() {
		if _, err := c.Write([]byte("four")); err != nil {
			t.Error(err)
		}
	}
	echo := func() {
		send()
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
			t.Error(err)
		}
	}
	until := func(what string, seen func(e Effects) bool) {
		t.Helper()
		for range 1000 {
			if seen(k.Effects()) {
				return
			}
			time.Sleep(5 * time.Millisecond) // of looking
		}
		t.Errorf("%s: %+v", what, k.Effects())
	}
	echo()
	if e := k.Effects(); e != (Effects{}) || k.Connections() != 1 {
		t.Errorf("undisturbed: %+v, %d connections", e, k.Connections())
	}
	k.Delay(20 * time.Millisecond)
	echo()
	k.Delay(0)
	until("late", func(e Effects) bool { return e.Late == 8 })
	k.Slow(1 << 20)
	echo()
	k.Slow(0)
	until("slowed", func(e Effects) bool { return e.Slowed == 8 })
	k.Mute(true, false)
	send()
	until("held", func(e Effects) bool { return e.Held == 4 })
	k.Cut(true)
	k.Mute(false, false)
	until("lost", func(e Effects) bool { return e.Broken == 1 && e.Lost == 4 && k.Connections() == 0 })
	refused := dial()
	if _, err := refused.Read(make([]byte, 1)); err == nil {
		t.Error("a link that is cut lets through")
	}
	refused.Close()
	until("refused", func(e Effects) bool { return e.Refused == 1 })
	k.Cut(false)
	c.Close()
	c = dial()
	echo()
	k.Delay(300 * time.Millisecond)
	send()
	until("under way", func(e Effects) bool { return e.Late == 12 })
	k.Drop()
	until("behind", func(e Effects) bool { return e.Broken == 2 && e.Behind == 4 })
}
