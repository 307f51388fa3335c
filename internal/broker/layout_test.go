package broker_test

import (
	"testing"

	"logforward/internal/broker"
)

func TestLayoutCheck(t *testing.T) {
	good := broker.Layout{ID: "x", Prefix: "logs", Partitions: 1}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for name, l := range map[string]broker.Layout{
		"no id":         {Prefix: "logs", Partitions: 1},
		"no partitions": {ID: "x", Prefix: "logs"},
		"too many":      {ID: "x", Prefix: "logs", Partitions: 1 << 40},
		"prefix":        {ID: "x", Prefix: ">", Partitions: 1},
	} {
		if l.Check() == nil {
			t.Errorf("%s passes", name)
		}
	}
}
