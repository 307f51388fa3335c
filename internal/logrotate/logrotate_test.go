package logrotate

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestOlddirsAreThoseOfTheBlockThatNamesTheFile(t *testing.T) {
	const app = "/var/log/app/app.log"
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"none", "/var/log/app/*.log {\n rotate 4\n}\n", nil},
		{"relative", "/var/log/app/*.log {\n\trotate 4\n\tolddir old\n}\n", []string{"/var/log/app/old"}},
		{"absolute", "/var/log/app/app.log {\n olddir /srv/old\n}\n", []string{"/srv/old"}},
		{"quoted, with a blank", "\"/var/log/app/app.log\" {\n olddir \"/srv/o l d\"\n}\n", []string{"/srv/o l d"}},
		{"an equals sign", "/var/log/app/app.log {\n olddir = /srv/old\n}\n", []string{"/srv/old"}},
		{"an equals sign without blanks", "/var/log/app/app.log {\n olddir=/srv/o=l,d\n}\n", []string{"/srv/o=l,d"}},
		{"another's", "/var/log/other.log {\n olddir /srv/old\n}\n", nil},
		{"one of several", "/var/log/other.log /var/log/app/app.log{\n olddir /srv/old\n}\n", []string{"/srv/old"}},
		{"one of several lines", "/var/log/other.log\n/var/log/app/app.log\n{\n olddir /srv/old\n}\n", []string{"/srv/old"}},
		{"for all", "olddir /srv/all\n/var/log/app/app.log {\n}\n", []string{"/srv/all"}},
		{"for all, in one line", "olddir /srv/all\n/var/log/app/app.log { }\n", []string{"/srv/all"}},
		{"for all but this", "olddir /srv/all\n/var/log/app/app.log {\n noolddir\n}\n", nil},
		{"for all behind it", "/var/log/app/app.log {\n}\nolddir /srv/all\n", nil},
		{"of two blocks", "/var/log/app/app.log {\n olddir a\n}\n/var/log/*/*.log {\n olddir /b\n}\n", []string{"/var/log/app/a", "/b"}},
		{"in a comment", "/var/log/app/app.log {\n # olddir /srv/old\n}\n", nil},
		{"in a script", "/var/log/app/app.log {\n postrotate\n olddir /srv/old\n }\n endscript\n olddir /srv/new\n}\n", []string{"/srv/new"}},
		{"without its end", "/var/log/app/app.log {\n olddir /srv/old\n", nil},
		{"without a directory", "/var/log/app/app.log {\n olddir\n}\n", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			conf := filepath.Join(t.TempDir(), "logrotate.conf")
			write(t, conf, c.text)
			if got := New(conf, nil).Olddirs(app); !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestOlddirsFollowIncludesAndChanges(t *testing.T) {
	dir := t.TempDir()
	conf, drop := filepath.Join(dir, "logrotate.conf"), filepath.Join(dir, "logrotate.d")
	write(t, conf, "weekly\ninclude "+drop+"\ninclude "+conf+"\n") // itself, too: that must end
	r := New(conf, nil)
	if got := r.Olddirs("/var/log/a.log"); got != nil {
		t.Fatalf("%q without an olddir", got)
	}
	write(t, filepath.Join(drop, "a"), "/var/log/a.log {\n olddir old\n}\n")
	r.read = r.read.Add(-time.Second)
	if got, want := r.Olddirs("/var/log/a.log"), []string{"/var/log/old"}; !slices.Equal(got, want) {
		t.Fatalf("%q, want %q", got, want)
	}
}

func TestOlddirsOfWhatOthersCanWriteAreNotBelieved(t *testing.T) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "logrotate.conf")
	write(t, conf, "/var/log/a.log {\n olddir old\n}\ninclude "+dir+"/b\ninclude "+dir+"/pipe\n")
	write(t, dir+"/b", "/var/log/a.log {\n olddir /evil\n}\n")
	if err := os.Chmod(dir+"/b", 0o666); err != nil {
		t.Fatal(err)
	}
	r := New(conf, nil)
	if got, want := r.Olddirs("/var/log/a.log"), []string{"/var/log/old"}; !slices.Equal(got, want) {
		t.Fatalf("%q, want %q", got, want)
	}
	if r.said == "" {
		t.Error("nothing says that a file isn't believed")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("/var/log/a.log {\n olddir \"a b\n}\n")
	f.Add("=\n==\n= olddir /x\n")
	f.Add("olddir = /x\n{\n}\n'")
	f.Fuzz(func(t *testing.T, text string) {
		p := &parser{}
		p.text([]byte(text), includeMax) // no include is followed
		for _, r := range p.rules {
			if r.olddir == "" {
				t.Errorf("a rule without a directory: %q", text)
			}
		}
	})
}
