package main

import (
	p_machine_data "github.com/choria-io/go-choria/aagent/data/machinedata"
	p_archive_watcher "github.com/choria-io/go-choria/aagent/watchers/archivewatcher"
	p_exec_watcher "github.com/choria-io/go-choria/aagent/watchers/execwatcher"
	p_expression_watcher "github.com/choria-io/go-choria/aagent/watchers/expressionwatcher"
	p_file_watcher "github.com/choria-io/go-choria/aagent/watchers/filewatcher"
	p_gossip_watcher "github.com/choria-io/go-choria/aagent/watchers/gossipwatcher"
	p_homekit_watcher "github.com/choria-io/go-choria/aagent/watchers/homekitwatcher"
	p_kv_watcher "github.com/choria-io/go-choria/aagent/watchers/kvwatcher"
	p_metric_watcher "github.com/choria-io/go-choria/aagent/watchers/metricwatcher"
	p_nagios_watcher "github.com/choria-io/go-choria/aagent/watchers/nagioswatcher"
	p_plugins_watcher "github.com/choria-io/go-choria/aagent/watchers/pluginswatcher"
	p_schedule_watcher "github.com/choria-io/go-choria/aagent/watchers/schedulewatcher"
	p_timer_watcher "github.com/choria-io/go-choria/aagent/watchers/timerwatcher"
	"github.com/choria-io/go-choria/plugin"
	p_externalmco "github.com/choria-io/go-choria/providers/agent/mcorpc/external"
	p_golangmco "github.com/choria-io/go-choria/providers/agent/mcorpc/golang"
	p_choria_provision "github.com/choria-io/go-choria/providers/agent/mcorpc/golang/provision"
	p_choria_registry "github.com/choria-io/go-choria/providers/agent/mcorpc/golang/registry"
	p_rubymco "github.com/choria-io/go-choria/providers/agent/mcorpc/ruby"
	p_choria_data "github.com/choria-io/go-choria/providers/data/golang/choriadata"
	p_config_item_data "github.com/choria-io/go-choria/providers/data/golang/configdata"
	p_scout "github.com/choria-io/go-choria/scout/agent/scout"
	p_scout_data "github.com/choria-io/go-choria/scout/data/scoutdata"
)

func init() {
	if err := plugin.Register("golangmco", p_golangmco.ChoriaPlugin()); err != nil {
		panic(err)
	}
	if err := plugin.Register("rubymco", p_rubymco.ChoriaPlugin()); err != nil {
		panic(err)
	}
	if err := plugin.Register("externalmco", p_externalmco.ChoriaPlugin()); err != nil {
		panic(err)
	}
	if err := plugin.Register("choria_registry", p_choria_registry.ChoriaPlugin()); err != nil {
		panic(err)
	}
	if err := plugin.Register("choria_provision", p_choria_provision.ChoriaPlugin()); err != nil {
		panic(err)
	}
	if err := plugin.Register("scout", p_scout.ChoriaPlugin()); err != nil {
		panic(err)
	}
	if err := plugin.Register("exec_watcher", p_exec_watcher.ChoriaPlugin()); err != nil {
		panic(err)
	}
	if err := plugin.Register("file_watcher", p_file_watcher.ChoriaPlugin()); err != nil {
		panic(err)
	}
	if err := plugin.Register("homekit_watcher", p_homekit_watcher.ChoriaPlugin()); err != nil {
		panic(err)
	}
	if err := plugin.Register("metric_watcher", p_metric_watcher.ChoriaPlugin()); err != nil {
		panic(err)
	}
	if err := plugin.Register("nagios_watcher", p_nagios_watcher.ChoriaPlugin()); err != nil {
		panic(err)
	}
	if err := plugin.Register("schedule_watcher", p_schedule_watcher.ChoriaPlugin()); err != nil {
		panic(err)
	}
	if err := plugin.Register("timer_watcher", p_timer_watcher.ChoriaPlugin()); err != nil {
		panic(err)
	}
	if err := plugin.Register("kv_watcher", p_kv_watcher.ChoriaPlugin()); err != nil {
		panic(err)
	}
	if err := plugin.Register("gossip_watcher", p_gossip_watcher.ChoriaPlugin()); err != nil {
		panic(err)
	}
	if err := plugin.Register("archive_watcher", p_archive_watcher.ChoriaPlugin()); err != nil {
		panic(err)
	}
	if err := plugin.Register("plugins_watcher", p_plugins_watcher.ChoriaPlugin()); err != nil {
		panic(err)
	}
	if err := plugin.Register("expression_watcher", p_expression_watcher.ChoriaPlugin()); err != nil {
		panic(err)
	}
	if err := plugin.Register("machine_data", p_machine_data.ChoriaPlugin()); err != nil {
		panic(err)
	}
	if err := plugin.Register("scout_data", p_scout_data.ChoriaPlugin()); err != nil {
		panic(err)
	}
	if err := plugin.Register("choria_data", p_choria_data.ChoriaPlugin()); err != nil {
		panic(err)
	}
	if err := plugin.Register("config_item_data", p_config_item_data.ChoriaPlugin()); err != nil {
		panic(err)
	}
}
