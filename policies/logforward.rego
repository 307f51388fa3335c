# Who may do what with log forwarders, as Choria Server and the node's daemon decide.
#
# Choria Server decides first, with what the request says. The node decides again, with the log's path
# and destination filled in, also about what comes from its socket or was recorded while it was down.
# Both must allow. What no role allows is denied.
package io.choria.mcorpc.authpolicy

import rego.v1

# A role: who, what, and within which limits. callers are globs in which * stops at nothing; an empty
# limit isn't one. for is the longest in minutes, and 0 where it needn't end.
roles := {
	"reader": {"callers": ["*"], "actions": {"status", "list", "check"}, "logs": [], "paths": [], "destinations": [], "for": 0, "reason": false},
	"oncall": {
		"callers": ["up=oncall-*", "choria=oncall-*.mcollective", "local=root"], "actions": {"pause", "resume"},
		"logs": [], "paths": [], "destinations": [], "for": 240, "reason": true,
	},
	"operator": {
		"callers": ["up=ops-*", "choria=ops-*.mcollective"], "actions": {"start", "stop", "pause", "resume", "redirect"},
		"logs": [], "paths": ["/var/log/nginx/**", "/var/log/app/*.log"], "destinations": ["central", "staging"], "for": 0, "reason": false,
	},
	"audit": {
		"callers": ["up=audit-*", "choria=audit-*.mcollective"], "actions": {"start", "stop"},
		"logs": [], "paths": ["/var/log/audit/*"], "destinations": ["audit"], "for": 0, "reason": true,
	},
}

# Stands above all roles: nobody sends a production node's logs to the outside, and nobody changes a
# node that is still being provisioned.
forbidden if {
	input.data.destination == "external"
	input.facts.environment == "production"
}

forbidden if {
	input.provision_mode
	not input.action in reading
}

reading := {"status", "list", "check"}

default allow := false

allow if {
	not forbidden
	count(rule) > 0
}

# The roles that allow this.
rule contains name if {
	some name, role in roles
	some caller in role.callers
	glob.match(caller, null, input.callerid)
	input.action in role.actions
	log_within(role)
	path_within(role)
	destination_within(role)
	time_within(role)
	reason_within(role)
}

log_within(role) if count(role.logs) == 0

log_within(role) if {
	some log in role.logs
	glob.match(log, null, input.data.log)
}

path_within(role) if count(role.paths) == 0

# A request about a known log needn't carry its path; the node fills it in before it decides. One that
# is about all logs has no path that could be within.
path_within(role) if {
	count(role.paths) > 0
	not input.data.path
	input.data.log
}

# Without a glob in it, a path is one file.
path_within(role) if {
	some path in role.paths
	not regex.match(`[*?\[{\\]|/$`, input.data.path)
	glob.match(path, ["/"], input.data.path)
}

# What a glob matches is within a whole tree only.
path_within(role) if {
	some path in role.paths
	endswith(path, "/**")
	startswith(input.data.path, trim_suffix(path, "**"))
}

destination_within(role) if count(role.destinations) == 0

# A node with one destination fills it in.
destination_within(role) if {
	count(role.destinations) > 0
	not input.data.destination
	input.action != "redirect"
}

destination_within(role) if input.data.destination in role.destinations

time_within(role) if role["for"] == 0

time_within(role) if {
	role["for"] > 0
	input.action != "pause"
}

# A pause that never ends isn't shorter than any limit.
time_within(role) if {
	role["for"] > 0
	minutes > 0
	minutes <= role["for"]
}

# "1h30m" and "1d" in minutes.
minutes := sum([n |
	regex.match(`^([0-9]+[smhdw])+$`, input.data["for"])
	some part in regex.find_n(`[0-9]+[smhdw]`, input.data["for"], -1)
	n := to_number(regex.find_n(`[0-9]+`, part, 1)[0]) * unit[regex.find_n(`[smhdw]`, part, 1)[0]]
])

unit := {"s": 1 / 60, "m": 1, "h": 60, "d": 1440, "w": 10080}

reason_within(role) if not role.reason

reason_within(_) if trim_space(input.data.reason) != ""
