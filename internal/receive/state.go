package receive

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"logforward/internal/chunk"
)

// ErrLocked: another receiver uses the state directory.
var ErrLocked = errors.New("state directory is in use")

// mark is one log's place together with where its bytes lie in this receiver's files.
type mark struct {
	Place  chunk.Place `json:"place"`
	File   string      `json:"file,omitempty"`   // open file, below the output; empty: none yet
	Size   int64       `json:"size,omitempty"`   // of File
	From   uint64      `json:"from,omitempty"`   // first position of this epoch's range in File
	Offset int64       `json:"offset,omitempty"` // of From in File
	Behind uint64      `json:"behind,omitempty"` // position behind the range's last gap; 0: there is none
	// Before is the running digest before From, where a range has begun; nil: an older version wrote it.
	Before *chunk.Digest `json:"before,omitempty"`
	Opened time.Time     `json:"opened,omitzero"`  // when File was begun
	Ledger int64         `json:"ledger,omitempty"` // size of the ledger
	Forked bool          `json:"forked,omitempty"` // nothing more is taken in this epoch
	// Seal is the last one that came up to Place.
	Seal *sealed `json:"seal,omitempty"`
	// Revision is what the record's update expected: a record beyond it that doesn't cover the mark never will.
	Revision uint64 `json:"revision,omitempty"`
	// Base is the record's place that the update was to replace: everything before it was committed.
	Base base `json:"base,omitzero"`
}

// base is a place without what is before it.
type base struct {
	Epoch    uint64       `json:"epoch"`
	Position uint64       `json:"position"`
	Digest   chunk.Digest `json:"digest"`
}

// local is what this receiver knows of a log by itself.
type local struct {
	Committed mark  `json:"committed"`
	Prepared  *mark `json:"prepared,omitempty"` // on disk; whether the record says so isn't known
	// Closing is a file that is wholly committed and gets, or has, its final name. It stays
	// until the ledger line that says so is committed.
	Closing *closing `json:"closing,omitempty"`
	// Opening is a data file that was begun, and that nothing was committed to yet.
	Opening    string `json:"opening,omitempty"`
	LedgerFile string `json:"ledger_file,omitempty"`
	// Output names the output that all these files are below; empty: an older version wrote it.
	Output string `json:"output,omitempty"`
	// Left are files that were being closed when their output was taken away.
	Left []left `json:"left,omitempty"`
	// Ranges are the record's, where they name other receivers: a wiped bucket gets them back.
	Ranges []span `json:"ranges,omitempty"`
}

// closing is a file on its way to its final name.
type closing struct {
	From  string    `json:"from"`
	To    string    `json:"to"`
	Epoch uint64    `json:"epoch"`
	Pos   uint64    `json:"position"` // end of its last range
	Size  int64     `json:"size"`
	Time  time.Time `json:"time"`
	// Digest is the running digest before Pos, where the file's last range ends there.
	Digest *chunk.Digest `json:"digest,omitempty"`
}

// closed is a file that is complete: it may be compressed, and later deleted.
type closed struct {
	Key        string    `json:"key"` // of the log
	Size       int64     `json:"size"`
	Time       time.Time `json:"time"` // when it was closed
	Epoch      uint64    `json:"epoch"`
	To         uint64    `json:"to"`
	Compressed string    `json:"compressed,omitempty"` // name once compressed
	Output     string    `json:"output,omitempty"`     // that it is below; empty: not known
	Untold     bool      `json:"untold,omitempty"`     // its ledger may not tell of it: it is left alone

	since time.Time // Time, but never after that of a file which came behind it in its log
}

// state is the receiver's embedded database: receive.db in its state directory.
type state struct {
	db   *bolt.DB
	disk *disk
}

var (
	bucketLogs   = []byte("logs")
	bucketClosed = []byte("closed")
	bucketMeta   = []byte("meta")
)

// openState opens or makes the database. A file that can't be read is set aside, for then
// the records say where to go on; the error of that is returned as note.
func openState(dir string, d *disk) (s *state, note error, err error) {
	if err := makeDir(dir); err != nil {
		return nil, nil, fmt.Errorf("state directory %s: %w; let the receiver's user write there, or set another state", dir, err)
	}
	path := filepath.Join(dir, "receive.db")
	db, err := openBolt(path)
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, nil, fmt.Errorf("%w: %s is locked by another receiver; stop it, or give this one a state directory of its own", ErrLocked, path)
	}
	if err != nil && corrupt(err) {
		aside := path + ".corrupt-" + time.Now().UTC().Format("20060102T150405Z")
		if err2 := os.Rename(path, aside); err2 != nil {
			return nil, nil, fmt.Errorf("state %s can't be read (%w) nor set aside: %w", path, err, err2)
		}
		note = fmt.Errorf("state %s can't be read (%w); it was set aside as %s, and the receiver goes on from the records", path, err, aside)
		db, err = openBolt(path)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("state %s: %w", path, err)
	}
	if err := syncDir(dir); err != nil { // the database's name
		db.Close()
		return nil, nil, fmt.Errorf("state directory %s: %w", dir, err)
	}
	return &state{db: db, disk: d}, note, nil
}

func corrupt(err error) bool {
	return errors.Is(err, berrors.ErrInvalid) || errors.Is(err, berrors.ErrChecksum) ||
		errors.Is(err, berrors.ErrVersionMismatch) || errors.Is(err, errDamaged)
}

var errDamaged = errors.New("database is damaged")

// openBolt opens the database and reads every page, because bbolt finds damage only when it
// meets it, and then panics.
func openBolt(path string) (db *bolt.DB, err error) {
	defer func() {
		if p := recover(); p != nil {
			if db != nil {
				closeDamaged(db)
			}
			db, err = nil, fmt.Errorf("%w: %v", errDamaged, p)
		}
	}()
	if err := checkPages(path); err != nil {
		return nil, err
	}
	db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: 500 * time.Millisecond, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, b := range [][]byte{bucketLogs, bucketClosed, bucketMeta} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		for err := range tx.Check() {
			return fmt.Errorf("%w: %w", errDamaged, err)
		}
		return nil
	})
	if err != nil {
		closeDamaged(db)
		return nil, err
	}
	return db, nil
}

// checkPages looks whether a database has all of its pages: reading one behind the file's end would
// end the process. The two meta pages lie at 0 and one page on; what is used here of their layout
// (bbolt's db.go and internal/common/meta.go) is its file format, and doesn't change: 16 bytes of page
// header, then magic, version, page size and flags of four bytes each, root (16), free list (8), and the number of pages (8).
func checkPages(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Size() == 0 {
		return err
	}
	const magic, header, pages = 0xED0CDAED, 16, 16 + 16 + 16 + 8
	size := int64(os.Getpagesize())
	for i := range int64(2) {
		b := make([]byte, pages+8)
		if _, err := f.ReadAt(b, i*size); err != nil {
			return fmt.Errorf("%w: %d bytes: %w", errDamaged, st.Size(), err)
		}
		if binary.NativeEndian.Uint32(b[header:]) != magic {
			continue // bbolt says what is wrong
		}
		if n := binary.NativeEndian.Uint64(b[pages:]); n > uint64(st.Size()/size) {
			return fmt.Errorf("%w: %d bytes of %d pages", errDamaged, st.Size(), n)
		}
	}
	return nil
}

func closeDamaged(db *bolt.DB) {
	defer func() { _ = recover() }() // what is damaged may panic once more; the file is set aside anyway
	db.Close()
}

func (s *state) close() error { return s.db.Close() }

// key names a log in the state and in the positions bucket.
func key(identity, log string) string { return chunk.Token(identity) + "." + chunk.Token(log) }

func splitKey(k string) (identity, log string, err error) {
	a, b, ok := strings.Cut(k, ".")
	if !ok {
		return "", "", fmt.Errorf("%q is no <identity>.<log>", k)
	}
	if identity, err = chunk.ParseToken(a); err != nil {
		return "", "", err
	}
	log, err = chunk.ParseToken(b)
	return identity, log, err
}

// logs reads what is known of every log whose key is wanted (nil: all). An entry that can't be read is reported and left out.
func (s *state) logs(wanted func(key string) bool) (all map[string]*local, bad []error, err error) {
	all = make(map[string]*local)
	err = s.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketLogs).ForEach(func(k, v []byte) error {
			if wanted != nil && !wanted(string(k)) {
				return nil
			}
			l := new(local)
			if err := json.Unmarshal(v, l); err != nil {
				bad = append(bad, fmt.Errorf("state of %s: %w", k, err))
				return nil
			}
			all[string(k)] = l
			return nil
		})
	})
	return all, bad, err
}

// keys are those of the logs that the state knows, as far as they are wanted.
func (s *state) keys(wanted func(key string) bool) (map[string]bool, error) {
	all := make(map[string]bool)
	err := s.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketLogs).ForEach(func(k, _ []byte) error {
			if wanted(string(k)) {
				all[string(k)] = true
			}
			return nil
		})
	})
	return all, err
}

// log reads what is known of one log; nil: nothing.
func (s *state) log(key string) (*local, error) {
	var lo *local
	err := s.db.View(func(tx *bolt.Tx) error {
		v := tx.Bucket(bucketLogs).Get([]byte(key))
		if v == nil {
			return nil
		}
		lo = new(local)
		if err := json.Unmarshal(v, lo); err != nil {
			return fmt.Errorf("state of %s: %w", key, err)
		}
		return nil
	})
	return lo, err
}

// put writes entries in one transaction, which is on disk when it returns.
func (s *state) put(op string, logs map[string]*local, files map[string]*closed) error {
	if len(logs) == 0 && len(files) == 0 {
		return nil
	}
	return s.disk.do(op, func() error {
		return s.db.Update(func(tx *bolt.Tx) error {
			if err := putAll(tx.Bucket(bucketLogs), logs); err != nil {
				return err
			}
			return putAll(tx.Bucket(bucketClosed), files)
		})
	})
}

// putAll writes values as JSON; a nil value removes its key.
func putAll[T any](b *bolt.Bucket, values map[string]*T) error {
	for k, v := range values {
		if v == nil {
			if err := b.Delete([]byte(k)); err != nil {
				return err
			}
			continue
		}
		data, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if err := b.Put([]byte(k), data); err != nil {
			return err
		}
	}
	return nil
}

// closedFiles reads the closed files that are still there, by name.
func (s *state) closedFiles() (map[string]*closed, error) {
	all := make(map[string]*closed)
	err := s.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketClosed).ForEach(func(k, v []byte) error {
			c := new(closed)
			if err := json.Unmarshal(v, c); err == nil {
				all[string(k)] = c
			}
			return nil
		})
	})
	return all, err
}

// isClosed tells whether a name is a closed file's, be that there or not.
func (s *state) isClosed(name string) (is bool, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		is = tx.Bucket(bucketClosed).Get([]byte(name)) != nil
		return nil
	})
	return is, err
}

func (s *state) getMeta(name string, v any) (bool, error) {
	var data []byte
	err := s.db.View(func(tx *bolt.Tx) error {
		data = append(data, tx.Bucket(bucketMeta).Get([]byte(name))...)
		return nil
	})
	if err != nil || len(data) == 0 {
		return false, err
	}
	return true, json.Unmarshal(data, v)
}

func (s *state) putMeta(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Put([]byte(name), data) })
}
