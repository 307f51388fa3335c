package settings

import (
	"fmt"
	"strings"
)

// Manual is logforward.cfg(5), with every setting that a file may hold.
func Manual() string {
	var b strings.Builder
	b.WriteString(`.\" Made by: logforward manual
.TH LOGFORWARD.CFG 5 "" "logforward"
.SH NAME
logforward.cfg \- settings of logforward
.SH DESCRIPTION
`)
	fmt.Fprintf(&b, "%s\n.PP\n", Roff("One setting a line, as key = value; # begins a line of comment. A flag stands above the environment, that above the file, and that above the default. "+
		"A file may hold settings of several commands: each takes its own. A name that no command has is an error. logforward config tells what is in force, and where it was set; logforward validate checks it before a restart."))
	fmt.Fprintf(&b, "%s\n", Roff("Files: "+DefaultFile(Forward)+" of forward and the commands that steer it, "+DefaultFile(Receive)+" of receive, setup and all that looks at the centre (receivers, drain, locate, fleet, tap, cat, ledger, verify), "+DefaultFile(Broker)+" of broker."))
	for _, section := range sections {
		fmt.Fprintf(&b, ".SH \"SETTINGS OF %s\"\n", strings.ToUpper(section))
		for _, s := range All() {
			if !s.For(section) {
				continue
			}
			d := s.describe("NAME")
			fmt.Fprintf(&b, ".TP\n\\fB%s\\fR\n%s Accepts %s.", Roff(d.Name), Roff(s.meaning()), Roff(d.Accepts))
			if d.Default != "" {
				fmt.Fprintf(&b, " Default: %s.", Roff(d.Default))
			}
			fmt.Fprintf(&b, " Flag %s, environment %s.\n", Roff(d.Flag), Roff(d.Environment))
		}
	}
	b.WriteString(".SH \"SEE ALSO\"\nlogforward(1)\n")
	return b.String()
}

// Roff has a manual page show a text as it is.
func Roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...", "\n", " ").Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}
