package settings

import "slices"

// Commands that have settings.
const (
	Forward = "forward"
	Receive = "receive"
	Broker  = "broker"
	Setup   = "setup"
	Run     = "run"
	Client  = "client" // start, stop, pause, resume, status, list, check: they need the socket alone
	Reader  = "reader" // cat, ledger: they need the output alone
	Ensure  = "ensure" // ensure: what the daemon is found and started by
	Aside   = "aside"  // aside: the receiver's state alone
	Verify  = "verify" // verify: output, and the connection to the centre
	Fleet   = "fleet"  // fleet, tap, receivers, drain, locate: they need the connection to the centre alone
)

// Setting is one setting. Its zero Min and Max don't bound. Two commands may have settings of one name with
// different defaults (state, output).
type Setting struct {
	Name     string // as in a file; a flag has dashes for underscores
	Type     Type
	Default  string
	Help     string // one sentence, with the unit
	Enum     []string
	Min, Max int64
	Secret   bool // never printed
	// Deprecated says what to use in its place; empty: it isn't. It still works, with a warning.
	Deprecated string
	Commands   []string // that have it
	// Destination says that it is set for each destination: destination.<name>.<Name>.
	Destination bool
}

// For tells whether a command has the setting.
func (s *Setting) For(command string) bool { return slices.Contains(s.Commands, command) }

const (
	second = int64(1_000_000_000)
	mib    = int64(1 << 20)
)

// All gives every setting, in the order of the reference. The slice is the caller's.
func All() []Setting {
	daemons := []string{Forward, Receive, Broker, Run}
	centre := []string{Receive, Setup, Fleet, Verify}
	all := []Setting{
		{Name: "log_level", Type: Enum, Default: "info", Enum: []string{"debug", "info", "warn", "error"}, Commands: append(daemons, Setup, Fleet, Verify), Help: "What is logged to standard error, and anything worse."},
		{Name: "log_format", Type: Enum, Default: "text", Enum: []string{"text", "json"}, Commands: append(daemons, Setup, Fleet, Verify), Help: "How it is logged."},
		{Name: "metrics_listen", Type: Text, Commands: daemons, Help: "Address (host:port) that serves /metrics and /healthz over HTTP; empty: none. Forwarders serve both on their socket as well."},

		{Name: "identity", Type: Text, Commands: []string{Forward, Run}, Help: "The node's name in subjects and central paths; empty: the host's fully qualified name."},
		{Name: "state", Type: Path, Default: "/var/lib/logforward/forward", Commands: []string{Forward, Ensure}, Help: "Directory of checkpoints; one process at a time uses it."},
		{Name: "seal_key", Type: Path, Commands: []string{Forward}, Help: "File with the seed of the Ed25519 key (64 hex digits) by which this node seals what it sends to destinations that say so; Choria's server.seed is one. It is made where there is none (but no server.seed: that is Choria's); only its owner may have access to it. Empty: seal.key in the state directory."},
		{Name: "socket", Type: Path, Default: "/run/logforward/forward.sock", Commands: []string{Forward, Client, Ensure}, Help: "Unix socket that the node is steered by."},
		{Name: "wishes", Type: Path, Default: "/var/lib/logforward/wishes", Commands: []string{Forward, Client}, Help: "Directory of what operators asked for by Choria while the daemon wasn't running; the daemon takes it when it runs."},
		{Name: "policy", Type: Text, Default: "/etc/choria/policies/rego/logforward.rego", Commands: []string{Forward}, Help: "Rego document that decides who may change what, the one that Choria Server has for the agent. Without it nothing can be changed; forwarding goes on. peers: who may write to the socket may change everything."},
		{Name: "audit_log", Type: Path, Default: "/var/log/logforward/audit.log", Commands: []string{Forward}, Help: "File with a line for each decision about a change, and for each refusal; it is on disk before the change takes effect. Empty: none is kept."},
		{Name: "audit_rotate_size", Type: Bytes, Default: "16MiB", Min: 64 << 10, Max: 1 << 30, Commands: []string{Forward}, Help: "Bytes from which the audit log begins a new file."},
		{Name: "audit_retain_count", Type: Int, Default: "10", Min: 1, Max: 1000, Commands: []string{Forward}, Help: "Older files of the audit log that are kept; while its destination hasn't confirmed them, up to ten times as many."},
		{Name: "audit_destination", Type: Text, Commands: []string{Forward}, Help: "Name of the destination that the audit log is forwarded to, as the log audit.logforward; empty: it stays here. A pause of all doesn't hold it, and operators change it only by a rule of the policy that is about this log."},
		{Name: "enforce", Type: Enum, Default: "changes", Enum: []string{"changes", "running"}, Commands: []string{Forward}, Help: "What policy decides on: changes, or also what runs: then what operators started or redirected ends when policy doesn't let them any more, and starts go on when it does again."},
		{Name: "forwarders", Type: Path, Default: "/etc/choria/logforward/forwarders.d", Commands: []string{Forward, Ensure}, Help: "Directory of forwarder definitions (*.yaml); changes take effect within two seconds."},
		{Name: "staged", Type: Path, Default: "/etc/choria/logforward/staged", Commands: []string{Forward}, Help: "Directory of a set that waits: logforward.cfg, forwarders.d and logforward.rego, or some of them. logforward plan tells what it would do, and puts it into force with --apply."},
		{Name: "former", Type: Path, Default: "/etc/choria/logforward/former", Commands: []string{Forward}, Help: "Directory of the set that was in force before the last one was applied; logforward rollback puts it back."},
		{Name: "allowed_paths", Type: Globs, Default: "/var/log/**", Commands: []string{Forward}, Help: "Which real paths, symlinks resolved, may ever be forwarded; ** crosses directories."},
		{Name: "logrotate", Type: Path, Default: "/etc/logrotate.conf", Commands: []string{Forward}, Help: "Configuration of logrotate, which is read for the directories that it moves rotated files into (olddir); empty: none. Files are opened there only below allowed_paths."},
		{Name: "rate", Type: Rate, Default: "0", Commands: []string{Forward}, Help: "Most bytes per second of each log that names no rate of its own; 0: no limit. It delays, and drops nothing."},
		{Name: "node_rate", Type: Rate, Default: "0", Commands: []string{Forward}, Help: "Most bytes per second of all logs together; 0: no limit."},
		{Name: "window", Type: Bytes, Default: "16MiB", Min: 64 << 10, Max: 1 << 30, Commands: []string{Forward}, Help: "Most bytes that are under way to one destination without the broker's acknowledgement. Less is used where the broker is near: 4 MiB (or eight chunks), and 2 MiB more for each 10 ms that it took to answer when the node connected."},
		{Name: "chunk_size", Type: Bytes, Default: "512KiB", Min: 4 << 10, Max: 8 * mib, Commands: []string{Forward}, Help: "Most bytes in one message; the broker's maximum payload bounds it, too."},
		{Name: "linger", Type: Duration, Default: "2.8ms", Max: second, Commands: []string{Forward}, Help: "How long a busy log's lines are collected before they are sent; a quiet log's go at once."},
		{Name: "partial_wait", Type: Duration, Default: "250ms", Max: 60 * second, Commands: []string{Forward}, Help: "How long the rest of an unfinished line is waited for before its beginning is sent."},
		{Name: "checkpoint_interval", Type: Duration, Default: "1s", Min: second / 100, Max: 60 * second, Commands: []string{Forward}, Help: "How often confirmed positions are written to the state."},
		{Name: "held_deleted", Type: Bytes, Default: "1GiB", Commands: []string{Forward}, Help: "Most unread bytes in deleted files that are held open; beyond it the oldest is let go, with a gap."},
		{Name: "quiet", Type: Duration, Default: "500ms", Max: 600 * second, Commands: []string{Forward}, Help: "How long a rotated file must have been quiet before the next is begun."},
		{Name: "late_writes", Type: Duration, Default: "1h", Commands: []string{Forward}, Help: "How long a rotated file is still watched for late writes."},
		{Name: "poll", Type: Duration, Default: "1s", Min: second / 100, Max: 3600 * second, Commands: []string{Forward}, Help: "How often files are looked at where inotify says nothing (network file systems)."},
		{Name: "sync_interval", Type: Duration, Default: "30s", Min: second / 10, Max: 3600 * second, Commands: []string{Forward}, Help: "How often a node compares its positions with the centre's."},

		{Name: "ensure", Type: Path, Default: "/run/logforward-ensure", Commands: []string{Ensure, Client}, Help: "Directory of what ensure remembers between its runs, and of the log of a daemon that it started without systemd; only its own user may write to it."},
		{Name: "textfiles", Type: Path, Commands: []string{Client, Ensure}, Help: "Directory that check --metrics writes logforward.prom into, for Prometheus' node exporter; empty: the one that the node's Choria Server has, if any."},
		{Name: "ensure_unit", Type: Text, Default: "logforward-forward.service", Commands: []string{Ensure}, Help: "The daemon's systemd unit, used where systemd runs and knows it; empty: the daemon gets a session of its own."},
		{Name: "ensure_attempts", Type: Int, Default: "5", Min: 1, Max: 1000, Commands: []string{Ensure}, Help: "Starts in a row that don't last before the daemon is said to have failed."},
		{Name: "ensure_backoff", Type: Duration, Default: "5s", Min: second / 100, Max: 3600 * second, Commands: []string{Ensure}, Help: "Wait before the third start in a row, doubled with each; the second comes at once."},
		{Name: "ensure_steady", Type: Duration, Default: "60s", Min: second / 10, Max: 3600 * second, Commands: []string{Ensure}, Help: "How long a daemon must have run for its start to count as lasting."},
		{Name: "ensure_again", Type: Duration, Default: "15m", Commands: []string{Ensure}, Help: "How long after it failed the daemon is tried again though nothing has changed; 0: not at all."},

		{Name: "receiver", Type: Text, Commands: []string{Receive}, Help: "This receiver's name, unique among receivers and kept for good; empty: the host's name."},
		{Name: "output", Type: Path, Default: "/var/log/logforward", Commands: []string{Receive}, Help: "Directory of the central files."},
		{Name: "output", Type: List, Default: "/var/log/logforward", Commands: []string{Reader, Verify}, Help: "Directories of the central files, one or those of several receivers."},
		{Name: "state", Type: Path, Default: "/var/lib/logforward/receive", Commands: []string{Receive, Aside}, Help: "Directory of the receiver's own state; one process at a time uses it."},
		{Name: "file_pattern", Type: Text, Default: "{identity}/{log}.log", Commands: []string{Receive}, Help: "Names of central files below the output, with strftime conversions (UTC); a new name begins a new file."},
		{Name: "file_mode", Type: Mode, Default: "0640", Commands: []string{Receive}, Help: "Mode of central files."},
		{Name: "dir_mode", Type: Mode, Default: "0750", Commands: []string{Receive}, Help: "Mode of central directories."},
		{Name: "rotate_size", Type: Bytes, Default: "1GiB", Commands: []string{Receive}, Help: "Bytes from which a central file is closed at the next line's end; 0: no limit."},
		{Name: "rotate_every", Type: Duration, Default: "24h", Commands: []string{Receive}, Help: "Period, counted in UTC, after which a central file is closed; 0: never."},
		{Name: "retain_count", Type: Int, Default: "0", Commands: []string{Receive}, Help: "Closed files that are kept of each log; 0: all."},
		{Name: "retain_age", Type: Duration, Default: "0s", Commands: []string{Receive}, Help: "How long a closed file is kept; 0: for ever."},
		{Name: "retain_size", Type: Bytes, Default: "0", Commands: []string{Receive}, Help: "Bytes of all closed files of this receiver that are kept; 0: no limit."},
		{Name: "compress", Type: Enum, Default: "zstd", Enum: []string{"none", "gzip", "zstd"}, Commands: []string{Receive}, Help: "How closed files are compressed."},
		{Name: "commit_interval", Type: Duration, Default: "1s", Min: second / 1000, Max: 30 * second, Commands: []string{Receive}, Help: "Longest time between an arrival and its fsync and confirmation."},
		{Name: "commit_bytes", Type: Bytes, Default: "64MiB", Min: 1 << 10, Max: 1 << 30, Commands: []string{Receive}, Help: "Bytes that begin a commit before its time."},
		{Name: "lease_interval", Type: Duration, Default: "1s", Min: second / 100, Max: 60 * second, Commands: []string{Receive}, Help: "How often a receiver says that it lives; the same for all receivers."},
		{Name: "lease_timeout", Type: Duration, Default: "5s", Min: second / 50, Max: 600 * second, Commands: []string{Receive}, Help: "How long a receiver may say nothing until the others take its partitions over."},
		{Name: "disk_timeout", Type: Duration, Default: "30s", Min: second / 10, Max: 3600 * second, Commands: []string{Receive}, Help: "How long an operation on the receiver's disk may take until its heart stands still, so that others take its partitions over."},
		{Name: "max_open_files", Type: Int, Default: "0", Max: 1 << 20, Commands: []string{Receive}, Help: "Central files that are open at once; 0: half of what the process may have."},
		{Name: "max_logs_per_identity", Type: Int, Default: "10000", Min: 1, Commands: []string{Receive}, Help: "Logs that one identity may have; messages of more go into quarantine."},
		{Name: "quarantine_size", Type: Bytes, Default: "1GiB", Commands: []string{Receive}, Help: "Bytes of messages that can't be used which are kept; more are only counted and reported."},
		{Name: "fetch_bytes", Type: Bytes, Default: "8MiB", Min: 2 * mib, Max: 1 << 30, Commands: []string{Receive}, Help: "Bytes that each partition fetches ahead, but always room for two messages."},

		{Name: "listen", Type: Text, Default: "127.0.0.1:4222", Commands: []string{Broker}, Help: "Address (host:port) that the broker serves clients at."},
		{Name: "user", Type: Text, Commands: []string{Broker}, Help: "User name that clients must send; empty: anybody who reaches the address may publish and read."},
		{Name: "password", Type: Text, Secret: true, Commands: []string{Broker}, Help: "Password that clients must send."},
		{Name: "token", Type: Text, Secret: true, Commands: []string{Broker}, Help: "Token that clients must send, instead of user and password."},
		{Name: "certificate", Type: Path, Commands: []string{Broker}, Help: "PEM file with the broker's certificate; clients must then use TLS."},
		{Name: "key", Type: Path, Commands: []string{Broker}, Help: "PEM file with its key."},
		{Name: "ca", Type: Path, Commands: []string{Broker}, Help: "PEM file with the authorities that clients' certificates must come from; empty: clients need none."},
		{Name: "store", Type: Path, Default: "/var/lib/logforward/broker", Commands: []string{Broker}, Help: "Directory of the broker's streams."},
		{Name: "sync", Type: Text, Default: "2m", Commands: []string{Broker}, Help: "How often the broker syncs its store, or always. The promises don't rest on it."},
		{Name: "max_payload", Type: Bytes, Default: "1MiB", Min: 64 << 10, Max: 8 * mib, Commands: []string{Broker}, Help: "Most bytes in one message."},
		{Name: "max_store", Type: Bytes, Default: "0", Commands: []string{Broker}, Help: "Most bytes in the store; 0: three quarters of what is free."},

		{Name: "partitions", Type: Int, Default: "4", Min: 1, Max: 1024, Commands: []string{Setup}, Help: "Partitions that identities are spread over; the most receivers that can share the work."},
		{Name: "replicas", Type: Int, Default: "1", Min: 1, Max: 5, Commands: []string{Setup}, Help: "Copies of each stream in a NATS cluster."},
		{Name: "max_bytes", Type: Bytes, Default: "0", Commands: []string{Setup}, Help: "Most bytes in each partition's stream; 0: no limit. A full stream refuses more, and loses nothing."},
		{Name: "dry_run", Type: Bool, Default: "no", Commands: []string{Setup}, Help: "Show what would be done, and do nothing."},

		{Name: "output", Type: Path, Default: "received", Commands: []string{Run}, Help: "Directory of the central files, with broker and state in .logforward below it."},
		{Name: "seconds", Type: Int, Default: "0", Commands: []string{Run}, Help: "End by itself after so many seconds; 0: on Ctrl-C."},
	}
	connection := []Setting{
		{Name: "url", Type: URLs, Help: "URLs of the broker or of one cluster's brokers: nats://, tls://, ws:// or wss://."},
		{Name: "choria", Type: Path, Help: "Choria's configuration file (/etc/choria/server.conf on a node): its brokers, identity and credentials are used; url, ca and certificate stand above it."},
		{Name: "choria_token", Type: Path, Help: "File with a Choria JWT, in place of the one that the Choria configuration names."},
		{Name: "choria_seed", Type: Path, Help: "File with the ed25519 seed of that JWT."},
		{Name: "user", Type: Text, Help: "User name."},
		{Name: "password", Type: Text, Secret: true, Help: "The user's password."},
		{Name: "token", Type: Text, Secret: true, Help: "Token."},
		{Name: "nkey", Type: Path, Help: "File with an nkey seed."},
		{Name: "credentials", Type: Path, Help: "File with a user's JWT and nkey seed (.creds)."},
		{Name: "ca", Type: Path, Help: "PEM file with the authorities that the broker's certificate must come from; empty: the system's."},
		{Name: "certificate", Type: Path, Help: "PEM file with this side's certificate, for mutual TLS."},
		{Name: "key", Type: Path, Help: "PEM file with its key."},
		{Name: "server_name", Type: Text, Help: "Name that the broker's certificate must have; empty: the URL's host."},
		{Name: "prefix", Type: Text, Default: "logs", Help: "Prefix of subjects."},
	}
	for _, s := range connection {
		s.Commands = centre
		all = append(all, s)
	}
	connection = append(connection,
		Setting{Name: "compression", Type: Enum, Default: "none", Enum: []string{"none", "s2", "zstd"}, Help: "How what is sent is compressed, where that makes it smaller: s2 halves network and the broker's disk or better and costs the node two to five times the CPU; zstd is for slow networks."},
		Setting{Name: "commit", Type: Enum, Default: "confirmed", Enum: []string{"confirmed", "stored"}, Help: "What lets the node forget: the receiver's confirmation, or, for streams that something else consumes, the broker's acknowledgement, which is a weaker promise."},
		Setting{Name: "seal", Type: Bool, Default: "no", Help: "Whether the node signs what it sends there (seal_key), so that whoever knows its public key (logforward seal-key) can prove that nothing of it was changed or removed at the centre; it costs SHA-256 over all bytes, and a signature for each MiB and each time that a log's end is reached."},
	)
	for _, s := range connection {
		s.Commands, s.Destination = []string{Forward}, true
		all = append(all, s)
	}
	return all
}
