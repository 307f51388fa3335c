package forward

import (
	"encoding/json"
	"strings"
	"testing"

	"logforward/internal/chunk"
	"logforward/internal/tail"
)

// A log of a glob is named by its file, and that name may be any bytes. Its checkpoint is found again, and isn't that of another log whose
// name looks the same in JSON.
func TestForwardKeepsTheCheckpointOfANameThatIsNoText(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	c.mute(true)
	var logs []Log
	for _, name := range []string{strings.Repeat("\xff", 40) + "\xfe", strings.Repeat("\xff", 41)} {
		n.append(name, []byte("old\n"))
		log := n.log(name)
		log.Start = tail.StartEnd
		logs = append(logs, log)
	}
	for range 2 { // once it is begun without a checkpoint, and once with one
		n.start(logs...)
		for _, log := range logs {
			eventually(t, "the log is open", func() bool { return n.status(log.Name).State == Syncing })
			f := n.engine.runs[log.Name]
			f.post(func() { f.broken(errChanged); f.reopenAt = f.reopenAt.Add(-troubleEvery * 2) }) // its checkpoint is taken from the saver, or read
		}
		for _, log := range logs {
			eventually(t, "the log is open again", func() bool { return n.status(log.Name).State == Syncing })
			n.append(log.Name, []byte(chunk.Token(log.Name)+"\n"))
		}
		n.stop()
	}
	n.start(logs...)
	c.mute(false)
	for _, log := range logs {
		line := chunk.Token(log.Name) + "\n"
		n.delivered(log.Name, []byte(line+line))
	}
}

func TestTextIsWhatJSONGivesBack(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "app", "ä€😀", "\xff", "a\xff\xfeb", "\xe2\x82", "\xed\xa0\x80", "\ufffd", "\u2028<&>"} {
		b, err := json.Marshal(name)
		if err != nil {
			t.Fatal(err)
		}
		var back string
		if err := json.Unmarshal(b, &back); err != nil || text(name) != back {
			t.Errorf("%q: %q, JSON gives %q, %v", name, text(name), back, err)
		}
	}
}
