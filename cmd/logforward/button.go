package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"logforward/internal/broker"
	"logforward/internal/control"
	"logforward/internal/keeper"
)

// orderButton is the order of the autonomous agent that reads the red button: a pause, where the button holds this node.
const orderButton = "button"

// buttonDatum is the machine's datum that has the button: the bucket's name and the key's.
const buttonDatum = "LOGFORWARD_pause"

// maxData bounds a machine's data, in bytes.
const maxData = 1 << 20

// buttonOrder makes a pause of what Choria gives an exec watcher as the machine's data; nil: the button doesn't hold this node.
func buttonOrder(ctx context.Context, socket string, longest control.Duration) (*keeper.Order, error) {
	name := os.Getenv("WATCHER_DATA")
	if name == "" {
		return nil, usage("--order button is for an autonomous agent: it takes the button from the file that WATCHER_DATA names")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("data of the machine: %w", err)
	}
	defer f.Close()
	var data map[string]json.RawMessage
	if err := json.NewDecoder(io.LimitReader(f, maxData)).Decode(&data); err != nil {
		return nil, fmt.Errorf("data of the machine %s: %w", name, err)
	}
	var button broker.Button
	if raw, ok := data[buttonDatum]; ok {
		if err := json.Unmarshal(raw, &button); err != nil {
			return nil, fmt.Errorf("the red button in %s: %w", name, err)
		}
	}
	status, err := control.NewClient(socket).Status(ctx, control.StatusRequest{})
	if err != nil {
		return nil, err
	}
	now := time.Now()
	pause := button.For(status.Identity, now)
	if pause == nil {
		return nil, nil
	}
	if left := pause.Until.Sub(now).Truncate(time.Second) + time.Second; !pause.Until.IsZero() && (longest == 0 || control.Duration(left) < longest) {
		longest = control.Duration(left)
	}
	reason := "the red button"
	if err := pause.Check(); err == nil && pause.Reason != "" {
		reason += ": " + pause.Reason
	}
	return &keeper.Order{Verb: keeper.OrderPause, For: longest, Reason: reason[:min(len(reason), control.MaxReason)]}, nil
}
