package receive

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// An output can become another one: its file system isn't mounted and what lies below it has the path, or somebody moves it away and makes an empty one. The files
// that a receiver knows by their names aren't there, then, or others are that have the same names: to cut those back to what it knows would
// destroy what is confirmed. So each output has a name of its own, by chance, and the state of each log says which one its files are below. Where that is another
// one, they are left alone: the log goes on behind what is confirmed, in new files with names that nothing has there.

// outputMark is the file below an output that has its name. No identity's directory is called so: there is no @ in their names.
const outputMark = "@output"

// errOtherOutput: a log's files are below another output than the one that has the path.
var errOtherOutput = errors.New("the output directory is another one than before: it was moved or removed, or its file system isn't mounted, or is again")

// outputName reads the output's name; fs.ErrNotExist: it has none.
func (r *Receiver) outputName() (string, error) {
	f, err := openBelow(r.config.Output, outputMark, os.O_RDONLY, 0, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 1024))
	if err != nil {
		return "", err
	}
	name := strings.TrimSpace(string(b))
	if name == "" {
		return "", fmt.Errorf("%s is empty; remove it, and the receiver goes on in new files", f.Name())
	}
	return name, nil
}

// nameOutput gives the name of the output that has the path now. One that has no name is given one, and one that isn't there is made.
func (r *Receiver) nameOutput() (string, error) {
	r.claim.Lock()
	defer r.claim.Unlock()
	for {
		name, err := r.outputName()
		if err == nil {
			if r.output != name {
				r.output, r.claimed = name, false // who has the plain names is asked there
			}
			return name, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("output directory: %w", err)
		}
		if !exists(r.config.Output) {
			r.logger.Error("the output directory is gone: somebody removed it; it is made anew", "output", r.config.Output)
			if err := os.MkdirAll(r.config.Output, r.config.DirMode); err != nil {
				return "", fmt.Errorf("output directory: %w", err)
			}
			if err := syncDir(filepath.Dir(r.config.Output)); err != nil {
				return "", fmt.Errorf("output directory: %w", err)
			}
		}
		if err := r.leave(outputMark, rand.Text()); err != nil {
			return "", fmt.Errorf("output directory: %w", err)
		}
	}
}

// elsewhere tells whether a log's files are below another output than the named one. A state of before outputs had names doesn't say.
func (lo *local) elsewhere(output string) bool { return lo.Output != "" && lo.Output != output }

// displaced has a log go on below the output that has the path now. The files that it had elsewhere stay as they are; the new ledger says
// what isn't here. What was prepared in them stays there, too.
func (p *partition) displaced(l *log, output string, done map[string]*closed) {
	lo := &l.local
	m := &lo.Committed
	e := Entry{Time: p.r.now(), Event: EventDamage, Epoch: m.Place.Epoch, To: m.Place.Position, Cause: errOtherOutput.Error()}
	switch {
	case m.File != "":
		e.From, e.File, e.Size = m.From, m.File, m.Size
		l.note(e)
	case lo.LedgerFile != "":
		e.File, e.Size = lo.LedgerFile, m.Ledger
		l.note(e)
	}
	if c := lo.Closing; c != nil { // its ledger, which may not tell of it, is out of reach
		lo.Left = append(lo.Left, left{lo.Output, *c})
		lo.closed(l.key, done)
		done[c.To].Untold = true
	}
	*m = mark{Place: m.Place, Forked: m.Forked, Seal: m.Seal.elsewhere(), Revision: m.Revision, Base: m.Base}
	lo.Prepared, lo.Opening, lo.LedgerFile, lo.Output = nil, "", "", output
	p.returned(l, done)
}

// left is a file that was being closed when its output was taken away.
type left struct {
	Output  string  `json:"output"`
	Closing closing `json:"closing"`
}

// returned has the log's new ledger tell of a file that was being closed when the output was taken away that is back now. One that hadn't got its final
// name stays as it is: the old ledger has the name that it has.
func (p *partition) returned(l *log, done map[string]*closed) {
	lo := &l.local
	i := slices.IndexFunc(lo.Left, func(x left) bool { return x.Output == lo.Output })
	if i < 0 {
		return
	}
	c := lo.Left[i].Closing
	lo.Left = slices.Delete(slices.Clone(lo.Left), i, i+1)
	if exists(filepath.Join(p.r.config.Output, c.To)) {
		lo.Closing = &c
	} else {
		done[c.To] = nil
	}
}
