package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"logforward/test/proc"
)

// network has the nodes in one network namespace, broker and receivers in another, and a router in a third, between them.
type network struct {
	nodes, centre, router *exec.Cmd // each keeps one namespace
}

const (
	nodesSide, centreSide = "nodes", "centre" // the router's interfaces
	centreAddress         = "10.77.2.2"
)

// newNetwork makes one.
func newNetwork() (n *network, err error) {
	n = new(network)
	for _, keeper := range []**exec.Cmd{&n.nodes, &n.centre, &n.router} {
		cmd := exec.Command("sleep", "infinity")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		if err := proc.Start(cmd); err != nil {
			n.close()
			return nil, fmt.Errorf("network namespace: %w", err)
		}
		*keeper = cmd
	}
	for _, side := range []struct {
		keeper    *exec.Cmd
		name, net string
	}{{n.nodes, nodesSide, "10.77.1."}, {n.centre, centreSide, "10.77.2."}} {
		script := fmt.Sprintf(`set -e
ip link set lo up
ip link add %[1]s type veth peer name host netns %[2]d
ip addr add %[3]s1/24 dev %[1]s
ip link set %[1]s up
echo 1 > /proc/sys/net/ipv4/ip_forward`, side.name, side.keeper.Process.Pid, side.net)
		if err = inside(n.router, script); err == nil {
			err = inside(side.keeper, fmt.Sprintf("set -e\nip link set lo up\nip addr add %[1]s2/24 dev host\nip link set host up\nip route add default via %[1]s1", side.net))
		}
		if err != nil {
			n.close()
			return nil, err
		}
	}
	return n, nil
}

// enter are the arguments of a command in a namespace.
func enterNetwork(keeper *exec.Cmd, args ...string) []string {
	return append([]string{"nsenter", "--target", strconv.Itoa(keeper.Process.Pid), "--net", "--"}, args...)
}

func inside(keeper *exec.Cmd, script string) error {
	args := enterNetwork(keeper, "sh", "-c", script)
	_, err := command(args[0], args[1:]...)
	return err
}

func (n *network) close() {
	for _, keeper := range []*exec.Cmd{n.nodes, n.centre, n.router} {
		if keeper != nil {
			_ = keeper.Process.Kill()
			_ = keeper.Wait()
		}
	}
}

// packets are those that the router has got from one side, and given to it.
func (n *network) packets(side string) (got, given int64) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", n.router.Process.Pid))
	if err != nil {
		return 0, 0
	}
	_, rest, _ := bytes.Cut(b, []byte(side+":"))
	if fields := strings.Fields(string(rest)); len(fields) > 9 { // bytes, packets, errors, dropped, and four more; then the same of what was sent
		got, _ = strconv.ParseInt(fields[1], 10, 64)
		given, _ = strconv.ParseInt(fields[9], 10, 64)
	}
	return got, given
}

// tooBig are the packets that the router couldn't pass on, because they were too big and mustn't be cut.
func (n *network) tooBig() (count int64) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/snmp", n.router.Process.Pid))
	if err != nil {
		return 0
	}
	var names []string
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		switch {
		case fields[0] != "Ip:":
		case names == nil:
			names = fields
		default:
			for i, name := range names {
				if name == "FragFails" {
					count, _ = strconv.ParseInt(fields[i], 10, 64)
				}
			}
		}
	}
	return count
}

// networkMissing tells why there can be none; empty: there can.
func networkMissing() string {
	n, err := newNetwork()
	if err != nil {
		return "no network namespaces: " + err.Error()
	}
	n.close()
	return ""
}
