package table

import (
	"fmt"
	"path"
	"regexp"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"logforward/internal/control"
)

// groupForm begins the name of a group in a list of callers.
const groupForm = "group="

var callerForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z][a-z0-9_-]*=.`) })

// callers checks a list of callers, with the groups that it names put in their place.
func (r *reader) callers(at string, texts []string) (list []glob) {
	for i, text := range texts {
		name, isGroup := strings.CutPrefix(text, groupForm)
		if !isGroup {
			if r.caller(at+pointer(i), text) {
				list = append(list, newGlob(text, callerGlob))
			}
			continue
		}
		members, ok := r.table.Groups[name]
		if !ok {
			r.fault(at+pointer(i), "there is no group %.80q", name)
		}
		list = append(list, globs(members, callerGlob)...)
	}
	return list
}

func (r *reader) caller(at, text string) bool {
	if err := checkText(text); err != nil {
		r.fault(at, "%v", err)
		return false
	}
	if text != "*" && !callerForm().MatchString(text) {
		r.fault(at, "%.80q is no caller: up=NAME, choria=CERTIFICATE, local=USER, the form of another issuer, group=NAME, or * for anybody", text)
		return false
	}
	return true
}

// checkText refuses what plays with a terminal or looks like something else: control and format characters.
func checkText(text string) error {
	if !utf8.ValidString(text) {
		return fmt.Errorf("%.80q is not UTF-8", text)
	}
	for i, c := range text {
		if !unicode.IsPrint(c) {
			return fmt.Errorf("%.80q holds the character %U at byte %d, which can't be printed", text, c, i)
		}
	}
	if text != strings.TrimSpace(text) {
		return fmt.Errorf("%.80q begins or ends with a space", text)
	}
	return nil
}

func checkLog(text string) error {
	if strings.Contains(text, "/") {
		return fmt.Errorf("%.80q holds a slash; is it a path?", text)
	}
	return checkText(text)
}

var destinationForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_*?-]{1,64}$`) })

func checkDestination(text string) error {
	if !destinationForm().MatchString(text) {
		return fmt.Errorf("%.80q is no destination: a name holds letters, digits, _ and - only, and * or ? for some", text)
	}
	return nil
}

// checkPath wants a glob that means what it seems to.
func checkPath(text string) error {
	if err := checkText(text); err != nil {
		return err
	}
	switch {
	case !strings.HasPrefix(text, "/"):
		return fmt.Errorf("%.200q is not absolute", text)
	case len(text) > control.MaxPath:
		return fmt.Errorf("path of %d bytes; at most %d", len(text), control.MaxPath)
	case strings.ContainsAny(text, `[]{}\`):
		return fmt.Errorf("%.200q: only * ? and ** are wildcards here; write one line for each alternative", text)
	case path.Clean(text) != text:
		return fmt.Errorf("%.200q is not clean; do you mean %.200q?", text, path.Clean(text))
	case text == "/":
		return fmt.Errorf("/ is a directory; do you mean /**?")
	}
	for part := range strings.SplitSeq(text, "/") {
		if strings.Contains(part, "**") && part != "**" {
			return fmt.Errorf("%.200q: ** stands for whole directories, as in /var/log/**/x.log; %.80q is *", text, part)
		}
	}
	if strings.Contains(text, "/**/**") {
		return fmt.Errorf("%.200q: one ** is enough", text)
	}
	return nil
}
