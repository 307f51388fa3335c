package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"logforward/internal/control"
	"logforward/internal/wish"
)

func (h *host) wish(verb, body, id string) {
	h.Helper()
	h.must(wish.Record(h.path("wishes"), wish.Wish{Verb: verb, Body: json.RawMessage(body), Caller: "choria=alice.mcollective", RequestID: id, Time: time.Now()}))
}

// What is asked of a daemon that answers is younger than what was asked before it ran: no older wish may come behind it.
func TestWishesAreTakenBeforeTheDaemonAnswers(t *testing.T) {
	h := newHost(t)
	for i := range 100 {
		h.wish("pause", fmt.Sprintf(`{"all":true,"for":"%dh"}`, i+1), fmt.Sprint(i))
	}
	h.start()
	if entries, problems := wish.Read(h.path("wishes")); len(entries)+len(problems) > 0 {
		t.Fatalf("%d wishes wait while the daemon answers; %v", len(entries), problems)
	}
	client := control.NewClient(h.path("sock"))
	s, err := client.Status(context.Background(), control.StatusRequest{})
	if err != nil || s.Pause == nil || s.Pause.RequestID != "99" {
		t.Errorf("%+v, %v", s.Pause, err)
	}
}

// A wish that can't be removed is taken once, not each second: it would undo what is asked for since.
func TestWishThatCannotBeRemovedIsTakenOnce(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting takes root")
	}
	h := newHost(t)
	h.wish("pause", `{"all":true}`, "old")
	h.must(syscall.Mount(h.path("wishes"), h.path("wishes"), "", syscall.MS_BIND, ""))
	t.Cleanup(func() { _ = syscall.Unmount(h.path("wishes"), syscall.MNT_DETACH) })
	if err := syscall.Mount("", h.path("wishes"), "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Skipf("this machine can't mount: %v", err)
	}
	h.start()
	client := control.NewClient(h.path("sock"))
	paused := func() bool {
		t.Helper()
		s, err := client.Status(context.Background(), control.StatusRequest{})
		h.must(err)
		return s.Pause != nil
	}
	h.eventually("the wish to be taken", func() error {
		if !paused() {
			return fmt.Errorf("not paused")
		}
		return nil
	})
	_, err := client.Resume(context.Background(), control.ResumeRequest{All: true})
	h.must(err)
	for end := time.Now().Add(2500 * time.Millisecond); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if paused() {
			t.Fatal("paused again by a wish that was taken before")
		}
	}
}
