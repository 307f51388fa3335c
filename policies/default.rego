# For every agent that has no policy of its own: with authorization by Rego on, nothing else answers.
#
# What only reads stays usable for all that the fleet knows; the rest is for administrators.
#
# Written by "logforward policy render" from the operators' table: change that, not this.
package io.choria.mcorpc.authpolicy

import rego.v1

default allow := false

# Other agents: what only reads stays usable for everybody.
allow if input.action in open[input.agent]

allow if {
	input.agent != "logforward"
	matches(administrators, caller)
}

administrators := {
	"up=admin": "",
	"choria=admin.mcollective": "",
	"choria=admin-*.mcollective": "^choria=admin-[^=[:cntrl:]]*\\.mcollective$",
}

open := {
	"rpcutil": {"ping", "agent_inventory", "daemon_stats", "collective_info", "get_fact", "get_facts", "inventory"},
	"choria_util": {"info", "machine_states", "machine_state"},
	"scout": {"checks"},
}

caller := input.callerid if is_string(input.callerid)

# The keys of a table's lists are as operators wrote them, the values are the same as regular expressions;
# "" stands for the key itself.
matches(list, text) if list[text] == ""

matches(list, text) if {
	is_string(text)
	some expression in list
	expression != ""
	regex.match(expression, text)
}
