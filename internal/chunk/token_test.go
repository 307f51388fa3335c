package chunk

import (
	"strconv"
	"strings"
	"testing"
)

func TestSubjectRoundTrip(t *testing.T) {
	for _, s := range []Subject{
		{"logs", 0, "web1.example.net", "nginx-access"},
		{"a.b", 65536, "UPPER_lower-9", "nginx-access.a b=c*d>e"},
		{"logs", 7, "\xff\xfe\n\x7f", "é…"},
		{"logs", 7, "...", ".hidden"},
		{"logs", 7, strings.Repeat("a", MaxToken), strings.Repeat(".", MaxToken/3)},
	} {
		got, err := ParseSubject(s.Prefix, s.String())
		if err != nil || got != s {
			t.Errorf("%+v as %s: %+v, %v", s, s, got, err)
		}
	}
}

func TestHostileSubjectsAreRefused(t *testing.T) {
	for _, subject := range []string{
		"", "logs", "logs.", "logs.0", "logs.0.a", "logs.0.a.b.c", "logs.0.a.b.", "logs.0..b", "logs.0.a.", "logs..a.b",
		"other.0.a.b", "logsx.0.a.b", "logs.-1.a.b", "logs.+1.a.b", "logs.01.a.b", "logs.x.a.b", "logs.65537.a.b", "logs.99999999999999999999.a.b",
		"logs.0.=2E.b", "logs.0.=2E=2E.b", "logs.0.a.=2E=2E", // . and ..
		"logs.0.=2F.b", "logs.0.a.=2Fetc=2Fpasswd", "logs.0.a.=2E=2E=2Fx", "logs.0.a./", // separators
		"logs.0.a.=00", "logs.0.a.x=00", // NUL
		"logs.0.a.=2f", "logs.0.a.=2e", "logs.0.a.=ff", // lower-case hex
		"logs.0.a.=41", "logs.0.a.=2D", "logs.0.a.=5F", "logs.0.a.=30", // needless
		"logs.0.a.=", "logs.0.a.=2", "logs.0.a.x=", "logs.0.a.=G0", "logs.0.a.==3D", "logs.0.a.a b", "logs.0.a.é", "logs.0.a.a@b", "logs.0.a.a%b", "logs.0.a.*", "logs.0.a.>",
		"logs.0.a." + strings.Repeat("x", MaxToken+1), "logs.0." + strings.Repeat("x", 300) + ".b", "logs.0.a." + strings.Repeat("=FF", MaxToken/3+1),
	} {
		if s, err := ParseSubject("logs", subject); err == nil {
			t.Errorf("%q is %+v", subject, s)
		}
	}
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{"a": true, "a.b": true, "...": true, " ": true, "": false, ".": false, "..": false, "a/b": false, "a\x00": false,
		strings.Repeat("a", MaxToken): true, strings.Repeat("a", MaxToken+1): false, strings.Repeat(".", MaxToken/3+1): false} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("%.40q: %v", name, err)
		}
	}
}

func TestFileNameIsOneToOneAndHarmless(t *testing.T) {
	seen := make(map[string]string)
	for _, name := range []string{"a", "A", "a.b", "a=2Eb", "a@b", "a b", "a\nb", "=", "é", "-", "_", "a~b", "...", "a%b"} {
		s := FileName(name)
		if other, ok := seen[s]; ok {
			t.Errorf("%q and %q are both %s", name, other, s)
		}
		seen[s] = name
		if strings.ContainsAny(s, "@/ \n%~") {
			t.Errorf("%q is %q", name, s)
		}
	}
}

func TestPartition(t *testing.T) {
	// FNV-1a 32 of "a" is 0xe40c292c.
	for n, want := range map[int]int{0: 0, 1: 0, 7: 0xe40c292c % 7, 1000: 0xe40c292c % 1000} {
		if got := Partition("a", n); got != want {
			t.Errorf("%d partitions: %d, want %d", n, got, want)
		}
	}
}

func TestSyncSubject(t *testing.T) {
	for _, identity := range []string{"web1.example.net", "sync", "a*b>"} {
		if got, err := ParseSyncSubject("a.b", SyncSubject("a.b", identity)); err != nil || got != identity {
			t.Errorf("%q: %q, %v", identity, got, err)
		}
	}
	for _, s := range []string{"logs.sync.hello", "logs.sync..hello", "logs.sync.a.b.hello", "x.sync.a.hello", "logs.sync.=2E=2E.hello", "logs.sync.*.hello", "logs.sync.a.hell"} {
		if got, err := ParseSyncSubject("logs", s); err == nil {
			t.Errorf("%q is %q", s, got)
		}
	}
	if SyncSubject("logs", "*") != "logs.sync.*.hello" {
		t.Error("receivers don't listen to all")
	}
}

func FuzzToken(f *testing.F) {
	for _, s := range []string{"a", "web1.example.net", "..", "=", "\x00", "é/", strings.Repeat("x", 200)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		token := Token(name)
		for _, c := range []byte(token) {
			if !plain(c) && c != '=' {
				t.Fatalf("%q has %q in its token", name, c)
			}
		}
		got, err := ParseToken(token)
		if ok := CheckName(name) == nil; ok != (err == nil) || ok && got != name {
			t.Fatalf("%q as %q: %q, %v", name, token, got, err)
		}
		// What the other side sends decodes in one way, or not at all.
		if n, err := ParseToken(name); err == nil && Token(n) != name {
			t.Fatalf("%q decodes to %q, which encodes to %q", name, n, Token(n))
		}
	})
}

func FuzzParseSubject(f *testing.F) {
	for _, s := range []string{"logs.0.web1.syslog", "logs.0.=2E=2E.x", "logs.1.a=2Eb.c", "logs....", "logs.0.a.=2Fetc"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, subject string) {
		s, err := ParseSubject("logs", subject)
		if err != nil {
			return
		}
		if s.String() != subject {
			t.Fatalf("%q is %+v, which is %q", subject, s, s)
		}
		for _, n := range []string{s.Identity, s.Log} {
			if n == "" || n == "." || n == ".." || strings.ContainsAny(n, "/\x00") {
				t.Fatalf("%q gives the name %s", subject, strconv.Quote(n))
			}
		}
	})
}
