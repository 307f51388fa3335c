package main

import (
	"github.com/choria-io/go-choria/aagent/data/machinedata"
	archivewatcher "github.com/choria-io/go-choria/aagent/watchers/archivewatcher"
	"github.com/choria-io/go-choria/aagent/watchers/execwatcher"
	"github.com/choria-io/go-choria/aagent/watchers/expressionwatcher"
	"github.com/choria-io/go-choria/aagent/watchers/filewatcher"
	"github.com/choria-io/go-choria/aagent/watchers/kvwatcher"
	"github.com/choria-io/go-choria/aagent/watchers/metricwatcher"
	"github.com/choria-io/go-choria/aagent/watchers/nagioswatcher"
	"github.com/choria-io/go-choria/aagent/watchers/pluginswatcher"
	"github.com/choria-io/go-choria/aagent/watchers/schedulewatcher"
	"github.com/choria-io/go-choria/aagent/watchers/timerwatcher"
	"github.com/choria-io/go-choria/inter"
	"github.com/choria-io/go-choria/plugin"
	"github.com/choria-io/go-choria/providers/agent/mcorpc/external"
	golang "github.com/choria-io/go-choria/providers/agent/mcorpc/golang"
	"github.com/choria-io/go-choria/providers/data/golang/choriadata"
	"github.com/choria-io/go-choria/providers/data/golang/configdata"
	scout "github.com/choria-io/go-choria/scout/agent/scout"
	"github.com/choria-io/go-choria/scout/data/scoutdata"
)

// The plugins that Choria's own release registers by generated code, as far as a node of logforward
// has to do with them.
func init() {
	for name, p := range map[string]inter.Pluggable{
		"golangmco": golang.ChoriaPlugin(), "externalmco": external.ChoriaPlugin(), "scout": scout.ChoriaPlugin(),
		"exec_watcher": execwatcher.ChoriaPlugin(), "expression_watcher": expressionwatcher.ChoriaPlugin(),
		"file_watcher": filewatcher.ChoriaPlugin(), "kv_watcher": kvwatcher.ChoriaPlugin(),
		"metric_watcher": metricwatcher.ChoriaPlugin(), "nagios_watcher": nagioswatcher.ChoriaPlugin(),
		"schedule_watcher": schedulewatcher.ChoriaPlugin(), "timer_watcher": timerwatcher.ChoriaPlugin(),
		"archive_watcher": archivewatcher.ChoriaPlugin(), "plugins_watcher": pluginswatcher.ChoriaPlugin(),
		"machine_data": machinedata.ChoriaPlugin(), "scout_data": scoutdata.ChoriaPlugin(),
		"choria_data": choriadata.ChoriaPlugin(), "config_item_data": configdata.ChoriaPlugin(),
	} {
		if err := plugin.Register(name, p); err != nil {
			panic(err)
		}
	}
}
