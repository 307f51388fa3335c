package receive

import (
	"context"
	"errors"
	"fmt"
)

// idle is what a partition does while it isn't this receiver's turn. It settles what this receiver has of it, and then takes the
// ledger lines of housekeeping: closed files expire all the same, and their ledgers are their receiver's. It ends with waiting.
func (p *partition) idle(waiting, session context.Context) error {
	if p.settled != session {
		if err := p.settle(waiting); err != nil {
			if waiting.Err() != nil {
				return nil // it begins instead
			}
			return err
		}
		p.settled = session
	}
	p.r.setTerm(p.n, nil)
	for {
		select {
		case l := <-p.lines:
			err := p.idleLine(l)
			if err != nil {
				p.r.logger.Error("ledger line isn't written", "log", l.key, "error", err)
			}
			l.kept <- err
		case <-waiting.Done():
			return nil
		}
	}
}

// idleLine appends one line to the ledger of a log that is settled, and commits it.
func (p *partition) idleLine(n line) error {
	lo, err := p.r.state.log(n.key)
	if err != nil || lo == nil || lo.LedgerFile == "" {
		return err
	}
	if lo.Prepared != nil || lo.Closing != nil {
		return errors.New("the log isn't settled yet")
	}
	if output, err := p.r.outputName(); err != nil || lo.elsewhere(output) {
		return errors.Join(errOtherOutput, err)
	}
	b, err := n.entry.line()
	if err != nil {
		return err
	}
	p.open = openFiles{output: p.r.config.Output, disk: &p.r.disk, limit: 8}
	defer p.open.closeAll()
	f := &file{name: lo.LedgerFile, size: lo.Committed.Ledger}
	h, err := p.open.use(f)
	if err == nil {
		err = p.r.disk.truncate(h, f.size)
	}
	if err == nil {
		err = p.open.append(f, b)
	}
	if err == nil {
		err = p.r.disk.sync(h)
	}
	if err != nil {
		return fmt.Errorf("ledger %s: %w", f.name, err)
	}
	lo.Committed.Ledger = f.size
	return p.r.state.put(opBegin, map[string]*local{n.key: lo}, nil)
}
