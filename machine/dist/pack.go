package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path"
	"time"
)

// member is one file of an archive: that of a path here, or a text.
type member struct {
	path, from, text string
	mode             int64
}

// pack writes an archive whose only directory is name. It holds regular files and directories alone, as
// Choria's archive watcher wants them. checksum is the archive's, verify that of the SHA256SUMS in it.
func pack(file, name string, members []member) (checksum, verify string, err error) {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return "", "", err
	}
	t := tar.NewWriter(z)
	var sums bytes.Buffer
	made := map[string]bool{}
	for _, m := range members {
		data := []byte(m.text)
		if m.from != "" {
			if data, err = os.ReadFile(m.from); err != nil {
				return "", "", err
			}
		}
		if err := directories(t, path.Dir(path.Join(name, m.path)), made); err != nil {
			return "", "", err
		}
		if err := put(t, path.Join(name, m.path), m.mode, data); err != nil {
			return "", "", err
		}
		sum := sha256.Sum256(data)
		fmt.Fprintf(&sums, "%s  %s\n", hex.EncodeToString(sum[:]), m.path)
	}
	if err := put(t, path.Join(name, "SHA256SUMS"), 0o644, sums.Bytes()); err != nil {
		return "", "", err
	}
	if err := t.Close(); err != nil {
		return "", "", err
	}
	if err := z.Close(); err != nil {
		return "", "", err
	}
	whole, content := sha256.Sum256(out.Bytes()), sha256.Sum256(sums.Bytes())
	return hex.EncodeToString(whole[:]), hex.EncodeToString(content[:]), os.WriteFile(file, out.Bytes(), 0o644)
}

// epoch is the time of all that is in an archive.
var epoch = time.Unix(0, 0).UTC()

// directories writes those on the way to dir that aren't there yet.
func directories(t *tar.Writer, dir string, made map[string]bool) error {
	if dir == "." || made[dir] {
		return nil
	}
	if err := directories(t, path.Dir(dir), made); err != nil {
		return err
	}
	made[dir] = true
	return t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: epoch, Format: tar.FormatUSTAR})
}

func put(t *tar.Writer, name string, mode int64, data []byte) error {
	err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(data)), ModTime: epoch, Format: tar.FormatUSTAR})
	if err != nil {
		return err
	}
	_, err = t.Write(data)
	return err
}
