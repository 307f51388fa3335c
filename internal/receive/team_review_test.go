package receive

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// The faults of review_test.go with several receivers: another one takes over in their middle, and the first one comes back. Below each
// are its tests with several receivers, and behind "one:" those with one. Where nothing else is said they are in this package.
//
//	 1  a record's update that lands after its range was cut back
//	      TestStoppedOwnerCommitsNothingAndCutsItsTail, TestLateUpdateOfOneThatSettlesCantLand; one: TestLateRecordUpdateCantLand…
//	 2  positions that mean new bytes: a file written anew, a restored snapshot, a clone
//	      TestTeamForkOverwritesNothing, TestTeamRemembersAFork; with real nodes test/pipe's TestSnapshotRestored and TestClones
//	      one: TestForkOverwritesNothing, the same of test/pipe, and internal/forward's TestForward…Forks and …LeavesAGapUpToReserved
//	 3  a receiver that wakes up in a directory where another writes
//	      TestStoppedOwnerCommitsNothingAndCutsItsTail and TestHungDiskIsTakenOverFrom, shared; one: it needs two
//	 4  a power failure takes the bucket's last updates
//	      TestTeamRepairsTheRecordForward; one: TestRecordBehindLocalStateIsRepairedForward
//	 5  a failed fsync that succeeds when it is repeated
//	      TestTeamNeverRetriesAFailedSync; one: TestFailedSyncIsNeverRetried
//	 6  a crash between local state and record
//	      TestTeamSurvivesACrashAtAnyStep, TestStoppedOwner…; one: TestPreparedRangeIsCommittedWhereNobodyHasGoneBeyond
//	 7  a record that landed unknown to its writer, and then a wipe
//	      TestTeamTellsOnlyWhatWasLearnt; one: TestOnlyWhatWasLearntIsTold
//	 8  a gap that is lost, or comes twice
//	      TestTeamCountsAGapOnce; one: TestGapIsCountedOnceAndLeavesAHoleWhenLost
//	 9  a clock that is set back at a new epoch
//	      TestTeamComparesEpochsWithWhatIsKnown; one: TestNewEpochIsTakenAndOldOneIsStale
//	10  an old owner's late acknowledgement
//	      TestTeamLateAckDeletesNothing; one: TestLateAckOfAnEarlierTermDeletesNothing
//	11  a wiped broker, and the only one who knows is down
//	      TestWipedBucketWaitsForAllReceivers, TestPositionsLostUnderLiveConnections; one: TestWipedBrokerIsRebuiltFromTheReceiver
//	12  the lost tail of a quiet log on a busy partition
//	      TestTeamAsksForALostTail; one: TestLostTailOfQuietLogIsAskedForOnABusyPartition
//	13  a hole before a long backlog
//	      TestTeamAsksOnceForAHole; one: TestHoleBeforeALongBacklogAsksOnce
//	14  an owner that was paused commits, and the new one sees holes only
//	      TestTeamReadsTheRecordAgainAtAHole; one: it needs two
//	15  duplicates that are acknowledged before the commit
//	      TestTeamAcknowledgesNothingBeforeTheCommit; one: TestDuplicatesAreNotAcknowledgedBeforeTheCommit
//	16  the consumer's bounds, and leases by somebody's clock
//	      TestTeamHasNoClock, TestTeamTakesThousandsOfWaitingMessages; one: TestCommitIntervalDoesntBoundTheRate
//	17  late writes to an older generation
//	      TestTeamKeepsOffsetsOfAllOpenGenerations; one: TestRecordKeepsOffsetsOfAllOpenGenerations
//	18  central rotation and compression around a crash
//	      TestTeamSurvivesACrashAtAnyStep; one: TestCommitSurvivesAnyStep, TestCompressionSurvivesAnyStep
//	19  a node that crashes in the middle of a layout change
//	      TestTeamMovesChunksOfBothLayouts; one: TestLayoutChangesLeaveNothingBehind, internal/forward's layout_test.go
//	20  a file that is rewritten in place before its confirmation
//	      TestTeamTakesTheGapOfARewrittenFile; with a real node test/pipe's TestRewrittenBeforeConfirmation
//	      one: the same of test/pipe, and internal/forward's TestForwardRewrittenInPlaceBeforeConfirmationBecomesAGap
//	21  commit = stored: the broker's word for it
//	      TestTeamTakesTheBrokersWordForNothing; one: TestBrokersWordIsNoWitness, test/pipe's TestCommitStoredIsTheBrokersWord
//
// All of them at random are TestRandomFaultsOfATeam, TestModelOfOwnershipAndCommit and test/pipe's TestTeamUnderFaults.

// pair is a site with a second receiver that has a disk of its own. Neither is started.
func pair(t *testing.T, change func(*Config)) (s, r2 *site) {
	t.Helper()
	s = newSite(t, change)
	return s, s.beside("r2", false)
}

// leases opens the leases bucket.
func (s *site) leases() *broker.Records {
	s.t.Helper()
	js, err := broker.JetStream(s.nc, "")
	s.must(err)
	leases, err := broker.OpenRecords(asking(s.t), js, s.pub, broker.Leases)
	s.must(err)
	return leases
}

// follows starts a receiver, if it isn't, and has it take over from another that is dead or stands still. Nobody waits for the other's silence.
func (s *site) follows(other *site) {
	s.t.Helper()
	if s.r == nil {
		s.startReceiver()
	}
	s.must(Forget(asking(s.t), s.leases(), other.config.Name))
	eventually(s.t, "take over", func() (bool, string) { return len(s.works()) == 1, "" })
}

// dies ends a receiver without another word.
func (s *site) dies() {
	s.t.Helper()
	s.r.crash()
	if err := s.stopReceiver(); err != nil {
		s.t.Log(err) // nobody hears what a crashed one says
	}
}

// again has the first receiver take part again, settle, and then take over from the other one.
func (s *site) again(r2 *site) {
	s.t.Helper()
	if s.r == nil {
		s.startReceiver()
	}
	eventually(s.t, "settle", func() (bool, string) {
		s.r.mu.Lock()
		defer s.r.mu.Unlock()
		return s.r.complete && len(s.r.begun) == s.r.layout.Partitions, fmt.Sprint(s.r.begun)
	})
	s.must(r2.stopReceiver())
	eventually(s.t, "take over again", func() (bool, string) { return len(s.works()) == 1, "" })
}

// waiting is how many messages the stream holds.
func (s *site) waiting() uint64 { return s.stream(0).State.Msgs }

// purge has the broker lose what it stored, of one subject or ("") all.
func (s *site) purge(subject string) {
	s.t.Helper()
	js, err := broker.JetStream(s.nc, "")
	s.must(err)
	stream, err := js.Stream(asking(s.t), streamName(0))
	s.must(err)
	s.must(stream.Purge(asking(s.t), jetstream.WithPurgeSubject(subject)))
}

// record is a log's record.
func (n *node) record() *record {
	n.s.t.Helper()
	value, _, err := n.s.records().Get(asking(n.s.t), key(n.identity, n.log))
	n.s.must(err)
	rec, err := parseRecord(value)
	n.s.must(err)
	return rec
}

// setRecord writes a record, and gives the error.
func (s *site) setRecord(key string, value []byte, expected uint64) error {
	done := make(chan error, 1)
	s.records().Update(key, value, expected, func(_ uint64, err error) { done <- err })
	return <-done
}

// A receiver that settles, without being the owner, raises the record's revision before it cuts: the update of its earlier life would
// land behind the cut.
func TestLateUpdateOfOneThatSettlesCantLand(t *testing.T) {
	t.Parallel()
	s, r2 := pair(t, nil)
	n := s.node("web1", "syslog")
	s.steady(n, "committed\n")
	k, committed := key("web1", "syslog"), n.position
	old, rev, err := s.records().Get(asking(t), k)
	s.must(err)
	f := s.crashAt(opRecord, false)
	s.startReceiver()
	lost := n.make("prepared, and its update is on the way\n")
	n.send(lost)
	s.crashed(f)
	lo, _, err := peek(t, s)
	s.must(err)
	late, err := parseRecord(old)
	s.must(err)
	late.Place = lo[k].Prepared.Place
	late.extend("r1", lo[k].Prepared, time.Now())
	// Its bytes are gone, with the broker's copy, so that nobody else's commit is in the update's way.
	s.must(os.Truncate(filepath.Join(s.config.Output, "web1", "syslog.log"), int64(committed)))
	s.purge("")
	r2.follows(s)
	s.startReceiver()
	eventually(t, "settle", func() (bool, string) {
		lo, err := s.r.state.log(k)
		s.must(err)
		return lo.Prepared == nil, fmt.Sprintf("%+v", lo.Prepared)
	})
	if len(s.works()) > 0 {
		t.Fatal("it is the owner, not one that settles")
	}
	value, err := late.bytes()
	s.must(err)
	if err := s.setRecord(k, value, rev); !errors.Is(err, broker.ErrWrongRevision) {
		t.Fatalf("the late update landed: %v", err)
	}
	n.send(lost)
	n.waitConfirmed()
	n.same()
}

// Bytes that don't continue what another receiver has committed are a fork for the one that took over.
func TestTeamForkOverwritesNothing(t *testing.T) {
	t.Parallel()
	s, r2 := pair(t, nil)
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.send(n.make("committed\n"))
	n.waitConfirmed()
	good := n.digest
	s.dies()
	clone := &node{s: s, epoch: n.epoch, file: n.file}
	n.send(clone.make("COMMITTED\nand more\n"))
	r2.follows(s)
	eventually(t, "tell of the fork", func() (bool, string) {
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.forks) > 0 && n.forks[0].Epoch == 1, fmt.Sprintf("%+v", n.forks)
	})
	eventually(t, "demand a new epoch", func() (bool, string) {
		l := n.place(t, chunk.HelloLog{Epoch: 1, Stored: 10, Confirmed: 10, Digest: good})
		return l.Fork, fmt.Sprintf("%+v", l)
	})
	n.position, n.digest, n.prev, n.epoch = 0, 0, 1, 2
	n.send(n.make("the new epoch\n"))
	n.waitConfirmed()
	n.same()
	s.again(r2)
	n.send(n.make("of the first one\n"))
	n.waitConfirmed()
	n.same()
}

// That an epoch is over because of a fork is known to whoever takes over: a late chunk that fits by chance would come twice, for its node
// has begun anew.
func TestTeamRemembersAFork(t *testing.T) {
	t.Parallel()
	for _, known := range []bool{false, true} { // whether the one that takes over has state of the log
		t.Run(fmt.Sprintf("known %t", known), func(t *testing.T) {
			t.Parallel()
			s, r2 := pair(t, nil)
			n := s.node("web1", "syslog")
			if known {
				r2.steady(n, "of r2\n")
			}
			s.startReceiver()
			n.send(n.make("committed\n"))
			n.waitConfirmed()
			late := n.make("late, and it fits\n")
			n.written = n.written[:len(n.written)-len(late.Data)]
			bad := *late
			bad.Digest++
			n.send(&bad)
			eventually(t, "commit the fork", func() (bool, string) {
				left := s.waiting()
				return left == 0, fmt.Sprint(left)
			})
			s.dies()
			n.mu.Lock()
			told := len(n.forks)
			n.mu.Unlock()
			n.send(late)
			r2.follows(s)
			eventually(t, "tell of the fork", func() (bool, string) {
				n.mu.Lock()
				defer n.mu.Unlock()
				return len(n.forks) > told, fmt.Sprintf("%+v", n.forks)
			})
			n.prev, n.epoch, n.position, n.digest = 1, 2, 0, 0
			n.send(n.make("the new epoch\n"))
			n.waitConfirmed()
			n.same()
		})
	}
}

// The record is brought forward by whoever has committed more than it says, also by one that doesn't work the partition, and the
// one that does goes on from there.
func TestTeamRepairsTheRecordForward(t *testing.T) {
	t.Parallel()
	s, r2 := pair(t, nil)
	n := s.node("web1", "syslog")
	k := key("web1", "syslog")
	s.steady(n, "first\n")
	old, _, err := s.records().Get(asking(t), k)
	s.must(err)
	s.steady(n, "second\n")
	_, rev, err := s.records().Get(asking(t), k)
	s.must(err)
	s.must(s.setRecord(k, old, rev)) // what a power failure leaves
	r2.follows(s)
	eventually(t, "begin at what the record says", func() (bool, string) {
		l := n.place(t, chunk.HelloLog{})
		return l.Position == 6, fmt.Sprintf("%+v", l)
	})
	s.startReceiver()
	eventually(t, "repair the record", func() (bool, string) {
		p := n.record().Place
		return p.Position == n.position, fmt.Sprintf("%+v", p)
	})
	third := n.make("third\n")
	n.send(third)
	n.confirmedBehindAHole(third)
	n.same()
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.resends) > 0 {
		t.Errorf("asked for what was committed: %+v", n.resends)
	}
	checkRanges(t, n.record())
}

// An owner whose fsync fails when another has taken over cuts its file back, and never appends to it again.
func TestTeamNeverRetriesAFailedSync(t *testing.T) {
	t.Parallel()
	s, r2 := pair(t, nil)
	n := s.node("web1", "syslog")
	x := &stopper{op: opSync, hit: make(chan struct{}), goOn: make(chan struct{})}
	var syncs atomic.Int32
	s.config.fault = func(op string, done bool) error {
		if op != opSync || done {
			return x.check(op, true) // the heart alone
		}
		if syncs.Add(1) != 3 { // behind the first commit's, of file and ledger
			return nil
		}
		return errors.Join(x.check(op, false), syscall.EIO)
	}
	s.startReceiver()
	n.send(n.make("committed\n"))
	n.waitConfirmed()
	n.send(n.make("its sync fails\n"))
	<-x.hit
	x.numb.Store(true)
	t.Cleanup(func() { x.numb.Store(false) })
	r2.follows(s)
	n.send(n.make("after the takeover\n"))
	n.waitConfirmed()
	close(x.goOn)
	s.settles("web1", "syslog")
	x.numb.Store(false)
	s.again(r2)
	n.send(n.make("of the first one again\n"))
	n.waitConfirmed()
	n.same()
	all, err := Extents([]string{s.config.Output}, "web1", "syslog")
	s.must(err)
	if len(all) != 2 || all[0].File == all[1].File || all[0].End != int64(len("committed\n")) {
		t.Errorf("extents %+v: want the first file closed behind what was committed, and a new one", all)
	}
}

// The owner crashes at any step of a commit and of a file's closing, another one goes on, and the first one comes back: as one that
// settles, then as the owner. Its files and the other's are the log, each byte once, on disks of their own and in one directory.
func TestTeamSurvivesACrashAtAnyStep(t *testing.T) {
	t.Parallel()
	for i, at := range []struct {
		op   string
		done bool
	}{{opSync, true}, {opPrepare, true}, {opRecord, false}, {opRecord, true}, {opCommit, false}, {opCommit, true},
		{opAck, false}, {opClose, false}, {opRename, true}, {opCompress, true}} {
		shared := i%2 == 0
		t.Run(fmt.Sprintf("%s %t, shared %t", at.op, at.done, shared), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, func(c *Config) { c.RotateSize, c.Compress = 40, "gzip" })
			r2 := s.beside("r2", shared)
			n := s.node("web1", "syslog")
			s.steady(n, "committed by the first one\n")
			f := s.crashAt(at.op, at.done)
			s.startReceiver()
			n.send(n.make("at which the first one crashes\n"), n.make("and more of it\n"))
			s.crashed(f)
			r2.follows(s)
			n.send(n.make("after the takeover\n"))
			n.waitConfirmed()
			s.again(r2)
			n.send(n.make("of the first one again\n"))
			n.waitConfirmed()
			s.must(s.stopReceiver()) // what is being compressed is, and nothing changes any more
			n.same()
			checkRanges(t, n.record())
		})
	}
}

// What a record says unknown to its writer is told to nobody by the receiver that takes over, so that nothing is lost when the bucket is
// lost before anybody has learnt it.
func TestTeamTellsOnlyWhatWasLearnt(t *testing.T) {
	t.Parallel()
	s, r2 := pair(t, nil)
	n := s.node("web1", "syslog")
	s.steady(n, "committed\n")
	f := s.crashAt(opRecord, true)
	s.startReceiver()
	n.send(n.make("the record says so, the state doesn't\n"))
	s.crashed(f)
	r2.config.CommitInterval = time.Hour
	r2.startReceiver()
	eventually(t, "take over", func() (bool, string) { return len(r2.works()) == 1, "" })
	if l := n.place(t, n.here()); l.Position != 10 {
		t.Fatalf("told %d before it was learnt", l.Position)
	}
	n.mu.Lock()
	told := n.confirmed.Position
	n.mu.Unlock()
	if told != 10 {
		t.Fatalf("told %d", told)
	}
	r2.dies()
	js, err := broker.JetStream(s.nc, "")
	s.must(err)
	s.must(js.DeleteStream(asking(t), "KV_"+broker.Positions))
	s.setup(1)
	r2.config.CommitInterval = s.config.CommitInterval
	r2.startReceiver()
	s.startReceiver()
	n.waitConfirmed()
	n.send(n.make("behind the wipe\n"))
	n.waitConfirmed()
	n.same()
}

// A gap whose message was lost is asked for by whoever works the partition, and is in one ledger only, though each of them hears of it.
func TestTeamCountsAGapOnce(t *testing.T) {
	t.Parallel()
	s, r2 := pair(t, nil)
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.send(n.make("before\n"))
	n.waitConfirmed()
	gap := n.gap(1)
	after := n.make("after\n")
	n.send(after) // the gap's message was lost
	asked := func(times int) {
		t.Helper()
		eventually(t, "ask for the gap", func() (bool, string) {
			n.mu.Lock()
			defer n.mu.Unlock()
			return len(n.resends) >= times && n.resends[times-1].From == gap.Position, fmt.Sprintf("%+v", n.resends)
		})
	}
	asked(1)
	s.dies()
	n.send(after)
	r2.follows(s)
	asked(2)
	n.send(gap, gap, after)
	n.waitConfirmed()
	s.again(r2)
	n.send(gap, after, n.make("more\n"))
	n.waitConfirmed()
	n.same()
	gaps := 0
	for _, output := range s.outputs() {
		entries, err := Ledger(filepath.Join(output, "web1", "syslog@ledger.jsonl"))
		s.must(err)
		for _, e := range entries {
			if e.Event == EventGap {
				gaps++
			}
		}
	}
	if gaps != 1 {
		t.Errorf("%d gaps in the ledgers", gaps)
	}
}

// Epochs are compared with what another receiver has committed, whatever the two clocks say.
func TestTeamComparesEpochsWithWhatIsKnown(t *testing.T) {
	t.Parallel()
	s, r2 := pair(t, nil)
	r2.config.Now = func() time.Time { return time.Now().AddDate(-9, 0, 0) }
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.epoch = 5_000_000_000_000_000 // a clock far ahead
	n.send(n.make("first epoch\n"))
	n.waitConfirmed()
	s.dies()
	stale := &node{s: s, identity: "web1", log: "syslog", epoch: 7, file: "x"}
	n.send(stale.make("an older epoch\n"))
	r2.follows(s)
	eventually(t, "tell the stale node", func() (bool, string) {
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.forks) > 0 && n.forks[0].Known == n.epoch && n.forks[0].Epoch == 7, fmt.Sprintf("%+v", n.forks)
	})
	late := n.make("late, of the first epoch\n")
	n.written = n.written[:len(n.written)-len(late.Data)]
	n.prev, n.epoch, n.position, n.digest = n.epoch, n.epoch+1, 0, 0
	n.send(n.make("second epoch\n"))
	n.waitConfirmed()
	s.again(r2)
	n.send(late, n.make("more of the second\n"))
	n.waitConfirmed()
	n.same()
}

// The record's offsets of all generations that are still written to are those of all receivers together.
func TestTeamKeepsOffsetsOfAllOpenGenerations(t *testing.T) {
	t.Parallel()
	s, r2 := pair(t, nil)
	n := s.node("web1", "syslog")
	s.steady(n, "old file\n")
	n.file, n.offset = "5:6:7:8", 0
	r2.steady(n, "new file\n")
	n.file, n.offset = "1:2:3:4", 9
	s.startReceiver()
	n.send(n.make("late\n"))
	n.waitConfirmed()
	l := n.place(t, n.here())
	want := []chunk.Source{{File: "5:6:7:8", Offset: 9}, {File: "1:2:3:4", Offset: 14}}
	if fmt.Sprint(l.Sources) != fmt.Sprint(want) || l.Tail.From != 18 {
		t.Errorf("sources %+v, tail from %d", l.Sources, l.Tail.From)
	}
	n.same()
}
