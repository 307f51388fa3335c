# Who may have which requests to log forwarders signed.
#
# Facts, classes, provisioning and the real path of a log aren't known here: the node decides about them.
# What this allows the node may still deny.
#
# Written by "logforward policy render" from the operators' table: change that, not this.
package io.choria.aaasvc

import rego.v1

default allow := false

allow if {
	count(denied) == 0
	count(rule) > 0
}

# Finding nodes isn't an action of theirs.
allow if input.agent == "discovery"

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

roles := {
	# reader: everybody looks
	"reader": {
		"callers": {"*": "^[^[:cntrl:]][^[:cntrl:]]*$"},
		"actions": {"status", "list", "check", "plan"},
	},
	# oncall: whoever is on call holds any log, or all, for a while
	"oncall": {
		"callers": {
			"up=oncall-*": "^up=oncall-[^=[:cntrl:]]*$",
			"choria=oncall-*.mcollective": "^choria=oncall-[^=[:cntrl:]]*\\.mcollective$",
			"local=root": "",
		},
		"actions": {"pause", "resume"},
		"for": 14400000000000,
		"reason": true,
	},
	# operator: operators run the logs of web servers and applications
	"operator": {
		"callers": {
			"up=ops-*": "^up=ops-[^=[:cntrl:]]*$",
			"choria=ops-*.mcollective": "^choria=ops-[^=[:cntrl:]]*\\.mcollective$",
		},
		"actions": {"start", "stop", "pause", "resume", "redirect"},
		"paths": {
			"/var/log/nginx/**": "^/var/log/nginx/.+$",
			"/var/log/app/*.log": "^/var/log/app/[^/[:cntrl:]]*\\.log$",
		},
		"destinations": {"central": "", "staging": ""},
	},
	# rollout: operators put into force what configuration management has staged, and take it back
	"rollout": {
		"callers": {
			"up=ops-*": "^up=ops-[^=[:cntrl:]]*$",
			"choria=ops-*.mcollective": "^choria=ops-[^=[:cntrl:]]*\\.mcollective$",
		},
		"actions": {"apply", "rollback"},
	},
	# trainee: whoever learns it starts what is small, on test nodes, in office hours
	"trainee": {
		"callers": {"up=trainee-*": "^up=trainee-[^=[:cntrl:]]*$"},
		"actions": {"start", "stop"},
		"logs": {"training-*": "^training-[^[:cntrl:]]*$"},
		"paths": {"/var/log/app/*.log": "^/var/log/app/[^/[:cntrl:]]*\\.log$"},
		"destinations": {"staging": ""},
		"collectives": {"mcollective": "", "choria": ""},
		"times": [
			{"days": {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday"}, "from": 480, "to": 1080, "zone": "Europe/Berlin"},
		],
		"for": 3600000000000,
		"rate": 1048576,
		"reason": true,
		"ttl": 120,
	},
	# audit: the audit team has the audit log sent to its own destination
	"audit": {
		"callers": {
			"up=audit-*": "^up=audit-[^=[:cntrl:]]*$",
			"choria=audit-*.mcollective": "^choria=audit-[^=[:cntrl:]]*\\.mcollective$",
		},
		"actions": {"start", "stop"},
		"paths": {"/var/log/audit/*": "^/var/log/audit/[^/[:cntrl:]]*$"},
		"destinations": {"audit": ""},
		"reason": true,
	},
}

# Above all roles.
denials := {
	# audit-log: the audit log is the audit team's alone
	"audit-log": {
		"except": {
			"up=audit-*": "^up=audit-[^=[:cntrl:]]*$",
			"choria=audit-*.mcollective": "^choria=audit-[^=[:cntrl:]]*\\.mcollective$",
		},
		"actions": {"start", "redirect"},
		"paths": {"/var/log/audit/**": "^/var/log/audit/.+$"},
	},
}

# The roles that allow this.
rule contains name if {
	input.agent == "logforward"
	some name, role in roles
	input.action in role.actions
	matches(role.callers, caller)
	log_within(role)
	path_within(role)
	destination_within(role)
	for_within(role)
	rate_within(role)
	reason_within(role)
	ttl_within(role)
	collective_within(role)
	times_within(role)
}

log_within(role) if not role.logs

log_within(role) if matches(role.logs, log)

path_within(role) if not role.paths

path_within(role) if matches(role.paths, path)

# A request about a known log needn't carry its path: the node fills it in and decides again.
path_within(role) if {
	role.paths
	not said("path")
	log
}

destination_within(role) if not role.destinations

destination_within(role) if {
	destination_fits(role)
	not leaves(role)
}

destination_fits(role) if {
	said("destination")
	matches(role.destinations, given.destination)
}

# The node fills it in, but for where a redirect goes.
destination_fits(role) if {
	role.destinations
	not said("destination")
	log
	input.action != "redirect"
}

# Where it goes now, as the node says, counts as well.
leaves(role) if {
	said("current")
	not matches(role.destinations, given.current)
}

# role["for"] is in nanoseconds. The node decides on what is asked for together with what this caller had of late.
for_within(role) if not role.for

for_within(_) if not ends

for_within(role) if {
	asked := nanoseconds(given.for)
	asked > 0
	asked <= role.for
}

ends if said("for")

ends if input.action in {"stop", "pause", "redirect", "apply", "rollback"}

ends if {
	input.action == "start"
	not lifts
}

# "1h30m" is the sum of its parts, each in thousandths of a unit, so that all numbers are whole.
nanoseconds(text) := sum([n |
	some part in regex.find_all_string_submatch_n("([0-9]+)[.]?([0-9]*)(ms|s|m|h|d|w)", text, -1)
	n := thousandths(part[1], part[2]) * duration_unit[part[3]]
]) if {
	is_string(text)
	count(text) <= 40
	regex.match("^([0-9]{1,9}([.][0-9]{1,3})?(ms|s|m|h|d|w))+$", text)
}

duration_unit := {"ms": 1000, "s": 1000000, "m": 60000000, "h": 3600000000, "d": 86400000000, "w": 604800000000}

# role.rate is in bytes per second.
rate_within(role) if not role.rate

rate_within(_) if {
	not said("rate")
	not begins
}

rate_within(role) if {
	asked := rate(given.rate)
	asked > 0
	asked <= role.rate * 1000
}

begins if {
	input.action == "start"
	not lifts
}

rate(text) := n if {
	is_string(text)
	count(text) <= 40
	some part in regex.find_all_string_submatch_n("^([0-9]{1,15})(?:[.]([0-9]{1,3}))? *([A-Za-z]{0,3})(?:/s)?$", text, 1)
	n := thousandths(part[1], part[2]) * rate_unit[lower(part[3])]
}

rate_unit := {
	"": 1, "b": 1,
	"kb": 1000, "mb": 1000000, "gb": 1000000000, "tb": 1000000000000,
	"k": 1024, "m": 1048576, "g": 1073741824, "t": 1099511627776,
	"kib": 1024, "mib": 1048576, "gib": 1073741824, "tib": 1099511627776,
}

reason_within(role) if not role.reason

reason_within(_) if not input.action in changes

reason_within(_) if {
	is_string(given.reason)
	regex.match("[\\pL\\pN]", given.reason)
}

changes := {"start", "stop", "pause", "resume", "redirect", "apply", "rollback"}

# In seconds.
ttl_within(role) if not role.ttl

ttl_within(role) if {
	is_number(input.ttl)
	input.ttl >= 0
	input.ttl <= role.ttl
}

collective_within(role) if not role.collectives

collective_within(role) if matches(role.collectives, input.collective)

times_within(role) if not role.times

times_within(role) if {
	some window in role.times
	now_within(window)
}

# The deny rules that stand: those of which no condition is known not to hold.
denied contains name if {
	some name, denial in denials
	not otherwise(denial)
}

otherwise(denial) if {
	is_string(input.action)
	not input.action in denial.actions
}

otherwise(denial) if matches(denial.except, caller)

otherwise(denial) if {
	denial.paths
	elsewhere(denial.paths)
}

# The node fills the path in, and decides again.
elsewhere(_) if {
	not said("path")
	log
}

elsewhere(paths) if {
	path
	not regex.match("[*?\t]", path)
	not matches(paths, path)
}

# Two globs are apart where they begin otherwise, or differ in depth.
elsewhere(paths) if {
	regex.match("[*?\t]", path)
	every denied_path, _ in paths {
		apart(denied_path)
	}
}

apart(denied_path) if {
	a := beginning(denied_path)
	b := beginning(path)
	not startswith(a, b)
	not startswith(b, a)
}

apart(denied_path) if {
	not contains(denied_path, "**")
	least(path) > depth(denied_path)
}

apart(denied_path) if {
	not contains(path, "\t")
	least(denied_path) > depth(path)
}

beginning(text) := regex.find_n("^[^*?\t]*", text, 1)[0]

depth(text) := count(split(text, "/")) - 1

least(text) := depth(text) - count([part | some part in split(trim_suffix(text, "/**"), "/"); part in {"**", "\t"}])

# A path as it is compared. One that is a glob is within only with all that it can match: so * and ? are
# characters like others here, ** is a tabulator, and [a-z] is ?. Braces may be anything: that is no path.
path := concat("/", shown) if {
	parts := split(plain_path, "/")
	shown := [object.get({"**": "\t"}, part, part) | some part in parts]
}

plain_path := plain if {
	is_string(given.path)
	regex.match("^(/[^/[:cntrl:]]+)+$", given.path)
	not regex.match("/[.]{1,2}(/|$)", given.path)
	plain := regex.replace(given.path, "\\[[!^]?[^\\]\\[!^/*?{}\\\\]+\\]", "?")
	not regex.match("[\\[\\]{}\\\\]", plain)
}

thousandths(whole, decimals) := to_number(concat("", [whole, substring(concat("", [decimals, "000"]), 0, 3)]))

# Hours are minutes since midnight, by the clocks on the walls of the zone. What ends after midnight belongs to the
# day on which it begins.
now_within(window) if {
	window.from < window.to
	[day, minute] := wall(window.zone)
	minute >= window.from
	minute < window.to
	day in window.days
}

now_within(window) if {
	window.from > window.to
	[day, minute] := wall(window.zone)
	minute >= window.from
	day in window.days
}

now_within(window) if {
	window.from > window.to
	[day, minute] := wall(window.zone)
	minute < window.to
	yesterday[day] in window.days
}

wall(zone) := [time.weekday([now, zone]), (hour * 60) + minute] if [hour, minute, _] := time.clock([now, zone])

now := time.parse_rfc3339_ns(input.time) if {
	is_string(input.time)
	regex.match("^(19|20|21)[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$", input.time)
}

yesterday := {
	"Monday": "Sunday", "Tuesday": "Monday", "Wednesday": "Tuesday", "Thursday": "Wednesday",
	"Friday": "Thursday", "Saturday": "Friday", "Sunday": "Saturday",
}

# The inputs of the action, and what the node has filled in.
default given := {}

given := input.data if is_object(input.data)

# The one log that it is about. Without one it is about all logs, which no list holds.
log := given.log if {
	is_string(given.log)
	given.log != ""
	object.get(given, "all", false) == false
}

said(name) if not object.get(given, name, "") == ""

# A start without a path ends a stop and begins nothing.
lifts if {
	input.action == "start"
	not said("path")
}

lifts if {
	input.action == "start"
	given.lifts == true
}

# The keys of a table's lists are as operators wrote them, the values are the same as regular expressions;
# "" stands for the key itself.
matches(list, text) if list[text] == ""

matches(list, text) if {
	is_string(text)
	some expression in list
	expression != ""
	regex.match(expression, text)
}

caller := input.claims.callerid if is_string(input.claims.callerid)
