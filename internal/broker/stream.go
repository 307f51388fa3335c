package broker

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Retention says when a partition's messages leave its stream.
type Retention string

const (
	// WorkQueue: when a receiver has acknowledged them, and never before.
	WorkQueue Retention = "workqueue"
	// Limits: by age, whether acknowledged or not; for replay and for taps.
	Limits Retention = "limits"
)

// smallestDuplicates is the smallest de-duplication window that a server takes.
// Nothing relies on it and each message in it costs memory.
const smallestDuplicates = 100 * time.Millisecond

// StreamName is the stream of a partition.
func StreamName(partition int) string { return "LOGFORWARD_" + strconv.Itoa(partition) }

// PartitionSubjects are the subjects of a partition's stream.
func PartitionSubjects(prefix string, partition int) string {
	return prefix + "." + strconv.Itoa(partition) + ".>"
}

// partitionConfig is what a new partition's stream is made from.
func partitionConfig(w Wanted, partition int) jetstream.StreamConfig {
	c := jetstream.StreamConfig{
		Name:              StreamName(partition),
		Description:       "chunks of logs, partition " + strconv.Itoa(partition),
		Subjects:          []string{PartitionSubjects(w.Prefix, partition)},
		Retention:         jetstream.WorkQueuePolicy,
		MaxConsumers:      -1,
		MaxMsgs:           -1,
		MaxBytes:          w.MaxBytes,
		MaxMsgsPerSubject: -1,
		MaxMsgSize:        -1,
		Discard:           jetstream.DiscardNew,
		Storage:           jetstream.FileStorage,
		Replicas:          w.Replicas,
		Duplicates:        smallestDuplicates,
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = -1
	}
	if w.Retention == Limits {
		c.Retention, c.MaxAge = jetstream.LimitsPolicy, w.MaxAge
	}
	return c
}

// bucketConfig is the stream behind a key-value bucket, made by hand because the
// library's buckets can't have a first sequence, and answer reads from any
// replica: a receiver that reads an old record cuts bytes that are confirmed.
func bucketConfig(w Wanted, bucket string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              "KV_" + bucket,
		Description:       "logforward bucket " + bucket,
		Subjects:          []string{"$KV." + bucket + ".>"},
		Retention:         jetstream.LimitsPolicy,
		MaxConsumers:      -1,
		MaxMsgs:           -1,
		MaxBytes:          -1,
		MaxMsgsPerSubject: 1,
		MaxMsgSize:        -1,
		Discard:           jetstream.DiscardNew,
		Storage:           jetstream.FileStorage,
		Replicas:          w.Replicas,
		Duplicates:        smallestDuplicates,
		DenyDelete:        true,
		AllowRollup:       true,
		AllowDirect:       false,
	}
}

// foreign says why an existing stream isn't one that this program made or could
// have made: all that an update can't change, and all that would make it lose
// or mix up messages. Empty means that it is ours.
func foreign(has, want jetstream.StreamConfig) string {
	switch {
	case has.Mirror != nil || len(has.Sources) > 0:
		return "it copies other streams"
	case has.Storage != want.Storage:
		return "its storage is " + has.Storage.String()
	case has.Sealed:
		return "it is sealed"
	case has.NoAck:
		return "it doesn't acknowledge"
	case has.SubjectTransform != nil:
		return "it changes subjects"
	case has.RePublish != nil:
		return "it republishes"
	case has.AllowMsgTTL:
		return "its messages may expire one by one"
	case has.DenyPurge && !want.DenyPurge, has.DenyDelete && !want.DenyDelete:
		return "it denies deletion, which can't be taken back"
	case has.Retention != want.Retention:
		return fmt.Sprintf("its retention is %s, wanted is %s, and that can't be changed",
			strings.ToLower(has.Retention.String()), strings.ToLower(want.Retention.String()))
	}
	for _, subject := range has.Subjects {
		if !slices.ContainsFunc(want.Subjects, func(s string) bool { return sameKind(subject, s) }) {
			return "it takes the subject " + subject
		}
	}
	return ""
}

// sameKind says whether two subjects differ at most in their prefix:
// "logs.3.>" and "other.logs.3.>".
func sameKind(a, b string) bool {
	if a == b {
		return true
	}
	tail := func(s string) string {
		tokens := strings.Split(s, ".")
		if len(tokens) < 3 || strings.HasPrefix(s, "$") {
			return s
		}
		return strings.Join(tokens[len(tokens)-2:], ".")
	}
	return tail(a) == tail(b)
}

// adjust is the existing configuration with our settings, and the differences in
// words. Whatever else an operator has set (placement, compression) stays.
func adjust(has, want jetstream.StreamConfig) (jetstream.StreamConfig, []Change) {
	to := has
	var list []Change
	change(&list, want.Name, "replicas", &to.Replicas, want.Replicas)
	change(&list, want.Name, "maximum bytes", &to.MaxBytes, want.MaxBytes)
	change(&list, want.Name, "maximum age", &to.MaxAge, want.MaxAge)
	change(&list, want.Name, "maximum messages", &to.MaxMsgs, want.MaxMsgs)
	change(&list, want.Name, "maximum messages per subject", &to.MaxMsgsPerSubject, want.MaxMsgsPerSubject)
	change(&list, want.Name, "maximum message size", &to.MaxMsgSize, want.MaxMsgSize)
	change(&list, want.Name, "maximum consumers", &to.MaxConsumers, want.MaxConsumers)
	change(&list, want.Name, "discard", &to.Discard, want.Discard)
	change(&list, want.Name, "discard new per subject", &to.DiscardNewPerSubject, want.DiscardNewPerSubject)
	change(&list, want.Name, "duplicate window", &to.Duplicates, want.Duplicates)
	change(&list, want.Name, "deny delete", &to.DenyDelete, want.DenyDelete)
	change(&list, want.Name, "allow rollup", &to.AllowRollup, want.AllowRollup)
	change(&list, want.Name, "allow direct", &to.AllowDirect, want.AllowDirect)
	if missing := absent(has.Subjects, want.Subjects); len(missing) > 0 {
		// Added, not replaced: chunks under the old prefix may still have to be
		// sent again, and are worked from the same stream.
		to.Subjects = append(slices.Clone(has.Subjects), missing...)
		list = append(list, Change{What: "update stream", Name: want.Name, Field: "subjects",
			From: strings.Join(has.Subjects, " "), To: strings.Join(to.Subjects, " ")})
	}
	return to, list
}

func change[T comparable](list *[]Change, name, field string, has *T, want T) {
	if *has == want {
		return
	}
	*list = append(*list, Change{What: "update stream", Name: name, Field: field,
		From: plainText(*has), To: plainText(want)})
	*has = want
}

func plainText(v any) string {
	switch v := v.(type) {
	case jetstream.DiscardPolicy:
		return strings.ToLower(strings.TrimPrefix(v.String(), "Discard"))
	case int, int32, int64:
		if text := fmt.Sprint(v); text != "-1" {
			return text
		}
		return "unlimited"
	case time.Duration:
		if v == 0 {
			return "unlimited"
		}
		return v.String()
	}
	return fmt.Sprint(v)
}

func absent(has, want []string) []string {
	var list []string
	for _, s := range want {
		if !slices.Contains(has, s) {
			list = append(list, s)
		}
	}
	return list
}

// describe is a new stream in one line.
func describe(c jetstream.StreamConfig) string {
	text := fmt.Sprintf("%s, %s, replicas %d", strings.Join(c.Subjects, " "), strings.ToLower(c.Retention.String()), c.Replicas)
	if c.MaxBytes > 0 {
		text += fmt.Sprintf(", at most %d bytes", c.MaxBytes)
	}
	if c.MaxAge > 0 {
		text += fmt.Sprintf(", for %s", c.MaxAge)
	}
	return text
}
