package receive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// A file's name is written to the state before the file is made, so that after a crash a
// receiver knows its own files from another's, also those that it never committed to. Names
// are written in batches, for a fleet's first hour brings thousands of logs. That goes on beside commits, but
// never in one log: each writes its entry of the state.

// maxNaming is how many logs are in one batch: the first of many needn't wait for the last.
const maxNaming = 500

// newNames is what one log's files will be called.
type newNames struct {
	log          *log
	data, ledger *file // nil: it has one
	local        local
	dataFile     *os.File
	ledgerFile   *os.File
}

// named is the outcome of a batch.
type named struct {
	names []*newNames
	err   error
}

// close frees the descriptors of files that no log was given.
func (n *named) close() {
	for _, names := range n.names {
		for _, f := range []*os.File{names.dataFile, names.ledgerFile} {
			if f != nil {
				f.Close()
			}
		}
	}
}

// wantFiles puts a log on hold until it has an open file and a ledger.
func (p *partition) wantFiles(l *log) {
	if l.hold != free_ {
		return
	}
	l.hold = forName
	p.wants = append(p.wants, l)
}

// startNaming names and makes the files of logs that wait, in one transaction.
func (p *partition) startNaming() {
	if p.naming || len(p.wants) == 0 {
		return
	}
	now := p.r.now()
	most := min(maxNaming, p.open.limit/2+1) // a batch's descriptors come on top of those that are open
	batch := make([]*newNames, 0, min(len(p.wants), most))
	for len(p.wants) > 0 && len(batch) < most {
		l := p.wants[0]
		p.wants = p.wants[1:]
		if l.commit != nil {
			p.later = append(p.later, l)
			continue
		}
		l.naming = true
		n := &newNames{log: l, local: l.local}
		if l.file == nil {
			n.data = &file{opened: now, base: p.r.naming.base(l.identity, l.name, now), fresh: true}
		}
		if l.ledger == nil {
			n.ledger = &file{name: l.local.LedgerFile, opened: now, fresh: true}
		}
		batch = append(batch, n)
	}
	if len(batch) == 0 {
		return
	}
	p.naming = true
	p.tasks.Go(func() {
		err := p.r.nameFiles(batch, now)
		p.named <- named{batch, err}
	})
}

// nameFiles finds free names, writes them to the state, and makes the files.
func (r *Receiver) nameFiles(batch []*newNames, now time.Time) (err error) {
	output, err := r.nameOutput()
	if err != nil {
		return err
	}
	if err := r.claimPlainNames(); err != nil {
		return err
	}
	locals := make(map[string]*local, len(batch))
	for _, n := range batch {
		l := n.log // identity and name never change
		if n.local.elsewhere(output) {
			return errOtherOutput
		}
		n.local.Output = output
		if n.data != nil {
			if n.data.name, err = r.free(r.naming.variants(l.identity, l.name, now)); err != nil {
				return err
			}
			n.local.Opening = n.data.name
		}
		if n.ledger != nil && n.ledger.name == "" {
			if n.ledger.name, err = r.free(func(i int) string { return r.naming.ledgerName(l.identity, l.name, i) }); err != nil {
				return err
			}
			n.local.LedgerFile = n.ledger.name
		}
		locals[l.key] = &n.local
	}
	if err := r.state.put(opNames, locals, nil); err != nil {
		return fmt.Errorf("write file names to the state: %w", err)
	}
	defer func() {
		if err == nil {
			return
		}
		for _, n := range batch {
			for _, f := range []*os.File{n.dataFile, n.ledgerFile} {
				if f != nil {
					f.Close()
					os.Remove(f.Name()) // empty; if it stays, the next begin knows it by the state
				}
			}
		}
	}()
	for _, n := range batch {
		if n.data != nil {
			if n.dataFile, err = r.create(n.data.name); err != nil {
				return err
			}
		}
		if n.ledger != nil {
			if n.ledgerFile, err = r.create(n.ledger.name); errors.Is(err, fs.ErrExist) && n.ledger.name == n.log.local.LedgerFile {
				n.ledgerFile, err = r.disk.open(filepath.Join(r.config.Output, n.ledger.name))
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Receiver) create(name string) (*os.File, error) {
	f, err := r.disk.create(filepath.Join(r.config.Output, name), r.config.FileMode, r.config.DirMode)
	if err != nil {
		return nil, fmt.Errorf("begin central file: %w", err)
	}
	return f, nil
}

// afterNaming gives the logs their files. Where that failed (a full disk, say) they are tried again.
func (p *partition) afterNaming(n named) error {
	p.naming = false
	if errors.Is(n.err, errStopped) || errors.Is(n.err, errOtherOutput) {
		return n.err
	}
	for _, names := range n.names {
		l := names.log
		l.hold, l.naming = free_, false
		if n.err != nil {
			p.stall(l, n.err)
			continue
		}
		l.local.Opening, l.local.LedgerFile, l.local.Output = names.local.Opening, names.local.LedgerFile, names.local.Output
		if names.data != nil {
			l.file, l.from = names.data, unplaced
			p.open.adopt(l.file, names.dataFile)
		}
		if names.ledger != nil {
			l.ledger = names.ledger
			p.open.adopt(l.ledger, names.ledgerFile)
		}
		if err := p.flushNotes(l); err != nil {
			return err
		}
		if l.hold == free_ {
			if err := p.release(l); err != nil {
				return err
			}
		}
	}
	return nil
}
