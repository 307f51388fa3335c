# For every agent that has no policy of its own: with authorization by Rego on, nothing else answers.
# What only reads stays usable for all that the fleet knows; the rest is for administrators.
package io.choria.mcorpc.authpolicy

import rego.v1

default allow := false

allow if input.action in open[input.agent]

allow if {
	some administrator in administrators
	glob.match(administrator, null, input.callerid)
}

# Actions that everybody may ask for.
open := {
	"rpcutil": {"ping", "agent_inventory", "daemon_stats", "collective_info", "get_fact", "get_facts"},
	"choria_util": {"info", "machine_states", "machine_state"},
	"scout": {"checks"},
}

administrators := ["up=admin", "choria=admin.mcollective"]
